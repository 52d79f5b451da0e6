import { KeyedLock, withLock } from "../../support/keyed-lock";
import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { untilSettled } from "./restarts";

const lock = new KeyedLock();

/**
 * Runs work that LXD cannot run concurrently in one cluster: joins, removals, and the creation of pools and networks. Runs it
 * sequentially within this process, through any member, and only once members that are starting are ready.
 */
export async function withClusterLock<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  const { fingerprint } = await presentedBy(lxd.endpoint, lxd.deadline);
  return withUpgradeLock(lxd, fingerprint, async () => {
    await untilSettled(lxd);
    return work();
  });
}

/**
 * {@link withClusterLock} for the upgrade of a member: does not wait for other members, because upgraded ones may not answer.
 * @param fingerprint - Of the cluster's certificate.
 */
export function withUpgradeLock<Result>(lxd: LxdClient, fingerprint: string, work: () => Promise<Result>): Promise<Result> {
  const doing = `waiting for other changes of the cluster of ${lxd.host} to end`;
  return withLock(lock, [fingerprint], lxd.deadline, doing, work);
}
