/** The scripts of the library that run several programs with one command. */
import { RUN_AND_REPORT } from "../../../cli/verify/guest-commands";
import { FAILED_AT, RUN_STEPS } from "../../../provider/machine/steps";
import { ok, type ProgramResult } from "../machine";
import type { MemoryFiles } from "../memory-files";
import { limited } from "./wrappers";

/** The arguments of the script, if that is the command. */
export function stepsIn([program, flag, script, , ...operands]: readonly string[]): string[] | undefined {
  return program === "sh" && flag === "-c" && script === RUN_STEPS ? operands : undefined;
}

/**
 * The shell's work in {@link RUN_STEPS}.
 * @param runOne - Runs one program, with a file as its standard input.
 */
export async function runStepsIn(
  files: MemoryFiles,
  [scratch = "", ...words]: string[],
  runOne: (command: string[], stdin: string) => Promise<ProgramResult>,
): Promise<ProgramResult> {
  for (let step = 1; words.length > 0; step += 1) {
    const [count = "0", stdin = ""] = words.splice(0, 2);
    const { exitCode, stdout, stderr } = await runOne(words.splice(0, Number(count)), stdin);
    files.writeFile(scratch, `${stdout}${stderr}${exitCode === 0 ? "" : `\n${exitCode}\n`}`);
    if (exitCode !== 0) {
      return { exitCode: FAILED_AT + step, stdout: "", stderr: "" };
    }
  }
  return ok();
}

/** The arguments of the script that reports how commands end, if that is the command. */
export function reportIn([program, flag, script, , ...operands]: readonly string[]): string[] | undefined {
  return program === "sh" && flag === "-c" && script === RUN_AND_REPORT ? operands : undefined;
}

/**
 * The shell's work in {@link RUN_AND_REPORT}.
 * @param runOne - Runs one program.
 */
export async function runReportIn(
  [seconds = "0", ...words]: string[],
  runOne: (command: string[]) => Promise<ProgramResult>,
): Promise<ProgramResult> {
  let report = "";
  while (words.length > 0) {
    const [count = "0"] = words.splice(0, 1);
    const { exitCode, stdout } = await limited(Number(seconds), runOne(words.splice(0, Number(count))));
    const lines = stdout.replace(/\n+$/, "").split("\n");
    report += `${exitCode}\n${lines.map((line) => ` ${line}\n`).join("")}`;
  }
  return ok(report);
}
