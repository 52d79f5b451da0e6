/** Changes of an instance that exists: what each requires, and how it is made. */
import { sameJson } from "../../support/equality";
import { FailedError, hasCode, havingChanged, messageOf, RefusedError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { getServerShared } from "../server";
import { findObject } from "../storage-and-networks/member-objects";
import { pool } from "../storage-and-networks/storage-pools";
import { requireVolumes } from "./attached-volumes";
import { addCloudInitSeed } from "./cloud-init-seed";
import { EVACUATED_FROM, memberToMoveTo, startUnlessEvacuated } from "./evacuation";
import {
  type Expanded,
  expandedOf,
  type FoundInstance,
  forceStopInstance,
  type Instance,
  type InstancePut,
  type InstanceWork,
  isRunning,
  isStopped,
  moveInstance,
  replaceInstance,
  requireInstance,
  startInstance,
  stopInstance,
} from "./instances";
import {
  describeObstacles,
  type LiveOptions,
  type Obstacle,
  obstaclesToLiveUpdate,
  obstaclesToStopOrMove,
  obstacleToMove,
  refusalToRestart,
} from "./obstacles";
import type { InstanceOutputs } from "./outputs";
import { prepare, requireMove } from "./preflight";
import { changedFrom, type LastStart, lastStartOf, pendingChanges, withoutSecrets } from "./running-config";
import { toApi, type WantedInstance } from "./spec";

interface Before extends Expanded {
  readonly type: string;
  readonly status: string;
  readonly ephemeral: boolean;
  readonly location: string;
  readonly lastStart: Partial<LastStart>;
}

interface After extends Expanded, Pick<WantedInstance, "running" | "allowRestart"> {
  readonly movesTo: string | undefined;
}

/** Returns what stands in the way of a change, and whether the instance is stopped for it. Pure. */
export function planChange(
  before: Before,
  after: After,
  options: Pick<LiveOptions, "cpuHotplug">,
): { obstacles: Obstacle[]; stops: boolean } {
  const { type, ephemeral, location, lastStart } = before;
  const { config, devices, running, movesTo } = after;
  const { runsWith, bootMemory } = lastStart;
  const update = obstaclesToLiveUpdate(type, changedFrom(runsWith, before, after), after, { ...options, bootMemory });
  const all = movesTo === undefined ? update : [...update, obstacleToMove(location, movesTo)];
  const isOff = isStopped(before);
  const obstacles = all.filter(({ cure }) => cure === "never" || (running && !isOff));
  const isRestarted = after.allowRestart !== false && pendingChanges(type, lastStart, withoutSecrets(after)).length > 0;
  const stops = !isOff && (!running || isRestarted || obstacles.some(({ cure }) => cure === "stop"));
  const final = obstaclesToStopOrMove({ ephemeral, location, config, devices }, { stops, starts: running, movesTo });
  return { obstacles: [...obstacles, ...final], stops };
}

/**
 * Changes an instance's contents, its place, and whether it runs. Stops it when the change requires this and `allowRestart`
 * permits it. Also restarts an instance that waits for a restart, when permitted.
 * @throws RefusedError, before any change, when the change requires a stop that is not permitted.
 */
export async function changeInstance(
  work: InstanceWork,
  wanted: WantedInstance,
  mark: string,
  found: FoundInstance,
  known: InstanceOutputs | undefined,
): Promise<void> {
  const { value: live } = found;
  const { profiles, expanded } = await prepare(work, wanted);
  const contents = (current: Instance): InstancePut => toApi(wanted, profiles, mark, current);
  const movesTo = memberToMoveTo(wanted.target, live.location, live.config[EVACUATED_FROM]);
  const { api_extensions } = await getServerShared(work.lxd);
  const { obstacles, stops } = planChange(
    { ...live, ...expandedOf(live), lastStart: known === undefined ? {} : lastStartOf(live, known) },
    { ...wanted, ...expanded, movesTo },
    { cpuHotplug: live.architecture === "x86_64" && api_extensions.includes("cpu_hotplug") },
  );
  await refuse(work, live, wanted, obstacles);
  if (movesTo !== undefined) {
    await requireMove(work, live, movesTo, expanded.devices);
  }
  const attaching = { ...expanded, member: movesTo ?? live.location, running: wanted.running };
  await requireVolumes(work, attaching, live.expanded_devices);
  if (stops) {
    // Half of the remaining time is for the change and the start.
    await stopOrForce(work, live, work.deadline.remainingMs / 2000, wanted.allowRestart === "force");
  }
  try {
    if (!sameJson(contentsOf(live), contents(live))) {
      work.progress("changing config and devices");
      await replaceInstance(work, contents, stops ? undefined : found);
    }
    await addCloudInitSeed(work, expanded.config);
    if (movesTo !== undefined) {
      work.progress(`moving from ${live.location} to ${movesTo}`);
      await moveInstance(work, movesTo);
    }
  } catch (error) {
    if (stops && wanted.running) {
      await startAgain(work, error);
    }
    throw error;
  }
  if (wanted.running && (stops || movesTo !== undefined || !isRunning(live))) {
    const { value: changed } = await havingChanged(() => requireInstance(work));
    if (!isRunning(changed)) {
      await startUnlessEvacuated(work, changed);
    }
  }
}

/** @throws RefusedError for a change that LXD never makes, or that requires a stop that is not permitted. */
async function refuse(
  { lxd, name }: InstanceWork,
  live: Instance,
  wanted: WantedInstance,
  obstacles: readonly Obstacle[],
): Promise<void> {
  const impossible: Obstacle[] = [];
  for (const obstacle of obstacles.filter(({ cure }) => cure === "never")) {
    if (obstacle.unless === undefined || !(await isShared(lxd, obstacle.unless))) {
      impossible.push(obstacle);
    }
  }
  if (impossible.length > 0) {
    throw new RefusedError(
      `Instance "${name}" on ${live.location} cannot be changed like this. ${describeObstacles(impossible)}`,
    );
  }
  const stoppers = obstacles.filter(({ cure }) => cure === "stop");
  if (stoppers.length > 0 && wanted.allowRestart === false) {
    throw new RefusedError(refusalToRestart(name, stoppers));
  }
}

async function isShared(lxd: LxdClient, name: string): Promise<boolean> {
  const driver = (await findObject(lxd, pool(name)))?.value.driver ?? "";
  return !["dir", "btrfs", "zfs", "lvm"].includes(driver);
}

/**
 * Stops an instance for its removal: cleanly within LXD's limit for a guest at host shutdown, then by force. Leaves half of the
 * remaining time for the forced stop and the removal.
 */
export async function stopForRemoval(work: InstanceWork, live: Instance): Promise<void> {
  const given = Number(live.expanded_config["boot.host_shutdown_timeout"] ?? 30);
  await stopOrForce(work, live, Math.min(given, work.deadline.remainingMs / 2000), true);
}

async function stopOrForce(work: InstanceWork, live: Instance, seconds: number, mayForce: boolean): Promise<void> {
  try {
    await stopInstance(work, live, seconds);
  } catch (error) {
    if (!hasCode(error, "operation")) {
      throw error;
    }
    if (!mayForce) {
      throw new FailedError(
        `Instance "${work.name}" did not stop cleanly within ${Math.round(seconds)} s; it still runs and nothing was changed ` +
          `(${work.lxd.names.name} said: ${messageOf(error)}). Shut it down from inside, raise timeouts.update, or set allowRestart: "force" to stop it by force`,
      );
    }
    await forceStopInstance(work);
  }
}

/** Starts an instance again after a failed change, which must not leave it stopped when it ran before. */
async function startAgain(work: InstanceWork, cause: unknown): Promise<void> {
  try {
    const { value: live } = await requireInstance(work);
    await startInstance(work, live);
  } catch (error) {
    work.warn(
      `Instance "${work.name}" was stopped for a change that failed (${messageOf(cause)}), and could not be started again: ${messageOf(error)}`,
    );
  }
}

function contentsOf({ architecture, ephemeral, description, profiles, config, devices }: Instance): InstancePut {
  return { architecture, ephemeral, description, profiles: profiles ?? [], config, devices };
}
