/** Prints a number that a suite stands for, such as how many faults it tried, where a reader of the log finds it. */
export function figure(what: string, count: number): void {
  process.stdout.write(`[figure] ${what}: ${count}\n`);
}
