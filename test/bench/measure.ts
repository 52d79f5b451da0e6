import type { Run } from "../engine/workspace";

/** Duration of some work in seconds. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** The median of an odd number of values. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Prints a number with its limit. Returns whether it is within the limit. */
export function judge(what: string, value: number, limit: number): boolean {
  const kept = value <= limit;
  console.log(`${kept ? "ok  " : "MISS"} ${what}: ${value.toFixed(2)} (limit ${limit})`);
  return kept;
}

/** Prints a line of an open list. */
export function say(text: string): void {
  console.log(`     ${text}`);
}

/** The run of the engine. Throws its text if it failed. */
export async function mustEndWell(run: Promise<Run>): Promise<Run> {
  const ended = await run;
  if (!ended.ok) {
    throw new Error(ended.text);
  }
  return ended;
}
