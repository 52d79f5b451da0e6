import { mayBeSecret } from "../provider/support/secrets";
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

/** Where on LXD a value stands: the words of `lxc` before its key. */
export interface Holder {
  readonly project: string;
  readonly words: readonly string[];
  /** Of the object, for the name in the stack's config. */
  readonly name: string;
}

/** Gathers the secrets of a program, and puts code in their place. */
export class Secrets {
  readonly all: Secret[] = [];

  /** @param host - A host on which `lxc` can be asked for the values. */
  constructor(private readonly host: HostArgs) {}

  /** A value for the program: itself, or where it is found when it is a secret. */
  hide(holder: Holder, key: string, value: unknown): unknown {
    if (!mayBeSecret(key, value)) {
      return value;
    }
    const name = `${holder.name}-${key}`.replace(/[^A-Za-z0-9-]/g, "-");
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
