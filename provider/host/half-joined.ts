/**
 * Hosts whose LXD is neither an empty server nor a member: a join was interrupted, or the cluster removed the member by force
 * while it was offline. LXD up to 5.0.3 does not roll back then, and restarts endlessly.
 */
import type { LxdClient } from "../lxd/client/client";
import { isAt, listMembers, type Member } from "../lxd/cluster/cluster";
import { howToWipe, type JoinContext } from "../lxd/cluster/join-preflight";
import { OWNER_KEY } from "../lxd/config";
import { dataIn, describeInventory, type Inventory, takeInventory } from "../lxd/inventory";
import { sameListener } from "../lxd/meaning";
import { isOfSameStack } from "../lxd/ownership";
import { clusterAddress, getServer, type Server } from "../lxd/server";
import { type Deadline, tryUntil } from "../support/deadline";
import { hasCode, RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { lookAtDisk, type OnDisk, together, unknownTo } from "./on-disk";

/** A daemon that has not reported its state within this time is treated as silent. */
const ANSWER_SECONDS = 30;

/** The server, or `undefined` when the socket accepts the request and LXD never answers. */
export function askLxd(lxd: LxdClient): Promise<Server | undefined> {
  const soon = lxd.deadline.atMostHalf(ANSWER_SECONDS, `asking ${lxd.title} for its state`);
  return tryUntil(lxd.deadline, soon, async (report) => {
    try {
      return await getServer(lxd.within(soon));
    } catch (error) {
      if (hasCode(error, "transport") && lxd.endpoint.isOpen()) {
        report(`${lxd.names.name} ended and was started again`); // this may repeat endlessly
        return undefined;
      }
      throw error;
    }
  });
}

/** What of value is on a host whose daemon does not answer, or reports a cluster that it is not in. */
export function valuablesOf(disk: OnDisk): Inventory {
  return dataIn(unknownTo({}, disk));
}

export function whereToLook({ names }: LxdClient): string {
  return `Look at: ${names.log}`;
}

/**
 * How a host relates to the cluster that it must be in. One that is stranded considers itself a member, or is stuck in its join,
 * while the cluster does not know it. It holds nothing of value.
 */
export type Standing = "member" | "standalone" | "stranded";

/** @throws RefusedError when the host belongs to another cluster, does not answer, or holds something that a fresh start would destroy. */
export async function standingOf(
  context: Omit<JoinContext, "joining"> & { joining: Server | undefined; ssh: SshConnection; deadline: Deadline; urn: string },
  name: string,
  address: string,
): Promise<{ standing: Standing; holds: Inventory }> {
  const { host, joining, cluster, target, ssh, deadline } = context;
  if (!target.environment.server_clustered) {
    throw new RefusedError(
      `${cluster.host} is not in a cluster, so ${name} cannot join it. Bootstrap it first (LxdClusterMember without cluster)`,
    );
  }
  const disk = await lookAtDisk(ssh, host.endpoint.socket.packaging, deadline);
  if (joining !== undefined && !joining.environment.server_clustered) {
    const told = await takeInventory(host);
    const holds = together(told, unknownTo(told, disk));
    const began = sameListener(clusterAddress(joining), address) && Object.keys(holds).length > 0;
    return began && isCopied(holds, await takeInventory(cluster))
      ? { standing: "stranded", holds: {} }
      : { standing: "standalone", holds };
  }
  const members = await listMembers(cluster);
  if (joining === undefined) {
    refuseSilent({ ...context, disk, members }, name, address);
  } else {
    const { certificate_fingerprint, server_name } = joining.environment;
    // All members present the cluster's certificate.
    if (certificate_fingerprint !== target.environment.certificate_fingerprint) {
      await refuseRival(host, cluster, context.urn);
      throw new RefusedError(
        `${host.title} is a member of another cluster, as "${server_name}". Remove it there, or wipe the host: ${wipeAgain(["cluster"])}`,
      );
    }
    if (members.some((member) => member.server_name === server_name && isAt(member, clusterAddress(joining)))) {
      return { standing: "member", holds: {} };
    }
  }
  const valuables = valuablesOf(disk);
  if (Object.keys(valuables).length > 0) {
    throw new RefusedError(
      `${host.title} considers itself a member of the cluster at ${cluster.host}, which does not know it: it was removed by force, or ` +
        `its join was interrupted. On its disk are ${describeInventory(valuables)}. Save what you need, then wipe the host: ` +
        wipeAgain(["cluster", ...Object.keys(valuables)]),
    );
  }
  return { standing: "stranded", holds: {} };
}

/**
 * @throws RefusedError when the same stack made the cluster that the host is in. The cluster to join is then a rival, and wiping
 *   the host would destroy the real one.
 */
async function refuseRival(host: LxdClient, cluster: LxdClient, urn: string): Promise<void> {
  const members = await listMembers(host);
  if (members.some(({ config }) => isOfSameStack(config?.[OWNER_KEY] ?? "", urn))) {
    throw new RefusedError(
      `${host.title} is in the cluster that this stack made (members: ${members.map(({ server_name }) => server_name).join(", ")}), but ` +
        `${cluster.host} is in another one. Nothing was changed. Do not wipe either: find out how ${cluster.host} got into its cluster, and remove ` +
        "it from there",
    );
  }
}

/** Whether a server holds only pools and networks that a join copied from the cluster, and no volume in them. */
export function isCopied(holds: Inventory, cluster: Inventory): boolean {
  const { "storage-pools": pools = [], networks = [], ...rest } = holds;
  return (
    Object.keys(rest).length === 0 &&
    pools.every((name) => cluster["storage-pools"]?.includes(name)) &&
    networks.every((name) => cluster.networks?.includes(name))
  );
}

/** @throws RefusedError unless the silent daemon has the cluster's certificate and the cluster does not list it. */
function refuseSilent(
  { host, cluster, target, disk, members }: Omit<JoinContext, "joining"> & { disk: OnDisk; members: readonly Member[] },
  name: string,
  address: string,
): void {
  const silent = `${host.title} does not answer`;
  if (disk.clusterCertificate === undefined) {
    throw new RefusedError(`${silent}. ${whereToLook(host)}`);
  }
  if (disk.clusterCertificate !== target.environment.certificate_fingerprint) {
    const valuables = valuablesOf(disk);
    const on = Object.keys(valuables).length === 0 ? "" : ` On its disk are ${describeInventory(valuables)}.`;
    throw new RefusedError(
      `${silent}. It has the certificate of another cluster, which is gone or cannot be reached.${on} Bring that cluster back, or wipe the ` +
        `host: ${wipeAgain(["cluster", ...Object.keys(valuables)])}`,
    );
  }
  const listed = members.find((member) => member.server_name === name || isAt(member, address));
  if (listed !== undefined) {
    throw new RefusedError(
      `${silent}, and the cluster at ${cluster.host} lists it as the member "${listed.server_name}" (${listed.status}). ` +
        `${whereToLook(host)}. If it cannot be repaired, remove the member with all that it held: ` +
        `${cluster.names.client} cluster remove --force ${listed.server_name}`,
    );
  }
}

/** How to wipe a host whose LxdNode exists already: a changed policy does not affect a former member. */
function wipeAgain(kinds: readonly string[]): string {
  return `${howToWipe(kinds)}, and replace the LxdNode if it exists already (pulumi up --replace URN)`;
}
