import type { ServerNames } from "../provider/lxd/client/endpoint";
import { mayBeSecret } from "../provider/support/secrets";
import { expandHome } from "../provider/transport/connection";
import { commandLine } from "../provider/transport/quote";
import type { HostArgs } from "./arguments";
import { Code } from "./code";

/** A value that goes into the stack's encrypted config instead of the program. */
export interface Secret {
  /** Name in the stack's config. */
  readonly name: string;
  /** The command that writes the value there without showing it. */
  readonly command: string;
}

/** Where the server stores a value: the words of its client's command before the key. */
export interface Holder {
  readonly project: string;
  readonly words: readonly string[];
  /** Name of the object, for the name in the stack's config. */
  readonly name: string;
}

/** Collects the secrets of a program and replaces them by code. */
export class Secrets {
  readonly all: Secret[] = [];

  /** @param host - A host on which the server's client prints the values. */
  constructor(
    private readonly host: HostArgs,
    private readonly client: ServerNames["client"],
  ) {}

  /** Returns the value, or code that reads it from the config when it may be a secret. */
  hide(holder: Holder, key: string, value: unknown): unknown {
    if (!mayBeSecret(key, value)) {
      return value;
    }
    const name = `${holder.name}-${key}`.replace(/[^A-Za-z0-9-]/g, "-");
    const project = holder.project === "default" ? [] : ["--project", holder.project];
    const { user = "root" } = this.host;
    const asRoot = user === "root" ? [] : ["sudo", "-n"];
    // ssh passes a command line to a shell on the host.
    const print = commandLine([...asRoot, this.client, ...project, ...holder.words, key]);
    this.all.push({ name, command: `${commandLine([...sshTo(this.host), print])} | pulumi config set --secret ${name}` });
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
