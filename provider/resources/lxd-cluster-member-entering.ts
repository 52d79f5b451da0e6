/** Makes a host a member: it bootstraps a cluster when none exists yet, and joins the existing one otherwise. */
import { isSameHost } from "../engine/connection-inputs";
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { askLxd, standingOf, whereToLook } from "../host/half-joined";
import { noteHttpsAddress } from "../host/https-address";
import { finishReset, hasLeftoverClusterCertificate, isResetUnfinished, resetLxd } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import { findSocket } from "../lxd/client/endpoint";
import { forgetPresented, presentedBy } from "../lxd/client/presented";
import { bootstrapCluster, listMembers, type Member, memberConfigKeys, untilOnline } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { clearTraces } from "../lxd/cluster/half-joins";
import { failedJoin, joinCluster, mintJoinToken } from "../lxd/cluster/join";
import { howToWipe, type JoinContext, refuseOtherName, refuseToJoin } from "../lxd/cluster/join-preflight";
import { type MemberConfig, workOutMemberConfig } from "../lxd/cluster/member-config";
import { settled, throughRestart } from "../lxd/cluster/restarts";
import { OWNER_KEY } from "../lxd/config";
import { isOfSameStack } from "../lxd/ownership";
import { getServer, serverConfig, setServerConfig } from "../lxd/server";
import { FailedError, hasCode, havingChanged, messageOf, RefusedError } from "../support/errors";

/** A host and its place in a cluster. */
export interface Membership {
  /** How to reach the host. */
  readonly connection: Connection;
  /** Name of the member. */
  readonly name: string;
  /** Address for the other members. */
  readonly address: string;
  /** Members through which it joins; absent for the first member. */
  readonly cluster?: ClusterConnection | undefined;
  /** Hosts of further members, for the first member. Absent in older states. */
  readonly peers?: readonly Connection[];
  /** SHA-256 of the cluster's certificate, for the first member, if the program gives it. */
  readonly certificateFingerprint?: string | undefined;
  /** The host's values for pools and networks. */
  readonly memberConfig: MemberConfig;
}

/**
 * Returns the connection to the cluster's API: through the members by which the host joined, then through the host
 * itself, which may be all that is left of the cluster; for the first member, through itself or its peers. While the
 * cluster's identity is unknown, the host itself is left out: it could not be distinguished from a rival.
 */
export function throughCluster(member: Omit<Membership, "memberConfig">): ClusterConnection {
  const { cluster, connection, peers = [] } = member;
  const certificateFingerprint = cluster?.certificateFingerprint ?? member.certificateFingerprint;
  const others = cluster?.endpoints.filter((endpoint) => !isSameHost(endpoint, connection));
  if (others === undefined) {
    return { endpoints: [connection, ...peers], certificateFingerprint };
  }
  const othersAlone = certificateFingerprint === undefined && others.length > 0;
  return { endpoints: othersAlone ? others : [...others, connection], certificateFingerprint };
}

/**
 * Returns, through the peers, the cluster that a first member belongs to while it is outside of it: it was a member
 * before, or this stack made that cluster. `undefined` when no such cluster exists, so that the host may bootstrap one.
 * @param known - The cluster that it was a member of, if any.
 * @throws RefusedError when it cannot be determined whether the cluster exists, or when the host was a member and its
 * cluster is not found: a new cluster would be a rival.
 */
export async function clusterOfPeers(
  context: Context,
  membership: Membership,
  known: string | undefined,
): Promise<ClusterConnection | undefined> {
  const { connection, name, peers = [] } = membership;
  const { way, silent } = await askPeers(context, membership, known);
  if (way === undefined && known !== undefined) {
    throw new RefusedError(
      `${name} (${connection.host}) was a member of the cluster ${known}, and is in it no more. It does not bootstrap another one, which would be ` +
        `its rival. ${whyNotFound(silent, peers.length)}. If that cluster is gone for good: pulumi up --replace URN`,
    );
  }
  if (way === undefined && silent.length > 0) {
    throw new RefusedError(
      `${name} (${connection.host}) does not bootstrap a cluster: one of its peers may be in one that this stack has made, and another one would be its ` +
        `rival. Could not be asked: ${silent.join("; ")}. Bring it back, or, if it never comes back, take it out of peers (with LxdCluster out of hosts)`,
    );
  }
  return way;
}

/** Returns the connection to this stack's cluster through the peers in it, and why other peers could not be asked. */
async function askPeers(
  context: Context,
  { peers = [] }: Membership,
  known: string | undefined,
): Promise<{ way: ClusterConnection | undefined; silent: string[] }> {
  const silent: string[] = [];
  for (const peer of peers) {
    try {
      const certificateFingerprint = await clusterOfPeer(context, peer, known);
      if (certificateFingerprint !== undefined) {
        return { way: { endpoints: [peer, ...peers.filter((other) => other !== peer)], certificateFingerprint }, silent };
      }
    } catch (error) {
      silent.push(messageOf(error));
    }
  }
  return { way: undefined, silent };
}

