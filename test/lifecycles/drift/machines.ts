/** The two ways to a machine, for the tables of what is on it: a row is the same change in an instance and on a host. */
import type { SimulatedLab } from "../../../lab/simulated";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, type Entry, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, lookUp, standalone, type World } from "./world";

export interface Way {
  /** A command line on the machine. */
  run(command: string): string;
  files(lab: SimulatedLab): MemoryFiles;
  start(
    program: string,
    options: { readonly prepare?: readonly ManualChange[]; readonly looksAt: readonly string[] },
  ): Promise<World>;
}

/** The program of a table whose machine is a virtual machine, and not a container. */
export const IN_A_VM = "in a virtual machine";

export const IN_GUEST: Way = {
  run: (command) => `lxc exec web1 -- ${command}`,
  files: (lab) => lab.guestFiles("bcn2", "web1"),
  start: (program, { prepare = [], looksAt }) =>
    standalone({
      prepare: [
        "lxc storage create default dir",
        {
          text: "there is an instance",
          act: (lab) => {
            const type = program === IN_A_VM ? "virtual-machine" : "container";
            const devices = { root: { type: "disk", path: "/", pool: "default" } };
            lab.seedInstances(1, { host: "bcn2", prefix: "web", type, devices });
          },
        },
        ...prepare,
      ],
      look: async (one) => [await lookUp(one, "/1.0/instances/web1"), ...looksAt.map((path) => lookAt(IN_GUEST, one.lab, path))],
    }),
};

export const ON_HOST: Way = {
  run: (command) => `ssh bcn2 ${command}`,
  files: (lab) => lab.host("bcn2").files,
  async start(_program, { prepare = [], looksAt }) {
    const world = await standalone({
      prepare,
      look: (one) => Promise.resolve(looksAt.map((path) => lookAt(ON_HOST, one.lab, path))),
    });
    return { ...world, reach: { connection: world.lab.host("bcn2").connection } };
  },
};

/** A file or directory of the machine, as visible from outside. */
function lookAt(way: Way, lab: SimulatedLab, path: string): unknown {
  const found = way.files(lab).get(path, false);
  if (found === undefined) {
    return undefined;
  }
  const { uid, gid, mode } = found;
  const lines = found.type === "file" ? found.content.toString().split("\n").sort() : []; // the order of lines has no meaning here
  return { uid, gid, mode, type: found.type, lines };
}

/** An edit of a file on the machine. */
export function edit(way: Way, text: string, path: string, change: (content: string) => string): ManualChange {
  return {
    text,
    act: (lab) => {
      const files = way.files(lab);
      files.writeFile(path, change(files.readText(path)));
    },
  };
}

/** Rows of the properties that say which machine. */
export const GUEST_INPUTS = {
  cluster: CLUSTER,
  timeouts: TIMEOUTS,
  instance: {
    answer: "cannot drift",
    why: "it is the location of the object; an instance that is gone takes what is in it with it",
  },
  project: { answer: "cannot drift", why: "as `instance`" },
} satisfies Record<string, Entry>;

export const HOST_INPUTS = { connection: how("how to reach the host"), timeouts: TIMEOUTS };

/**
 * Rows of the machine itself.
 * @param what - The objects, for the reasons: `users`.
 */
export function guestRows(what: string): Record<string, Entry> {
  return {
    "the instance": [
      {
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "ignored",
        why: `${what} of a stopped container are read from its files; a change of them waits until it runs`,
      },
      {
        program: IN_A_VM,
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "ignored",
        why: `a stopped virtual machine cannot be read: its ${what} are assumed unchanged`,
      },
    ],
    "the hosts": ALL_POWER_CUT,
  };
}

export const HOST_ROWS = { "the host": ALL_POWER_CUT };
