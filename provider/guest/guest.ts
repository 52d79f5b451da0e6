import { type CommandResult, type ExecRequest, runInInstance } from "../lxd/instances/exec";
import { type InstanceFile, InstanceFiles, type NewFile } from "../lxd/instances/files";
import type { InstanceRef } from "../lxd/instances/instance-lock";
import { runSteps, type Step } from "../lxd/instances/steps";

export type { NewFile, Step };

/** The inside of an instance. */
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
  /** The file at a path, or `undefined` when there is none. */
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
    name: `instance "${ref.name}" (LXD on ${ref.lxd.host})`,
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
