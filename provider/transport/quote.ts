import { RefusedError } from "../support/errors";

/** Quotes one argument for a POSIX shell. Only this file builds command lines. */
function quote(argument: string): string {
  if (argument.includes("\0")) {
    throw new RefusedError("An argument of a command must not hold a NUL character: the shell would end the command line there");
  }
  return /^[A-Za-z0-9_/:=.,@%+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

export function commandLine(argv: readonly string[]): string {
  return argv.map(quote).join(" ");
}
