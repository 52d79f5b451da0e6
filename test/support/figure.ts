/** Prints a count that describes a suite, such as the number of faults it tried, so that it is visible in the log. */
export function figure(what: string, count: number): void {
  process.stdout.write(`[figure] ${what}: ${count}\n`);
}
