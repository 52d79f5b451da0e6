/**
 * Requests during a restart. A daemon that joins or leaves a cluster restarts, and its peers must find it again. Meanwhile it
 * answers with errors, or not at all. The error differs by version and moment. Only another request shows that it has passed.
 */
import * as z from "zod";
import { until } from "../../support/deadline";
import { fallback, hasCode, messageOf, TransportError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { isServerFailure, RESTART_SECONDS } from "../client/transient-failures";
import { ifClustered, listMembers } from "./cluster";

/** Time after which online members have found each other: they look for each other every ten seconds. */
const HEARTBEAT_SECONDS = 12;

/**
 * Makes a request that may be repeated, also while a daemon restarts.
 * @throws The last error, when it does not pass.
 */
export function throughRestart<Answer>(lxd: LxdClient, ask: () => Promise<Answer>): Promise<Answer> {
  return untilPassed(lxd, ask, RESTART_SECONDS, (error) => mayPass(error, lxd));
}

export async function untilReady(lxd: LxdClient): Promise<void> {
  await throughRestart(lxd, () => lxd.get("/internal/ready", z.unknown())); // retries the 503 until then
}

/**
 * Requests a change that LXD passes on to another member. Repeats the request while the peers do not find that member although it
 * is online.
 * @param ask - Called several times. Must repeat only what was not begun.
 * @throws The last error, when it does not pass.
 */
export function onceFound<Answer>(lxd: LxdClient, ask: () => Promise<Answer>): Promise<Answer> {
  return untilPassed(lxd, ask, HEARTBEAT_SECONDS, async (error) => isServerFailure(error) && (await areAllOnline(lxd)));
}

async function areAllOnline(lxd: LxdClient): Promise<boolean> {
  try {
    return (await listMembers(lxd.impatient)).every(({ status }) => status === "Online");
  } catch {
    return false; // the first error is the one to report
  }
}

async function untilPassed<Answer>(
  lxd: LxdClient,
  ask: () => Promise<Answer>,
  seconds: number,
  passes: (error: unknown) => boolean | Promise<boolean>,
): Promise<Answer> {
  const patience = lxd.deadline.atMost(seconds, `waiting for ${lxd.title} to be ready`);
  let last: unknown;
  const answer = await until(patience, async (report) => {
    try {
      return { value: await ask() };
    } catch (error) {
      if (!(await passes(error))) {
        throw error;
      }
      last = error;
      report(messageOf(error));
      return undefined;
    }
  }).catch((error: unknown) => {
    const lasts = hasCode(error, "timeout") && last !== undefined && lxd.deadline.remainingMs > 0;
    if (!lasts) {
      throw error;
    }
    const log = `Look at its log there: ${lxd.names.log}`;
    throw hasCode(last, "transport")
      ? new TransportError(lxd.host, `${lxd.title} did not answer for ${seconds} s: ${last.message}. ${log}`, {
          cause: last,
        })
      : last;
  });
  return answer.value;
}

/** Waits until all online members answer each other, so that work on all of them meets none that is just starting. */
export async function untilSettled(lxd: LxdClient): Promise<void> {
  const members =
    (await ifClustered(
      lxd,
      throughRestart(lxd, () => listMembers(lxd)),
    )) ?? [];
  const others = members.length < 2 ? [] : members.filter(({ status }) => status === "Online");
  await Promise.all(
    others.map(({ server_name: target }) =>
      // LXD itself reports what it cannot do without that member.
      throughRestart(lxd, () => lxd.getRaw("/1.0", { target })).catch(fallback(undefined, "api")),
    ),
  );
}

async function mayPass(error: unknown, lxd: LxdClient): Promise<boolean> {
  if (hasCode(error, "transport")) {
    return lxd.endpoint.isOpen(); // the host is up, and its daemon stopped
  }
  return isServerFailure(error) && (await lxd.isInNoCluster(error)) !== true;
}
