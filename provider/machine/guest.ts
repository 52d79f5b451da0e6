import { randomUUID } from "node:crypto";
import { runInInstance } from "../lxd/instances/exec";
import { InstanceFiles } from "../lxd/instances/files";
import type { InstanceRef } from "../lxd/instances/instance-lock";
import { type Machine, pathsOfProgram } from "./machine";
import { runSteps } from "./steps";

/** Runs a program with a file as its standard input. LXD gives programs none. */
export const WITH_INPUT = 'input=$1; shift; exec "$@" <"$input"';

/** The guest in an instance, through LXD's exec and files API: it needs neither sshd nor an address. */
export function guestOf(ref: InstanceRef): Machine {
  const files = new InstanceFiles(ref);
  const name = `instance "${ref.name}" (${ref.lxd.title})`;
  const machine: Machine = {
    name,
    place: `in ${name}`,
    async run(argv, { stdin, ...options } = {}) {
      if (stdin === undefined) {
        return runInInstance(ref, { ...options, argv });
      }
      const path = `/run/.pulumi-input-${randomUUID()}`;
      await files.create(path, { uid: 0, gid: 0, ...options.as, mode: 0o600, content: stdin });
      try {
        return await runInInstance(ref, { ...options, argv: ["sh", "-c", WITH_INPUT, "sh", path, ...argv] });
      } finally {
        await files.remove(path).catch(() => undefined); // the result matters more; only root can read the file
      }
    },
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
