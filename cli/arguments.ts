import { parseArgs } from "node:util";
import { messageOf } from "../provider/support/errors";

export const USAGE = `Usage: pulumi-lxd-cluster adopt --host [user@]host[:port] [--host ...] [options]

Reads a running LXD cluster, or standalone server, and writes a Pulumi program that takes it over as it is.
Nothing is changed on the cluster.

  --host      How to reach a member by SSH; once for each member. The first one is the last to go on destroy
  --identity  Path of the private key; without it the SSH agent is asked
  --jump      Jump host, [user@]host[:port]
  --out       Folder to write index.ts and, when there is none, Pulumi.yaml into; the current one by default
  --owned     Also take what belongs to a Pulumi resource already, be it of another stack or of a lost one
  --force     Overwrite index.ts
  --help      Show this
`;

/** The command was not called as it must be. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A host, as a program writes it: the arguments of `connection`. */
export interface HostArgs {
  readonly host: string;
  readonly port?: number;
  readonly user?: string;
  readonly privateKeyPath?: string;
  readonly proxy?: Omit<HostArgs, "proxy">;
}

/** What the command was asked for. */
export interface Asked {
  readonly hosts: readonly HostArgs[];
  /** Folder of the program. */
  readonly out: string;
  /** Whether what belongs to other resources is taken, too. */
  readonly owned: boolean;
  /** Whether a program that is there may be overwritten. */
  readonly force: boolean;
}

/**
 * What the command line asks for; `undefined` when it asks for help.
 * @throws UsageError
 */
export function parseArguments(argv: readonly string[]): Asked | undefined {
  const { values, positionals } = parsed(argv);
  if (values.help === true) {
    return undefined;
  }
  if (positionals.length !== 1 || positionals[0] !== "adopt") {
    throw new UsageError(
      positionals[0] === undefined ? "Say what to do: adopt" : `There is no command "${positionals.join(" ")}"`,
    );
  }
  const hosts = values.host ?? [];
  if (hosts.length === 0) {
    throw new UsageError("--host is required: a host of the cluster, such as --host root@192.168.1.102");
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
    throw new UsageError(messageOf(error));
  }
}

/** `[user@]host[:port]`; an IPv6 address with a port stands in brackets. */
function hostOf(option: string, text: string): Omit<HostArgs, "proxy"> {
  const match =
    /^(?:([^@\s]+)@)?(?:\[([0-9A-Fa-f:]+)\]|([^@:\s]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:]*))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[2] ?? match?.[3];
  if (host === undefined) {
    throw new UsageError(`${option} ${text}: is not of the form [user@]host[:port]`);
  }
  const [, user, , , port] = match ?? [];
  return {
    host,
    ...(port === undefined || port === "22" ? {} : { port: Number(port) }),
    ...(user === undefined || user === "root" ? {} : { user }),
  };
}
