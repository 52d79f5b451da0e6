import { clusterKey } from "../lxd/client/presented";
import { type FoundInstance, findInstance, isRunning } from "../lxd/instances/instances";
import { findInstanceShared } from "../lxd/instances/shared-reads";
import { hasCode, isNotFound, RefusedError } from "../support/errors";
import { KeyedLock, withLock } from "../support/keyed-lock";
import { type InsideWork, retryThroughAgentRestart } from "./agent-restarts";
import { guestOf } from "./guest";
import type { Machine } from "./machine";

export type { InsideWork };

const lock = new KeyedLock();

/**
 * Runs work inside an instance through {@link retryThroughAgentRestart}, one at a time within this process: the programs that
 * change users lock each other out, and LXD loses one of two simultaneous changes of an instance's config.
 */
export function withGuestLock<Result>(work: InsideWork, run: () => Promise<Result>): Promise<Result> {
  const key = JSON.stringify([clusterKey(work.lxd.endpoint), work.project, work.name]);
  return withLock(
    lock,
    [key],
    work.deadline,
    `waiting for other work in instance "${work.name}" on ${work.lxd.host} to end`,
    () => retryThroughAgentRestart(work, run),
  );
}

/**
 * The inside of a running instance, or `undefined` when the instance does not exist.
 * @param what - The intended work, for the message: `Setting up user "alice"`.
 * @param cure - What to do when the instance does not run.
 * @throws RefusedError when the instance does not run; TransportError when its cluster member does not answer.
 */
export async function enterInstance(
  work: InsideWork,
  what: string,
  cure: string,
): Promise<{ machine: Machine; found: FoundInstance } | undefined> {
  const found = await lookUp(work);
  if (found === undefined) {
    return undefined;
  }
  const { value: instance } = found;
  if (!isRunning(instance)) {
    throw new RefusedError(
      `${what} needs instance "${work.name}" to run, but on ${work.lxd.host} it is ${instance.status}. ${cure}`,
    );
  }
  return { machine: guestOf(work), found };
}

async function lookUp(work: InsideWork): Promise<FoundInstance | undefined> {
  try {
    return await findInstance(work);
  } catch (error) {
    if (hasCode(error, "api") && !isNotFound(error)) {
      await findInstanceShared(work); // reports which cluster member does not answer, if that is why
    }
    throw error;
  }
}
