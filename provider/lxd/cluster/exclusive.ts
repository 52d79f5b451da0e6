import pLimit from "p-limit";
import { inTurn } from "../../support/deadline";
import type { LxdClient } from "../client/client";
import { getServer } from "../server";

const queues = new Map<string, pLimit.Limit>();

/**
 * Runs work that LXD cannot run side by side in one cluster: joins, removals, making pools and networks. One after the other within
 * this process, whichever member is spoken to.
 */
export async function exclusively<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  // All members of a cluster present the cluster's certificate.
  const { certificate_fingerprint } = (await getServer(lxd)).environment;
  let queue = queues.get(certificate_fingerprint);
  if (queue === undefined) {
    queue = pLimit(1);
    queues.set(certificate_fingerprint, queue);
  }
  return inTurn(queue, lxd.deadline, `waiting for other changes of the cluster of ${lxd.host} to end`, work);
}
