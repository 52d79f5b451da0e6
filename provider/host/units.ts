/** The systemd units of LXD as a package of the distribution. */
import { type Deadline, until } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** Packagings whose units systemctl starts and stops. snapd controls the services of the snap. */
export type UnitPackaging = "deb" | "incus";

/** LXD's socket and daemon. The socket stops first: a connection to it would start the daemon again. */
const DAEMON = { deb: ["lxd.socket", "lxd.service"], incus: ["incus.socket", "incus.service"] };

/** Starts instances at boot and stops them at shutdown. Only some builders of Incus packages include it. */
const INSTANCES = { deb: "lxd-containers.service", incus: "incus-startup.service" };

/** Properties that name the units that systemd stops together with a unit. */
const DEPENDENTS = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];

/**
 * Finds the units to start again after LXD was stopped: LXD's daemon, LXD's unit for instances if it is active or
 * enabled, and the active units that systemd stops together with these.
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

/** Stops LXD and what it started: instances, their helpers, and the DHCP servers of its bridges. */
export async function stopUnits(ssh: SshConnection, packaging: UnitPackaging, data: string, deadline: Deadline): Promise<void> {
  const [socket = "", service = ""] = DAEMON[packaging];
  const stop = ["systemctl", "stop", socket, service, INSTANCES[packaging]];
  await runUnless(ssh, stop, UNIT_NOT_LOADED, deadline);
  // systemd stops instances only if the daemon worked and the unit for instances was active. It stops no other child of
  // the daemon.
  await ssh.run(["systemctl", "kill", "--signal=KILL", service], { deadline });
  // LXC gives a container's monitor this title and moves it out of the unit. The container ends with its monitor.
  const monitor = `^\\[lxc monitor\\] ${data}/containers `;
  await until(deadline, async (report) => {
    if ((await runUnless(ssh, ["pkill", "--signal", "KILL", "--full", monitor], NO_PROCESS, deadline)) === NO_PROCESS) {
      return true;
    }
    report("containers that LXD has started are being ended");
    return undefined;
  });
}

/** Starts units. systemd chooses the order. */
export async function startUnits(ssh: SshConnection, units: readonly string[], deadline: Deadline): Promise<void> {
  await ssh.run(["systemctl", "start", ...units], { deadline });
}

/** Exit status of systemctl(1) for a unit that is not in the package, and of pkill(1) when no process matches. */
const UNIT_NOT_LOADED = 5;
const NO_PROCESS = 1;

/** Runs a command. One exit status other than 0 means that nothing has to be done. */
async function runUnless(ssh: SshConnection, argv: readonly string[], nothingToDo: number, deadline: Deadline): Promise<number> {
  const { exitCode, stderr } = await ssh.run(argv, { deadline, allowFailure: true });
  if (exitCode !== 0 && exitCode !== nothingToDo) {
    throw new CommandError(ssh.name, argv[0] ?? "", exitCode, stderr.trim());
  }
  return exitCode;
}

/** Parses the output of `systemctl show` for several units: lines NAME=VALUE, with an empty line between two units. */
function propertiesOf(text: string): ReadonlyMap<string, string>[] {
  return text.split("\n\n").map((unit) => {
    const lines = unit.split("\n").filter((line) => line.includes("="));
    return new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  });
}
