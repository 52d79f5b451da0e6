import { isServerFailure, RESTART_SECONDS } from "../lxd/client/transient-failures";
import type { InstanceRef } from "../lxd/instances/instance-lock";
import { findInstance, getInstanceState, isRunning } from "../lxd/instances/instances";
import { type Deadline, until } from "../support/deadline";
import { hasCode, IncompleteError, messageOf, replyOf } from "../support/errors";

export interface InsideWork extends InstanceRef {
  readonly deadline: Deadline;
  progress(text: string): void;
}

/** How often work may fail in an instance that LXD reaches before the failure is reported. */
const MOST_FAILURES = 10;

type Reach = "reached" | "not running" | "no agent" | "no answer";

/**
 * Runs work in an instance, and repeats it from its start when it fails because LXD or the agent of a virtual machine restarts.
 * The work checks what exists before it acts, so that it continues where it stopped. LXD's answers during a restart differ
 * between versions, so their wording decides nothing, but only whether the instance runs and its agent answers.
 * @param options.waitForAgent - Whether to wait for the agent of a virtual machine. @default true
 */
export async function retryThroughAgentRestart<Result>(
  work: InsideWork,
  run: () => Promise<Result>,
  { waitForAgent = true }: { readonly waitForAgent?: boolean } = {},
): Promise<Result> {
  const { deadline } = work;
  let unfinished: IncompleteError | undefined;
  let silentSince: number | undefined;
  let failures = 0;
  let wasNotRunning = false;
  const attempt = async (report: (seen: string) => void): Promise<{ result: Result } | undefined> => {
    try {
      return { result: await run() };
    } catch (error) {
      unfinished = hasCode(error, "incomplete") ? error : unfinished;
      const cause = hasCode(error, "incomplete") ? error.cause : error;
      if (!mayPass(work, cause)) {
        throw error;
      }
      report(messageOf(error));
      if (deadline.remainingMs === 0) {
        return undefined;
      }
      const reach = await reachOf(work);
      failures += reach === "reached" ? 1 : 0;
      silentSince = reach === "no answer" ? (silentSince ?? performance.now()) : undefined;
      const isOver =
        failures === MOST_FAILURES ||
        (reach === "not running" && wasNotRunning) || // otherwise the work reports the meaning
        (reach === "no agent" && !waitForAgent) ||
        (silentSince !== undefined && performance.now() - silentSince > RESTART_SECONDS * 1000);
      if (isOver) {
        throw error;
      }
      wasNotRunning = reach === "not running";
      const seen = describe(work, reach, cause);
      report(seen);
      work.progress(seen);
      return undefined;
    }
  };
  try {
    return (await until(deadline, attempt)).result;
  } catch (error) {
    if (unfinished === undefined || !hasCode(error, "timeout")) {
      throw error;
    }
    const { id, outputs } = unfinished; // what is known of the object
    throw new IncompleteError(id, outputs, error.message, { cause: unfinished });
  }
}

/** LXD always reaches into a running container, and through its agent into a virtual machine. */
export async function isReached(work: InsideWork): Promise<boolean> {
  return (await reachOf(work)) === "reached";
}

/** Whether a retry may succeed: LXD failed, lost the operation, or did not answer. A refusal is final. */
function mayPass({ lxd }: InsideWork, error: unknown): boolean {
  if (hasCode(error, "transport")) {
    return lxd.endpoint.isOpen() && error.host === lxd.host; // not a member that is down
  }
  return hasCode(error, "api") || hasCode(error, "operation") || hasCode(error, "lost");
}

async function reachOf({ lxd: { impatient: lxd }, project, name }: InsideWork): Promise<Reach> {
  try {
    const found = await findInstance({ lxd, project, name });
    if (found === undefined || !isRunning(found.value)) {
      return "not running";
    }
    if (found.value.type !== "virtual-machine") {
      return "reached";
    }
    return (await getInstanceState({ lxd, project, name })).processes > 0 ? "reached" : "no agent";
  } catch (error) {
    if ((hasCode(error, "api") && !isServerFailure(error)) || hasCode(error, "response-shape")) {
      throw error;
    }
    return "no answer";
  }
}

function describe({ lxd, name }: InsideWork, reach: Reach, error: unknown): string {
  switch (reach) {
    case "no agent":
      return `waiting for the agent in instance "${name}", which does not answer (does its image have one?)`;
    case "no answer":
      return `waiting for ${lxd.title} to answer again`;
    case "not running":
    case "reached":
      return `retrying, because ${lxd.title} failed in instance "${name}": ${replyOf(error)}`;
  }
}
