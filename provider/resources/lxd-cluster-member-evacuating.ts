/** Evacuates a member and restores it, as `evacuated` says. */
import type { Context } from "../engine/lifecycle";
import type { LxdClient } from "../lxd/client/client";
import { EVACUATED, getMember } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import {
  awaiting,
  describeDepartures,
  EVACUATION_MODE,
  type EvacuationMode,
  foresee,
  listDepartingShared,
} from "../lxd/cluster/departures";
import { evacuateMember, isEvacuated, restoreMember } from "../lxd/cluster/evacuation";
import { getServer } from "../lxd/server";
import { RefusedError } from "../support/errors";

/** What to do with the instances of a member that is removed. All but `refuse` are modes of an evacuation. */
export type Leaving = "refuse" | EvacuationMode;

/** `refuse` is only for a removal: an evacuation that the program asks for lets each instance decide. */
function modeOf(leaving: Leaving = "refuse"): EvacuationMode {
  return leaving === "refuse" ? "auto" : leaving;
}

/** What the program says of a member's evacuation. */
export interface Evacuation {
  /** Name of the member. */
  readonly name: string;
  /** How its instances leave. @default refuse */
  readonly leaving?: Leaving | undefined;
  /** Whether it is evacuated; `undefined` if the program does not say. */
  readonly evacuated?: boolean | undefined;
}

/** Whether a member is to be evacuated (`true`), restored (`false`), or left as it is. Taking `evacuated: true` back restores it. */
export function wantedEvacuation({ evacuated }: Evacuation, former: boolean | undefined): boolean | undefined {
  return evacuated ?? (former === true ? false : undefined);
}

/**
 * Evacuates or restores a member, if the program wants that. Works out first what becomes of the instances, and returns the work.
 * @param former - `evacuated` in state.
 * @throws RefusedError when an instance would be lost, or LXD would do something else than what was asked for.
 */
export async function prepareEvacuation(
  context: Context,
  lxd: LxdClient,
  wanted: Evacuation,
  former: boolean | undefined,
): Promise<() => Promise<void>> {
  const { name } = wanted;
  const goal = wantedEvacuation(wanted, former);
  const member = goal === undefined ? undefined : await getMember(lxd, name);
  if (member === undefined || (goal === true ? await isEvacuated(lxd, member) : member.status !== EVACUATED)) {
    return () => Promise.resolve();
  }
  if (member.isDown) {
    const [done, cure] = goal ? ["evacuated", "or take evacuated out of the program"] : ["restored", "or leave it evacuated"];
    throw new RefusedError(`Member ${name} is offline (${member.message}), so it cannot be ${done}. Bring it back, ${cure}`);
  }
  if (goal === false) {
    return () =>
      withClusterLock(lxd, async () => {
        context.progress(`restoring ${name}`);
        await restoreMember(lxd, name);
      });
  }
  await refuseToEvacuate(lxd, wanted);
  return () => evacuate(context, lxd, wanted);
}

/** Evacuates a member, once it is known that it may be. */
export function evacuate(context: Context, lxd: LxdClient, { name, leaving }: Evacuation): Promise<void> {
  return withClusterLock(lxd, async () => {
    context.progress(`evacuating ${name}`);
    await evacuateMember(lxd, name, modeOf(leaving));
  });
}

/**
 * Refuses an evacuation in which an instance would be lost, or LXD would do something else than what was asked for.
 * @throws RefusedError
 */
export async function refuseToEvacuate(lxd: LxdClient, { name, leaving }: Evacuation): Promise<void> {
  const hasModes = (await getServer(lxd)).api_extensions.includes(EVACUATION_MODE);
  if (!hasModes && (leaving === "stop" || leaving === "live-migrate")) {
    throw new RefusedError(
      `leaving: "${leaving}" needs the API extension ${EVACUATION_MODE}, which ${lxd.title} does not have: it would ignore that. Use ` +
        `leaving: "auto", and set cluster.evacuate: ${leaving} in the config of the instances`,
    );
  }
  const departures = await foresee(lxd, name, modeOf(leaving));
  const ends = departures.flatMap(({ instance, endsAt }) => (endsAt === undefined ? [] : [`${instance} (${endsAt})`]));
  if (ends.length > 0) {
    throw new RefusedError(
      `Member ${name} is not evacuated: it has instances with a disk that is a path of the host, at which the daemon of ${lxd.names.name} may end ` +
        `and leave the evacuation unfinished: ${ends.join(", ")}. Nothing was changed. Set cluster.evacuate: stop, or migrate, in their config`,
    );
  }
  const lost = departures.filter(({ fate }) => fate === "deleted");
  if (lost.length > 0) {
    throw new RefusedError(
      `Member ${name} is not evacuated: it has ephemeral instances that run, and ${lxd.names.name} deletes these when they are stopped: ` +
        `${lost.map(({ instance }) => instance).join(", ")}. Nothing was changed. Move or stop them first`,
    );
  }
}

/** Returns the preview's warnings of an evacuation, or of its end. */
export async function evacuationWarnings(lxd: LxdClient, wanted: Evacuation, former: boolean | undefined): Promise<string[]> {
  const { name, leaving } = wanted;
  const goal = wantedEvacuation(wanted, former);
  if (goal === undefined || goal === former) {
    return [];
  }
  if (goal) {
    const departures = await foresee(lxd, name, modeOf(leaving));
    return departures.length === 0
      ? []
      : [`The evacuation of ${name} does this to its instances: ${describeDepartures(departures)}`];
  }
  const { moved, stopped } = await awaiting(lxd, name);
  return [
    ...(moved.length > 0 ? [`The restore of ${name} moves back, stopped meanwhile if they run: ${moved.join(", ")}`] : []),
    ...(stopped.length > 0 ? [`The restore of ${name} starts: ${stopped.join(", ")}`] : []),
  ];
}

/** Whether the program's evacuation of a member is complete, for its refresh. */
export async function observeEvacuation(
  lxd: LxdClient,
  member: Parameters<typeof isEvacuated>[1],
  known: boolean | undefined,
): Promise<{ evacuated?: boolean }> {
  return known === undefined ? {} : { evacuated: await isEvacuated(lxd, member, listDepartingShared) };
}
