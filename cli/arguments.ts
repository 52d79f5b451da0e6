import { parseArgs } from "node:util";
import { messageOf } from "../provider/support/errors";

export const USAGE = `Usage: pulumi-lxd-cluster adopt --host [user@]host[:port] [--host ...] [options]

Reads a running cluster of LXD or Incus, or a standalone server, and writes a Pulumi program that adopts it unchanged.
Changes nothing on the cluster.

  --host      SSH address of a member; once for each member. pulumi destroy removes the first one last
  --identity  Path of the private key. Default: the SSH agent
  --jump      Jump host, [user@]host[:port]
  --out       Folder for index.ts, and for Pulumi.yaml if there is none. Default: the current folder
  --owned     Also adopt objects that belong to a Pulumi resource already
  --force     Overwrite index.ts
  --help      Show this text
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

/** The command line. */
export interface Asked {
  readonly hosts: readonly HostArgs[];
  /** Folder of the program. */
  readonly out: string;
  /** Whether to adopt objects that belong to other resources too. */
  readonly owned: boolean;
  /** Whether to overwrite an existing program. */
  readonly force: boolean;
}

/**
 * Parses the command line. Returns `undefined` for `--help`.
 * @throws UsageError
 */
export function parseArguments(argv: readonly string[]): Asked | undefined {
  const { values, positionals } = parsed(argv);
  if (values.help === true) {
    return undefined;
  }
  if (positionals.length !== 1 || positionals[0] !== "adopt") {
    throw new UsageError(
      positionals[0] === undefined ? "The command is missing: adopt" : `There is no command "${positionals.join(" ")}"`,
    );
  }
  const hosts = values.host ?? [];
  if (hosts.length === 0) {
    throw new UsageError("--host is required, such as --host root@192.168.1.102");
  }
  const key = values.identity === undefined ? {} : { privateKeyPath: values.identity };
  const jump = values.jump === undefined ? {} : { proxy: { ...hostOf("--jump", values.jump), ...key } };
  return {
    hosts: hosts.map((text) => ({ ...hostOf("--host", text), ...key, ...jump })),
    out: values.out ?? ".",
    owned: values.owned === true,
    force: values.force === true,
  };
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
