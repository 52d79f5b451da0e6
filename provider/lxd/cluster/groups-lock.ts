import { KeyedLock, withLock } from "../../support/keyed-lock";
import type { LxdClient } from "../client/client";
import { clusterKey } from "../client/presented";

const lock = new KeyedLock();

/**
 * Runs a write of which members are in which groups, one at a time in this process. A change of a member writes all of its groups, and
 * a change of a group all of its members. Neither request alone prevents that it undoes the other: servers compare the ETag of a member before
 * they begin to write it, and that of a group not at all.
 */
export function withGroupsLock<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result> {
  return withLock(
    lock,
    [clusterKey(lxd.endpoint)],
    lxd.deadline,
    `waiting for other changes of groups of the cluster of ${lxd.host} to end`,
    work,
  );
}
