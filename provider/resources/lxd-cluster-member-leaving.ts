/** Takes a host out of its cluster and cleans it, also after an interruption between the two. */
import type { Connection, Context } from "../engine/lifecycle";
import { askLxd, isCopied, valuablesOf, whereToLook } from "../host/half-joined";
import { findSocketUnlessGone, isInstalled } from "../host/installed";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { finishReset, isResetUnfinished, resetLxd } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { forgetPresented, presentedBy } from "../lxd/client/presented";
import { EVACUATED, isAt, listMembers, type Member } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { type Departure, describeDepartures, foresee, staying } from "../lxd/cluster/departures";
import { isEvacuated } from "../lxd/cluster/evacuation";
import { answers, offlineOf } from "../lxd/cluster/heartbeats";
import { quorumWarnings, refuseLossOfQuorum } from "../lxd/cluster/quorum-guards";
import { removeAndWait } from "../lxd/cluster/removal";
import { throughRestart } from "../lxd/cluster/restarts";
import { imagesOnlyOn } from "../lxd/images/places";
import { dataIn, describeInventory, type Inventory, takeInventory, takeNames } from "../lxd/inventory";
import { sameListener } from "../lxd/meaning";
import { clusterAddress, getServer, type Server } from "../lxd/server";
import { FailedError, fallback, hasCode, havingChanged, messageOf, RefusedError } from "../support/errors";
import { evacuate, type Leaving, refuseToEvacuate } from "./lxd-cluster-member-evacuating";
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
  { status, isDown, server_name: name }: Member,
  host: Connection,
  fingerprint: string,
): Promise<boolean> {
  if (!isDown && status !== EVACUATED) {
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

/** What keeps a member in its cluster. Empty when it may leave. */
async function heldBy(lxd: LxdClient, name: string): Promise<Inventory> {
  const [inventory, images] = await Promise.all([takeInventory(lxd, name), imagesHeldBy(lxd, name)]);
  return { ...dataIn(inventory), ...(images.length > 0 && { images }) };
}

/**
 * The images that keep a member in its cluster. A server that keeps several copies of an image makes one before the member leaves; where it
 * keeps one, it refuses the removal, after an evacuation. None when the server does not tell: then it refuses by itself.
 */
async function imagesHeldBy(lxd: LxdClient, name: string): Promise<string[]> {
  const [{ config }, members] = await Promise.all([getServer(lxd), listMembers(lxd)]);
  return config["cluster.images_minimal_replica"] === "1" && members.length > 1 ? ((await imagesOnlyOn(lxd, name)) ?? []) : [];
}

/** Says how images leave a member; empty when it holds none. */
function cureForImages({ names }: LxdClient, { images }: Inventory): string {
  return images === undefined
    ? ""
    : `. ${names.name} copies these images to another member when cluster.images_minimal_replica is more than 1 (LxdServerConfig)`;
}

/** A member that may be about to leave. */
interface Leaver {
  readonly name: string;
  /** Absent when only the state of another resource has it. */
  readonly leaving?: Leaving;
}

/** Returns the preview's warnings for members that may be about to leave. */
export async function leavingWarnings(lxd: LxdClient, leavers: readonly Leaver[]): Promise<string[]> {
  const names = leavers.map(({ name }) => name);
  const [quorum, ...held] = await Promise.all([
    quorumWarnings(lxd, names),
    ...leavers.map((leaver) => leavingWarning(lxd, leaver)),
  ]);
  return [...held.flat(), ...quorum];
}

async function leavingWarning(lxd: LxdClient, { name, leaving }: Leaver): Promise<string[]> {
  const held = await heldBy(lxd, name);
  if (Object.keys(held).length === 0) {
    return [];
  }
  const refusal = "pulumi up refuses to remove it from the cluster until these are moved to another member or removed";
  if (leaving === undefined || leaving === "refuse") {
    const unless = leaving === undefined ? ", unless its own leaving evacuates it" : "";
    return [`Member ${name} is not empty: ${describeInventory(held)}. ${refusal}${unless}${cureForImages(lxd, held)}`];
  }
  const departures = await foresee(lxd, name, leaving);
  const kept = describeKept(departures, held);
  const evacuation = departures.length === 0 ? [] : [`${name} is evacuated before it leaves: ${describeDepartures(departures)}`];
  return kept === undefined
    ? evacuation
    : [`Member ${name} keeps after an evacuation: ${kept}. ${refusal}${cureForImages(lxd, held)}`];
}

/** Describes what an evacuation leaves on a member; `undefined` when that is nothing. */
function describeKept(departures: readonly Departure[], { instances: _moved, ...bound }: Inventory): string | undefined {
  const stay = staying(departures);
  const parts = [
    ...(stay.length > 0 ? [describeDepartures(stay)] : []),
    ...(Object.keys(bound).length > 0 ? [describeInventory(bound)] : []),
  ];
  return parts.length === 0 ? undefined : parts.join("; ");
}

/** Returns what a removal by force loses, for a warning. */
export async function lossWarning(lxd: LxdClient, name: string): Promise<string> {
  const { instances, "custom-volumes": volumes, "storage-pools": pools = [] } = await takeInventory(lxd, name);
  const data = dataIn({ ...(instances && { instances }), ...(volumes && { "custom-volumes": volumes }) });
  const images = await imagesOnlyOn(lxd, name);
  const parts = [
    ...(Object.keys(data).length > 0 ? [describeInventory(data)] : []),
    ...(pools.length > 0 ? [`its part of the storage pools ${pools.join(", ")}`] : []),
    ...(images === undefined ? ["images that only this member has"] : []),
    ...(images !== undefined && images.length > 0 ? [`images that only this member has: ${images.join(", ")}`] : []),
  ];
  return `The removal of ${name} by force loses ${parts.length > 0 ? parts.join("; ") : "no data that the cluster knows of"}`;
}

/** How a member is to leave its cluster. */
export interface WayOut {
  /** What becomes of its instances. */
  readonly leaving: Leaving;
  /** Whether it may be removed without its host. */
  readonly removal: "leave" | "force";
}

/**
 * Removes a member from its cluster, evacuated before if `leaving` says so. Only checks the last member: cleaning its host ends the
 * membership.
 * @returns What its host was before: a `member`; a `stranger` that knew of no membership; `dead`, so that it must not be touched.
 */
export async function leave(
  context: Context,
  lxd: LxdClient,
  member: Member,
  members: readonly Member[],
  host: Connection,
  { leaving, removal }: WayOut,
): Promise<"member" | "stranger" | "dead"> {
  const name = member.server_name;
  if (members.length === 1) {
    refuseHeld(name, dataIn(await takeInventory(lxd, name)), "Remove these first");
    return "member";
  }
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const isLost = await isReinstalled(context, member, host, fingerprint);
  const isDown = !isLost && (await offlineOf(lxd, [member])).length > 0;
  if (removal === "force" && (isLost || isDown)) {
    await removeByForce(context, lxd, member, host, fingerprint);
    return isLost ? "stranger" : "dead";
  }
  if (isDown) {
    throw new RefusedError(
      `Member ${name} is offline (${member.message}), so it cannot leave its cluster. Nothing was changed. Bring it back. If it will never ` +
        `return, set removal: "force" of its LxdClusterMember, run pulumi up --target for it, and then remove it; or by hand: ` +
        `${lxd.names.client} cluster remove --force ${name}, then pulumi refresh. ${await lossWarning(lxd, name)}`,
    );
  }
  const isEvacuated = await makeEmpty(context, lxd, member, leaving, isLost);
  const remove = (): Promise<void> =>
    withClusterLock(lxd, async () => {
      await refuseLossOfQuorum(lxd, name);
      context.progress(`removing ${name} from the cluster`);
      await removeAndWait(lxd, name, isLost);
    });
  await (isEvacuated ? havingChanged(remove) : remove());
  return isLost ? "stranger" : "member";
}

/**
 * Removes a member with all that it holds from its cluster, without its host.
 * @throws RefusedError when it answers: then it is not dead.
 */
export async function removeByForce(
  context: Context,
  lxd: LxdClient,
  { server_name: name }: Member,
  host: Connection,
  fingerprint: string,
): Promise<void> {
  const ssh = await ifReachable(context, host);
  const there = ssh && (await lxdOn(context, host));
  const server = there && (await askLxd(there));
  const isThere = server?.environment.server_clustered === true && server.environment.certificate_fingerprint === fingerprint;
  if (isThere || (await answers(lxd, name))) {
    throw new RefusedError(
      `Member ${name} is reported as offline, but it answers, so it is not removed by force. Nothing was changed. Repair the network between ` +
        "the members",
    );
  }
  const after =
    ssh === undefined
      ? "Its host does not answer and is not cleaned. If it comes back, its instances start there again: wipe it (resetPolicy of its LxdNode)"
      : `Its host ${ssh.name} answers, and is not cleaned by this: instances may still run there`;
  context.warn(`${await lossWarning(lxd, name)}. ${after}`);
  await withClusterLock(lxd, async () => {
    await refuseLossOfQuorum(lxd, name);
    context.progress(`removing ${name} from the cluster by force`);
    await removeAndWait(lxd, name, true);
  });
}

function refuseHeld(name: string, held: Inventory, cure: string): void {
  if (Object.keys(held).length > 0) {
    throw new RefusedError(`Member ${name} is not empty: ${describeInventory(held)}. Nothing was changed. ${cure}`);
  }
}

/**
 * Evacuates a member that holds instances, if all of them leave it then.
 * @param isLost - Whether its host has no membership any more, so that nothing can be moved.
 * @returns Whether it was evacuated.
 */
async function makeEmpty(context: Context, lxd: LxdClient, member: Member, leaving: Leaving, isLost: boolean): Promise<boolean> {
  const { server_name: name } = member;
  const held = await heldBy(lxd, name);
  if (isLost) {
    refuseHeld(name, dataIn(held), 'If these are lost, set removal: "force" of its LxdClusterMember and run pulumi up first');
  }
  if (leaving === "refuse" || Object.keys(held).length === 0) {
    const cure = `Move these to other members (leaving: "migrate" moves the instances), or remove them${cureForImages(lxd, held)}`;
    refuseHeld(name, held, cure);
    return false;
  }
  const departures = await foresee(lxd, name, leaving);
  const kept = describeKept(departures, held);
  if (kept !== undefined) {
    throw new RefusedError(
      `Member ${name} cannot be emptied by an evacuation (leaving: "${leaving}"), which leaves on it: ${kept}. Nothing was changed. Move these to ` +
        `other members, or remove them${cureForImages(lxd, held)}`,
    );
  }
  if (await isEvacuated(lxd, member)) {
    refuseHeld(
      name,
      held,
      "It is evacuated already, and these stayed. Move them to other members, or restore the member first (evacuated: false)",
    );
  }
  const evacuation = { name, leaving };
  await refuseToEvacuate(lxd, evacuation);
  await refuseLossOfQuorum(lxd, name);
  await evacuate(context, lxd, evacuation);
  const left = await heldBy(lxd, name);
  if (Object.keys(left).length > 0) {
    throw new FailedError(
      `Member ${name} was evacuated, and still has ${describeInventory(left)}. It was not removed, and stays evacuated. Move these to other ` +
        `members, or remove them; to take the evacuation back: ${lxd.names.client} cluster restore ${name}`,
    );
  }
  return true;
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
