/**
 * A preview's warnings about the change of an instance: what it will be stopped for, and what `pulumi up` will refuse.
 */
import { hasCode, messageOf } from "../../support/errors";
import { listMembersShared } from "../cluster/cluster";
import type { Config } from "../config";
import { inProgramsKeys } from "./boot-keys";
import { EVACUATED_FROM, forewarning, memberToMoveTo, obstacleToMove, requireMember } from "./change";
import { expected, type InstanceSpec, sameSpec } from "./contents";
import type { InstanceFacts } from "./facts";
import { type Expanded, type Instance, type InstanceWork, isStopped } from "./instances";
import { type Obstacle, obstaclesToLiveUpdate } from "./live-update";
import { prepare } from "./preflight";
import { changedFrom, tellable } from "./running-with";
import { findInstanceShared } from "./shared-reads";
import { obstaclesToUndoing } from "./undo";
import type { WantedInstance } from "./wanted";

/**
 * Returns the warnings that need no request to LXD. Pure.
 * @param lacking - What the instance lacks of its profiles, and is restarted for when permitted.
 */
export function forewarnOfChange(
  state: InstanceSpec & InstanceFacts,
  wanted: WantedInstance,
  lacking: readonly Obstacle[],
): string[] {
  const live = { config: state.expandedConfig, devices: state.expandedDevices };
  const inLivesKeys = (config: Config): Config => inProgramsKeys(live.config, config);
  const after = tellable(expected(live, { ...wanted, config: inLivesKeys(wanted.config) }));
  const member = memberToMoveTo(wanted.target, state.location, state.evacuatedFrom);
  const isOff = state.status === "Stopped";
  const options = { cpuHotplug: true, bootMemory: state.bootMemory };
  const changes =
    isOff || !wanted.running
      ? []
      : obstaclesToLiveUpdate(wanted.instanceType, changedFrom(state.runsWith, live, after), after, options);
  const obstacles =
    member === undefined || isOff || !wanted.running ? changes : [...changes, obstacleToMove(state.location, member)];
  const isRestarted = wanted.allowRestart !== false && lacking.length > 0;
  const stops = !isOff && (!wanted.running || isRestarted || obstacles.some(({ cure }) => cure === "stop"));
  const final = obstaclesToUndoing(
    { ephemeral: state.ephemeral ?? false, location: state.location, config: after.config, devices: after.devices },
    { stops, starts: wanted.running, movesTo: member },
  );
  const all = [...obstacles, ...final];
  const unseen = !isOff && !stops && wanted.running && !sameSpec.cloudInit(state.cloudInit, wanted.cloudInit);
  return [
    ...(all.length === 0 ? [] : [forewarning(wanted.name, all, wanted.allowRestart)]),
    ...(unseen
      ? [
          `cloud-init of instance "${wanted.name}" finds the change of cloudInit when the instance next starts. It is not restarted for that`,
        ]
      : []),
  ];
}

/**
 * Returns the warnings that need LXD's answers: what profiles say in place of values that the program gives up, and
 * whether another member can take the instance.
 */
export async function foreseeChange(work: InstanceWork, wanted: WantedInstance): Promise<string[]> {
  const live = await findInstanceShared(work); // a preview has read it already
  if (live === undefined) {
    return [];
  }
  let expanded: Expanded;
  try {
    ({ expanded } = await prepare(work, wanted));
  } catch (error) {
    if (hasCode(error, "refused")) {
      return []; // the same pulumi up may make what is missing
    }
    throw error;
  }
  return [...ofProfiles(live, wanted, expanded), ...(await ofMember(work, live, wanted, expanded))];
}

/** Returns the warnings that {@link forewarnOfChange} misses. */
function ofProfiles(live: Instance, wanted: WantedInstance, expanded: Expanded): string[] {
  if (isStopped(live) || !wanted.running) {
    return [];
  }
  const now = { config: live.expanded_config, devices: live.expanded_devices };
  const before = tellable(now);
  const ofChange = (after: Expanded): Obstacle[] =>
    obstaclesToLiveUpdate(wanted.instanceType, before, tellable(after), { cpuHotplug: true });
  const seen = ofChange(expected(now, wanted));
  const unseen = ofChange(expanded).filter(({ what }) => !seen.some((each) => each.what === what));
  const isMoved = memberToMoveTo(wanted.target, live.location, live.config[EVACUATED_FROM]) !== undefined;
  const isFirstStop = !isMoved && seen.length === 0 && unseen.some(({ cure }) => cure === "stop");
  const final = isFirstStop
    ? obstaclesToUndoing(
        { ephemeral: live.ephemeral, location: live.location, ...expanded },
        { stops: true, starts: true, movesTo: undefined },
      )
    : [];
  const all = [...unseen, ...final];
  // The instance can get back the memory that it was started with, which state knows and LXD does not.
  const isSure = all.some(({ what }) => what !== "limits.memory") || expanded.config["limits.memory"] === undefined;
  return all.length === 0 ? [] : [forewarning(wanted.name, all, wanted.allowRestart, isSure)];
}

async function ofMember(work: InstanceWork, live: Instance, wanted: WantedInstance, expanded: Expanded): Promise<string[]> {
  const member = memberToMoveTo(wanted.target, live.location, live.config[EVACUATED_FROM]);
  if (member === undefined || live.location === "none") {
    return [];
  }
  if (!(await listMembersShared(work.lxd)).some(({ server_name }) => server_name === member)) {
    return []; // it may join in the same pulumi up
  }
  try {
    await requireMember(work, live, member, expanded.devices);
    return [];
  } catch (error) {
    if (hasCode(error, "refused")) {
      return [`pulumi up will refuse this. ${messageOf(error)}`];
    }
    throw error;
  }
}
