/**
 * Serializes work on an instance. LXD does one thing at a time with an instance, and refuses a concurrent request instead of
 * queueing it. Requests of this process run in turn, and wait for what others have begun.
 * @see https://github.com/canonical/lxd/blob/stable-5.0/lxd/instance/operationlock/operationlock.go
 */
import { until } from "../../support/deadline";
import { hasCode, replyOf } from "../../support/errors";
import { KeyedLock, withLock } from "../../support/keyed-lock";
import type { LxdClient } from "../client/client";
import { clusterKey } from "../client/presented";
import { describeUser } from "../in-use";

const lock = new KeyedLock();

/** One instance, and the API to work on it. */
export interface InstanceRef {
  readonly lxd: LxdClient;
  readonly project: string;
  readonly name: string;
}

/** Runs a request for which LXD locks an instance, while no other request of this process works on the instance. */
export function withInstanceLock<Result>({ lxd, project, name }: InstanceRef, request: () => Promise<Result>): Promise<Result> {
  return withInstanceLocks(lxd, [`/1.0/instances/${name}${project === "default" ? "" : `?project=${project}`}`], request);
}

/**
 * {@link withInstanceLock} for all instances that use an object. While one of them is busy, the others are free for other work.
 * @param users - `used_by` of the object: paths of LXD's API. Ignores paths of other objects than instances.
 */
export async function withInstanceLocks<Result>(
  lxd: LxdClient,
  users: readonly string[],
  request: () => Promise<Result>,
): Promise<Result> {
  const paths = users.filter((path) => path.startsWith("/1.0/instances/"));
  const byKey = new Map(paths.map((path) => [`${clusterKey(lxd.endpoint)} ${path}`, path]));
  const busy = lock.heldOf(byKey.keys()).map((key) => describeUser(byKey.get(key) ?? ""));
  return withLock(lock, byKey.keys(), lxd.deadline, `waiting for other work on ${listed(busy)} on ${lxd.host} to end`, request);
}

function listed(names: readonly string[]): string {
  return `${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`;
}

/** Requests work on an instance, in turn, as soon as LXD has finished what others have begun. */
export async function retryWhileBusy<Result>(which: InstanceRef, request: () => Promise<Result>): Promise<Result> {
  const { lxd, name } = which;
  const { result } = await until(lxd.deadline, async (report) => {
    try {
      return { result: await withInstanceLock(which, request) };
    } catch (error) {
      if (!(hasCode(error, "api") || hasCode(error, "operation")) || !isBusy(replyOf(error))) {
        throw error;
      }
      report(`instance "${name}" is not free for it: ${lxd.title} says: ${replyOf(error)}`);
      return undefined;
    }
  });
  return result;
}

/**
 * Whether LXD refused because another operation runs on the instance. LXD makes the second of two simultaneous changes wait for
 * the first, then drops it.
 */
export function isBusy(reply: string): boolean {
  return /Instance is busy running a|A matching non-reusable operation has now succeeded/.test(reply);
}
