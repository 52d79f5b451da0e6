import { fstatSync } from "node:fs";
import { engineAddress } from "./progress";

/**
 * Ends this process when the engine that started it is gone. The SDK's provider process does not notice that: after a SIGKILL of
 * Pulumi it would continue to change hosts while nothing records it, in parallel to the next `pulumi up`, and would never end.
 *
 * The engine starts it with a pipe as standard input, writes nothing to it, and holds the other end as long as it lives. Running
 * steps are cut off, as if this process itself had been killed: the next `up` finds on the hosts how far they got.
 */
export function endWithEngine(argv: readonly string[] = process.argv): void {
  if (engineAddress(argv) === undefined || !stdinIsPipe()) {
    return; // not a provider process, or one that a person started to inspect it
  }
  const end = (): void => process.exit(1);
  process.stdin.on("end", end).on("error", end).resume();
}

function stdinIsPipe(): boolean {
  try {
    return fstatSync(0).isFIFO();
  } catch {
    return false; // it is closed
  }
}

/**
 * Makes the SDK print nothing of an error, because the engine prints its message. For a failed read or delete, the SDK prints
 * `${error}: ${error.stack}`; {@link printErrorsOnce} drops the rest.
 */
export function printedByTheEngine<Printed extends Error>(error: Printed): Printed {
  return Object.assign(error, { stack: "", toString: () => "" });
}

/** Suppresses what the SDK prints of errors that are {@link printedByTheEngine}. */
export function printErrorsOnce(target: Pick<Console, "error"> = console): void {
  const print = target.error.bind(target);
  target.error = (...data: unknown[]) => {
    if (data.length !== 1 || data[0] !== ": ") {
      print(...data);
    }
  };
}
