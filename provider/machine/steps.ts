import { CommandError, ResponseShapeError, tail } from "../support/errors";
import type { Machine, RunOptions, Step } from "./machine";

/**
 * Runs steps until one fails, in any POSIX shell. The first argument is a file for a step's output. Then follow, for each step,
 * its number of words, its standard input, and its words. When a step fails, the last line of the file is the step's exit code,
 * and the script's exit code is {@link FAILED_AT} plus the number of the step.
 */
export const RUN_STEPS = `
out=$1; shift; step=0
while [ $# -gt 0 ]; do
  step=$((step + 1)); count=$1; input=$2; shift 2
  line=; word=1
  while [ "$word" -le "$count" ]; do line="$line \\"\\\${$word}\\""; word=$((word + 1)); done
  : >"$out"
  (eval "$line") <"$input" >>"$out" 2>&1
  code=$?
  if [ "$code" -ne 0 ]; then printf '\\n%s\\n' "$code" >>"$out"; exit $((64 + step)); fi
  shift "$count"
done
`.trim();

/** See {@link RUN_STEPS}. The shell's own exit codes for its failures are different. */
export const FAILED_AT = 64;
const MOST_STEPS = 60;

/**
 * Runs programs at the cost of one command, each after the previous one has succeeded.
 * @param options.scratch - Path of a temporary file, in a directory that only root can write to.
 * @throws CommandError of the first step that fails, with its output; the errors of {@link Machine.run}.
 */
export async function runSteps(
  machine: Machine,
  steps: readonly Step[],
  { scratch, as }: { readonly scratch: string } & Pick<RunOptions, "as">,
): Promise<void> {
  if (steps.length > MOST_STEPS) {
    throw new Error(`${steps.length} steps are too many`);
  }
  const words = steps.flatMap(({ argv, stdin = "/dev/null" }) => [String(argv.length), stdin, ...argv]);
  const user = as === undefined ? {} : { as };
  await machine.createFile(scratch, { uid: 0, gid: 0, ...as, mode: 0o600, content: "" });
  try {
    const argv = ["sh", "-c", RUN_STEPS, "sh", scratch, ...words];
    const { exitCode } = await machine.run(argv, { ...user, output: "none", allowFailure: true });
    if (exitCode !== 0) {
      throw failureOf(machine, steps[exitCode - FAILED_AT - 1], exitCode, (await machine.readFile(scratch))?.content ?? "");
    }
  } catch (error) {
    await machine.removeFile(scratch).catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await machine.removeFile(scratch);
}

/** @param step - The step that failed; `undefined` when the shell itself failed. */
function failureOf(machine: Machine, step: Step | undefined, exitCode: number, written: string): Error {
  if (step === undefined) {
    return new CommandError(machine.name, "sh", exitCode, tail(written));
  }
  const [, output, code] = /^([^]*)\n(\d+)\n$/.exec(written) ?? [];
  const [program = ""] = step.argv;
  return output === undefined || code === undefined
    ? new ResponseShapeError(
        `The exit code of ${program} ${machine.place} is unknown, because its output file was changed meanwhile. Run pulumi up again`,
      )
    : new CommandError(machine.name, program, Number(code), tail(output));
}