function whyNotFound(silent: readonly string[], peers: number): string {
  if (silent.length > 0) {
    return `Whether that cluster is still there could not be asked: ${silent.join("; ")}. Bring one of its members back`;
  }
  return peers === 0
    ? "Tell it the hosts of the other members (peers; LxdCluster does so), or let it join through one of them (cluster)"
    : "None of its peers is in that cluster. Let it join through a host that is (cluster)";
}

/** Returns LXD on a host; `undefined` when none listens there. */
async function lxdOn(context: Context, connection: Connection): Promise<LxdClient | undefined> {
  const ssh = await context.host(connection);
  return (await findSocket(ssh, context.deadline)) === undefined ? undefined : context.lxd(connection);
}

/**
 * Returns the fingerprint of a peer's cluster, when it is this stack's. A host without LXD is in no cluster. Neither is
 * a host without a cluster certificate, even if its LXD does not answer: it may be in the middle of an installation or
 * a wipe.
 */
async function clusterOfPeer(context: Context, peer: Connection, known: string | undefined): Promise<string | undefined> {
  const ssh = await context.host(peer);
  try {
    return await clusterThatIsOurs(context, peer, known);
  } catch (error) {
    if (await isOutsideByItsDisk(ssh, context)) {
      return undefined;
    }
    throw error;
  }
}

async function isOutsideByItsDisk(ssh: SshConnection, { deadline }: Context): Promise<boolean> {
  if (await isResetUnfinished(ssh, deadline)) {
    return true;
  }
  for (const packaging of ["deb", "snap", "incus"] as const) {
    if (await hasLeftoverClusterCertificate(ssh, packaging, deadline)) {
      return false;
    }
  }
  return true;
}

/**
 * Returns the fingerprint of a host's cluster, when it is the known one, or else one in which this stack has members.
 */
async function clusterThatIsOurs(context: Context, host: Connection, known: string | undefined): Promise<string | undefined> {
  const lxd = await context.lxd(host);
  const server = await throughRestart(lxd, () => askLxd(lxd));
  if (server === undefined) {
    throw new RefusedError(`LXD on ${lxd.host} does not answer. ${whereToLook(lxd.endpoint.socket.packaging)}`);
  }
  const { server_clustered: isClustered, certificate_fingerprint: fingerprint } = server.environment;
  if (!isClustered || (known !== undefined && fingerprint !== known)) {
    return undefined;
  }
  if (known !== undefined) {
    return known;
  }
  const members = await throughRestart(lxd, () => listMembers(lxd));
  return members.some(({ config }) => isOfSameStack(config?.[OWNER_KEY] ?? "", context.urn)) ? fingerprint : undefined;
}

/**
 * Makes the host a member. Does nothing when it is one.
 * @param known - The cluster that it was a member of, if any.
 */
export async function enter(
  context: Context,
  membership: Membership,
  known?: string,
): Promise<{ cluster: LxdClient; member: Member }> {
  const ssh = await context.host(membership.connection);
  const isReset = await finishReset(ssh, context, []);
  return isReset ? havingChanged(() => enterFrom(context, membership, known)) : enterFrom(context, membership, known);
}

async function enterFrom(
  context: Context,
  membership: Membership,
  known: string | undefined,
): Promise<{ cluster: LxdClient; member: Member }> {
  const host = await context.lxd(membership.connection);
  forgetPresented(host.endpoint);
  const way = membership.cluster ?? (await wayIn(context, host, membership, known));
  if (way === undefined) {
    await bootstrap(context, host, membership);
    return { cluster: host, member: await untilOnline(host, membership.name) };
  }
  const cluster = await context.lxd(way);
  await join(context, host, cluster, membership);
  return { cluster, member: await untilOnline(cluster, membership.name) };
}

/** Returns how the first member finds its cluster; `undefined` when it is in it, or no cluster exists yet. */
async function wayIn(
  context: Context,
  host: LxdClient,
  membership: Membership,
  known: string | undefined,
): Promise<ClusterConnection | undefined> {
  if ((membership.peers ?? []).length === 0 && known === undefined) {
    return undefined;
  }
  const own = (await askLxd(host))?.environment;
  if (own?.server_clustered !== true) {
    return clusterOfPeers(context, membership, known);
  }
  const ours = known === undefined ? await clusterBesides(context, membership) : { certificateFingerprint: known };
  if (ours !== undefined && ours.certificateFingerprint !== own.certificate_fingerprint) {
    throw new RefusedError(
      `LXD on ${host.host} is a member of the cluster ${own.certificate_fingerprint}, and ${ours.certificateFingerprint} is meant. Nothing was done. Find out ` +
        "which of the two is the real one (lxc cluster list on their hosts), and take the host out of the other",
    );
  }
  return undefined;
}

/**
 * Returns the cluster of the peers of a host that is in one itself. If they do not answer, assumes that it is theirs:
 * no cluster is made then.
 */
