import type { LxdClient } from "../lxd/client/client";
import { type CommandResult, type ExecRequest, runInInstance } from "../lxd/instances/exec";
import {
  createInstanceFile,
  type FileOwnership,
  type InstanceFile,
  readInstanceFile,
  removeInstanceFile,
  replaceInstanceFile,
} from "../lxd/instances/files";

/** A file to be made: its owner, its permissions and its text. */
export type NewFile = FileOwnership & { readonly content: string };

/** The inside of an instance, as far as the code in this room needs it. */
export interface Guest {
  /** As messages name it: `instance "web1" (LXD on root@host)`. */
  readonly name: string;
  /** Runs a program with arguments; see {@link runInInstance}. */
  run(argv: readonly string[], options?: Pick<ExecRequest, "allowFailure" | "as">): Promise<CommandResult>;
  /** The file at a path, or `undefined` when there is none. */
  readFile(path: string): Promise<InstanceFile | undefined>;
  /** Makes a file that does not exist yet. */
  createFile(path: string, file: NewFile): Promise<void>;
  /** Puts a file in place in one step; see {@link replaceInstanceFile}. */
  replaceFile(path: string, file: NewFile, accept?: (temporaryPath: string) => Promise<void>): Promise<void>;
  /** Removes a file; one that is gone is done. */
  removeFile(path: string): Promise<void>;
}

/** The inside of an instance, reached through LXD. */
export function guestOf(lxd: LxdClient, at: { readonly project: string; readonly instance: string }): Guest {
  return {
    name: `instance "${at.instance}" (LXD on ${lxd.host})`,
    run: (argv, options) => runInInstance(lxd, { ...at, ...options, argv }),
    readFile: (path) => readInstanceFile(lxd, { ...at, path }),
    createFile: (path, file) => createInstanceFile(lxd, { ...at, path }, file),
    replaceFile: (path, file, accept) => replaceInstanceFile(lxd, { ...at, path }, file, accept),
    removeFile: (path) => removeInstanceFile(lxd, { ...at, path }),
  };
}
