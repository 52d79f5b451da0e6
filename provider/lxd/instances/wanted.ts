/** Brings an instance to what a program wants: creates or changes it, starts it, and waits for it. */
import { Deadline } from "../../support/deadline";
import { IncompleteError, messageOf } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { onceFound } from "../cluster/restarts";
import { type AllowRestart, changeInstance, EVACUATED_FROM, memberToMoveTo, startUnlessEvacuated } from "./change";
import { type InstanceSpec, toApi } from "./contents";
import { expandedOf, factsIn, factsOf, type InstanceFacts, NO_FACTS } from "./facts";
import type { ImageSource } from "./image-source";
import {
  createInstance,
  type FoundInstance,
  getInstanceWithState,
  type Instance,
  type InstanceType,
  type InstanceWork,
  isRunning,
  startInstance,
} from "./instances";
import { prepare, requireImage, requirePlace } from "./preflight";
import { startedOf } from "./running-with";
import { type WaitCondition, waitFor } from "./wait";

/** An instance as a program wants it. */
export interface WantedInstance extends InstanceSpec {
  readonly name: string;
  readonly instanceType: InstanceType;
  readonly target?: string | undefined;
  readonly running: boolean;
  readonly waitFor: readonly WaitCondition[];
  readonly allowRestart: AllowRestart;
}

/** Seconds to read the instance after a failure: at most, and when the time for the work is over. */
const LAST_LOOK_SECONDS = { atMost: 15, late: 3 };

/**
 * Creates the instance, stopped, after checking everything that it needs.
 * @param mark - Its owner's mark.
 * @returns The API to continue with.
 */
export async function makeInstance(
  work: InstanceWork,
  wanted: WantedInstance & { readonly image: ImageSource },
  mark: string,
  reconnect: () => Promise<LxdClient>,
): Promise<InstanceWork> {
  const { image, instanceType: type, target } = wanted;
  const { profiles } = await prepare(work, wanted);
  await requirePlace(work.lxd, target, type);
  await requireImage(work.lxd, work.project, image, type);
  work.progress(image.server === undefined ? "creating" : `creating; LXD gets the image from ${image.server}`);
  const { architecture: _, ...contents } = toApi(wanted, profiles, mark);
  return onceFound(work.lxd, () => createInstance(work, { ...contents, type, image }, target, reconnect));
}

/**
 * Changes an instance's contents, its place, and whether it runs.
 * @param found - The instance as it was just read.
 * @param known - Facts known before; `undefined` when there were none.
 */
export async function changeToWanted(
  work: InstanceWork,
  wanted: WantedInstance,
  mark: string,
  found: FoundInstance,
  known: InstanceFacts | undefined,
): Promise<void> {
  const { profiles, expanded } = await prepare(work, wanted);
  const { value: live } = found;
  await changeInstance(work, found, {
    contents: (current) => toApi(wanted, profiles, mark, current),
    expanded,
    running: wanted.running,
    member: memberToMoveTo(wanted.target, live.location, live.config[EVACUATED_FROM]),
    allowRestart: wanted.allowRestart,
    started: known === undefined ? undefined : startedOf(live, known, expandedOf(live)),
  });
}

/**
 * Starts an instance that is to run, and waits for the program's conditions.
 * @param isNew - Whether it was just created, and so is stopped.
 * @returns The instance with its state, when nothing has happened since it was read.
 */
export async function startAndWait(work: InstanceWork, wanted: WantedInstance, isNew = false): Promise<Instance | undefined> {
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
 * Completes an instance that exists.
 * @param known - Facts known before, in case nothing can be read.
 * @param reconnect - Opens the API again: the connection of the work may have failed.
 * @returns The instance's facts.
 * @throws IncompleteError when that fails: state then keeps the instance as unfinished.
 */
export async function finished(
  work: InstanceWork,
  known: InstanceFacts | undefined,
  reconnect: (within: Deadline) => Promise<LxdClient>,
  finish: () => Promise<Instance | undefined>,
): Promise<InstanceFacts> {
  const lastLook = async (): Promise<InstanceFacts> => {
    const { atMost, late } = LAST_LOOK_SECONDS;
    const seconds = Math.max(late, Math.min(atMost, work.deadline.remainingMs / 1000));
    const deadline = new Deadline(seconds, `Reading instance "${work.name}"`);
    return factsOf(await getInstanceWithState({ ...work, lxd: await reconnect(deadline) }), known);
  };
  let seen: Instance | undefined;
  try {
    seen = await finish();
  } catch (error) {
    const facts = await lastLook().catch(() => factsIn(known ?? NO_FACTS));
    throw new IncompleteError(
      `${work.project}/${work.name}`,
      facts,
      `Instance "${work.name}" exists (${facts.status}), but is not finished: ${messageOf(error)}. The next pulumi up goes on from here`,
      { cause: error },
    );
  }
  return factsOf(seen ?? (await getInstanceWithState(work)), known);
}
