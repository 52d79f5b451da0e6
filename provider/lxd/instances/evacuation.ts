/** Instances whose cluster member is evacuated, or that an evacuation moved to another member. */
import { EVACUATED, listMembers, type Member } from "../cluster/cluster";
import { type Instance, type InstanceWork, isStopped, startInstance } from "./instances";

/** Key in which LXD keeps the member from which an evacuation moved an instance. */
export const EVACUATED_FROM = "volatile.evacuate.origin";

/**
 * Returns the member to which an instance must be moved, if any. A group selects a member only at creation. An instance that an
 * evacuation moved off its target is not moved back: LXD does that when the member is restored.
 */
export function memberToMoveTo(
  target: string | undefined,
  location: string,
  evacuatedFrom: string | undefined,
): string | undefined {
  const isMember = target !== undefined && !target.startsWith("@");
  return isMember && target !== location && target !== evacuatedFrom ? target : undefined;
}

export async function isHeldByEvacuation(
  instance: Pick<Instance, "status" | "location">,
  members: () => Promise<readonly Pick<Member, "server_name" | "status">[]>,
): Promise<boolean> {
  const { location } = instance;
  if (!isStopped(instance) || location === "" || location === "none") {
    return false;
  }
  return (await members()).some(({ server_name, status }) => server_name === location && status === EVACUATED);
}

/**
 * Starts an instance, unless its member is evacuated. LXD starts nothing there, and starts what it stopped when the member is
 * restored.
 * @returns Whether it was started.
 */
export async function startUnlessEvacuated(work: InstanceWork, live: Instance): Promise<boolean> {
  if (await isHeldByEvacuation(live, () => listMembers(work.lxd))) {
    work.warn(
      `Instance "${work.name}" stays stopped, because its cluster member "${live.location}" is evacuated. ` +
        `Restore the member (${work.lxd.names.client} cluster restore ${live.location})`,
    );
    return false;
  }
  await startInstance(work, live);
  return true;
}
