/**
 * Failures that end without a change. A restarting daemon answers with errors, or not at all. So does a daemon whose cluster briefly has no
 * leader. The error differs by version and moment. Only another request shows that it has passed.
 */
import { hasCode } from "../../support/errors";

/**
 * How long a restart, or the loss of the leader, may cause a daemon's errors. Later ones are permanent. LXD 5.0.2 chooses another leader 30 s
 * after the power of the former one was cut: until then, it takes the connections to it for good.
 */
export const RESTART_SECONDS = 45;

/** Time without failures after which the next failure starts a new trouble. */
const QUIET_MS = 60_000;

/** Current trouble of an endpoint. All callers wait for its end together: a later caller starts no new wait. */
export class TransientFailures {
  private since = 0;
  private seenAt = Number.NEGATIVE_INFINITY;

  /** Records one more failure. Returns whether it may still pass. */
  lasts(): boolean {
    const now = performance.now();
    if (now - this.seenAt > QUIET_MS) {
      this.since = now;
    }
    this.seenAt = now;
    return now - this.since < RESTART_SECONDS * 1000;
  }

  /** Whether it was waited for as long as it may last, and is not over. */
  get isLong(): boolean {
    const now = performance.now();
    return now - this.seenAt <= QUIET_MS && now - this.since >= RESTART_SECONDS * 1000;
  }

  /** Records that a request that had failed was answered. */
  isOver(): void {
    this.seenAt = Number.NEGATIVE_INFINITY;
  }
}

export function isServerFailure(error: unknown): boolean {
  return hasCode(error, "api") && error.status >= 500;
}
