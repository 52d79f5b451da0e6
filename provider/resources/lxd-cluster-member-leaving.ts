/** Takes a host out of its cluster and cleans it, also after an interruption between the two. */
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { hasDebPackage } from "../host/apt";
import { askLxd, isCopied, valuablesOf, whereToLook } from "../host/half-joined";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { finishReset, isResetUnfinished, resetLxd } from "../host/reset-lxd";
import { findSnap } from "../host/snapd";
import type { LxdClient } from "../lxd/client/client";
import { findSocket } from "../lxd/client/endpoint";
import { forgetPresented, presentedBy } from "../lxd/client/presented";
import { forgetMember, isAt, isNotClustered, listMembers, type Member, removeMember } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { offlineOf } from "../lxd/cluster/heartbeats";
import { throughRestart } from "../lxd/cluster/restarts";
import { describeInventory, type Inventory, takeInventory, takeNames } from "../lxd/inventory";
import { sameListener } from "../lxd/meaning";
import { type Server, serverConfig } from "../lxd/server";
import { until } from "../support/deadline";
import { hasCode, messageOf, RefusedError } from "../support/errors";

/** A host that is, or was, the member with this address. */
interface Host {
  readonly connection: Connection;
  readonly address: string;
}

/** A host that was a member. */
interface Former extends Host {
  readonly name: string;
  /** Identity of the cluster: SHA-256 of its certificate. Absent when an older state does not have it. */
  readonly certificateFingerprint: string | undefined;
}

/**
 * Whether a host that its cluster does not list has left it and was not cleaned: LXD keeps the address of its
 * membership, or the wipe was interrupted. `false` for a host that cannot be reached or whose LXD does not answer: the
 * cluster reports that it is no member.
 */
export async function isToBeCleaned(context: Context, { connection, address }: Host): Promise<boolean> {
  const ssh = await reached(context, connection);
  if (ssh === undefined) {
    return false;
  }
  if (await isResetUnfinished(ssh, context.deadline)) {
    return true;
  }
  if ((await findSocket(ssh, context.deadline)) === undefined) {
    return false;
  }
  const server = await askLxd(await context.lxd(connection));
  return (
    server !== undefined &&
    !server.environment.server_clustered &&
    sameListener(serverConfig(server)["cluster.https_address"] ?? "", address)
  );
}

/** Whether the host answers by SSH. */
export async function isReachable(context: Context, { connection }: Pick<Host, "connection">): Promise<boolean> {
  return (await reached(context, connection)) !== undefined;
}

/** Returns the connection to a host; `undefined` when it cannot be reached. */
function reached(context: Context, connection: Connection): Promise<SshConnection | undefined> {
  return context.host(connection).catch((error: unknown) => {
    if (hasCode(error, "transport")) {
      return undefined;
    }
    throw error;
  });
}

/**
 * Whether the cluster reports a member as offline while its host is up and has no membership: the host was reinstalled,
 * or LXD was wiped there. If the host is in another cluster by then, warns of it. `false` for a host that cannot be
 * asked.
 * @param fingerprint - The certificate of the cluster that has the member.
 */
export async function isReinstalled(
  context: Context,
  { status, server_name: name }: Member,
  { connection }: Pick<Host, "connection">,
  fingerprint: string,
): Promise<boolean> {
  if (status !== "Offline") {
    return false;
  }
  try {
    const ssh = await context.host(connection);
    if (await isResetUnfinished(ssh, context.deadline)) {
      return false;
    }
    if ((await findSocket(ssh, context.deadline)) === undefined) {
      return !(await isInstalled(ssh, context));
    }
    const server = await askLxd(await context.lxd(connection));
    if (server?.environment.server_clustered !== true) {
      return server !== undefined;
    }
    const { certificate_fingerprint: other, server_name: there } = server.environment;
    if (other === fingerprint) {
      return false;
    }
    context.warn(
      `LXD on ${ssh.name} does not answer as the member ${name}: it is in another cluster, as "${there}", with the certificate ${other}. It does not ` +
        "join again unless it is removed there",
    );
    return true;
  } catch (error) {
    if (hasCode(error, "transport")) {
      return false;
    }
    if (hasCode(error, "refused")) {
      context.warn(`Whether the host of an offline member was reinstalled could not be asked: ${messageOf(error)}`);
      return false;
    }
    throw error;
  }
}

