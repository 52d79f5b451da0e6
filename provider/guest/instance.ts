import { api } from "../lxd/client/client";
import { clusterKey } from "../lxd/client/presented";
import { retryWhileBusy } from "../lxd/instances/instance-lock";
import { type FoundInstance, findInstance, type Instance, isRunning } from "../lxd/instances/instances";
import { findInstanceShared } from "../lxd/instances/shared-reads";
import { until } from "../support/deadline";
import { hasCode, isNotFound, RefusedError } from "../support/errors";
import { KeyedLock, withLock } from "../support/keyed-lock";
import { type InsideWork, retryThroughAgentRestart } from "./agent-restarts";
import { type Guest, guestOf } from "./guest";

export type { InsideWork };

const lock = new KeyedLock();

/**
 * Runs work inside an instance {@link retryThroughAgentRestart}, one after the other within this process: the programs that change users lock each other out, and
 * LXD loses one of two changes of an instance's config that are made at the same time.
 */
export function withGuestLock<Result>(work: InsideWork, run: () => Promise<Result>): Promise<Result> {
  const key = JSON.stringify([clusterKey(work.lxd.endpoint), work.project, work.instance]);
  return withLock(
    lock,
    [key],
    work.deadline,
    `waiting for other work in instance "${work.instance}" on ${work.lxd.host} to end`,
    () => retryThroughAgentRestart(work, run),
  );
}

/**
 * The inside of a running instance; `undefined` when there is no such instance.
 * @param what - What is to be done, for the message: `Setting up user "alice"`.
 * @param cure - What to do when the instance does not run.
 * @throws RefusedError when the instance does not run; TransportError when its cluster member does not answer.
 */
export async function enterInstance(
  work: InsideWork,
  what: string,
  cure: string,
): Promise<{ guest: Guest; found: FoundInstance } | undefined> {
  const found = await lookUp(work);
  if (found === undefined) {
    return undefined;
  }
  const { value: instance } = found;
  if (!isRunning(instance)) {
    throw new RefusedError(
      `${what} needs instance "${work.instance}" to run, but LXD on ${work.lxd.host} says that it is ${instance.status}. ${cure}`,
    );
  }
  return { guest: guestOf(work.lxd, work), found };
}

/**
 * Sets keys of an instance's config and leaves the others as they are; an empty value removes one. An instance that is gone is done.
 * @param look - May refuse, when it sees the instance.
 * @param known - The instance as it was just read.
 */
export async function markInstance(
  work: Pick<InsideWork, "lxd" | "project" | "instance" | "deadline">,
  config: Readonly<Record<string, string>>,
  look: (found: Instance) => void = () => undefined,
  known?: FoundInstance,
): Promise<void> {
  const { lxd, project, instance } = work;
  let last = known;
  await until(work.deadline, async (report) => {
    const found = last ?? (await findInstance({ lxd, project, name: instance }));
    last = undefined;
    if (found === undefined) {
      return true;
    }
    look(found.value);
    const { description } = found.value; // LXD empties it when a PATCH does not repeat it
    try {
      await retryWhileBusy({ lxd, project, name: instance }, () =>
        lxd.change("PATCH", api`/1.0/instances/${instance}`, {
          query: { project },
          body: { description, config },
          etag: found.etag,
        }),
      );
      return true;
    } catch (error) {
      if (hasCode(error, "lost") || (hasCode(error, "api") && error.status === 412)) {
        report(`the config of instance "${instance}" on ${lxd.host} changed at the same time, or LXD lost sight of the change`);
        return undefined;
      }
      throw error;
    }
  });
}

async function lookUp({ lxd, project, instance }: InsideWork): Promise<FoundInstance | undefined> {
  try {
    return await findInstance({ lxd, project, name: instance });
  } catch (error) {
    if (hasCode(error, "api") && !isNotFound(error)) {
      await findInstanceShared({ lxd, project, name: instance }); // tells which cluster member does not answer, when that is why
    }
    throw error;
  }
}
