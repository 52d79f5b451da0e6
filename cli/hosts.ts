import { LxdClient } from "../provider/lxd/client/client";
import { endpointOf } from "../provider/lxd/client/endpoint";
import { ifClustered, listMembers, type Member } from "../provider/lxd/cluster/cluster";
import { getServer, type Server } from "../provider/lxd/server";
import { Deadline } from "../provider/support/deadline";
import { RefusedError } from "../provider/support/errors";
import { type Connection, connectionSchema } from "../provider/transport/connection";
import { connect } from "../provider/transport/pool";
import type { SshConnection } from "../provider/transport/ssh";
import type { HostArgs } from "./arguments";

/** Time limit for reading a cluster, in seconds. */
const READ_SECONDS = 600;

/** A host on which LXD or Incus runs. */
export interface Host {
  readonly args: HostArgs;
  readonly connection: Connection;
  readonly ssh: SshConnection;
  readonly lxd: LxdClient;
  readonly server: Server;
  /** Name of the member; the server's name on a standalone server. */
  readonly name: string;
}

/** The hosts of one cluster, or one standalone server. */
export interface Hosts {
  readonly all: readonly Host[];
  /** The host that is asked for everything that all hosts share. */
  readonly first: Host;
  /** Empty for a standalone server. */
  readonly members: readonly Member[];
  readonly deadline: Deadline;
}

/**
 * Connects to the hosts, and checks that they are all members of one cluster.
 * @throws RefusedError, TransportError
 */
export async function openHosts(asked: readonly HostArgs[]): Promise<Hosts> {
  const deadline = new Deadline(READ_SECONDS, "Reading the cluster");
  const all = await Promise.all(asked.map((args) => openHost(args, deadline)));
  const [first] = all;
  if (first === undefined) {
    throw new RefusedError("No host was given");
  }
  const members = await membersOf(first);
  refuseStrangers(all, first, members);
  refuseAbsent(all, members);
  return { all, first, members, deadline };
}

async function openHost(args: HostArgs, deadline: Deadline): Promise<Host> {
  const connection = connectionOf(args);
  const ssh = await connect(connection, { deadline });
  const lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
  const server = await getServer(lxd);
  return { args, connection, ssh, lxd, server, name: server.environment.server_name };
}

/** @throws RefusedError naming the host. */
export function connectionOf(args: HostArgs): Connection {
  const { data: connection, error } = connectionSchema.safeParse(args);
  if (error !== undefined) {
    const reasons = error.issues.map(({ path, message }) => `${path.join(".")} ${message}`);
    throw new RefusedError(`--host ${args.host}: ${reasons.join("; ")}`);
  }
  return connection;
}

async function membersOf({ lxd }: Host): Promise<Member[]> {
  return (await ifClustered(lxd, listMembers(lxd))) ?? [];
}

function refuseStrangers(all: readonly Host[], first: Host, members: readonly Member[]): void {
  const isOther = ({ server }: Host): boolean =>
    server.environment.certificate_fingerprint !== first.server.environment.certificate_fingerprint;
  const other = all.find((host) => host !== first && (members.length === 0 || isOther(host)));
  if (other !== undefined) {
    throw new RefusedError(
      `${first.ssh.name} and ${other.ssh.name} are not members of one cluster. Run the command for each of them, with a folder of its own`,
    );
  }
  const twice = all.find((host, index) => all.findIndex(({ name }) => name === host.name) !== index);
  if (twice !== undefined) {
    throw new RefusedError(`Two of the hosts are the member "${twice.name}". Give each member once`);
  }
}

function refuseAbsent(all: readonly Host[], members: readonly Member[]): void {
  const missing = members.filter(({ server_name }) => !all.some(({ name }) => name === server_name));
  if (missing.length > 0) {
    const options = missing.map(({ url }) => `--host root@${new URL(url).hostname.replace(/^\[|\]$/g, "")}`);
    throw new RefusedError(
      `No --host was given for these members of the cluster: ${missing.map(({ server_name }) => server_name).join(", ")}. Add ` +
        `${options.join(" ")} (or another address that this machine can reach)`,
    );
  }
  const down = members.filter(({ status }) => status !== "Online");
  if (down.length > 0) {
    throw new RefusedError(
      `Members of the cluster are not Online, so their objects cannot be read: ${down
        .map(({ server_name, status, message }) => `${server_name} is ${status} (${message})`)
        .join(", ")}. Start or restore them first`,
    );
  }
}
