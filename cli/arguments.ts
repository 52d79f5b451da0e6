import { parseArgs } from "node:util";
import { messageOf } from "../provider/support/errors";

export const USAGE = `Usage: pulumi-lxd-cluster COMMAND --host [user@]host[:port] [--host ...] [options]

Commands
  adopt       Reads a running cluster of LXD or Incus, or a standalone server, and writes a Pulumi program that adopts it unchanged
  status      Shows what a cluster has: members, pools, networks, instances and their users, and what is unfinished in it
  verify      Checks a cluster: members, pools, networks, instances, what runs inside them, and their users. Exit status 1 when a check
              fails, or cannot be made
None of them changes anything on the cluster.

Options
  --host      SSH address of a member, once for each member. adopt needs all of them, and pulumi destroy removes the first one last;
              status and verify ask the first one that answers
  --identity  Path of the private key. Default: the SSH agent
  --jump      Jump host, [user@]host[:port]
  --help      Show this text

Options of adopt
  --out       Folder for index.ts, and for Pulumi.yaml if there is none. Default: the current folder
  --owned     Also adopt objects that belong to a Pulumi resource already
  --force     Overwrite index.ts

Options of status
  --svg       File for a picture of the cluster
  --force     Overwrite that file

Options of verify
  --ping      Let each running instance ping one on another member
  --json      Print the checks as JSON
`;

/** Reports a wrong command line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A host as the arguments of `connection`. */
export interface HostArgs {
  readonly host: string;
  readonly port?: number;
  readonly user?: string;
  readonly privateKeyPath?: string;
  readonly proxy?: Omit<HostArgs, "proxy">;
}

/** The command line of `adopt`. */
export interface Asked {
  readonly hosts: readonly HostArgs[];
  /** Folder of the program. */
  readonly out: string;
  /** Whether to adopt objects that belong to other resources too. */
  readonly owned: boolean;
  /** Whether to overwrite an existing program. */
  readonly force: boolean;
}

/** The command line of `status`. */
export interface AskedStatus {
  readonly hosts: readonly HostArgs[];
  /** File for a picture. */
  readonly svg: string | undefined;
  /** Whether to overwrite an existing file. */
  readonly force: boolean;
}

/** The command line of `verify`. */
export interface AskedVerify {
  readonly hosts: readonly HostArgs[];
  /** Whether instances ping each other. */
  readonly ping: boolean;
  readonly json: boolean;
}

/** Options of some commands only. */
const COMMANDS_WITH = {
  out: ["adopt"],
  owned: ["adopt"],
  svg: ["status"],
  force: ["adopt", "status"],
  ping: ["verify"],
  json: ["verify"],
} as const;

const COMMANDS = ["adopt", "status", "verify"] as const;

type Command = (typeof COMMANDS)[number];

/**
 * Parses the command line. Returns `undefined` for `--help`.
 * @throws UsageError
 */
export function parseArguments(
  argv: readonly string[],
): ({ command: "adopt" } & Asked) | ({ command: "status" } & AskedStatus) | ({ command: "verify" } & AskedVerify) | undefined {
  const { values, positionals } = parsed(argv);
  if (values.help === true) {
    return undefined;
  }
  const command = commandOf(positionals);
  for (const [option, commands] of Object.entries(COMMANDS_WITH) as [keyof typeof COMMANDS_WITH, readonly Command[]][]) {
    if (values[option] !== undefined && !commands.includes(command)) {
      throw new UsageError(`--${option} is an option of ${commands.join(" and ")}`);
    }
  }
  const hosts = hostsOf(values);
  const force = values.force === true;
  switch (command) {
    case "adopt":
      return { command, hosts, out: values.out ?? ".", owned: values.owned === true, force };
    case "status":
      return { command, hosts, svg: values.svg, force };
    case "verify":
      return { command, hosts, ping: values.ping === true, json: values.json === true };
  }
}

function commandOf(words: readonly string[]): Command {
  const command = COMMANDS.find((each) => each === words[0]);
  if (command === undefined || words.length > 1) {
    throw new UsageError(
      words[0] === undefined ? `The command is missing: ${COMMANDS.join(", ")}` : `There is no command "${words.join(" ")}"`,
    );
  }
  return command;
}

function hostsOf(values: { host?: string[]; identity?: string; jump?: string }): HostArgs[] {
  const hosts = values.host ?? [];
  if (hosts.length === 0) {
    throw new UsageError("--host is required, such as --host root@192.168.1.102");
  }
  const key = values.identity === undefined ? {} : { privateKeyPath: values.identity };
  const jump = values.jump === undefined ? {} : { proxy: { ...hostOf("--jump", values.jump), ...key } };
  return hosts.map((text) => ({ ...hostOf("--host", text), ...key, ...jump }));
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        host: { type: "string", multiple: true },
        identity: { type: "string" },
        jump: { type: "string" },
        out: { type: "string" },
        owned: { type: "boolean" },
        svg: { type: "string" },
        force: { type: "boolean" },
        ping: { type: "boolean" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError(messageOf(error).split(/[.]\s/)[0]); // without Node's hints about positional arguments
  }
}

/** Parses `[user@]host[:port]`; an IPv6 address with a port is in brackets. */
function hostOf(option: string, text: string): Omit<HostArgs, "proxy"> {
  const match =
    /^(?:([^@\s]+)@)?(?:\[([0-9A-Fa-f:]+)\]|([^@:\s]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:]*))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[2] ?? match?.[3];
  if (host === undefined) {
    throw new UsageError(`${option} ${text} is not of the form [user@]host[:port]`);
  }
  const [, user, , , port] = match ?? [];
  return {
    host,
    ...(port === undefined || port === "22" ? {} : { port: Number(port) }),
    ...(user === undefined || user === "root" ? {} : { user }),
  };
}
