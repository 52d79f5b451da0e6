import { withLock } from "../../support/deadline";
import { Queues } from "../../support/queues";
import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { settled } from "./restarts";

const queues = new Queues();

/**
 * Runs work that LXD cannot run side by side in one cluster: joins, removals, making pools and networks. One after the other within
 * this process, whichever member is spoken to, and not before
 * members that just start can be worked with.
 */
export async function withClusterLock<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  const { fingerprint } = await presentedBy(lxd.endpoint, lxd.deadline);
  return withLock(
    queues.of(fingerprint),
    lxd.deadline,
    `waiting for other changes of the cluster of ${lxd.host} to end`,
    async () => {
      await settled(lxd);
      return work();
    },
  );
}
