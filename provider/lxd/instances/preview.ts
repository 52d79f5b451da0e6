/** A preview's warnings about the change of an instance: what it will be stopped for, and what `pulumi up` will refuse. */
import { fallback, hasCode, messageOf } from "../../support/errors";
import { listMembersShared } from "../cluster/cluster";
import { CLOUD_INIT_TEXT, type Config, sameConfigValue } from "../config";
import { choosePlace } from "../placement/place";
import { isCustomVolume, memberIn, requireVolumes } from "./attached-volumes";
import { inProgramsKeys } from "./boot-keys";
import { planChange } from "./change";
import { isSeededOnce } from "./cloud-init-seed";
import { EVACUATED_FROM, memberToMoveTo } from "./evacuation";
import type { ImageSource } from "./image-source";
import { type Expanded, expandedOf, type Instance, type InstanceWork, isStopped, keysOf } from "./instances";
import { describeObstacles, type Obstacle, obstaclesToLiveUpdate, obstaclesToStopOrMove, refusalToRestart } from "./obstacles";
import type { InstanceOutputs } from "./outputs";
import { prepare, requireMove } from "./preflight";
import { expandedIn, withoutSecrets } from "./running-config";
import { findInstanceShared } from "./shared-reads";
import { type AllowRestart, expected, type InstanceSpec, type WantedInstance } from "./spec";

/** Returns the warnings that need no request to LXD. Pure. */
export function warningsFromState(state: InstanceSpec & InstanceOutputs, wanted: WantedInstance): string[] {
  const live = expandedIn(state);
  const inLivesKeys = (config: Config): Config => inProgramsKeys(live.config, config);
  const after = withoutSecrets(expected(live, { ...wanted, config: inLivesKeys(wanted.config) }));
  const { obstacles } = planChange(
    { ...state, ...live, type: wanted.instanceType, ephemeral: state.ephemeral ?? false, lastStart: state },
    { ...wanted, ...after, movesTo: memberToMoveTo(wanted.target, state.location, state.evacuatedFrom) },
    { cpuHotplug: true },
  );
  return obstacles.length === 0 ? [] : [warningOf(wanted.name, obstacles, wanted.allowRestart)];
}

/**
 * Returns the warnings that need LXD's answers: what profiles say in place of values that the program gives up, when the guest gets new
 * data for cloud-init, and whether another member can take the instance.
 */
export async function warningsFromServer(work: InstanceWork, wanted: WantedInstance): Promise<string[]> {
  const live = await findInstanceShared(work); // a preview has read it already
  if (live === undefined) {
    return [];
  }
  const expanded = await expandedIfPossible(work, wanted);
  if (expanded === undefined) {
    return [];
  }
  const movesTo = memberToMoveTo(wanted.target, live.location, live.config[EVACUATED_FROM]);
  return [
    ...warningsOfProfiles(live, wanted, expanded, movesTo !== undefined),
    ...(await warningsOfCloudInit(work, live, wanted, expanded, movesTo)),
    ...(movesTo === undefined ? [] : await warningsOfMove(work, live, movesTo, expanded)),
    ...(await warningsOfVolumes(work, live, wanted, expanded)),
  ];
}

/** Whether the server has to be asked what becomes of a new instance. */
export function isToForesee({ placement, devices }: WantedInstance): boolean {
  return placement !== undefined || Object.values(devices).some(isCustomVolume);
}

/** Says on which member a new instance would be made if it were made now, and warns of volumes that it could not attach there. */
export async function foreseenCreation(
  work: InstanceWork,
  wanted: WantedInstance & { readonly image: ImageSource },
  isReplacement: boolean,
): Promise<string[]> {
  const { name, placement, target, running } = wanted;
  const isThere = (await findInstanceShared(work)) !== undefined;
  const expanded = isThere && !isReplacement ? undefined : await expandedIfPossible(work, wanted);
  if (expanded === undefined) {
    return [];
  }
  try {
    if (placement !== undefined) {
      const { explanation } = await choosePlace(work, { ...wanted, placement, expanded }, true);
      return [`Instance "${name}" would be placed on ${explanation}. The choice is made when it is created`];
    }
    await requireVolumes(work, { ...expanded, member: memberIn(target), running });
  } catch (error) {
    work.warn(refusalNow(error));
  }
  return [];
}

/** Returns the warning about a refusal, and throws any other error. */
function refusalNow(error: unknown): string {
  if (hasCode(error, "refused")) {
    return `As the cluster is now, pulumi up will refuse this. ${messageOf(error)}`;
  }
  throw error;
}

/** Returns what the instance will have; `undefined` while something for it is missing, which the same `pulumi up` may make. */
async function expandedIfPossible(work: InstanceWork, wanted: WantedInstance): Promise<Expanded | undefined> {
  return (await prepare(work, wanted).catch(fallback(undefined, "refused")))?.expanded;
}

