import { CommandError, ResponseShapeError, tail } from "../../support/errors";
import { type ExecRequest, runInInstance } from "./exec";
import type { InstanceFiles } from "./files";
import type { InstanceRef } from "./instance-lock";

export interface Step {
  /** Run without a shell. */
  readonly argv: readonly string[];
  /** Absolute path of the file that is its standard input. @default "/dev/null" */
  readonly stdin?: string;
}

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
 * Runs programs in an instance at the cost of one command, each after the previous one has succeeded.
 * @param scratch - Path of a temporary file, in a directory that only root can write to.
 * @throws CommandError of the first step that fails, with its output; the errors of {@link runInInstance}.
 */
export async function runSteps(
  ref: InstanceRef,
  files: InstanceFiles,
  request: Pick<ExecRequest, "as"> & { readonly steps: readonly Step[]; readonly scratch: string },
): Promise<void> {
  const { steps, scratch, ...how } = request;
  if (steps.length > MOST_STEPS) {
    throw new Error(`${steps.length} steps are too many`);
  }
  const words = steps.flatMap(({ argv, stdin = "/dev/null" }) => [String(argv.length), stdin, ...argv]);
  const { uid, gid } = how.as ?? { uid: 0, gid: 0 };
  await files.create(scratch, { uid, gid, mode: 0o600, content: "" });
  try {
    const argv = ["sh", "-c", RUN_STEPS, "sh", scratch, ...words];
    const { exitCode } = await runInInstance(ref, { ...how, argv, output: "none", allowFailure: true });
    if (exitCode !== 0) {
      const where = `instance "${ref.name}" (${ref.lxd.title})`;
      throw failureOf(where, steps[exitCode - FAILED_AT - 1], exitCode, (await files.read(scratch))?.content ?? "");
    }
  } catch (error) {
    await files.remove(scratch).catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await files.remove(scratch);
}

/** @param step - The step that failed; `undefined` when the shell itself failed. */
function failureOf(where: string, step: Step | undefined, exitCode: number, written: string): Error {
  if (step === undefined) {
    return new CommandError(where, "sh", exitCode, tail(written));
  }
  const [, output, code] = /^([^]*)\n(\d+)\n$/.exec(written) ?? [];
  const [program = ""] = step.argv;
  return output === undefined || code === undefined
    ? new ResponseShapeError(
        `The exit code of ${program} in ${where} is unknown, because its output file was changed meanwhile. Run pulumi up again`,
      )
    : new CommandError(where, program, Number(code), tail(output));
}
