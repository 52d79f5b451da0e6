/** Plays histories in a process of its own, and tells its parent how that went. */
import fc from "fast-check";
import { counts, play } from "./history";
import { history } from "./steps";

/** What a worker is told, as its only argument. */
export interface Order {
  readonly histories: number;
  readonly seed: number;
  /** Where fast-check is to go on from, to see one failure again. */
  readonly path?: string;
  /** Whether to tell of the first failure as it is, without looking for a smaller one. */
  readonly endOnFailure?: boolean;
}

/** What it tells: how far it is, after each history, and in the end how that went. */
export interface Report {
  readonly counts: typeof counts;
  /** Whether this is the last that it tells. */
  readonly done: boolean;
  /** What failed, with seed and path; absent when all is well. */
  readonly failure?: string;
}

/** Shrinking a failure is worth some time, and not all of it. */
const SHRINKING_MS = 120_000;

async function main({ histories, seed, path, endOnFailure = false }: Order): Promise<Report> {
  let failedAt: number | undefined;
  const property = fc.asyncProperty(history, async (each) => {
    if (failedAt !== undefined && performance.now() - failedAt > SHRINKING_MS) {
      return; // as small as it gets in time
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
    console.log(report.failure ?? "all well", report.counts); // started by hand
    process.exit(0);
  }
  process.send(report, () => process.exit(0));
});
