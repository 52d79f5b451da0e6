import { type CommandResult, type ExecRequest, runInInstance } from "../lxd/instances/exec";
import { type InstanceFile, InstanceFiles, type NewFile } from "../lxd/instances/files";
import type { InstanceRef } from "../lxd/instances/instance-lock";
import { runSteps, type Step } from "../lxd/instances/steps";

export type { NewFile, Step };

export interface Guest {
  /** As messages name it: `instance "web1" (LXD on root@host)`. */
  readonly name: string;
  /** See {@link runInInstance}. */
  run(argv: readonly string[], options?: Pick<ExecRequest, "allowFailure" | "as" | "output">): Promise<CommandResult>;
  /** See {@link runSteps}. */
  runSteps(
    steps: readonly Step[],
    options: { readonly scratch: string; readonly as?: { uid: number; gid: number } },
  ): Promise<void>;
  readFile(path: string): Promise<InstanceFile | undefined>;
  /** Creates a file. Removes an existing one first. */
  createFile(path: string, file: NewFile): Promise<void>;
  /** Whether a path is a program that root can run. Follows links. */
  isProgram(path: string): Promise<boolean>;
  /** Path of a program in one of the usual directories, or `undefined`. */
  findProgram(name: string): Promise<string | undefined>;
  /** Removes a file. Succeeds when it is already gone. */
  removeFile(path: string): Promise<void>;
}

/** LXD's own PATH. */
const PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"];

export function guestOf(ref: InstanceRef): Guest {
  const files = new InstanceFiles(ref);
  return {
    name: `instance "${ref.name}" (${ref.lxd.title})`,
    run: (argv, options) => runInInstance(ref, { ...options, argv }),
    runSteps: (steps, options) => runSteps(ref, files, { ...options, steps }),
    readFile: (path) => files.read(path),
    createFile: (path, file) => files.create(path, file),
    isProgram: (path) => files.isProgram(path),
    findProgram: async (name) => {
      const paths = PATH.map((directory) => `${directory}/${name}`);
      const found = await Promise.all(paths.map((path) => files.isProgram(path)));
      return paths[found.indexOf(true)];
    },
    removeFile: (path) => files.remove(path),
  };
}

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
