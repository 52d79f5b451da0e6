/**
 * OpenRC instead of systemd on a simulated machine.
 * @see rc-service(8), rc-update(8)
 */
import { failure, type Machine, ok, type Programs } from "../machine";
import type { MemoryFiles } from "../memory-files";

const STARTED = "/run/openrc/started";
const RUNLEVEL = "/etc/runlevels/default";

/** Makes a machine one with OpenRC, which has a running service `crond`, and `broken`, which does not start. */
export function runOpenrc(files: MemoryFiles): void {
  files.remove("/run/systemd", true);
  for (const directory of [STARTED, RUNLEVEL, "/etc/init.d", "/sbin"]) {
    files.makeDirectory(directory, { parents: true });
  }
  files.writeFile("/sbin/rc-service", "", { mode: 0o755 });
  files.writeFile("/etc/init.d/crond", "", { mode: 0o755 });
  files.writeFile("/etc/init.d/broken", "exit 1\n", { mode: 0o755 });
  files.makeSymlink(`${RUNLEVEL}/crond`, "/etc/init.d/crond");
  files.writeFile(`${STARTED}/crond`, "");
}

/** Exit status of `rc-service NAME status` for a service that is stopped. */
const IS_STOPPED = 3;

/** Programs of OpenRC. */
export const openrcPrograms: Programs<Machine> = {
  "rc-service": ({ machine: { files }, args }) => {
    const [name = "", verb = ""] = args;
    if (!files.exists(`/etc/init.d/${name}`)) {
      return failure(1, ` * rc-service: service \`${name}' does not exist`);
    }
    const started = `${STARTED}/${name}`;
    const isStarted = files.exists(started);
    if (verb === "status") {
      return isStarted ? ok(" * status: started\n") : { exitCode: IS_STOPPED, stdout: " * status: stopped\n", stderr: "" };
    }
    if (isStarted && verb !== "start") {
      files.remove(started);
    }
    if (verb !== "stop" && files.readText(`/etc/init.d/${name}`).includes("exit 1")) {
      return failure(1, ` * ERROR: ${name} failed to start`);
    }
    if (verb !== "stop") {
      files.writeFile(started, verb === "restart" ? "restarted" : "");
    }
    return ok();
  },
  "rc-update": ({ machine: { files }, args }) => {
    const [verb = "", name = ""] = args;
    const link = `${RUNLEVEL}/${name}`;
    if (verb === "add") {
      files.makeSymlink(link, `/etc/init.d/${name}`);
    } else if (files.get(link, false) !== undefined) {
      files.remove(link);
    }
    return ok();
  },
};
