import { KeyedLock, withLock } from "../../support/keyed-lock";
import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { settled } from "./restarts";

const lock = new KeyedLock();

/**
 * Runs work that LXD cannot run side by side in one cluster: joins, removals, making pools and networks. One after the other within
 * this process, whichever member is spoken to, and not before members that just start can be worked with.
 */
export async function withClusterLock<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  const { fingerprint } = await presentedBy(lxd.endpoint, lxd.deadline);
  const doing = `waiting for other changes of the cluster of ${lxd.host} to end`;
  return withLock(lock, [fingerprint], lxd.deadline, doing, async () => {
    await settled(lxd);
    return work();
  });
}
