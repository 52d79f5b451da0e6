/** Takes a host out of its cluster and cleans it, also after an interruption between the two. */
import type { Connection, Context } from "../engine/lifecycle";
import { askLxd, isCopied, valuablesOf, whereToLook } from "../host/half-joined";
import { findSocketUnlessGone, isInstalled } from "../host/installed";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { finishReset, isResetUnfinished, resetLxd } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { forgetPresented, presentedBy } from "../lxd/client/presented";
import { isAt, listMembers, type Member } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { offlineOf } from "../lxd/cluster/heartbeats";
import { quorumWarnings, refuseLossOfQuorum } from "../lxd/cluster/quorum-guards";
import { removeAndWait } from "../lxd/cluster/removal";
import { throughRestart } from "../lxd/cluster/restarts";
import { dataIn, describeInventory, type Inventory, takeInventory, takeNames } from "../lxd/inventory";
import { sameListener } from "../lxd/meaning";
import { clusterAddress, type Server } from "../lxd/server";
import { fallback, hasCode, messageOf, RefusedError } from "../support/errors";
import { ifReachable, lxdOn } from "./lxd-cluster-member-finding";

/** A host that was a member. */
interface Former {
  readonly connection: Connection;
  readonly name: string;
  /** Address for the other members. */
  readonly address: string;
  /** Identity of the cluster: SHA-256 of its certificate. Absent when an older state does not have it. */
  readonly certificateFingerprint: string | undefined;
}

/**
 * Whether a host that its cluster does not list has left it and was not cleaned: LXD keeps the address of its membership, or the
 * wipe was interrupted. `false` for a host that cannot be reached or whose LXD does not answer: the cluster reports that it is no
 * member.
 */
export async function isToBeCleaned(context: Context, { connection, address }: Former): Promise<boolean> {
  const ssh = await ifReachable(context, connection);
  if (ssh === undefined || (await isResetUnfinished(ssh, context.deadline))) {
    return ssh !== undefined;
  }
  const lxd = await lxdOn(context, connection);
  const server = lxd && (await askLxd(lxd));
  return server?.environment.server_clustered === false && sameListener(clusterAddress(server), address);
}

/**
 * Whether the cluster reports a member as offline while its host is up and has no membership: the host was reinstalled, or LXD
 * was wiped there. If the host is in another cluster by then, warns of it. `false` for a host that cannot be asked.
 * @param fingerprint - The certificate of the cluster that has the member.
 */
export async function isReinstalled(
  context: Context,
  { status, server_name: name }: Member,
  host: Connection,
  fingerprint: string,
): Promise<boolean> {
  if (status !== "Offline") {
    return false;
  }
  try {
    const ssh = await context.host(host);
    if (await isResetUnfinished(ssh, context.deadline)) {
      return false;
    }
    const lxd = await lxdOn(context, host);
    if (lxd === undefined) {
      return !(await isInstalled(ssh, context.deadline));
    }
    const server = await askLxd(lxd);
    if (server?.environment.server_clustered !== true) {
      return server !== undefined;
    }
    const { certificate_fingerprint: other, server_name: there } = server.environment;
    if (other === fingerprint) {
      return false;
    }
    context.warn(
      `${lxd.title} is not the member ${name}: it is in another cluster, as "${there}", with the certificate ${other}. To let it join ` +
        "again, remove it from that cluster",
    );
    return true;
  } catch (error) {
    if (hasCode(error, "refused")) {
      context.warn(`Could not determine whether the host of the offline member ${name} was reinstalled: ${messageOf(error)}`);
    }
    return fallback(false, "transport", "refused")(error);
  }
}

/** Describes what keeps a member in its cluster; `undefined` when it may leave. */
async function heldBy(lxd: LxdClient, name: string): Promise<string | undefined> {
  const held = dataIn(await takeInventory(lxd, name));
  return Object.keys(held).length === 0 ? undefined : `Member ${name} is not empty: ${describeInventory(held)}`;
}

/** Returns the preview's warnings for members that may be about to leave, by their names. */
export async function leavingWarnings(lxd: LxdClient, names: readonly string[]): Promise<string[]> {
  const [quorum, ...held] = await Promise.all([quorumWarnings(lxd, names), ...names.map((name) => heldBy(lxd, name))]);
  const refused = held.flatMap((what) =>
    what === undefined
      ? []
      : [`${what}. pulumi up refuses to remove it from the cluster until these are moved to another member or removed`],
  );
  return [...refused, ...quorum];
}

/** Returns the names that hosts have as members of a cluster; none for a host that cannot be reached or is in another one. */
export async function namesOf(context: Context, lxd: LxdClient, hosts: readonly Connection[]): Promise<string[]> {
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const names = await Promise.all(
    hosts.map(async (host) => {
      const member = (await ifReachable(context, host)) && (await lxdOn(context, host));
      const presented = member && (await presentedBy(member.endpoint, context.deadline));
      return presented?.fingerprint === fingerprint ? [presented.name] : [];
    }),
  );
  return names.flat();
}

/**
 * Removes an empty member from its cluster. Only checks the last member: cleaning its host ends the membership.
 * @returns Whether its host knew of the membership.
 */
