/** An operating system that is reached somehow: the guest in an instance (guest.ts), or a host (host.ts). */
import type { CommandResult } from "../transport/ssh";

export type { CommandResult };

/** One of several programs that are run with one command. See {@link Machine.runSteps}. */
export interface Step {
  /** Run without a shell. */
  readonly argv: readonly string[];
  /** Absolute path of the file that is its standard input. @default "/dev/null" */
  readonly stdin?: string;
}

export interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644. */
  readonly mode: number;
}

export interface MachineFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, absolute target of a symlink, or names in a directory as `{"metadata":["a","b"]}`. */
  readonly content: string;
}

/** Names in a directory. */
export function namesIn({ content }: MachineFile): readonly string[] {
  return (JSON.parse(content) as { metadata?: string[] }).metadata ?? [];
}

/** What is at a path, without its content. */
export interface FileDigest extends FileOwnership {
  /** `other` is a device, a socket or a pipe. */
  readonly type: MachineFile["type"] | "other";
  /** SHA-256 of a file's content in hexadecimal; empty for all others. */
  readonly sha256: string;
}

export type NewFile = FileOwnership & { readonly content: string | Buffer };

export interface RunOptions {
  /** Whether to return a non-zero exit code instead of throwing. @default false */
  readonly allowFailure?: boolean;
  /** Numeric user and group to run as, without further groups. @default root */
  readonly as?: { readonly uid: number; readonly gid: number };
  /** Variables besides those that the machine sets. Not in its list of processes. @default {} */
  readonly environment?: Readonly<Record<string, string>>;
  /** Standard input. @default none */
  readonly stdin?: string;
  /** Whether to return its output, which costs more requests. @default "text" */
  readonly output?: "text" | "none";
}

export interface Machine {
  /** As messages name it: `instance "web1" (LXD on root@host:22)`, `root@host:22`. */
  readonly name: string;
  /** {@link name} with its preposition: `in instance "web1" (LXD on root@host:22)`, `on root@host:22`. */
  readonly place: string;
  /** The user that is logged in there; absent for a guest, which needs no login. */
  readonly login?: string;
  /**
   * Runs a program without a shell, and waits for its end.
   * @throws CommandError for an exit code other than 0 (unless `allowFailure`); 127 means that the program does not exist.
   */
  run(argv: readonly string[], options?: RunOptions): Promise<CommandResult>;
  /** See {@link runSteps} of steps.ts. */
  runSteps(steps: readonly Step[], options: { readonly scratch: string } & Pick<RunOptions, "as">): Promise<void>;
  /** Reads what is at a path; a symbolic link itself. `undefined` when nothing is there. @throws RefusedError for a device. */
  readFile(path: string): Promise<MachineFile | undefined>;
  /** {@link readFile} without content, for a file of any size. */
  digestFile(path: string): Promise<FileDigest | undefined>;
  /** Creates a file. Removes an existing one first. */
  createFile(path: string, file: NewFile): Promise<void>;
  /** Whether a path is a program that root can run. Follows links. */
  isProgram(path: string): Promise<boolean>;
  /** Path of a program in one of the usual directories, or `undefined`. */
  findProgram(name: string): Promise<string | undefined>;
  /** Removes a file or an empty directory. Succeeds when it is already gone. */
  removeFile(path: string): Promise<void>;
}

const PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"];

/** The paths at which a program may be. */
export function pathsOfProgram(name: string): string[] {
  return PATH.map((directory) => `${directory}/${name}`);
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
  machine: Machine,
  changes: readonly Change[],
  options: { readonly scratch: string } & Pick<RunOptions, "as">,
): Promise<void> {
  const steps = changes.flatMap((change) => change.steps);
  if (steps.length === 0) {
    return;
  }
  const staged = changes.flatMap((change) => change.staged);
  const clear = () => Promise.all(staged.map(({ path }) => machine.removeFile(path)));
  try {
    await Promise.all(staged.map(({ path, file }) => machine.createFile(path, file)));
    await machine.runSteps(steps, options);
  } catch (error) {
    await clear().catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await clear();
}
