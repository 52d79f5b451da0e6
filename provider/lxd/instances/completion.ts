/** The last steps of a create or update: start the instance, wait for it, and read its outputs. */
import { Deadline } from "../../support/deadline";
import { IncompleteError, messageOf } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { addCloudInitSeed } from "./cloud-init-seed";
import { startUnlessEvacuated } from "./evacuation";
import { getInstanceWithState, type Instance, type InstanceWork, isRunning, startInstance } from "./instances";
import { type InstanceOutputs, outputsIn, outputsOf, UNKNOWN_OUTPUTS } from "./outputs";
import type { WantedInstance } from "./spec";
import { waitFor } from "./wait";

/** Seconds to read the instance after a failure: at most, and when the time for the work is over. */
const LAST_READ_SECONDS = { atMost: 15, late: 3 };

/**
 * Starts an instance that is to run, and waits for the program's conditions.
 * @param isNew - Whether it was just created, and so is stopped.
 * @returns The instance with its state, when nothing has happened since it was read.
 */
export async function startAndWait(work: InstanceWork, wanted: WantedInstance, isNew = false): Promise<Instance | undefined> {
  if (isNew) {
    await addCloudInitSeed(work);
  }
  if (!wanted.running) {
    return undefined;
  }
  if (isNew) {
    await startInstance(work, { status: "Stopped" });
  } else {
    const live = await getInstanceWithState(work);
    if (isRunning(live)) {
      return waitFor(work, wanted.waitFor, live);
    }
    if (!(await startUnlessEvacuated(work, live))) {
      return undefined;
    }
  }
  return waitFor(work, wanted.waitFor, await getInstanceWithState(work));
}

/**
 * Runs the last steps on an instance that exists, and reads its outputs.
 * @param known - Outputs known before, in case nothing can be read.
 * @param reconnect - Opens the API again: the connection of the work may have failed.
 * @throws IncompleteError when a step fails: state then keeps the instance as unfinished.
 */
export async function completed(
  work: InstanceWork,
  known: InstanceOutputs | undefined,
  reconnect: (within: Deadline) => Promise<LxdClient>,
  steps: () => Promise<Instance | undefined>,
): Promise<InstanceOutputs> {
  const readAgain = async (): Promise<InstanceOutputs> => {
    const { atMost, late } = LAST_READ_SECONDS;
    const seconds = Math.max(late, Math.min(atMost, work.deadline.remainingMs / 1000));
    const deadline = new Deadline(seconds, `Reading instance "${work.name}"`);
    return outputsOf(await getInstanceWithState({ ...work, lxd: await reconnect(deadline) }), known);
  };
  let seen: Instance | undefined;
  try {
    seen = await steps();
  } catch (error) {
    const outputs = await readAgain().catch(() => outputsIn(known ?? UNKNOWN_OUTPUTS));
    throw new IncompleteError(
      `${work.project}/${work.name}`,
      outputs,
      `Instance "${work.name}" exists (${outputs.status}), but is not finished: ${messageOf(error)}. The next pulumi up continues from here`,
      { cause: error },
    );
  }
  return outputsOf(seen ?? (await getInstanceWithState(work)), known);
}
