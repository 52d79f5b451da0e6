/** What is to be done in an instance, gathered so that all of it costs one command. */
import type { Guest, NewFile, Step } from "./guest";

/** Files that are put in place for the time being, and the steps that need them. */
export interface Change {
  readonly staged: readonly { readonly path: string; readonly file: NewFile }[];
  readonly steps: readonly Step[];
}

/**
 * Makes changes, one after the other, up to the first step that fails. What was staged is removed, also when it fails.
 * @param options.scratch - See {@link Guest.runSteps}.
 * @throws CommandError of the step that failed.
 */
export async function make(
  guest: Guest,
  changes: readonly Change[],
  options: { readonly scratch: string; readonly as?: { readonly uid: number; readonly gid: number } },
): Promise<void> {
  const steps = changes.flatMap((change) => change.steps);
  if (steps.length === 0) {
    return;
  }
  const staged = changes.flatMap((change) => change.staged);
  const clear = () => Promise.all(staged.map(({ path }) => guest.removeFile(path)));
  try {
    await Promise.all(staged.map(({ path, file }) => guest.createFile(path, file)));
    await guest.runSteps(steps, options);
  } catch (error) {
    await clear().catch(() => undefined); // the first error is the one to tell
    throw error;
  }
  await clear();
}