async function isInstalled(ssh: SshConnection, { deadline }: Context): Promise<boolean> {
  return (await hasDebPackage(ssh, "lxd", deadline)) || (await findSnap(ssh, deadline)) !== undefined;
}

/** Describes what keeps a member in its cluster; `undefined` when it may leave. */
async function heldBy(lxd: LxdClient, name: string): Promise<string | undefined> {
  const { instances, "custom-volumes": volumes } = await takeInventory(lxd, name);
  const held = { ...(instances && { instances }), ...(volumes && { "custom-volumes": volumes }) };
  return Object.keys(held).length === 0 ? undefined : `Member ${name} is not empty: ${describeInventory(held)}`;
}

/** Returns the preview's warnings for members that may be about to leave, by their names. */
export async function foreseeLeaving(lxd: LxdClient, names: readonly string[]): Promise<string[]> {
  const held = await Promise.all(names.map((name) => heldBy(lxd, name)));
  return held.flatMap((what) =>
    what === undefined
      ? []
      : [`${what}. If it is to leave the cluster, pulumi up refuses that, unless all of it is removed or moved away before`],
  );
}

/**
 * Returns the names that hosts have as members of a cluster; none for a host that does not answer or is in another one.
 */
export async function namesOf(context: Context, lxd: LxdClient, hosts: readonly Connection[]): Promise<string[]> {
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const names = await Promise.all(
    hosts.map(async (connection) => {
      const ssh = await reached(context, connection);
      if (ssh === undefined || (await findSocket(ssh, context.deadline)) === undefined) {
        return [];
      }
      const presented = await presentedBy((await context.lxd(connection)).endpoint, context.deadline);
      return presented.fingerprint === fingerprint ? [presented.name] : [];
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
  host: Pick<Host, "connection">,
): Promise<boolean> {
  const name = member.server_name;
  const held = await heldBy(lxd, name);
  if (held !== undefined) {
    throw new RefusedError(
      `${held}. Move them away (lxc cluster evacuate ${name} moves what can be moved) or remove them; nothing was changed`,
    );
  }
  if (members.length === 1) {
    return true;
  }
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const reinstalled = await isReinstalled(context, member, host, fingerprint);
  if (!reinstalled && (await offlineOf(lxd, [member])).length > 0) {
    throw new RefusedError(
      `Member ${name} is offline (${member.message}), so it cannot leave its cluster. Bring it back, or, if it will never return: ` +
        `lxc cluster remove --force ${name}, then pulumi refresh`,
    );
  }
  await withClusterLock(lxd, async () => {
    context.progress(`removing ${name} from the cluster`);
    if (reinstalled) {
      await forgetMember(lxd, name);
    } else {
      await removeThrough(lxd, name);
    }
    await until(context.deadline, async (report) => {
      if (!(await isListed(lxd, name))) {
        return true;
      }
      report(`LXD on ${lxd.host} still lists ${name} as a member`);
      return undefined;
    });
  });
  return !reinstalled;
}

/**
 * Removes a member. When the request goes to the member itself, because no other one is known, its daemon ends during
 * it.
 */
async function removeThrough(lxd: LxdClient, name: string): Promise<void> {
  try {
    await removeMember(lxd, name);
  } catch (error) {
    const wentAway = hasCode(error, "transport") ? lxd.endpoint.isOpen() : hasCode(error, "lost") || isNotClustered(error);
    const isItself = wentAway && (await presentedBy(lxd.endpoint, lxd.deadline)).name === name;
    if (!isItself || (await isListed(lxd, name))) {
      throw error;
    }
  }
}

async function isListed(lxd: LxdClient, name: string): Promise<boolean> {
  try {
    const members = await throughRestart(lxd, () => listMembers(lxd));
    return members.some(({ server_name }) => server_name === name);
  } catch (error) {
    if (isNotClustered(error)) {
      return false; // the host itself answered, and is no longer in a cluster
    }
    throw error;
  }
}

/**
 * Resets LXD on a host that is no longer a member, or the last member, to the state after installation. Keeps the
 * host's own config, which its LxdNode set. Leaves a host with another use as it is, with a warning.
 * @param wasMember - Whether the cluster had it as an empty member until now.
 * @param cluster - The cluster that it was a member of, if that answers.
 */
export async function clean(context: Context, former: Former, wasMember: boolean, cluster: LxdClient | undefined): Promise<void> {
  const ssh = await context.host(former.connection);
  context.progress(`cleaning LXD on ${ssh.name}`);
  if (await finishReset(ssh, context, [])) {
    return;
  }
  const socket = await findSocket(ssh, context.deadline);
  if (socket === undefined) {
    if (await isInstalled(ssh, context)) {
      throw new RefusedError(
        `LXD is installed on ${ssh.name} but does not answer on its socket, so it is not cleaned. Start it and try again`,
      );
    }
    return; // LXD was removed with all its data
  }
  const lxd = await context.lxd(former.connection);
  forgetPresented(lxd.endpoint);
  const server = await askLxd(lxd);
  const disk = await lookAtDisk(ssh, socket.packaging, context.deadline);
  const use = await otherUse({ former, lxd, server, disk, cluster }, wasMember);
  if (use !== undefined) {
    context.warn(`LXD on ${ssh.name} is no member ${former.name} any more and ${use}: it is left as it is`);
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
}

/**
 * Describes the other use of a former member's host, as the end of a sentence.
 * @throws RefusedError when LXD does not answer, so that its use is unknown.
 */
async function otherUse(found: Found, wasMember: boolean): Promise<string | undefined> {
  const { former, lxd, server, disk } = found;
  const { certificateFingerprint: known } = former;
  const isOurs = (fingerprint: string | undefined): boolean => known !== undefined && fingerprint === known;
  if (server === undefined && !wasMember && !isOurs(disk.clusterCertificate)) {
    throw new RefusedError(
      `LXD on ${lxd.host} does not answer, so what it is used for by now is not known, and it is not cleaned. ${whereToLook(lxd.endpoint.socket.packaging)}`,
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
  const keepsAddress = server !== undefined && sameListener(serverConfig(server)["cluster.https_address"] ?? "", former.address);
  // LXD has reported a member's contents. Contents that it does not know of count too.
  const precious =
    isStandalone && !(wasMember && keepsAddress)
      ? await holdingsOf(found, keepsAddress)
      : valuablesOf(wasMember ? { ...disk, closedPools: [] } : disk);
  return Object.keys(precious).length > 0 ? `holds ${describeInventory(precious)}` : undefined;
}

/**
 * Whether the cluster lists, under another name, a server that considers itself a member. `true` when the cluster
 * cannot be asked.
 */
async function isListedOtherwise({ cluster }: Found, server: Server): Promise<boolean> {
  if (cluster === undefined) {
    return true;
  }
  const own = serverConfig(server)["cluster.https_address"] ?? "";
  const members = await throughRestart(cluster, () => listMembers(cluster));
  return members.some((each) => each.server_name === server.environment.server_name || isAt(each, own));
}

/**
 * Returns the contents of a server that anybody may have used since it was a member. LXD that leaves a cluster forgets
 * everything except its addresses. While it keeps the address of its membership, its pools and networks may be copies
 * made by a join.
 */
async function holdingsOf({ lxd, disk, cluster }: Found, keepsAddress: boolean): Promise<Inventory> {
  const told = await takeInventory(lxd);
  const { instances, "custom-volumes": volumes } = together(told, unknownTo(told, disk));
  const used = {
    ...(await takeNames(lxd)),
    ...told,
    ...(instances && { instances }),
    ...(volumes && { "custom-volumes": volumes }),
  };
  const mayBeCopied = keepsAddress && cluster !== undefined && Object.keys(used).length > 0;
  return mayBeCopied && isCopied(used, await takeInventory(cluster)) ? {} : used;
}
