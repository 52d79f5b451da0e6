import { namesOf, type Packaging } from "../lxd/client/endpoint";
import { type Deadline, until } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** Packages of the distribution. snapd controls the services of the snap. */
export type UnitPackaging = Exclude<Packaging, "snap">;

/** LXD's socket and daemon. The socket stops first: a connection to it would start the daemon again. */
const DAEMON = { deb: ["lxd.socket", "lxd.service"], incus: ["incus.socket", "incus.service"] } as const;

export function howToStop(packaging: Packaging): string {
  return packaging === "snap" ? "snap stop lxd" : `systemctl stop ${DAEMON[packaging].join(" ")}`;
}

/** Starts instances at boot and stops them at shutdown. Not in all packages of Incus. */
const INSTANCES = { deb: "lxd-containers.service", incus: "incus-startup.service" };

export function namesOfUnits(packaging: UnitPackaging): { readonly daemon: string; readonly instances: string } {
  return { daemon: DAEMON[packaging][1], instances: INSTANCES[packaging] };
}

/** Properties that name the units that systemd stops together with a unit. */
const DEPENDENTS = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];

/**
 * Finds the units to start again after LXD was stopped: LXD's daemon, LXD's unit for instances if it is active or enabled, and
 * the active units that systemd stops together with these.
 * @see systemctl(1), and "Unit objects" in org.freedesktop.systemd1(5) for the properties
 */
export async function unitsToStart(ssh: SshConnection, packaging: UnitPackaging, deadline: Deadline): Promise<string[]> {
  const properties = ["Id", "LoadState", "ActiveState", "UnitFileState", ...DEPENDENTS].join(",");
  const own: string[] = [...DAEMON[packaging], INSTANCES[packaging]];
  const found = new Set<string>(DAEMON[packaging]);
  const seen = new Set<string>();
  for (let names = own; names.length > 0; ) {
    names.forEach((name) => seen.add(name));
    const shown = await ssh.run(["systemctl", "show", `--property=${properties}`, "--", ...names], { deadline });
    const units = propertiesOf(shown.stdout);
    for (const unit of units.filter((each) => each.get("LoadState") === "loaded")) {
      const [name = "", state = ""] = [unit.get("Id"), unit.get("ActiveState")];
      const atBoot = own.includes(name) && unit.get("UnitFileState") === "enabled";
      if (atBoot || ["active", "activating", "reloading"].includes(state)) {
        found.add(name);
      }
    }
    const dependents = units.flatMap((unit) => DEPENDENTS.flatMap((property) => (unit.get(property) ?? "").split(" ")));
    names = [...new Set(dependents)].filter((name) => name !== "" && !seen.has(name));
  }
  return [...found];
}

/**
 * How long a daemon may take to stop in order, with its instances. Incus ignores SIGTERM while it waits for its cluster, and its unit
 * would wait 330 s for it.
 */
const STOP_SECONDS = 60;

/** Exit status of timeout(1). systemd still stops the units then. */
const TIMED_OUT = 124;

/** Stops LXD and what it started: instances, their helpers, and the DHCP servers of its bridges. */
export async function stopUnits(ssh: SshConnection, packaging: UnitPackaging, data: string, deadline: Deadline): Promise<void> {
  const [socket, service] = DAEMON[packaging];
  const stop = ["systemctl", "stop", socket, service, INSTANCES[packaging]];
  const kill = ["systemctl", "kill", "--signal=KILL", service];
  const inOrder = ["timeout", String(STOP_SECONDS), ...stop];
  if ((await runUnless(ssh, inOrder, [UNIT_NOT_LOADED, TIMED_OUT], deadline)) === TIMED_OUT) {
    await ssh.run(kill, { deadline });
    await runUnless(ssh, stop, [UNIT_NOT_LOADED], deadline);
  }
  // systemd stops instances only if the daemon worked and the unit for instances was active, and no other child of the daemon.
  await ssh.run(kill, { deadline });
  // LXC gives a container's monitor this title and moves it out of the unit. The container ends with its monitor.
  const monitor = `^\\[lxc monitor\\] ${data}/containers `;
  await until(deadline, async (report) => {
    if ((await runUnless(ssh, ["pkill", "--signal", "KILL", "--full", monitor], [NO_PROCESS], deadline)) === NO_PROCESS) {
      return true;
    }
    report(`waiting for containers that ${namesOf(packaging).name} started to end`);
    return undefined;
  });
}

/** Starts the socket and the daemon. */
export async function startDaemon(ssh: SshConnection, packaging: UnitPackaging, deadline: Deadline): Promise<void> {
  await startUnits(ssh, DAEMON[packaging], deadline);
}

export async function startUnits(ssh: SshConnection, units: readonly string[], deadline: Deadline): Promise<void> {
  await ssh.run(["systemctl", "start", ...units], { deadline });
}

/** Exit status of systemctl(1) for a unit that is not in the package, and of pkill(1) when no process matches. */
const UNIT_NOT_LOADED = 5;
const NO_PROCESS = 1;

/** @param noFailure - The exit statuses, besides 0, that are no failure. */
async function runUnless(
  ssh: SshConnection,
  argv: readonly string[],
  noFailure: readonly number[],
  deadline: Deadline,
): Promise<number> {
  const { exitCode, stderr } = await ssh.run(argv, { deadline, allowFailure: true });
  if (exitCode !== 0 && !noFailure.includes(exitCode)) {
    throw new CommandError(ssh.name, argv[0] ?? "", exitCode, stderr.trim());
  }
  return exitCode;
}

/** Parses `systemctl show`: lines NAME=VALUE, with an empty line between two units. */
function propertiesOf(text: string): ReadonlyMap<string, string>[] {
  return text
    .split("\n\n")
    .map((unit) => new Map([...unit.matchAll(/^([^=\n]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value])));
}
