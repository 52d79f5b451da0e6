import { hasCode, TimeoutError } from "./errors";

/** The longest delay of a timer (about 24 days). With a longer one, Node fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The time by which a whole lifecycle call must have ended. Every wait of the library gets one. */
export class Deadline {
  private readonly endsAt: number;

  /** @param what - The work, for the message: "creating LxdVm web1". */
  constructor(
    readonly seconds: number,
    readonly what: string,
  ) {
    this.endsAt = performance.now() + seconds * 1000;
  }

  get remainingMs(): number {
    return Math.max(0, this.endsAt - performance.now());
  }

  /** An earlier deadline for a part of the work: at most `seconds` from now, and never later than this one. */
  atMost(seconds: number, what: string): Deadline {
    return this.remainingMs <= seconds * 1000 ? this : new Deadline(seconds, what);
  }

  /** {@link atMost}, and at most half of the remaining time: the work after a failed part has the other half. */
  atMostHalf(seconds: number, what: string): Deadline {
    return this.atMost(Math.min(seconds, this.remainingMs / 2000), what);
  }

  check(doing: string): void {
    if (this.remainingMs === 0) {
      throw this.expired(doing);
    }
  }

  expired(doing?: string): TimeoutError {
    const last = doing === undefined ? "" : `; at the end: ${doing}`;
    return new TimeoutError(`${this.what} did not finish within ${Number(this.seconds.toPrecision(3))} s${last}`);
  }

  /**
   * Waits for `promise`, but not past the deadline. `onTimeout` releases what the abandoned work holds.
   * @throws TimeoutError when the time is over first.
   */
  race<T>(promise: Promise<T>, doing: string, onTimeout?: () => void): Promise<T> {
    return withTimer(promise, this.remainingMs, () => {
      onTimeout?.();
      return this.expired(doing);
    });
  }

  /**
   * Waits for work that observes this deadline in all its own waits. Abandons it `graceSeconds` after the deadline, so that work
   * that ends in time can report what it waited for.
   * @throws TimeoutError
   */
  enforce<T>(promise: Promise<T>, graceSeconds: number, doing: () => string): Promise<T> {
    return withTimer(promise, this.remainingMs + graceSeconds * 1000, () => this.expired(doing()));
  }
}

async function withTimer<T>(promise: Promise<T>, delayMs: number, onTimeout: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  // A timer may fire up to a millisecond early, before the deadline.
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(onTimeout()), Math.min(Math.ceil(delayMs) + 1, LONGEST_TIMER_MS));
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

const LONGEST_PAUSE_MS = 5000;

/**
 * Calls `condition` until it returns something other than `undefined`. The pause grows from 50 ms to 1 s, so that a quick change
 * is seen quickly and a slow one does not load the host. It is at least as long as the call took, up to 5 s: a call that takes
 * seconds, such as a command in a guest that boots, slows down what it waits for.
 * @throws TimeoutError naming what was seen last.
 */
export async function until<T>(
  deadline: Deadline,
  condition: (report: (seen: string) => void) => Promise<T | undefined>,
): Promise<T> {
  let lastSeen: string | undefined;
  for (let pauseMs = 50; ; pauseMs = Math.min(1000, pauseMs * 1.5)) {
    const called = performance.now();
    const answer = await condition((seen) => {
      lastSeen = seen;
    }).catch((error: unknown) => {
      // What was seen last explains more than the request that the deadline cut short.
      throw deadline.remainingMs === 0 && lastSeen !== undefined && hasCode(error, "timeout")
        ? deadline.expired(lastSeen)
        : error;
    });
    if (answer !== undefined) {
      return answer;
    }
    if (deadline.remainingMs === 0) {
      throw deadline.expired(lastSeen);
    }
    await pause(Math.max(pauseMs, Math.min(performance.now() - called, LONGEST_PAUSE_MS)), deadline);
  }
}

/** {@link until} for a part of the time until `deadline`. Returns `undefined` when only the part is over. */
export async function tryUntil<T>(
  deadline: Deadline,
  part: Deadline,
  condition: (report: (seen: string) => void) => Promise<T | undefined>,
): Promise<T | undefined> {
  try {
    return await until(part, condition);
  } catch (error) {
    if (hasCode(error, "timeout") && deadline.remainingMs > 0) {
      return undefined;
    }
    throw error;
  }
}

export async function pause(ms: number, deadline: Deadline): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.min(ms, deadline.remainingMs)));
}
