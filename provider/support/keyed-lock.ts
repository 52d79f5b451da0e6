import type { Deadline } from "./deadline";

/** Locks by key. Work may hold several keys at once, and holds none of them until all are free. */
export class KeyedLock {
  private readonly held = new Set<string>();
  private readonly waiting = new Set<() => void>();

  heldOf(keys: Iterable<string>): string[] {
    return [...keys].filter((key) => this.held.has(key));
  }

  /**
   * Calls `onTaken` when all keys are free, and takes them. Callers are served in the order of their calls. The returned function
   * releases the keys, or stops waiting.
   */
  take(keys: ReadonlySet<string>, onTaken: () => void): () => void {
    let isTaken = false;
    const attempt = (): void => {
      if (this.heldOf(keys).length === 0) {
        this.waiting.delete(attempt);
        isTaken = true;
        keys.forEach((key) => this.held.add(key));
        onTaken();
      }
    };
    this.waiting.add(attempt);
    attempt();
    return () => {
      this.waiting.delete(attempt);
      if (isTaken) {
        keys.forEach((key) => this.held.delete(key));
        [...this.waiting].forEach((next) => next());
      }
    };
  }
}

/**
 * Runs work while it holds some keys of a lock. The work observes the deadline in its own waits.
 * @throws TimeoutError when the keys are not free before the deadline. The work has not begun then.
 */
export async function withLock<Result>(
  lock: KeyedLock,
  keys: Iterable<string>,
  deadline: Deadline,
  doing: string,
  work: () => Promise<Result>,
): Promise<Result> {
  let release: () => void = () => undefined;
  const taken = new Promise<void>((resolve) => {
    release = lock.take(new Set(keys), resolve);
  });
  try {
    await deadline.race(taken, doing);
    deadline.check(doing); // starts nothing after the caller's deadline
    return await work();
  } finally {
    release();
  }
}
