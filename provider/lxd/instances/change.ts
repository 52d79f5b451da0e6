import { sameJson } from "../../support/equality";
import { FailedError, hasCode, havingChanged, messageOf, RefusedError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { listMembers, type Member } from "../cluster/cluster";
import type { Devices } from "../config";
import { getServerShared } from "../server";
import { findObject } from "../storage-and-networks/member-objects";
import { network } from "../storage-and-networks/networks";
import { pool } from "../storage-and-networks/storage-pools";
import {
  type Expanded,
  type FoundInstance,
  forceStopInstance,
  type Instance,
  type InstancePut,
  type InstanceType,
  type InstanceWork,
  isRunning,
  isStopped,
  listBackups,
  moveInstance,
  replaceInstance,
  requireInstance,
  startInstance,
  stopInstance,
} from "./instances";
import { describeObstacles, type Obstacle, obstaclesToLiveUpdate } from "./live-update";
import { requirePlace } from "./preflight";
import { changedFrom, lackingOf, type Started, tellable } from "./running-with";
import { obstaclesToUndoing } from "./undo";

/**
 * Whether an instance may be stopped and started for a change. `"force"` also allows a forced stop when it does not
 * stop cleanly.
 */
export type AllowRestart = boolean | "force";

/** Wanted state of an instance. */
export interface Wanted {
  /** Returns the new contents for the live ones. Pure. */
  readonly contents: (live: Instance) => InstancePut;
  /** Config and devices after its profiles are merged in. */
  readonly expanded: Expanded;
  readonly running: boolean;
  /** Member on which it must be; `undefined` keeps the current one. */
  readonly member: string | undefined;
  readonly allowRestart: AllowRestart;
  /** How it was started, if known. */
  readonly started: Started | undefined;
}

/**
 * Changes an instance: stops it when the change requires this and `allowRestart` permits it, writes its contents, moves
 * it, starts it. Also restarts an instance that waits for a restart, when permitted.
 * @param found - The instance as it was just read.
 * @throws RefusedError, before any change, when the change requires a stop that is not permitted.
 */
export async function changeInstance(work: InstanceWork, found: FoundInstance, wanted: Wanted): Promise<void> {
  const { value: live } = found;
  const moves = wanted.member !== undefined && wanted.member !== live.location;
  const obstacles = await obstaclesOf(work, live, wanted, moves);
  const lacking = lackingNow(live, wanted);
  await refuse(work, live, wanted, obstacles, lacking);
  if (moves) {
    await requireMember(work, live, wanted.member, wanted.expanded.devices);
  }
  const stops = !isStopped(live) && (obstacles.length > 0 || lacking.length > 0 || !wanted.running);
  if (stops) {
    await stopForChange(work, live, wanted.allowRestart);
  }
  try {
    if (!sameJson(contentsOf(live), wanted.contents(live))) {
      work.progress("changing config and devices");
      await replaceInstance(work, wanted.contents, stops ? undefined : found);
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
  if (wanted.running && (stops || moves || !isRunning(live))) {
    const { value: changed } = await havingChanged(() => requireInstance(work));
    if (!isRunning(changed)) {
      await startUnlessEvacuated(work, changed);
    }
  }
}

/**
 * Starts an instance, unless its member is evacuated. LXD starts nothing there, and starts what it stopped when the
 * member is restored.
 * @returns Whether it was started.
 */
export async function startUnlessEvacuated(work: InstanceWork, live: Instance): Promise<boolean> {
  if (await isHeldByEvacuation(live, () => listMembers(work.lxd))) {
    work.warn(
      `Instance "${work.name}" is on cluster member "${live.location}", which is evacuated, so it stays stopped until that is restored ` +
        `(lxc cluster restore ${live.location})`,
    );
    return false;
  }
  await startInstance(work, live);
  return true;
}

/** Whether an instance is stopped because its member is evacuated. */
export async function isHeldByEvacuation(
  instance: Pick<Instance, "status" | "location">,
  members: () => Promise<readonly Pick<Member, "server_name" | "status">[]>,
): Promise<boolean> {
  const { location } = instance;
  if (!isStopped(instance) || location === "" || location === "none") {
    return false;
  }
  return (await members()).some(({ server_name, status }) => server_name === location && status === "Evacuated");
}

/**
 * Requires that a member can receive an instance.
 * @throws RefusedError
 */
export async function requireMember(work: InstanceWork, live: Instance, member: string, devices: Devices): Promise<void> {
  await requirePlace(work.lxd, member, live.type as InstanceType);
  await requireSurroundings(work, member, devices);
  await requireNoBackups(work, member);
}

/** Requires that an instance has no backups: LXD would refuse its move only after the stop for it. */
async function requireNoBackups(work: InstanceWork, member: string): Promise<void> {
  const backups = await listBackups(work);
  if (backups.length > 0) {
    throw new RefusedError(
      `target: instance "${work.name}" cannot be moved to ${member}, and nothing was touched: it has backups (${backups.join(", ")}), ` +
        `and LXD moves none that has. Save what you need of them (lxc export), then remove each: lxc query -X DELETE ` +
        `"/1.0/instances/${work.name}/backups/NAME?project=${work.project}"`,
    );
  }
}

/** Requires that another member has what the devices need: LXD would move the instance, and then fail to start it. */
async function requireSurroundings({ lxd, name, project }: InstanceWork, member: string, devices: Devices): Promise<void> {
  for (const [device, { type, network: managed, parent, pool: from }] of Object.entries(devices)) {
    const what = type === "nic" ? managed || parent : type === "disk" ? from : undefined;
    if (what === undefined || what === "") {
      continue;
    }
    const subject = type === "nic" ? network(managed === undefined ? "default" : project, what) : pool(what);
    const there = (await findObject(lxd, subject, member))?.value;
    if (there === undefined || (there.managed && there.status !== "Created")) {
      const status = there === undefined ? "is not there" : `is ${there.status}`;
      throw new RefusedError(
        `target: instance "${name}" cannot be moved to ${member}, and nothing was touched: its device ${device} needs "${what}", ` +
          `which ${status} on ${member}. Make it there first, or choose another member`,
      );
    }
  }
}

async function obstaclesOf(work: InstanceWork, live: Instance, wanted: Wanted, moves: boolean): Promise<Obstacle[]> {
  const { api_extensions } = await getServerShared(work.lxd);
  const cpuHotplug = live.architecture === "x86_64" && api_extensions.includes("cpu_hotplug");
  const now = { config: live.expanded_config, devices: live.expanded_devices };
  const { runsWith, bootMemory } = wanted.started ?? {};
  const obstacles = obstaclesToLiveUpdate(
    live.type as InstanceType,
    changedFrom(runsWith, now, wanted.expanded),
    wanted.expanded,
    {
      cpuHotplug,
      ...(bootMemory === undefined ? {} : { bootMemory }),
    },
  );
  return moves ? [...obstacles, obstacleToMove(live.location, wanted.member ?? "")] : obstacles;
}

/** Returns what the instance lacks of earlier changes, when it may be stopped for them. */
function lackingNow(live: Instance, { started, expanded, allowRestart }: Wanted): Obstacle[] {
  return started?.runsWith === undefined || allowRestart === false
    ? []
    : lackingOf(live, started.runsWith, tellable(expanded), started.bootMemory);
}

/** Key in which LXD keeps the member from which an evacuation moved an instance. */
export const EVACUATED_FROM = "volatile.evacuate.origin";

/**
 * Returns the member to which an instance must be moved, if any. A group selects a member only at creation. An instance
 * that an evacuation moved off its target is not moved back: LXD does that when the member is restored.
 */
export function memberToMoveTo(
  target: string | undefined,
  location: string,
  evacuatedFrom: string | undefined,
): string | undefined {
  const isMember = target !== undefined && !target.startsWith("@");
  return isMember && target !== location && target !== evacuatedFrom ? target : undefined;
}

/** Returns the obstacle to a move, for which LXD copies the stopped instance to another member. */
export function obstacleToMove(from: string, to: string): Obstacle {
  return { what: "target", why: `${from} to ${to}; a running instance is not moved to another member`, cure: "stop" };
}

/** @throws RefusedError for a change that LXD never makes, or that requires a stop that is not permitted. */
async function refuse(
  { lxd, name }: InstanceWork,
  live: Instance,
  wanted: Wanted,
  obstacles: readonly Obstacle[],
  lacking: readonly Obstacle[],
): Promise<void> {
  const stoppers = obstacles.filter(({ cure }) => cure === "stop");
  const final = obstaclesToUndoing(
    { ephemeral: live.ephemeral, location: live.location, config: wanted.expanded.config, devices: wanted.expanded.devices },
    {
      stops: !isStopped(live) && (stoppers.length > 0 || lacking.length > 0 || !wanted.running),
      starts: wanted.running,
      movesTo: wanted.member === live.location ? undefined : wanted.member,
    },
  );
  const impossible: Obstacle[] = [];
  for (const obstacle of [...obstacles, ...final].filter(({ cure }) => cure === "never")) {
    if (obstacle.unless === undefined || !(await isShared(lxd, obstacle.unless))) {
      impossible.push(obstacle);
    }
  }
  if (impossible.length > 0) {
    throw new RefusedError(`Instance "${name}" on ${live.location} cannot be changed so. ${describeObstacles(impossible)}`);
  }
  if (stoppers.length > 0 && !isStopped(live) && wanted.running && wanted.allowRestart === false) {
    throw new RefusedError(refusalToRestart(name, stoppers));
  }
}

/** Whether all members share the volumes of a pool. */
async function isShared(lxd: LxdClient, name: string): Promise<boolean> {
  const driver = (await findObject(lxd, pool(name)))?.value.driver ?? "";
  return !["dir", "btrfs", "zfs", "lvm"].includes(driver);
}

/** Explains why a change is refused, and what permits it. */
function refusalToRestart(name: string, obstacles: readonly Obstacle[]): string {
  return (
    `This change requires stopping the running instance "${name}"; nothing is changed. ${describeObstacles(obstacles)}. ` +
    "Set allowRestart: true to let pulumi up stop and start it, or stop it first"
  );
}

/**
 * Formats a preview's warning about a change that a running instance does not take.
 * @param isSure - Whether this is certain.
 */
export function forewarning(name: string, obstacles: readonly Obstacle[], allowRestart: AllowRestart, isSure = true): string {
  const refuse = isSure ? "will refuse" : "may refuse";
  const impossible = obstacles.filter(({ cure }) => cure === "never");
  if (impossible.length > 0) {
    const shared = impossible.flatMap(({ unless }) => unless ?? []);
    const unless = shared.length < impossible.length ? "" : `, unless all members share the storage pool ${shared.join(", ")}`;
    return `pulumi up ${refuse} this${unless}. Instance "${name}" cannot be changed so. ${describeObstacles(impossible)}`;
  }
  return allowRestart === false
    ? `pulumi up ${refuse} this. ${refusalToRestart(name, obstacles)}`
    : `Instance "${name}" ${isSure ? "will" : "may"} be stopped and started. ${describeObstacles(obstacles)}`;
}

/** Formats the warning about a running instance that waits for its next start. */
export function reminder(name: string, lacking: readonly Obstacle[], allowRestart: AllowRestart): string {
  const what = `Instance "${name}" runs without a change of its profiles. ${describeObstacles(lacking)}`;
  return allowRestart === false
    ? `${what}. It takes that when it is next started: restart it, or set allowRestart: true`
    : `${what}. It will be stopped and started`;
}

/**
 * Stops an instance for a change. The guest gets half of the remaining time; the other half is for the change and the
 * start.
 */
async function stopForChange(work: InstanceWork, live: Instance, allowRestart: AllowRestart): Promise<void> {
  const seconds = work.deadline.remainingMs / 2000;
  try {
    await stopInstance(work, live, seconds);
  } catch (error) {
    if (!hasCode(error, "operation")) {
      throw error;
    }
    if (allowRestart !== "force") {
      throw new FailedError(
        `Instance "${work.name}" did not stop cleanly within ${Math.round(seconds)} s, so it was left running and nothing was changed ` +
          `(LXD said: ${messageOf(error)}). Shut it down from inside, raise timeouts.update, or set allowRestart: "force" to pull the plug`,
      );
    }
    await forceStopInstance(work);
  }
}

/**
 * Stops an instance for its removal: cleanly within LXD's limit for a guest at host shutdown, then by force. Leaves
 * half of the remaining time for the forced stop and the removal.
 */
export async function stopForGood(work: InstanceWork, live: Instance): Promise<void> {
  const given = Number(live.expanded_config["boot.host_shutdown_timeout"] ?? 30);
  try {
    await stopInstance(work, live, Math.min(given, work.deadline.remainingMs / 2000));
  } catch (error) {
    if (!hasCode(error, "operation")) {
      throw error;
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
