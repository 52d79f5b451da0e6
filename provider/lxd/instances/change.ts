import { sameJson } from "../../support/equality";
import { hasCode, messageOf, RefusedError } from "../../support/errors";
import { getServer } from "../server";
import {
  type Expanded,
  forceStopInstance,
  type Instance,
  type InstancePut,
  type InstanceType,
  type InstanceWork,
  isRunning,
  isStopped,
  moveInstance,
  replaceInstance,
  requireInstance,
  startInstance,
  stopInstance,
} from "./instances";
import { describeObstacles, type Obstacle, obstaclesToLiveUpdate } from "./live-update";
import { requirePlace } from "./preflight";

/** Whether an instance may be stopped and started for a change; `"force"` also pulls the plug when it does not stop cleanly. */
export type AllowRestart = boolean | "force";

/** What an instance is to become. */
export interface Wanted {
  /** Makes the new contents of those that LXD has at the moment. Pure. */
  readonly contents: (live: Instance) => InstancePut;
  /** Config and devices after its profiles are merged in. */
  readonly expanded: Expanded;
  readonly running: boolean;
  /** Member on which it must be; `undefined` leaves it where it is. */
  readonly member: string | undefined;
  readonly allowRestart: AllowRestart;
}

/**
 * Changes an instance: stops it when the change needs that and may do so, writes its contents, moves it, starts it.
 * @throws RefusedError, before anything is touched, when it would have to be stopped and may not be.
 */
export async function changeInstance(work: InstanceWork, wanted: Wanted): Promise<void> {
  const { value: live } = await requireInstance(work);
  const moves = wanted.member !== undefined && wanted.member !== live.location;
  const obstacles = await obstaclesOf(work, live, wanted, moves);
  refuse(work.name, live, wanted, obstacles);
  if (moves) {
    await requirePlace(work.lxd, wanted.member, live.type as InstanceType);
  }
  const stops = !isStopped(live) && (obstacles.length > 0 || !wanted.running);
  if (stops) {
    await stopForChange(work, live, wanted.allowRestart);
  }
  try {
    if (!sameJson(contentsOf(live), wanted.contents(live))) {
      work.progress("changing config and devices");
      await replaceInstance(work, wanted.contents);
    }
    if (moves) {
      work.progress(`moving from ${live.location} to ${wanted.member}`);
      await moveInstance(work, wanted.member);
    }
  } catch (error) {
    if (stops && wanted.running) {
      await startAgain(work, error);
    }
    throw error;
  }
  const { value: changed } = await requireInstance(work);
  if (wanted.running && !isRunning(changed)) {
    await startInstance(work, changed);
  }
}

async function obstaclesOf(work: InstanceWork, live: Instance, wanted: Wanted, moves: boolean): Promise<Obstacle[]> {
  const { api_extensions } = await getServer(work.lxd);
  const cpuHotplug = live.architecture === "x86_64" && api_extensions.includes("cpu_hotplug");
  const before = { config: live.expanded_config, devices: live.expanded_devices };
  const obstacles = obstaclesToLiveUpdate(live.type as InstanceType, before, wanted.expanded, { cpuHotplug });
  return moves ? [...obstacles, obstacleToMove(live.location, wanted.member ?? "")] : obstacles;
}

/** Key in which LXD keeps from where an evacuation has moved an instance. */
export const EVACUATED_FROM = "volatile.evacuate.origin";

/**
 * The member that an instance must be moved to, if any. A group chose when it was made; and one that an evacuation has moved from
 * there is not moved back: LXD does that when the member is restored.
 */
export function memberToMoveTo(
  target: string | undefined,
  location: string,
  evacuatedFrom: string | undefined,
): string | undefined {
  const isMember = target !== undefined && !target.startsWith("@");
  return isMember && target !== location && target !== evacuatedFrom ? target : undefined;
}

/** A move copies the instance to another member, which LXD does with a stopped one. */
export function obstacleToMove(from: string, to: string): Obstacle {
  return { what: "target", why: `${from} to ${to}; a running instance is not moved to another member`, cure: "stop" };
}

function refuse(name: string, live: Instance, wanted: Wanted, obstacles: readonly Obstacle[]): void {
  const impossible = obstacles.filter(({ cure }) => cure === "never");
  if (impossible.length > 0) {
    throw new RefusedError(`Instance "${name}" on ${live.location} cannot be changed so. ${describeObstacles(impossible)}`);
  }
  if (obstacles.length > 0 && !isStopped(live) && wanted.running && wanted.allowRestart === false) {
    throw new RefusedError(refusalToRestart(name, obstacles));
  }
}

/** Why a change is not made, and what lets it be made. */
function refusalToRestart(name: string, obstacles: readonly Obstacle[]): string {
  return (
    `Instance "${name}" runs, and would have to be stopped for this change, which is therefore not made. ${describeObstacles(obstacles)}. ` +
    "Set allowRestart: true to let it be stopped and started, or stop it yourself first"
  );
}

/** What a preview says of a change that a running instance does not take. */
export function forewarning(name: string, obstacles: readonly Obstacle[], allowRestart: AllowRestart): string {
  const impossible = obstacles.filter(({ cure }) => cure === "never");
  if (impossible.length > 0) {
    return `pulumi up will refuse this. Instance "${name}" cannot be changed so. ${describeObstacles(impossible)}`;
  }
  return allowRestart === false
    ? `pulumi up will refuse this. ${refusalToRestart(name, obstacles)}`
    : `Instance "${name}" will be stopped and started. ${describeObstacles(obstacles)}`;
}

/** The guest gets half of the time that is left; the other half is for the change and the start. */
async function stopForChange(work: InstanceWork, live: Instance, allowRestart: AllowRestart): Promise<void> {
  const seconds = work.deadline.remainingMs / 2000;
  try {
    await stopInstance(work, live, seconds);
  } catch (error) {
    if (!hasCode(error, "operation")) {
      throw error;
    }
    if (allowRestart !== "force") {
      throw new RefusedError(
        `Instance "${work.name}" did not stop cleanly within ${Math.round(seconds)} s, so it was left running and nothing was changed ` +
          `(LXD said: ${messageOf(error)}). Shut it down from inside, raise timeouts.update, or set allowRestart: "force" to pull the plug`,
      );
    }
    await forceStopInstance(work);
  }
}

/** Stops an instance that is to be removed: cleanly for as long as LXD gives a guest when its host shuts down, then by force. */
export async function stopForGood(work: InstanceWork, live: Instance): Promise<void> {
  try {
    await stopInstance(work, live, Number(live.expanded_config["boot.host_shutdown_timeout"] ?? 30));
  } catch (error) {
    if (!hasCode(error, "operation")) {
      throw error;
    }
    await forceStopInstance(work);
  }
}

/** A change that failed must not leave a stopped instance behind that was running before. */
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
