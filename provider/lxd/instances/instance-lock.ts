/**
 * LXD does one thing at a time with an instance, and refuses what comes in between instead of letting it wait. What this process asks for is
 * asked for in turn; what others have begun is waited for.
 * @see https://github.com/canonical/lxd/blob/stable-5.0/lxd/instance/operationlock/operationlock.go
 */
import { until } from "../../support/deadline";
import { hasCode, replyOf } from "../../support/errors";
import { KeyedLock, withLock } from "../../support/keyed-lock";
import type { LxdClient } from "../client/client";
import { clusterKey } from "../client/presented";
import { describeUser } from "../in-use";

const lock = new KeyedLock();

/** One instance, and the API that it is worked on through. */
export interface InstanceRef {
  readonly lxd: LxdClient;
  readonly project: string;
  readonly name: string;
}

/** Runs a request that LXD locks an instance for, when no other request of this process works on it. */
export function withInstanceLock<Result>({ lxd, project, name }: InstanceRef, request: () => Promise<Result>): Promise<Result> {
  return withInstanceLocks(lxd, [`/1.0/instances/${name}${project === "default" ? "" : `?project=${project}`}`], request);
}

/**
 * {@link withInstanceLock} all instances that use something. As long as one of them is busy, the others are free for other work.
 * @param users - Its `used_by`: paths of LXD's API. What is no instance counts for nothing.
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

/** Asks LXD for work on an instance, in turn, as soon as it has finished what others have begun. */
export async function retryWhileBusy<Result>(which: InstanceRef, request: () => Promise<Result>): Promise<Result> {
  const { lxd, name } = which;
  const { result } = await until(lxd.deadline, async (report) => {
    try {
      return { result: await withInstanceLock(which, request) };
    } catch (error) {
      if (!(hasCode(error, "api") || hasCode(error, "operation")) || !isBusy(replyOf(error))) {
        throw error;
      }
      report(`instance "${name}" is not free for it: LXD on ${lxd.host} says: ${replyOf(error)}`);
      return undefined;
    }
  });
  return result;
}

/** Whether LXD says that it works on the instance. Of two changes at once, the second waits for the first, and is dropped then. */
export function isBusy(reply: string): boolean {
  return /Instance is busy running a|A matching non-reusable operation has now succeeded/.test(reply);
}
