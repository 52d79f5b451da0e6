import { api, type LxdClient } from "../lxd/client/client";
import { isAgentMissing } from "../lxd/instances/exec";
import { findInstance, findInstanceShared, type Instance, isRunning } from "../lxd/instances/instances";
import { untilFree } from "../lxd/instances/turns";
import { type Deadline, inTurn, until } from "../support/deadline";
import { type ApiError, hasCode, isNotFound, RefusedError, replyOf } from "../support/errors";
import { Queues } from "../support/queues";
import { type Guest, guestOf } from "./guest";

/** An instance whose inside is worked on. */
export interface InsideWork {
  readonly lxd: LxdClient;
  readonly project: string;
  readonly instance: string;
  readonly deadline: Deadline;
  progress(text: string): void;
}

const queues = new Queues();

/**
 * Runs work inside an instance, one after the other within this process: the programs that change users lock each other out, and
 * LXD loses one of two changes of an instance's config that are made at the same time.
 */
export function exclusivelyIn<Result>(work: InsideWork, run: () => Promise<Result>): Promise<Result> {
  const key = JSON.stringify([work.lxd.host, work.project, work.instance]);
  return inTurn(
    queues.of(key),
    work.deadline,
    `waiting for other work in instance "${work.instance}" on ${work.lxd.host} to end`,
    run,
  );
}

/**
 * The inside of a running instance; `undefined` when there is no such instance. Waits for the agent of a virtual machine that boots.
 * @param what - What is to be done, for the message: `Setting up user "alice"`.
 * @param cure - What to do when the instance does not run.
 * @throws RefusedError when the instance does not run; TransportError when its cluster member does not answer.
 */
export async function enterInstance(
  work: InsideWork,
  what: string,
  cure: string,
): Promise<{ guest: Guest; instance: Instance } | undefined> {
  const instance = await lookUp(work);
  if (instance === undefined) {
    return undefined;
  }
  if (!isRunning(instance)) {
    throw new RefusedError(
      `${what} needs instance "${work.instance}" to run, but LXD on ${work.lxd.host} says that it is ${instance.status}. ${cure}`,
    );
  }
  const guest = guestOf(work.lxd, work);
  await until(work.deadline, async (report) => {
    try {
      await guest.readFile("/etc/passwd");
      return true;
    } catch (error) {
      if (!isAgentMissing(error)) {
        throw error;
      }
      report(`the agent in instance "${work.instance}" does not answer (${replyOf(error)}); does its image have one?`);
      work.progress("waiting for the agent in the virtual machine");
      return undefined;
    }
  });
  return { guest, instance };
}

/** Sets keys of an instance's config and leaves the others as they are; an empty value removes one. An instance that is gone is done. */
export async function markInstance(work: InsideWork, config: Readonly<Record<string, string>>): Promise<void> {
  const { lxd, project, instance } = work;
  await until(work.deadline, async (report) => {
    const found = await findInstance({ lxd, project, name: instance });
    if (found === undefined) {
      return true;
    }
    const { description } = found.value; // LXD empties it when a PATCH does not repeat it
    try {
      await untilFree({ lxd, project, name: instance }, () =>
        lxd.change("PATCH", api`/1.0/instances/${instance}`, {
          query: { project },
          body: { description, config },
          etag: found.etag,
        }),
      );
      return true;
    } catch (error) {
      if (hasCode(error, "api") && (error as unknown as ApiError).status === 412) {
        report(`the config of instance "${instance}" changed at the same time`);
        return undefined;
      }
      throw error;
    }
  });
}

async function lookUp({ lxd, project, instance }: InsideWork): Promise<Instance | undefined> {
  try {
    return (await findInstance({ lxd, project, name: instance }))?.value;
  } catch (error) {
    if (hasCode(error, "api") && !isNotFound(error)) {
      await findInstanceShared({ lxd, project, name: instance }); // tells which cluster member does not answer, when that is why
    }
    throw error;
  }
}
