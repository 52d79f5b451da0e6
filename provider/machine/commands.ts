import type { Deadline } from "../support/deadline";
import { CommandError, FailedError, tail } from "../support/errors";
import type { CommandResult, Machine, RunOptions } from "./machine";

/** Exit status of timeout(1) when the time is over, and when it had to kill the program. */
const TIMED_OUT = [124, 137];

/** How long a program may take to end after SIGTERM. */
const KILL_AFTER_SECONDS = 5;

/**
 * Runs a program of the user, no longer than the deadline allows.
 * @param what - For messages: `the onChange command`.
 * @throws CommandError with the end of its output; FailedError when it takes too long.
 */
export async function runCommand(
  machine: Machine,
  what: string,
  argv: readonly string[],
  deadline: Deadline,
  options: Pick<RunOptions, "environment" | "stdin"> = {},
): Promise<CommandResult> {
  const seconds = Math.max(1, Math.floor(deadline.remainingMs / 1000) - KILL_AFTER_SECONDS);
  const limited = ["timeout", "-k", String(KILL_AFTER_SECONDS), String(seconds), ...argv];
  const result = await machine.run(limited, { ...options, allowFailure: true });
  const { exitCode, stdout, stderr } = result;
  if (TIMED_OUT.includes(exitCode) && deadline.remainingMs <= 2 * KILL_AFTER_SECONDS * 1000) {
    throw new FailedError(
      `${what} ${machine.place} did not end within ${seconds} s and was stopped. Give it more time (timeouts), or run it there to see why`,
    );
  }
  if (exitCode !== 0) {
    throw new CommandError(machine.name, argv[0] ?? "", exitCode, tail(stderr || stdout));
  }
  return result;
}
