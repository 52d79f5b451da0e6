/**
 * Failures that end without a change. A daemon that restarts answers with errors, or not at all; so does one whose cluster has no leader for a moment. Which
 * error it is differs by version and moment; that it passes is seen by asking again.
 */
import * as z from "zod";
import { hasCode } from "../../support/errors";

/** How long the errors of a daemon may come from its restart. Later ones are permanent. */
export const RESTART_SECONDS = 30;

/** After so long without trouble, the next one is another. */
const QUIET_MS = 60_000;

/** The trouble that an endpoint is in. All who ask there wait for its end together: who comes later does not wait once more. */
export class TransientFailures {
  private since = 0;
  private seenAt = Number.NEGATIVE_INFINITY;

  /** Notes one more failure. @returns Whether it may still pass. */
  lasts(): boolean {
    const now = performance.now();
    if (now - this.seenAt > QUIET_MS) {
      this.since = now;
    }
    this.seenAt = now;
    return now - this.since < RESTART_SECONDS * 1000;
  }

  /** What had failed was answered. */
  isOver(): void {
    this.seenAt = Number.NEGATIVE_INFINITY;
  }
}

/** What of `/1.0/cluster/members` tells whether one is down. */
export const statusesSchema = z.array(z.looseObject({ status: z.string() }));

/** Whether LXD failed with a request, and did not refuse it. */
export function isServerFailure(error: unknown): boolean {
  return hasCode(error, "api") && error.status >= 500;
}

/** Whether LXD said that the server is no member of a cluster. It has no status of its own for this. */
export function isNotClustered(error: unknown): boolean {
  return hasCode(error, "api") && /server is not clustered/i.test(error.reply);
}
