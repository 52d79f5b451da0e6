/** The units of systemd that LXD runs as where it is a package of the distribution. */
import { type Deadline, until } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** Packagings whose units are started and stopped by systemctl. snapd has its own way. */
export type UnitPackaging = "deb" | "incus";

/** Where LXD listens, and the daemon. The socket first: a connection would start the daemon again. */
const DAEMON = { deb: ["lxd.socket", "lxd.service"], incus: ["incus.socket", "incus.service"] };

/** It is done at boot, and at shutdown stops the instances. Incus has it from some builders alone. */
const INSTANCES = { deb: "lxd-containers.service", incus: "incus-startup.service" };

/** Names of units whose stop takes along those that are named by these properties. */
const DEPENDENTS = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];

/**
 * The units to start again when LXD was stopped: its own, as far as they run or a boot would start them, and those of others that
 * systemd stops along with them.
 * @see systemctl(1), and "Unit objects" in org.freedesktop.systemd1(5) for the properties
 */
export async function unitsToStart(ssh: SshConnection, packaging: UnitPackaging, deadline: Deadline): Promise<string[]> {
  const properties = ["Id", "LoadState", "ActiveState", "UnitFileState", ...DEPENDENTS].join(",");
  const show = async (names: readonly string[]): Promise<ReadonlyMap<string, string>[]> =>
    propertiesOf((await ssh.run(["systemctl", "show", `--property=${properties}`, "--", ...names], { deadline })).stdout);
  const own = [...DAEMON[packaging], INSTANCES[packaging]];
  const found: string[] = [...DAEMON[packaging]];
  const seen = new Set<string>();
  for (let names = own; names.length > 0; ) {
    names.forEach((name) => seen.add(name));
    const units = await show(names);
    for (const unit of units.filter((each) => each.get("LoadState") === "loaded")) {
      const [name = "", state = ""] = [unit.get("Id"), unit.get("ActiveState")];
      const atBoot = own.includes(name) && unit.get("UnitFileState") === "enabled";
      if (!found.includes(name) && (atBoot || ["active", "activating", "reloading"].includes(state))) {
        found.push(name);
      }
    }
    const dependents = units.flatMap((unit) => DEPENDENTS.flatMap((property) => (unit.get(property) ?? "").split(" ")));
    names = [...new Set(dependents)].filter((name) => name !== "" && !seen.has(name));
  }
  return found;
}

/** Stops LXD and what it has started: instances, their helpers, and the DHCP servers of its bridges. */
export async function stopUnits(ssh: SshConnection, packaging: UnitPackaging, data: string, deadline: Deadline): Promise<void> {
  const [socket = "", service = ""] = DAEMON[packaging];
  const stop = ["systemctl", "stop", socket, service, INSTANCES[packaging]];
  await runUnless(ssh, stop, UNIT_NOT_LOADED, deadline);
  // Instances are stopped only where the daemon was well, and the unit for that was on; its other children are not stopped at all.
  await ssh.run(["systemctl", "kill", "--signal=KILL", service], { deadline });
  // LXC gives a container's monitor this title, and takes it out of the unit. Its container ends with it.
  const monitor = `^\\[lxc monitor\\] ${data}/containers `;
  await until(deadline, async (report) => {
    if ((await runUnless(ssh, ["pkill", "--signal", "KILL", "--full", monitor], NO_PROCESS, deadline)) === NO_PROCESS) {
      return true;
    }
    report("containers that LXD has started are being ended");
    return undefined;
  });
}

/** Starts units, in the order that systemd finds right. */
export async function startUnits(ssh: SshConnection, units: readonly string[], deadline: Deadline): Promise<void> {
  await ssh.run(["systemctl", "start", ...units], { deadline });
}

/** Exit status of systemctl(1) for a unit that the package does not have, and of pkill(1) when no process is such. */
const UNIT_NOT_LOADED = 5;
const NO_PROCESS = 1;

/** Runs a command of which one failure means that there is nothing to do. */
async function runUnless(ssh: SshConnection, argv: readonly string[], nothingToDo: number, deadline: Deadline): Promise<number> {
  const { exitCode, stderr } = await ssh.run(argv, { deadline, allowFailure: true });
  if (exitCode !== 0 && exitCode !== nothingToDo) {
    throw new CommandError(ssh.name, argv[0] ?? "", exitCode, stderr.trim());
  }
  return exitCode;
}

/** `systemctl show` of several units: lines NAME=VALUE, with an empty one between two units. */
function propertiesOf(text: string): ReadonlyMap<string, string>[] {
  return text.split("\n\n").map((unit) => {
    const lines = unit.split("\n").filter((line) => line.includes("="));
    return new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  });
}
