/** What becomes of a host that leaves its cluster, also when that is interrupted between leaving and cleaning. */
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { askLxd, valuablesOf } from "../host/half-joined";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { findSnap, hasDebPackage } from "../host/packages";
import { finishReset, isResetUnfinished, resetLxd } from "../host/reset-lxd";
import { findSocket } from "../lxd/client/endpoint";
import { describeInventory, type Inventory, takeInventory } from "../lxd/inventory";
import { serverConfig } from "../lxd/server";
import { hasCode, RefusedError } from "../support/errors";

/** A host that is, or was, the member with this address. */
interface Host {
  readonly connection: Connection;
  readonly address: string;
}

/**
 * Whether a host that its cluster does not list has left it and was not cleaned since: LXD keeps the address of its membership, or its
 * wiping was interrupted. One that cannot be reached, or whose LXD cannot say, is none: the cluster has said that it is no member.
 */
export async function isToBeCleaned(context: Context, { connection, address }: Host): Promise<boolean> {
  const ssh = await context.host(connection).catch((error: unknown) => {
    if (hasCode(error, "transport")) {
      return undefined;
    }
    throw error;
  });
  if (ssh === undefined) {
    return false;
  }
  if (await isResetUnfinished(ssh, context.deadline)) {
    return true;
  }
  if ((await findSocket(ssh, context.deadline)) === undefined) {
    return false;
  }
  const server = await askLxd(await context.lxd(connection), context.deadline);
  return (
    server !== undefined && !server.environment.server_clustered && serverConfig(server)["cluster.https_address"] === address
  );
}

/**
 * Makes LXD on a host that is no member any more, or the last one, as fresh as after its installation. The config that is the host's own stays:
 * its LxdNode has set it.
 * @param wasMember - Whether it was one until now, and empty. Otherwise somebody may have found another use for it.
 */
export async function clean(context: Context, { connection }: Host, wasMember: boolean): Promise<void> {
  const ssh = await context.host(connection);
  context.progress(`cleaning LXD on ${ssh.name}`);
  if (await finishReset(ssh, context.deadline)) {
    return;
  }
  const socket = await findSocket(ssh, context.deadline);
  if (socket === undefined) {
    const isInstalled =
      (await hasDebPackage(ssh, "lxd", context.deadline)) || (await findSnap(ssh, "lxd", context.deadline)) !== undefined;
    if (isInstalled) {
      throw new RefusedError(
        `LXD is installed on ${ssh.name} but does not answer on its socket, so it is not cleaned. Start it and try again`,
      );
    }
    return; // LXD is gone, and took everything with it
  }
  const disk = await lookAtDisk(ssh, socket.packaging, context.deadline);
  // LXD has said of a member what it holds. What it does not know of counts too.
  const precious = wasMember ? valuablesOf({ ...disk, closedPools: [] }) : await holdingsOf(context, connection, ssh, disk);
  if (Object.keys(precious).length > 0) {
    context.warn(`LXD on ${ssh.name} is no member any more and holds ${describeInventory(precious)}: it is left as it is`);
    return;
  }
  await resetLxd(ssh, socket.packaging, context.deadline, await askLxd(await context.lxd(connection), context.deadline));
}

/** What of value is on a host that its cluster does not know. One that takes itself for a member tells what its former cluster holds. */
async function holdingsOf(context: Context, connection: Connection, ssh: SshConnection, disk: OnDisk): Promise<Inventory> {
  const lxd = await context.lxd(connection);
  const server = await askLxd(lxd, context.deadline);
  const told = server === undefined || server.environment.server_clustered ? {} : await takeInventory(lxd);
  const { instances, "custom-volumes": volumes } = together(told, unknownTo(told, disk));
  return { ...(instances && { instances }), ...(volumes && { "custom-volumes": volumes }) };
}
