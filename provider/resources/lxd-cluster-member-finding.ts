/** Finds the cluster that a member belongs to. */
import { isSameHost } from "../engine/connection-inputs";
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { askLxd, whereToLook } from "../host/half-joined";
import { hasLeftoverClusterCertificate, isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import { findSocket } from "../lxd/client/endpoint";
import { presentedBy } from "../lxd/client/presented";
import { listMembers, type Member } from "../lxd/cluster/cluster";
import { throughRestart } from "../lxd/cluster/restarts";
import { OWNER_KEY } from "../lxd/config";
import { isOfSameStack } from "../lxd/ownership";
import { fallback, hasCode, messageOf, RefusedError } from "../support/errors";

/** A host and the hosts through which its cluster is reached. */
export interface Membership {
  /** The member's own host. */
  readonly connection: Connection;
  /** Name of the member. */
  readonly name: string;
  /** Members through which it joins; absent for the first member. */
  readonly cluster?: ClusterConnection | undefined;
  /** Hosts of further members, for the first member. Absent in older states. */
  readonly peers?: readonly Connection[];
  /** SHA-256 of the cluster's certificate, for the first member, if it is known. */
  readonly certificateFingerprint?: string | undefined;
}

/**
 * Returns the connection to the cluster's API: through the members by which the host joined, then through the host itself, which
 * may be all that is left of the cluster; for the first member, through itself or its peers. While the cluster's identity is
 * unknown, the host itself is left out: it might be in another cluster.
 */
export function clusterConnectionOf(member: Omit<Membership, "name">): ClusterConnection {
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
 * Returns the cluster, its members, and the member itself if it is listed; `undefined` when the cluster no longer exists.
 * @throws The first error, when the hosts do not prove that; TimeoutError when the time is over while one is asked.
 */
export async function findCluster(
  context: Context,
  membership: Membership,
  list: (lxd: LxdClient) => Promise<Member[]>,
): Promise<{ lxd: LxdClient; members: Member[]; member: Member | undefined } | undefined> {
  const connection = clusterConnectionOf(membership);
  let reached: LxdClient | undefined;
  try {
    const lxd = await context.lxd(connection);
    reached = lxd;
    const members = await throughRestart(lxd, () => list(lxd));
    return { lxd, members, member: members.find(({ server_name }) => server_name === membership.name) };
  } catch (error) {
    const isRefused = hasCode(error, "refused") && membership.cluster === undefined;
    const isInNoCluster = (await reached?.isInNoCluster(error)) === true;
    if (isInNoCluster || (isRefused && (await allSayNoCluster(context, connection.endpoints)))) {
      return undefined;
    }
    throw error;
  }
}

/** Whether each host answers, and is in no cluster. */
async function allSayNoCluster(context: Context, hosts: readonly Connection[]): Promise<boolean> {
  for (const host of hosts) {
    const noAnswer = fallback(false, "refused", "transport", "timeout", "api", "response-shape");
    if (!(await isInNoCluster(context, host).catch(noAnswer))) {
      return false;
    }
  }
  return true;
}

async function isInNoCluster(context: Context, host: Connection): Promise<boolean> {
  if (await isResetUnfinished(await context.host(host), context.deadline)) {
    return true; // a wipe is unfinished, and LXD cannot answer
  }
  const lxd = await lxdOn(context, host);
  return lxd !== undefined && !(await presentedBy(lxd.endpoint, context.deadline)).clustered;
}

/** Returns the SSH connection to a host; `undefined` when the host cannot be reached. */
export function ifReachable(context: Context, host: Connection): Promise<SshConnection | undefined> {
  return context.host(host).catch(fallback(undefined, "transport"));
}

/** Returns the hosts that are members of a cluster, by their names in it, without those that cannot be reached. */
export async function hostsOfMembers(
  context: Context,
  lxd: LxdClient,
  hosts: readonly Connection[],
): Promise<Map<string, SshConnection>> {
  const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
  const members = await Promise.all(
    hosts.map(async (host): Promise<[string, SshConnection][]> => {
      const ssh = await ifReachable(context, host);
      const member = ssh && (await lxdOn(context, host));
      if (ssh === undefined || member === undefined) {
        return [];
      }
      const presented = await presentedBy(member.endpoint, context.deadline);
      return presented.fingerprint === fingerprint ? [[presented.name, ssh]] : [];
    }),
  );
  return new Map(members.flat());
}

/** Returns LXD on a host; `undefined` when none listens there. */
export async function lxdOn(context: Context, host: Connection): Promise<LxdClient | undefined> {
  const ssh = await context.host(host);
  return (await findSocket(ssh, context.deadline)) === undefined ? undefined : context.lxd(host);
}

/** Returns the cluster's API through a member that stays, when one is known and answers; otherwise the given client. */
export async function throughAnother(context: Context, lxd: LxdClient, membership: Membership): Promise<LxdClient> {
  const { endpoints, certificateFingerprint } = clusterConnectionOf(membership);
  const others = endpoints.filter((connection) => !isSameHost(connection, membership.connection));
  const { name } = await presentedBy(lxd.endpoint, context.deadline);
  return name !== membership.name || others.length === 0
    ? lxd
    : context.lxd({ endpoints: others, certificateFingerprint }).catch(fallback(lxd, "transport", "refused"));
}

/** Returns the cluster that a host is to join again; `undefined` when an old state does not identify it. */
export async function clusterToReenter(context: Context, membership: Membership): Promise<LxdClient | undefined> {
  if (membership.cluster !== undefined) {
    return context.lxd(clusterConnectionOf(membership));
  }
  const known = membership.certificateFingerprint;
  const connection = known === undefined ? undefined : await clusterOfPeers(context, membership, known);
  return connection === undefined ? undefined : context.lxd(connection);
}

/**
 * Returns, through the peers, the cluster that a first member belongs to while it is outside of it: it was a member before, or
 * this stack made that cluster. `undefined` when no such cluster exists, so that the host may bootstrap one.
 * @param known - The cluster that it was a member of, if any.
 * @throws RefusedError when it cannot be determined whether the cluster exists, or when the host was a member and its cluster is
 * not found.
 */
async function clusterOfPeers(
  context: Context,
  membership: Membership,
  known: string | undefined,
): Promise<ClusterConnection | undefined> {
  const { connection, name, peers = [] } = membership;
  const { found, silent } = await askPeers(context, membership, known);
  if (found === undefined && known !== undefined) {
    throw new RefusedError(
      `${name} (${connection.host}) is no longer in its cluster ${known}, and does not bootstrap a second one. ${whyNotFound(silent, peers.length)}. ` +
        "If that cluster no longer exists: pulumi up --replace URN",
    );
  }
  if (found === undefined && silent.length > 0) {
    throw new RefusedError(
      `${name} (${connection.host}) does not bootstrap a cluster, because a peer may already be in one of this stack. Could not be asked: ` +
        `${silent.join("; ")}. Bring it back, or, if it is lost, remove it from peers (LxdCluster: from hosts)`,
    );
  }
  return found;
}

/** Returns the connection to this stack's cluster through the peers in it, and why other peers could not be asked. */
async function askPeers(
  context: Context,
  { peers = [] }: Membership,
  known: string | undefined,
): Promise<{ found: ClusterConnection | undefined; silent: string[] }> {
  const silent: string[] = [];
  for (const peer of peers) {
    try {
      const certificateFingerprint = await clusterOfPeer(context, peer, known);
      if (certificateFingerprint !== undefined) {
        return { found: { endpoints: [peer, ...peers.filter((other) => other !== peer)], certificateFingerprint }, silent };
      }
    } catch (error) {
      silent.push(messageOf(error));
    }
  }
  return { found: undefined, silent };
}

function whyNotFound(silent: readonly string[], peers: number): string {
  if (silent.length > 0) {
    return `Whether that cluster still exists could not be determined: ${silent.join("; ")}. Bring one of its members back`;
  }
  return peers === 0
    ? "Give the hosts of the other members as peers (LxdCluster does this), or one of them as cluster"
    : "None of its peers is in that cluster. Give a host that is in it as cluster";
}

/**
 * Returns the fingerprint of a peer's cluster, when it is this stack's. A host without LXD is in no cluster. Neither is a host
 * without a cluster certificate, even if its LXD does not answer: it may be in the middle of an installation or a wipe.
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

/** Returns the fingerprint of a host's cluster, when it is the known one, or else one in which this stack has members. */
async function clusterThatIsOurs(context: Context, host: Connection, known: string | undefined): Promise<string | undefined> {
  const lxd = await context.lxd(host);
  const server = await throughRestart(lxd, () => askLxd(lxd));
  if (server === undefined) {
    throw new RefusedError(`${lxd.title} does not answer. ${whereToLook(lxd)}`);
  }
  const { server_clustered: isClustered, certificate_fingerprint: fingerprint } = server.environment;
  if (!isClustered || known !== undefined) {
    return isClustered && fingerprint === known ? known : undefined;
  }
  const members = await throughRestart(lxd, () => listMembers(lxd));
  return members.some(({ config }) => isOfSameStack(config?.[OWNER_KEY] ?? "", context.urn)) ? fingerprint : undefined;
}

/** Returns how a first member on `lxd` finds its cluster; `undefined` when it is in it, or no cluster exists yet. */
export async function findWayIn(
  context: Context,
  lxd: LxdClient,
  membership: Membership,
  known: string | undefined,
): Promise<ClusterConnection | undefined> {
  if ((membership.peers ?? []).length === 0 && known === undefined) {
    return undefined;
  }
  const own = (await askLxd(lxd))?.environment;
  if (own?.server_clustered !== true) {
    return clusterOfPeers(context, membership, known);
  }
  const ours = known ?? (await clusterOfOthers(context, membership));
  if (ours !== undefined && ours !== own.certificate_fingerprint) {
    throw new RefusedError(
      `${lxd.title} is a member of the cluster ${own.certificate_fingerprint}, but must be in the cluster ${ours}. Nothing was changed. Find out ` +
        `which of the two has your instances (${lxd.names.client} cluster list on their hosts), and remove the host from the other one`,
    );
  }
  return undefined;
}

/**
 * Returns the fingerprint of the cluster of the peers of a host that is in one itself. If they do not answer, assumes that it is
 * theirs: no cluster is made then.
 */
async function clusterOfOthers(context: Context, membership: Membership): Promise<string | undefined> {
  const { found, silent } = await askPeers(context, membership, undefined);
  for (const reason of found === undefined ? silent : []) {
    context.warn(`Could not determine whether a peer is in the cluster of ${membership.name}: ${reason}`);
  }
  return found?.certificateFingerprint;
}
