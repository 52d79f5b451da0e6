import { runInInstance } from "../lxd/instances/exec";
import { InstanceFiles } from "../lxd/instances/files";
import type { InstanceRef } from "../lxd/instances/instance-lock";
import { type Machine, pathsOfProgram } from "./machine";
import { runSteps } from "./steps";

/** The guest in an instance, through LXD's exec and files API: it needs neither sshd nor an address. */
export function guestOf(ref: InstanceRef): Machine {
  const files = new InstanceFiles(ref);
  const name = `instance "${ref.name}" (${ref.lxd.title})`;
  const machine: Machine = {
    name,
    place: `in ${name}`,
    run: (argv, options) => runInInstance(ref, { ...options, argv }),
    runSteps: (steps, options) => runSteps(machine, steps, options),
    readFile: (path) => files.read(path),
    digestFile: (path) => files.digest(path),
    createFile: (path, file) => files.create(path, file),
    isProgram: (path) => files.isProgram(path),
    findProgram: async (program) => {
      const paths = pathsOfProgram(program);
      const found = await Promise.all(paths.map((path) => files.isProgram(path)));
      return paths[found.indexOf(true)];
    },
    removeFile: (path) => files.remove(path),
  };
  return machine;
}
