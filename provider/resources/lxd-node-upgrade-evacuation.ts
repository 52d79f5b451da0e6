/** The evacuation of a member around its upgrade. A note on its host says that the upgrade has evacuated it, and not somebody else. */
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { readNote, removeNote, writeNote } from "../host/notes";
import { startAsPackaged } from "../host/starting-at-once";
import type { LxdClient } from "../lxd/client/client";
import { isServerFailure, RESTART_SECONDS } from "../lxd/client/transient-failures";
import { EVACUATED, type Member } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { describeDepartures, foresee } from "../lxd/cluster/departures";
import { evacuateMember, restoreMember } from "../lxd/cluster/evacuation";
import { answers } from "../lxd/cluster/heartbeats";
import { untilSettled } from "../lxd/cluster/restarts";
import { getServer } from "../lxd/server";
import { tryUntil } from "../support/deadline";
import { hasCode, messageOf } from "../support/errors";
import { refuseToEvacuate } from "./lxd-cluster-member-evacuating";

const NOTE = "pulumi-lxd-upgrade";

/**
 * Returns the evacuation of a member that is to be upgraded. A member that somebody else evacuated stays as it is. Nobody is evacuated while an
 * upgraded member waits for the others: it could not be restored meanwhile, and ever fewer members would hold all instances.
 * @param members - All members.
 * @throws RefusedError when an instance would be lost; nothing is touched then.
 */
export async function prepareUpgradeEvacuation(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  name: string,
  members: readonly Member[],
): Promise<() => Promise<void>> {
  const isOurs = (await readNote(ssh, NOTE, context.deadline)) !== undefined;
  const own = members.find(({ server_name }) => server_name === name);
  const reason = own?.status === EVACUATED ? "" : await whyNot(lxd, name, members);
  if (!isOurs && (own?.status === EVACUATED || reason !== undefined)) {
    if (reason !== undefined && reason !== "") {
      context.warn(`${name} is upgraded without an evacuation: ${reason}. Its instances keep running`);
    }
    return () => Promise.resolve();
  }
  await refuseToEvacuate(lxd, { name });
  return async () => {
    await untilSettled(lxd);
    await writeNote(ssh, NOTE, name, context.deadline);
    context.progress(`evacuating ${name} for its upgrade`);
    await evacuateMember(lxd, name, "auto");
  };
}

/** Why a member is not evacuated for its upgrade; `undefined` when it is. */
async function whyNot(lxd: LxdClient, name: string, members: readonly Member[]): Promise<string | undefined> {
  const others = members.filter(({ server_name }) => server_name !== name);
  const answering = await Promise.all(others.map(({ server_name }) => answers(lxd, server_name)));
  const silent = others.filter((_other, index) => answering[index] === false).map(({ server_name }) => server_name);
  if (silent.length > 0) {
    return `${silent.join(", ")} does not answer until all members are upgraded`;
  }
  return others.some(({ status }) => status !== EVACUATED) ? undefined : "no other member takes instances";
}

/** What a preview tells of the evacuation. */
export async function previewUpgradeEvacuation(lxd: LxdClient, name: string, members: readonly Member[]): Promise<string> {
  if (members.find(({ server_name }) => server_name === name)?.status === EVACUATED) {
    return `${name} is evacuated already`;
  }
  const departures = await foresee(lxd, name, "auto");
  const fate = departures.length === 0 ? "" : `: ${describeDepartures(departures)}`;
  return `${name} is evacuated before that, and restored after it${fate}`;
}

/** What an upgrade leaves to the time when the host's server is ready. Restores a member while nothing else changes the cluster. */
export async function finishUpgrade(context: Context, ssh: SshConnection, lxd: LxdClient): Promise<void> {
  await startUsually(context, ssh, lxd);
  if ((await readNote(ssh, NOTE, context.deadline)) !== undefined) {
    await withClusterLock(lxd, () => restoreUpgraded(context, ssh, lxd));
  }
}

/**
 * Restores a member that its upgrade has evacuated. Does nothing with others.
 * @param lxd - Its own server.
 */
export async function restoreUpgraded(context: Context, ssh: SshConnection, lxd: LxdClient): Promise<void> {
  const { environment } = await getServer(lxd);
  if ((await readNote(ssh, NOTE, context.deadline)) === undefined) {
    return;
  }
  if (environment.server_clustered) {
    context.progress(`restoring ${environment.server_name}`);
    await restoreOnceFound(lxd, environment.server_name);
  }
  await removeNote(ssh, NOTE, context.deadline);
}

async function startUsually({ deadline }: Context, ssh: SshConnection, { endpoint }: LxdClient): Promise<void> {
  if (endpoint.socket.packaging !== "snap") {
    await startAsPackaged(ssh, endpoint.socket.packaging, deadline);
  }
}

/** Finishes the upgrade of other members that were waiting after it. What fails is finished by their next `pulumi up`. */
export async function restoreOthers(context: Context, hosts: ReadonlyMap<string, Connection>): Promise<void> {
  for (const [name, connection] of hosts) {
    try {
      const [ssh, lxd] = [await context.host(connection), await context.lxd(connection)];
      await startUsually(context, ssh, lxd);
      await restoreUpgraded(context, ssh, lxd);
    } catch (error) {
      context.deadline.check(`restoring ${name}`);
      context.warn(`${name} was not restored after its upgrade: ${messageOf(error)}. Run pulumi up again`);
    }
  }
}

/** Other members find one again that has restarted with one of their next heartbeats. A restore that fails is taken back by the server. */
async function restoreOnceFound(lxd: LxdClient, name: string): Promise<void> {
  const patience = lxd.deadline.atMostHalf(RESTART_SECONDS, `restoring ${name}`);
  let last: unknown;
  const isDone = await tryUntil(lxd.deadline, patience, async (report) => {
    try {
      await restoreMember(lxd, name);
      return true;
    } catch (error) {
      if (!hasCode(error, "operation") && !isServerFailure(error)) {
        throw error;
      }
      last = error;
      report(messageOf(error));
      return undefined;
    }
  });
  if (isDone === undefined) {
    throw last;
  }
}
