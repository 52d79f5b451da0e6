import { expandHome } from "../provider/transport/connection";
import { commandLine } from "../provider/transport/quote";
import type { HostArgs } from "./arguments";
import { Code } from "./code";

/** A value that is not written into the program, but kept in the stack's encrypted config. */
export interface Secret {
  /** Name in the stack's config. */
  readonly name: string;
  /** The command that brings it there, without showing it. */
  readonly command: string;
}

/** Where on LXD a config stands: the words of `lxc` before the key. */
export interface Holder {
  readonly project: string;
  readonly words: readonly ["config", "get", string] | ["profile", "get", string];
}

/** cloud-init's texts hold password hashes and tokens as a rule, environments those of programs. */
const SECRET_KEYS =
  /^environment\.|^(cloud-init|user)\.(user|vendor)-data$|passw(or)?d|passphrase|secret|token|credential|private|api[._-]?key/i;
/** Hashes of crypt(3), private keys, and what a text calls so itself. */
const SECRET_VALUES = /\$(1|2[abxy]?|5|6|7|y|gy|argon2\w*)\$[^\s"']{8,}|PRIVATE KEY-----|(passw(or)?d|secret|token)["']?\s*[:=]/i;

/** Whether a value of LXD's config is not for everybody's eyes. When in doubt, it is one. */
function isSecret(key: string, value: string): boolean {
  return SECRET_KEYS.test(key) || SECRET_VALUES.test(value);
}

/** Gathers the secrets of a program, and puts code in their place. */
export class Secrets {
  readonly all: Secret[] = [];

  /** @param host - A host on which `lxc` can be asked for the values. */
  constructor(private readonly host: HostArgs) {}

  /** A value for the program: itself, or where it is found when it is a secret. */
  hide(holder: Holder, key: string, value: string): unknown {
    if (!isSecret(key, value)) {
      return value;
    }
    const [noun, , object] = holder.words;
    const scope = holder.project === "default" ? "" : `${holder.project}-`;
    const name = `${noun === "profile" ? "profile-" : ""}${scope}${object}-${key}`.replace(/[^A-Za-z0-9-]/g, "-");
    const project = holder.project === "default" ? [] : ["--project", holder.project];
    const { user = "root" } = this.host;
    const asRoot = user === "root" ? [] : ["sudo", "-n"];
    // ssh hands a command line to a shell over there.
    const lxc = commandLine([...asRoot, "lxc", ...project, ...holder.words, key]);
    this.all.push({ name, command: `${commandLine([...sshTo(this.host), lxc])} | pulumi config set --secret ${name}` });
    return new Code(`settings.requireSecret(${JSON.stringify(name)})`);
  }
}

function sshTo({ host, port, user, privateKeyPath, proxy }: HostArgs): string[] {
  const jump =
    proxy === undefined ? [] : ["-J", `${proxy.user ?? "root"}@${proxy.host}${proxy.port === undefined ? "" : `:${proxy.port}`}`];
  return [
    "ssh",
    ...(port === undefined ? [] : ["-p", String(port)]),
    ...(privateKeyPath === undefined ? [] : ["-i", expandHome(privateKeyPath)]),
    ...jump,
    `${user ?? "root"}@${host}`,
  ];
}
