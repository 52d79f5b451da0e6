import { parseArgs } from "node:util";
import { messageOf } from "../provider/support/errors";

export const USAGE = `Usage: pulumi-lxd-cluster COMMAND --host [user@]host[:port] [--host ...] [options]

Commands
  adopt       Reads a running cluster of LXD or Incus, or a standalone server, and writes a Pulumi program that adopts it unchanged
  status      Shows what a cluster has: members, pools, networks, instances and their users, and what is unfinished in it
Neither changes anything on the cluster.

Options
  --host      SSH address of a member, once for each member. adopt needs all of them, and pulumi destroy removes the first one last;
              status asks the first one that answers
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

/** Options of one command only. `--force` is an option of both. */
const OPTIONS_OF = { adopt: ["out", "owned"], status: ["svg"] } as const;

type Command = keyof typeof OPTIONS_OF;

const COMMANDS = Object.keys(OPTIONS_OF) as Command[];

/**
 * Parses the command line. Returns `undefined` for `--help`.
 * @throws UsageError
 */
export function parseArguments(
  argv: readonly string[],
): ({ command: "adopt" } & Asked) | ({ command: "status" } & AskedStatus) | undefined {
  const { values, positionals } = parsed(argv);
  if (values.help === true) {
    return undefined;
  }
  const command = commandOf(positionals);
  for (const other of COMMANDS.filter((each) => each !== command)) {
    for (const option of OPTIONS_OF[other].filter((each) => values[each] !== undefined)) {
      throw new UsageError(`--${option} is an option of ${other}`);
    }
  }
  const hosts = hostsOf(values);
  const force = values.force === true;
  return command === "adopt"
    ? { command, hosts, out: values.out ?? ".", owned: values.owned === true, force }
    : { command, hosts, svg: values.svg, force };
}

function commandOf(words: readonly string[]): Command {
  const command = COMMANDS.find((each) => each === words[0]);
  if (command === undefined || words.length > 1) {
    throw new UsageError(
      words[0] === undefined ? `The command is missing: ${COMMANDS.join(" or ")}` : `There is no command "${words.join(" ")}"`,
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
