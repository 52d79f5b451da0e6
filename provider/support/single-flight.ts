import type { Deadline } from "./deadline";

/** How long other callers get a failure without another try. */
const FAILURE_MS = 60_000;

/** A caller retries cut work only with more than this multiple of the time that the work took. */
const HARDLY_MORE = 1.5;

/**
 * Work that runs once for all callers, each with its own deadline. Its result is kept. For a minute, callers that are
 * not patient get its failure. When the work only ran out of time, callers without more time get the failure.
 */
export class SingleFlight<T> {
  private current: { readonly result: Promise<T>; readonly deadline: Deadline } | undefined;
  private failure: { readonly error: unknown; readonly at: number; readonly tookMs: number; readonly isCut: boolean } | undefined;

  /** Result of the work that runs or is done. */
  get result(): Promise<T> | undefined {
    return this.current?.result;
  }

  /**
   * Returns the result of the work that runs or is done, or begins it. The work has the deadline of the caller that
   * began it. When that deadline cut it short, the next caller with more time begins again.
   * @param patient - Whether to try again after a recent failure.
   * @throws TimeoutError when the caller's own time ends first.
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
