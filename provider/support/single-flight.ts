import type { Deadline } from "./deadline";

/** How long a failure is told to others without another try. */
const FAILURE_MS = 60_000;

/** A caller with hardly more time than one that has waited for nothing does not try again. */
const HARDLY_MORE = 1.5;

/**
 * Work that is done once for all callers, each with its own deadline. Its result is kept. Its failure is told for a minute to callers that are
 * not patient; and when it only ran out of time, to all that do not have more.
 */
export class SingleFlight<T> {
  private current: { readonly result: Promise<T>; readonly deadline: Deadline } | undefined;
  private failure: { readonly error: unknown; readonly at: number; readonly tookMs: number; readonly isCut: boolean } | undefined;

  /** What is under way or done. */
  get result(): Promise<T> | undefined {
    return this.current?.result;
  }

  /**
   * The result of the work that is under way or done, or else begun now. It keeps the deadline of the caller that began it; when that has
   * cut it short, the next caller with more time begins again.
   * @param patient - Whether to try again after a recent failure.
   * @throws TimeoutError when the caller's own time is over first.
   */
  async join(deadline: Deadline, doing: string, begin: () => Promise<T>, patient = true): Promise<T> {
    for (;;) {
      this.throwRecentFailure(deadline, patient);
      if (this.current === undefined) {
        return this.begin(deadline, begin);
      }
      const { result, deadline: itsDeadline } = this.current;
      try {
        return await deadline.race(result, doing);
      } catch (error) {
        if (deadline.remainingMs === 0 || itsDeadline.remainingMs > 0) {
          throw error;
        }
      }
    }
  }

  private throwRecentFailure(deadline: Deadline, patient: boolean): void {
    const { failure } = this;
    if (failure !== undefined && performance.now() - failure.at < FAILURE_MS) {
      const isTold = failure.isCut ? this.current === undefined && deadline.remainingMs < failure.tookMs * HARDLY_MORE : !patient;
      if (isTold) {
        throw failure.error;
      }
    }
  }

  private begin(deadline: Deadline, begin: () => Promise<T>): Promise<T> {
    const since = performance.now();
    const current = { result: begin(), deadline };
    this.current = current;
    current.result.then(
      () => {
        this.failure = undefined;
      },
      (error: unknown) => {
        const at = performance.now();
        this.failure = { error, at, tookMs: at - since, isCut: deadline.remainingMs === 0 };
        if (this.current === current) {
          this.current = undefined;
        }
      },
    );
    return current.result;
  }
}
