import { hasCode, messageOf } from "../support/errors";

/** The SDK prints `${error}: ${error.stack}` for a failed read or delete, and then the engine prints its message, with the resource. */
const NOTHING_TO_PRINT = { stack: "", toString: () => "" };

/** The error, of which the SDK prints nothing: its message is printed by the engine. */
export function printedByTheEngine<Printed extends Error>(error: Printed): Printed {
  return Object.assign(error, NOTHING_TO_PRINT);
}

/** An error as the engine prints it: the message alone, and no secret in it. */
export function redacted(error: unknown, safe: (text: string) => string): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  error.message = safe(messageOf(error));
  return hasCode(error, "incomplete") ? error : printedByTheEngine(error);
}

/** Keeps the SDK's own print of our errors from the screen. For the provider process. */
export function printErrorsOnce(target: Pick<Console, "error"> = console): void {
  const print = target.error.bind(target);
  target.error = (...data: unknown[]) => {
    if (data.length !== 1 || data[0] !== ": ") {
      print(...data);
    }
  };
}
