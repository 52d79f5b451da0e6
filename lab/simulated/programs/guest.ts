/** The programs of a guest other than those for files and accounts. */
import type { Guest } from "../guest";
import { failure, ok, type Programs } from "../machine";
import { accountPrograms, killProcesses, visudo } from "./accounts";
import { filePrograms } from "./files";
import { packagePrograms } from "./packages";

/** Interval at which a waiting program checks whether it was killed. */
const LOOK_MS = 100;

/** Exit code after SIGKILL: 128 plus the signal's number, as LXD reports it. */
const KILLED = 137;

/** Programs of a guest. */
export const guestPrograms: Programs<Guest> = {
  ...(filePrograms as Programs<Guest>),
  ...(accountPrograms as Programs<Guest>),
  ...(packagePrograms as Programs<Guest>),
  visudo,
  env: ({ env }) =>
    ok(
      Object.entries(env)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    ),
  sleep: async ({ machine, args, process = "/proc/self" }) => {
    const end = performance.now() + Number(args[0]) * 1000;
    for (let left = end; left > 0; left = end - performance.now()) {
      // A forgotten one must not keep the process of the tests alive.
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, LOOK_MS)).unref());
      if (!machine.files.exists(process)) {
        return failure(KILLED, "");
      }
    }
    return ok();
  },
  hostname: ({ machine }) => ok(`${machine.name}\n`),
  uname: () => ok("Linux\n"),
  which: ({ args }) => {
    const found = args.filter((program) => program in guestPrograms);
    return {
      exitCode: found.length === args.length ? 0 : 1,
      stdout: found.map((program) => `/usr/bin/${program}\n`).join(""),
      stderr: "",
    };
  },
  "cloud-init": ({ machine }) => {
    const { foundByCloudInit, member } = machine.instance;
    if (member.daemon.behaviour.server === "incus") {
      return foundByCloudInit
        ? ok(
            "status: done\nboot_status_code: enabled-by-generator\ndetail:\nDataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud-net]\n",
          )
        : ok("status: disabled\nboot_status_code: disabled-by-generator\ndetail:\nCloud-init disabled by cloud-init-generator\n");
    }
    const source = foundByCloudInit ? "DataSourceLXD" : "DataSourceNone";
    return ok(`status: done\nboot_status_code: enabled-by-generator\ndetail:\n${source}\n`);
  },
  systemctl: ({ args }) => (args.includes("is-system-running") ? ok("running\n") : ok()),
  loginctl: () => ok(),
  pkill: killProcesses,
};