export async function leave(
  context: Context,
  lxd: LxdClient,
  member: Member,
  members: readonly Member[],
  host: Connection,
): Promise<boolean> {
  const name = member.server_name;
  const held = await heldBy(lxd, name);
  if (held !== undefined) {
    throw new RefusedError(
      `${held}. Nothing was changed. Move these to other members (${lxd.names.client} cluster evacuate ${name} moves what can be moved), or remove them`,
    );
  }
  if (members.length === 1) {
    return true;
  }
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const isLost = await isReinstalled(context, member, host, fingerprint);
  if (!isLost && (await offlineOf(lxd, [member])).length > 0) {
    throw new RefusedError(
      `Member ${name} is offline (${member.message}), so it cannot leave its cluster. Bring it back, or, if it will never return: ` +
        `${lxd.names.client} cluster remove --force ${name}, then pulumi refresh`,
    );
  }
  await withClusterLock(lxd, async () => {
    await refuseLossOfQuorum(lxd, name);
    context.progress(`removing ${name} from the cluster`);
    await removeAndWait(lxd, name, isLost);
  });
  return !isLost;
}

/**
 * Resets LXD on a host that is no longer a member, or the last member, to the state after installation. Keeps the host's own
 * config, which its LxdNode set. Does not change a host with another use, and warns of it.
 * @param wasMember - Whether the cluster had it as an empty member until now.
 * @param cluster - The cluster that it was a member of, if that answers.
 */
export async function clean(context: Context, former: Former, wasMember: boolean, cluster: LxdClient | undefined): Promise<void> {
  const ssh = await context.host(former.connection);
  context.progress(`cleaning ${ssh.name}`);
  if (await finishReset(ssh, context, [])) {
    return;
  }
  const socket = await findSocketUnlessGone(ssh, context.deadline);
  if (socket === undefined) {
    return; // LXD was removed with all its data
  }
  const lxd = await context.lxd(former.connection);
  forgetPresented(lxd.endpoint);
  const server = await askLxd(lxd);
  const disk = await lookAtDisk(ssh, socket.packaging, context.deadline);
  const use = await otherUse({ former, lxd, server, disk, cluster, wasMember });
  if (use !== undefined) {
    context.warn(`${lxd.title} is no longer the member ${former.name}, and ${use}. It was not changed`);
    return;
  }
  await resetLxd(ssh, socket.packaging, context, server);
}

/** A former member, and what its host reports now. */
interface Found {
  readonly former: Former;
  readonly lxd: LxdClient;
  /** Absent when LXD does not answer. */
  readonly server: Server | undefined;
  readonly disk: OnDisk;
  readonly cluster: LxdClient | undefined;
  readonly wasMember: boolean;
}

/**
 * Describes the other use of a former member's host, as the end of a sentence.
 * @throws RefusedError when LXD does not answer, so that its use is unknown.
 */
async function otherUse(found: Found): Promise<string | undefined> {
  const { former, lxd, server, disk, wasMember } = found;
  const { certificateFingerprint: known } = former;
  const isOurs = (fingerprint: string | undefined): boolean => known !== undefined && fingerprint === known;
  if (server === undefined && !wasMember && !isOurs(disk.clusterCertificate)) {
    throw new RefusedError(
      `${lxd.title} does not answer, so its present use is unknown. It was not cleaned. ${whereToLook(lxd)}`,
    );
  }
  if (server?.environment.server_clustered === true) {
    const { certificate_fingerprint: fingerprint, server_name: name } = server.environment;
    if (!isOurs(fingerprint)) {
      return `is in another cluster, as "${name}", with the certificate ${fingerprint}`;
    }
    if (!wasMember && (await isListedOtherwise(found, server))) {
      return `is in its cluster as "${name}"`;
    }
  }
  const isStandalone = server?.environment.server_clustered === false;
  const keepsAddress = server !== undefined && sameListener(clusterAddress(server), former.address);
  // LXD has reported a member's contents. Contents that it does not know of count too.
  const precious =
    isStandalone && !(wasMember && keepsAddress)
      ? await holdingsOf(found, keepsAddress)
      : valuablesOf(wasMember ? { ...disk, closedPools: [] } : disk);
  return Object.keys(precious).length > 0 ? `holds ${describeInventory(precious)}` : undefined;
}

/**
 * Whether the cluster lists, under another name, a server that considers itself a member. `true` when the cluster cannot be
 * asked.
 */
async function isListedOtherwise({ cluster }: Found, server: Server): Promise<boolean> {
  if (cluster === undefined) {
    return true;
  }
  const own = clusterAddress(server);
  const members = await throughRestart(cluster, () => listMembers(cluster));
  return members.some((each) => each.server_name === server.environment.server_name || isAt(each, own));
}

/**
 * Returns the contents of a server that anybody may have used since it was a member. LXD that leaves a cluster forgets everything
 * except its addresses. While it keeps the address of its membership, its pools and networks may be copies made by a join.
 */
async function holdingsOf({ lxd, disk, cluster }: Found, keepsAddress: boolean): Promise<Inventory> {
  const told = await takeInventory(lxd);
  const used = { ...(await takeNames(lxd)), ...told, ...dataIn(together(told, unknownTo(told, disk))) };
  const mayBeCopied = keepsAddress && cluster !== undefined && Object.keys(used).length > 0;
  return mayBeCopied && isCopied(used, await takeInventory(cluster)) ? {} : used;
}
