/** Runs histories in a separate process, and reports the result to its parent. */
import fc from "fast-check";
import { counts, play } from "./history";
import { history } from "./steps";

/** Arguments of a worker. */
export interface Order {
  readonly histories: number;
  readonly seed: number;
  /** Path at which fast-check continues, to repeat one failure. */
  readonly path?: string;
  /** Whether to report the first failure without reducing it. */
  readonly endOnFailure?: boolean;
}

/** Its report: the progress after each history, and the final result. */
export interface Report {
  readonly counts: typeof counts;
  /** Whether this is the final report. */
  readonly done: boolean;
  /** The failure, with seed and path; absent if there is none. */
  readonly failure?: string;
}

/** Maximum time for reducing a failure. */
const SHRINKING_MS = 120_000;

async function main({ histories, seed, path, endOnFailure = false }: Order): Promise<Report> {
  let failedAt: number | undefined;
  const property = fc.asyncProperty(history, async (each) => {
    if (failedAt !== undefined && performance.now() - failedAt > SHRINKING_MS) {
      return; // reduced as far as time allows
    }
    try {
      await play(each);
      process.send?.({ counts, done: false } satisfies Report);
    } catch (error) {
      failedAt ??= performance.now();
      throw error;
    }
  });
  const result = await fc.check(property, { seed, numRuns: histories, endOnFailure, ...(path === undefined ? {} : { path }) });
  if (!result.failed) {
    return { counts, done: true };
  }
  const { errorInstance } = result;
  const why = errorInstance instanceof Error ? (errorInstance.stack ?? errorInstance.message) : String(errorInstance);
  return { counts, done: true, failure: `${fc.defaultReportMessage(result) ?? "it failed"}\n${why}` };
}

void main(JSON.parse(process.argv[2] ?? "{}") as Order).then((report) => {
  if (process.send === undefined) {
    console.log(report.failure ?? "all well", report.counts); // started manually
    process.exit(0);
  }
  process.send(report, () => process.exit(0));
});
