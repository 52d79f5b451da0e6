import { inTurn } from "../../support/deadline";
import { Queues } from "../../support/queues";
import type { LxdClient } from "../client/client";
import { getServer } from "../server";

const queues = new Queues();

/**
 * Runs work that LXD cannot run side by side in one cluster: joins, removals, making pools and networks. One after the other within
 * this process, whichever member is spoken to.
 */
export async function exclusively<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  // All members of a cluster present the cluster's certificate.
  const { certificate_fingerprint } = (await getServer(lxd)).environment;
  return inTurn(
    queues.of(certificate_fingerprint),
    lxd.deadline,
    `waiting for other changes of the cluster of ${lxd.host} to end`,
    work,
  );
}