async function clusterBesides(context: Context, membership: Membership): Promise<ClusterConnection | undefined> {
  const { way, silent } = await askPeers(context, membership, undefined);
  for (const reason of way === undefined ? silent : []) {
    context.warn(`Whether its peers are in the cluster of ${membership.name} could not be asked: ${reason}`);
  }
  return way;
}

/** Makes the host the first member. Does nothing when it is one. */
async function bootstrap(context: Context, lxd: LxdClient, member: Membership): Promise<void> {
  const server = await getServer(lxd);
  if (server.environment.server_clustered) {
    refuseOtherName(lxd, server, member.name);
    return;
  }
  const ssh = await context.host(member.connection);
  if (await hasLeftoverClusterCertificate(ssh, lxd.endpoint.socket.packaging, context.deadline)) {
    throw new RefusedError(
      `${ssh.name} keeps the certificate of an interrupted join, which makes LXD refuse to bootstrap a cluster. ` +
        `Start from an empty LXD: ${howToWipe(["cluster"])}`,
    );
  }
  context.progress(`bootstrapping the cluster on ${lxd.host}`);
  await noteHttpsAddress(ssh, server, member.address, context.deadline);
  const own = serverConfig(server)["core.https_address"] ?? "";
  await setServerConfig(lxd, { "core.https_address": own || member.address, "cluster.https_address": member.address });
  await bootstrapCluster(lxd, member.name);
  forgetPresented(lxd.endpoint);
}

/** Makes the host a further member. Does nothing when it is one. Clears what an interrupted attempt left. */
async function join(context: Context, host: LxdClient, cluster: LxdClient, member: Membership): Promise<void> {
  const { name, address } = member;
  const { deadline } = context;
  await settled(cluster);
  const ssh = await context.host(member.connection);
  const [asked, target] = [await askLxd(host), await getServer(cluster)];
  const whose = { ssh, joining: asked, cluster, target, deadline, urn: context.urn };
  const { standing, holds } = await standingOf({ host, ...whose }, name, address);
  if (asked !== undefined && standing === "member") {
    refuseOtherName(host, asked, name);
    return;
  }
  const go = async (): Promise<void> => {
    const meeting: JoinContext = { host, joining: await getServer(host), cluster, target };
    await refuseToJoin(meeting, holds, name, address);
    await withClusterLock(cluster, () => joinAs(context, ssh, meeting, member));
  };
  if (standing !== "stranded") {
    await go();
    return;
  }
  context.warn(
    `LXD on ${host.host} was left half joined, or its member was removed by force. The cluster does not know it and nothing of value is on ` +
      `it, so it is wiped and joins anew`,
  );
  await resetLxd(ssh, host.endpoint.socket.packaging, context, asked);
  await havingChanged(go);
}

/** Joins the host, once it is known that the host may join. */
async function joinAs(context: Context, ssh: SshConnection, meeting: JoinContext, member: Membership): Promise<void> {
  const { name, address } = member;
  const { deadline } = context;
  const { host, joining, cluster, target } = meeting;
  const { certificate, certificate_fingerprint, server_name: inviting } = target.environment;
  const memberConfig = await workOutMemberConfig(cluster, await memberConfigKeys(cluster), member.memberConfig, name, inviting);
  for (const cleared of await clearTraces(meeting, name, address)) {
    context.warn(cleared);
  }
  await noteHttpsAddress(ssh, joining, address, deadline);
  context.progress(`joining ${name} to the cluster of ${inviting}`);
  const token = await mintJoinToken(cluster, name);
  try {
    if (token.fingerprint !== certificate_fingerprint) {
      throw new FailedError(`the join token is for another certificate than the one that ${cluster.host} presents`);
    }
    await joinCluster(host, { name, address, token, certificate, memberConfig });
  } catch (error) {
    if (hasCode(error, "lost") && (await askLxd(host))?.environment.server_clustered !== false) {
      return; // the caller checks the membership next
    }
    throw await failedJoin(error, { name, host: host.host, cluster, token });
  } finally {
    forgetPresented(host.endpoint);
  }
}

/** Whether every host reports that it is in no cluster. A host that does not answer has not reported it. */
export async function areInNoCluster(context: Context, hosts: readonly Connection[]): Promise<boolean> {
  for (const connection of hosts) {
    const isAlone = await isInNoCluster(context, connection).catch((error: unknown) => {
      if (hasCode(error, "transport") || hasCode(error, "refused") || hasCode(error, "api")) {
        return false;
      }
      throw error;
    });
    if (!isAlone) {
      return false;
    }
  }
  return true;
}

async function isInNoCluster(context: Context, connection: Connection): Promise<boolean> {
  if (await isResetUnfinished(await context.host(connection), context.deadline)) {
    return true; // a wipe is unfinished, and LXD cannot answer
  }
  const lxd = await lxdOn(context, connection);
  return lxd !== undefined && !(await presentedBy(lxd.endpoint, context.deadline)).clustered;
}
