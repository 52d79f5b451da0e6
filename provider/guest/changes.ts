import type { Guest, NewFile, Step } from "./guest";

/** Temporary files, and the steps that need them. Changes are collected so that all of them cost one command. */
export interface Change {
  readonly staged: readonly { readonly path: string; readonly file: NewFile }[];
  readonly steps: readonly Step[];
}

/**
 * Makes changes one after the other, up to the first step that fails. Removes the temporary files, also after a failure.
 * @throws CommandError of the step that failed.
 */
export async function applyChanges(
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
    await clear().catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await clear();
}