/** Returns the warnings that {@link warningsFromState} misses. */
function warningsOfProfiles(live: Instance, wanted: WantedInstance, expanded: Expanded, isMoved: boolean): string[] {
  if (isStopped(live) || !wanted.running) {
    return [];
  }
  const now = expandedOf(live);
  const before = withoutSecrets(now);
  const obstaclesTo = (after: Expanded): Obstacle[] =>
    obstaclesToLiveUpdate(wanted.instanceType, before, withoutSecrets(after), { cpuHotplug: true });
  const known = obstaclesTo(expected(now, wanted));
  const others = obstaclesTo(expanded).filter(({ what }) => !known.some((each) => each.what === what));
  const isFirstStop = !isMoved && known.length === 0 && others.some(({ cure }) => cure === "stop");
  const final = isFirstStop
    ? obstaclesToStopOrMove(
        { ephemeral: live.ephemeral, location: live.location, ...expanded },
        { stops: true, starts: true, movesTo: undefined },
      )
    : [];
  const all = [...others, ...final];
  // The instance can get back the memory that it was started with, which state knows and LXD does not.
  const isSure = all.some(({ what }) => what !== "limits.memory") || expanded.config["limits.memory"] === undefined;
  return all.length === 0 ? [] : [warningOf(wanted.name, all, wanted.allowRestart, isSure)];
}

async function warningsOfCloudInit(
  work: InstanceWork,
  live: Instance,
  wanted: WantedInstance,
  expanded: Expanded,
  movesTo: string | undefined,
): Promise<string[]> {
  const now = expandedOf(live);
  const changed = keysOf(now.config, expanded.config).filter(
    (key) => CLOUD_INIT_TEXT.test(key) && !sameConfigValue(key, now.config[key], expanded.config[key]),
  );
  if (changed.length === 0) {
    return [];
  }
  const change = `The change of ${changed.join(", ")}`;
  const hasStarted = live.config["volatile.apply_template"] !== "create";
  if (hasStarted && (await isSeededOnce(work))) {
    return [
      `${change} has no effect on instance "${wanted.name}": its image passes cloud-init's data on when an instance is created, not at each ` +
        "start. Make the change in the guest too, or replace the instance, with its disk: pulumi up --replace URN",
    ];
  }
  const { stops } = planChange({ ...live, ...now, lastStart: {} }, { ...wanted, ...expanded, movesTo }, { cpuHotplug: true });
  return isStopped(live) || !wanted.running || stops
    ? []
    : [`${change} takes effect at the next start of instance "${wanted.name}". It is not restarted for that`];
}

async function warningsOfMove(work: InstanceWork, live: Instance, member: string, { devices }: Expanded): Promise<string[]> {
  if (live.location === "none" || !(await listMembersShared(work.lxd)).some(({ server_name }) => server_name === member)) {
    return []; // it may join in the same pulumi up
  }
  try {
    await requireMove(work, live, member, devices);
    return [];
  } catch (error) {
    if (hasCode(error, "refused")) {
      return [`pulumi up will refuse this. ${messageOf(error)}`];
    }
    throw error;
  }
}

async function warningsOfVolumes(
  work: InstanceWork,
  live: Instance,
  { running, target }: WantedInstance,
  { devices }: Expanded,
): Promise<string[]> {
  const member = memberToMoveTo(target, live.location, live.config[EVACUATED_FROM]) ?? live.location;
  try {
    await requireVolumes(work, { devices, member, running }, live.expanded_devices);
    return [];
  } catch (error) {
    return [refusalNow(error)];
  }
}

/** @param isSure - Whether the obstacles are certain. */
function warningOf(name: string, obstacles: readonly Obstacle[], allowRestart: AllowRestart, isSure = true): string {
  const refuse = isSure ? "will refuse" : "may refuse";
  const impossible = obstacles.filter(({ cure }) => cure === "never");
  if (impossible.length > 0) {
    const shared = impossible.flatMap(({ unless }) => unless ?? []);
    const unless = shared.length < impossible.length ? "" : `, unless all members share the storage pool ${shared.join(", ")}`;
    return `pulumi up ${refuse} this${unless}. Instance "${name}" cannot be changed like this. ${describeObstacles(impossible)}`;
  }
  return allowRestart === false
    ? `pulumi up ${refuse} this. ${refusalToRestart(name, obstacles)}`
    : `Instance "${name}" ${isSure ? "will" : "may"} be stopped and started. ${describeObstacles(obstacles)}`;
}

/** Formats the warning about a running instance that waits for its next start. */
export function pendingWarning(name: string, pending: readonly Obstacle[], allowRestart: AllowRestart): string {
  const what = `Instance "${name}" runs without a change of its profiles. ${describeObstacles(pending)}`;
  return allowRestart === false
    ? `${what}. It takes the change at its next start: restart it, or set allowRestart: true`
    : `${what}. It will be stopped and started`;
}
