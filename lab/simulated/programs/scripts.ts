/** Shell scripts that the library runs in guests. A shell is not simulated; each script that is known is done here directly. */
import type { Guest } from "../guest";
import type { ProgramResult, ProgramRun } from "../machine";

/** Runs a script if the command is a shell and the script is known. */
export async function runScript(_run: ProgramRun<Guest>): Promise<ProgramResult | undefined> {
  return undefined;
}
