/**
 * The upgrade of a host's server. In a cluster, members are upgraded one after the other (docs/adr/0015-upgrades.md).
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_manage/#upgrade-cluster-members
 */
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import type { Versions } from "../host/deb-upgrade";
import { askLxd } from "../host/half-joined";
import { lookAtDisk } from "../host/on-disk";
import type { LxdClient } from "../lxd/client/client";
import { RESTART_SECONDS } from "../lxd/client/transient-failures";
import { listMembers } from "../lxd/cluster/cluster";
import { withUpgradeLock } from "../lxd/cluster/cluster-lock";
import { downOf, offlineOf } from "../lxd/cluster/heartbeats";
import { untilReady, untilSettled } from "../lxd/cluster/restarts";
import { until } from "../support/deadline";
import { hasCode, havingChanged, RefusedError } from "../support/errors";
import {
  prepareUpgradeEvacuation,
  previewUpgradeEvacuation,
  restoreOthers,
  restoreUpgraded,
} from "./lxd-node-upgrade-evacuation";

/** `waits`: the member answers only when the others are upgraded too. */
export type Upgraded = "ready" | "waits";

/** A daemon that answers 503 for this long after its upgrade waits for other members. A daemon that is silent fails earlier. */
const START_SECONDS = RESTART_SECONDS + 10;

/** By certificate of the cluster, the members that this process has upgraded and that may wait for others, with their hosts. */
const upgraded = new Map<string, Map<string, Connection>>();

/** A server that is on a host. */
export interface ServerThere {
  /** How to reach the host. */
  readonly connection: Connection;
  /** Its API. */
  readonly lxd: LxdClient;
}

/** A host whose server is upgraded. */
interface UpgradedHost extends ServerThere {
  readonly ssh: SshConnection;
  /** Whether a member is evacuated meanwhile. */
  readonly evacuates: boolean;
}

/**
 * Upgrades the server of a host by `act`. In a cluster, only while all members are online that this process has not upgraded, and one member
 * after the other.
 * @throws RefusedError naming the members that are down. Nothing is changed then.
 */
export async function upgradeServer(
  context: Context,
  { connection, ssh, lxd, evacuates }: UpgradedHost,
  versions: Versions,
  act: () => Promise<void>,
): Promise<Upgraded> {
  const upgrade = async (): Promise<void> => {
    context.progress(`upgrading ${lxd.title} from ${versions.from} to ${versions.to}`);
    await act();
  };
  const server = await askLxd(lxd);
  const { certificate_fingerprint: told, server_clustered: clustered, server_name: name } = server?.environment ?? {};
  const fingerprint =
    server === undefined ? (await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline)).clusterCertificate : told;
  if (fingerprint === undefined || clustered === false) {
    await upgrade();
    await untilReady(lxd);
    return "ready";
  }
  return withUpgradeLock(lxd, fingerprint, async () => {
    const done = upgraded.get(fingerprint) ?? new Map<string, Connection>();
    upgraded.set(fingerprint, done);
    // A silent member may be the one that is behind. Nobody else can be asked.
    const members = server === undefined ? [] : await listMembers(lxd);
    const others = members.filter(({ server_name }) => server_name !== name && !done.has(server_name));
    const down = await downOf(lxd, others);
    if (down.length > 0) {
      throw new RefusedError(`${lxd.title} was not upgraded from ${versions.from} to ${versions.to}: ${describeDown(lxd, down)}`);
    }
    const evacuate =
      evacuates && name !== undefined && members.length > 1
        ? await prepareUpgradeEvacuation(context, ssh, lxd, name, members)
        : undefined;
    if (evacuate !== undefined) {
      await evacuate();
    }
    await (evacuate === undefined ? upgrade() : havingChanged(upgrade));
    return havingChanged(async () => {
      if (name !== undefined) {
        done.set(name, connection);
      }
      if (await isWaiting(lxd, server === undefined || others.length > 0)) {
        return "waits";
      }
      await untilAllOnline(lxd, done);
      await restoreUpgraded(context, ssh, lxd);
      await restoreOthers(context, new Map([...done].filter(([each]) => each !== name)));
      upgraded.delete(fingerprint);
      return "ready";
    });
  });
}

/** What a preview tells of an upgrade. */
export async function previewUpgrade(
  lxd: LxdClient,
  host: string,
  { from, to }: Versions,
  evacuates: boolean,
): Promise<string[]> {
  const upgrade = `pulumi up will upgrade ${lxd.names.name} on ${host} from ${from} to ${to}. Its daemon restarts`;
  const what = `${upgrade}; instances keep running`;
  const server = await askLxd(lxd);
  if (server === undefined) {
    return [`${what}. The daemon does not answer now`];
  }
  const members = server.environment.server_clustered ? await listMembers(lxd) : [];
  if (members.length < 2) {
    return [what];
  }
  const down = await offlineOf(lxd, members);
  if (down.length > 0) {
    return [`pulumi up will refuse to upgrade ${lxd.names.name} on ${host} from ${from} to ${to}: ${describeDown(lxd, down)}`];
  }
  const evacuation = evacuates ? await previewUpgradeEvacuation(lxd, server.environment.server_name, members) : undefined;
  return [
    `${evacuation === undefined ? what : `${upgrade}. ${evacuation}`}. The members are upgraded one after the other. If ${to} has another number of API extensions, an upgraded member does not answer ` +
      "until all are upgraded",
  ];
}

function describeDown({ names }: LxdClient, down: readonly string[]): string {
  const which = down.length === 1 ? `member ${down.join()} is offline` : `the members ${down.join(", ")} are offline`;
  return (
    `${which}. Upgraded members may not answer until all members are upgraded. Start ${down.length === 1 ? "it" : "them"}, or remove what is lost ` +
    `(${names.client} cluster remove --force NAME), and run pulumi up again`
  );
}

/** Whether the daemon is ready. One that is in no cluster is waited for. */
export async function isReadySoon(context: Context, ssh: SshConnection, lxd: LxdClient): Promise<boolean> {
  context.progress(`waiting for ${lxd.title} to be ready`);
  const { clusterCertificate } = await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline);
  return !(await isWaiting(lxd, clusterCertificate !== undefined));
}

/**
 * Whether the daemon answers and is not ready, for longer than a start takes.
 * @param mayWait - Whether other members may be the reason.
 * @throws The error of the daemon otherwise.
 */
async function isWaiting(lxd: LxdClient, mayWait: boolean): Promise<boolean> {
  if (!mayWait) {
    await untilReady(lxd);
    return false;
  }
  const patience = lxd.deadline.atMostHalf(START_SECONDS, `waiting for ${lxd.title} to be ready`);
  try {
    await untilReady(lxd.within(patience));
    return false;
  } catch (error) {
    // The client repeats a request that is answered with 503 until its time is over.
    if (hasCode(error, "timeout") && lxd.deadline.remainingMs > 0) {
      return true;
    }
    throw error;
  }
}

/** Waits for all members. One that is not upgraded yet may be behind: Incus 7 answers meanwhile, and shows it as Blocked. */
async function untilAllOnline(lxd: LxdClient, done: ReadonlyMap<string, unknown>): Promise<void> {
  await untilSettled(lxd);
  await until(lxd.deadline, async (report) => {
    const missing = (await listMembers(lxd)).filter(
      ({ server_name, status, isDown }) => isDown || (status === "Blocked" && done.has(server_name)),
    );
    report(`${lxd.title} reports ${missing.map(({ server_name, status }) => `${server_name} as ${status}`).join(", ")}`);
    return missing.length === 0 ? true : undefined;
  });
}
