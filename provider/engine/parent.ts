import { fstatSync } from "node:fs";
import { engineAddress } from "./progress";

const STDIN = 0;

/**
 * Ends this process when the engine that started it is gone. The SDK's provider process does not notice that: after a
 * SIGKILL of Pulumi it would continue to change hosts while nothing records it, in parallel to the next `pulumi up`,
 * and would never end.
 *
 * The engine starts it with a pipe as standard input, writes nothing to it, and holds the other end as long as it
 * lives. Running steps are cut off, as if this process itself had been killed: the next `up` finds on the hosts how far
 * they got.
 */
export function endWithEngine(argv: readonly string[] = process.argv): void {
  if (engineAddress(argv) === undefined || !isPipe(STDIN)) {
    return; // not a provider process, or one that a person started to inspect it
  }
  const end = (): void => process.exit(1);
  process.stdin.on("end", end).on("error", end).resume();
}

function isPipe(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isFIFO();
  } catch {
    return false; // it is closed
  }
}
