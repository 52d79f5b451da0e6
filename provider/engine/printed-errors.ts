import { hasCode, messageOf } from "../support/errors";

/** The SDK prints `${error}: ${error.stack}` for a failed read or delete. Then the engine prints the message, too. */
const NOTHING_TO_PRINT = { stack: "", toString: () => "" };

/** Makes the SDK print nothing of an error: the engine prints its message. */
export function printedByTheEngine<Printed extends Error>(error: Printed): Printed {
  return Object.assign(error, NOTHING_TO_PRINT);
}

/** An error as the engine prints it: only the message, without secrets. */
export function redacted(error: unknown, safe: (text: string) => string): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  error.message = safe(messageOf(error));
  return hasCode(error, "incomplete") ? error : printedByTheEngine(error);
}

/** Suppresses the SDK's own print of our errors. For the provider process. */
export function printErrorsOnce(target: Pick<Console, "error"> = console): void {
  const print = target.error.bind(target);
  target.error = (...data: unknown[]) => {
    if (data.length !== 1 || data[0] !== ": ") {
      print(...data);
    }
  };
}
