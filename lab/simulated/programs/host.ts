/** The programs of a host other than those for files: packages, snaps, units, network links, mounts. */

import { ASK } from "../../../provider/host/paths";
import { compareDebianVersions } from "../debian-versions";
import {
  failure,
  type Machine,
  ok,
  type ProgramResult,
  type ProgramRun,
  type Programs,
  parseArguments,
  type SimulatedMount,
} from "../machine";
import type { InstalledSnap } from "../snapd-model";
import { killProcesses, visudo } from "./accounts";
import { filePrograms } from "./files";
import { mount, mountinfo, rename, umount, unshare } from "./mounts";
import { openrcPrograms } from "./openrc";

/** What the programs can access on a host. */
export interface HostMachine extends Machine {
  readonly kernelVersion: string;
  readonly cpus: number;
  /** Installed Debian packages and their versions. */
  readonly packages: ReadonlyMap<string, string>;
  /** Those on hold. */
  readonly heldPackages: Set<string>;
  /** Debian packages that can be installed. */
  readonly archive: ReadonlyMap<string, string>;
  /** All versions of a package that the sources have, the newest first. */
  versionsOf(name: string): string[];
  readonly packageTrouble: PackageTrouble;
  readonly snapd: boolean;
  readonly snaps: ReadonlyMap<string, InstalledSnap>;
  readonly mounts: SimulatedMount[];
  readonly interfaces: Map<string, { hwaddr: string; type: string; addresses: string[]; dnsmasqPid?: number | undefined }>;
  readonly listeners: readonly { process: string; pid: number; address: string; port: number }[];
  hasProgram(name: string): boolean;
  /** Waits for the lab's installation time. */
  takeInstallTime(): Promise<void>;
  installPackage(name: string, version?: string): void;
  removePackage(name: string, purge: boolean): void;
  installSnap(channel: string): void;
  removeSnap(name: string): void;
  controlUnit(action: "start" | "stop" | "restart", unit: string): void;
  /** Kills the containers that LXD runs from a data directory. */
  endContainers(dataDirectory: string): number;
}

type Run = ProgramRun<HostMachine>;

/** Runs a program for files. */
function onFiles(program: string, run: Run): ProgramResult | Promise<ProgramResult> {
  return filePrograms[program]?.(run) ?? failure(127, `${program}: not simulated`);
}

/** Programs of a host. */
export const hostPrograms: Programs<HostMachine> = {
  uname: ({ machine, args }) => {
    const values: Record<string, string> = { "-n": machine.name, "-r": machine.kernelVersion, "-m": "x86_64", "-s": "Linux" };
    return ok(`${args.length === 0 ? "Linux" : args.map((option) => values[option] ?? "").join(" ")}\n`);
  },
  hostname: ({ machine }) => ok(`${machine.name}\n`),
  nproc: ({ machine }) => ok(`${machine.cpus}\n`),
  id: ({ args }) =>
    ok(args.includes("-u") ? "0\n" : args.includes("-un") ? "root\n" : "uid=0(root) gid=0(root) groups=0(root)\n"),
  visudo,
  "dpkg-query": dpkgQuery,
  "apt-get": aptGet,
  "apt-mark": aptMark,
  dpkg,
  "apt-cache": aptCache,
  stat: (run) => (run.args.at(-1) === LISTS_LOCK.path ? ok(`${LISTS_LOCK.inode}\n`) : onFiles("stat", run)),
  find: (run) =>
    run.args[0] === "/var/lib/dpkg/updates"
      ? ok(run.machine.packageTrouble.interrupted ? "/var/lib/dpkg/updates/0001\n" : "")
      : onFiles("find", run),
  snap,
  systemctl: ({ machine, args }) => machine.units.systemctl(args),
  ip,
  ss,
  mount,
  umount,
  unshare,
  cat: (run) => {
    const [path = ""] = run.args;
    if (path === "/proc/locks") {
      const text = locks(run.machine);
      run.machine.packageTrouble.listsLocked = Math.max(0, run.machine.packageTrouble.listsLocked - 1);
      return ok(text);
    }
    return path === "/proc/self/mountinfo" ? ok(mountinfo(run.machine)) : onFiles("cat", run);
  },
  sh: async (run) => {
    const [flag, script, _name, ...args] = run.args;
    if (flag !== "-c" || script !== ASK) {
      return failure(127, "sh: this script is not simulated");
    }
    const { exitCode } = await test({ ...run, program: "test", args });
    return ok(exitCode === 0 ? "yes\n" : "no\n");
  },
  test,
  perl: (run) => (run.args[1]?.startsWith("rename(") === true ? rename(run) : failure(127, "perl: not simulated")),
  losetup: () => ok(),
  sysctl: async ({ machine: { files }, args, stdin }) => {
    const { options, operands } = parseArguments(args, { flags: ["--all", "--ignore", "--write"], valued: ["--load"] });
    const pathOf = (key: string): string => `/proc/sys/${key.replaceAll(".", "/")}`;
    if (options.has("--all")) {
      const paths = files.tree("/proc/sys").filter((path) => files.get(path)?.type === "file");
      const shown = paths.map((path) => `${path.slice("/proc/sys/".length).replaceAll("/", ".")} = ${files.readText(path)}`);
      return ok(shown.join(""));
    }
    const lines = options.has("--load")
      ? (await stdin())
          .toString()
          .split("\n")
          .filter((line) => line !== "")
      : operands;
    for (const [key = "", value = ""] of lines.map((line) => line.split("=").map((word) => word.trim()))) {
      if (!files.exists(pathOf(key))) {
        return failure(255, `sysctl: cannot stat ${pathOf(key)}: No such file or directory`);
      }
      // As the kernel: the swappiness is at most 200.
      const taken = key === "vm.swappiness" ? String(Math.min(200, Number(value))) : value.replaceAll(" ", "\t");
      files.writeFile(pathOf(key), `${taken}\n`);
    }
    return ok(lines.map((line) => `${line}\n`).join(""));
  },
  pkill: (run) => {
    const { machine, args } = run;
    if (args.includes("-U")) {
      return killProcesses(run);
    }
    const monitors = /^\^\\\[lxc monitor\\\] (.*)\/containers $/.exec(args.at(-1) ?? "");
    return monitors !== null && machine.endContainers(monitors[1] ?? "") > 0 ? ok() : failure(1, "");
  },
  which: ({ machine, args }) => {
    const found = args.filter((program) => machine.hasProgram(program));
    return {
      exitCode: found.length === args.length ? 0 : 1,
      stdout: found.map((program) => `/usr/bin/${program}\n`).join(""),
      stderr: "",
    };
  },
  journalctl: ({ machine, args }) => machine.units.journalctl(args),
  ...(openrcPrograms as Programs<HostMachine>),
};

/** Bridges are visible in /sys. */
function test(run: Run): ProgramResult | Promise<ProgramResult> {
  const bridge = /^\/sys\/class\/net\/([^/]+)\/bridge$/.exec(run.args[1] ?? "")?.[1];
  if (bridge === undefined) {
    return onFiles("test", run);
  }
  return { exitCode: run.machine.interfaces.get(bridge)?.type === "bridge" ? 0 : 1, stdout: "", stderr: "" };
}

function dpkgQuery({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { flags: ["-W", "--show"], valued: ["-f", "--showformat"] });
  const format = (options.get("-f") ?? options.get("--showformat") ?? "${Package}\t${Version}\n").replaceAll("\\n", "\n");
  const result: ProgramResult = { exitCode: 0, stdout: "", stderr: "" };
  for (const name of operands.length === 0 ? machine.packages.keys() : operands) {
    const version = machine.packages.get(name);
    if (version === undefined) {
      result.exitCode = 1;
      result.stderr += `dpkg-query: no packages found matching ${name}\n`;
    } else {
      const values: Record<string, string> = {
        "db:Status-Status": "installed",
        "db:Status-Want": machine.heldPackages.has(name) ? "hold" : "install",
        Status: "install ok installed",
        Version: version,
        Package: name,
        "source:Package": name === "incus-base" ? "incus" : name,
      };
      result.stdout += format.replace(/\$\{([^}]+)\}/g, (whole, key: string) => values[key] ?? whole);
    }
  }
  return result;
}

/** Faults of a host's package management. */
export interface PackageTrouble {
  /** Number of next `apt-get update` runs that find the lists locked by another process. */
  listsLocked: number;
  /** Whether dpkg was killed during its work. */
  interrupted: boolean;
  /** Sources that cannot be read. */
  deadSources: string[];
  /** By package, the packages that must be removed for it, as in a conflict. */
  conflicts: Record<string, string[]>;
  /** Packages that no other one needs, on a host whose apt.conf has `APT::Get::AutomaticRemove "true";`. */
  unneeded: string[];
}

const LISTS_LOCK = { path: "/var/lib/apt/lists/lock", inode: 4711 };

function locks({ packageTrouble }: HostMachine): string {
  return packageTrouble.listsLocked > 0 ? `1: POSIX  ADVISORY  WRITE 512 08:01:${LISTS_LOCK.inode} 0 EOF\n` : "";
}

function dpkg({ machine, args }: Run): ProgramResult {
  if (args[0] === "--compare-versions") {
    const [, left = "", operator = "", right = ""] = args;
    const holds = compareDebianVersions(left, operator, right);
    return { exitCode: holds === undefined ? 2 : holds ? 0 : 1, stdout: "", stderr: "" };
  }
  if (args.slice(-2).join(" ") !== "--configure -a") {
    return failure(127, `dpkg: not simulated: ${args.join(" ")}`);
  }
  machine.packageTrouble.interrupted = false;
  return ok();
}

/** As apt 2.6.1 and 3.0.3. */
function aptMark({ machine, args }: Run): ProgramResult {
  const [command = "", ...names] = args;
  const unknown = names.find((name) => !machine.packages.has(name));
  if (unknown !== undefined) {
    return failure(100, `E: Unable to locate package ${unknown}`);
  }
  if (command !== "hold" && command !== "unhold") {
    return failure(127, `apt-mark: not simulated: ${command}`);
  }
  for (const name of names) {
    if (command === "hold") {
      machine.heldPackages.add(name);
    } else {
      machine.heldPackages.delete(name);
    }
  }
  return ok(names.map((name) => (command === "hold" ? `${name} set on hold.\n` : `Canceled hold on ${name}.\n`)).join(""));
}

async function aptGet({ machine, args }: Run): Promise<ProgramResult> {
  const { options, operands } = parseArguments(args, {
    flags: [
      ...["--quiet", "-q", "-qq", "--yes", "-y", "--no-install-recommends", "--purge", "--assume-yes"],
      ...["--no-remove", "--no-auto-remove", "--simulate", "--allow-change-held-packages"],
    ],
    valued: ["--option", "-o", "--target-release", "-t"],
  });
  const [command = "", ...names] = operands;
  const { packageTrouble: trouble } = machine;
  const release = options.get("--target-release") ?? options.get("-t");
  if (release !== undefined && !releasesOf(machine).includes(release)) {
    return failure(
      100,
      `E: The value '${release}' is invalid for APT::Default-Release as such a release is not available in the sources`,
    );
  }
  if (command === "update") {
    if (trouble.listsLocked > 0) {
      const { path } = LISTS_LOCK;
      return failure(
        100,
        `E: Could not get lock ${path}. It is held by process 512 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/`,
      );
    }
    const dead = trouble.deadSources.map((source) => `E: The repository '${source} Release' does not have a Release file.\n`);
    return dead.length > 0 ? failure(100, dead.join("")) : ok("Reading package lists...\n");
  }
  if (trouble.interrupted) {
    return failure(100, "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.");
  }
  if (command === "install") {
    for (const wanted of names) {
      const [name = "", version] = wanted.split("=");
      if (!machine.archive.has(name)) {
        return failure(100, `E: Unable to locate package ${name}`);
      }
      if (version !== undefined && !machine.versionsOf(name).includes(version)) {
        return failure(100, `E: Version '${version}' for '${name}' was not found`);
      }
      const present = machine.packages.get(name);
      const mayChange = options.has("--allow-change-held-packages") || !machine.heldPackages.has(name);
      if (version !== undefined && present !== undefined && version !== present && !mayChange) {
        return failure(100, "E: Held packages were changed and -y was used without --allow-change-held-packages.");
      }
      if (version !== undefined && present !== undefined && compareDebianVersions(version, "lt", present) === true) {
        return failure(100, "E: Packages were downgraded and -y was used without --allow-downgrades.");
      }
    }
    return install(machine, names, options);
  }
  if (command === "remove" || command === "purge") {
    names.forEach((name) => machine.removePackage(name, command === "purge"));
    return ok();
  }
  return failure(100, `E: Invalid operation ${command}`);
}

/** As apt 2.6.1 of Debian 12 does it, verified with sysvinit-core replacing systemd-sysv. */
async function install(machine: HostMachine, names: string[], options: { has(option: string): boolean }): Promise<ProgramResult> {
  const { conflicts, unneeded } = machine.packageTrouble;
  const cleans = !options.has("--no-auto-remove") && unneeded.length > 0;
  const removed = [...names.flatMap((name) => conflicts[name.split("=", 1)[0] ?? ""] ?? []), ...(cleans ? unneeded : [])];
  const list = removed.length === 0 ? "" : `The following packages will be REMOVED:\n  ${removed.join(" ")}\n`;
  if (cleans && options.has("--no-remove")) {
    return {
      ...failure(100, "E: Handler silently failed"),
      stdout: "We are not supposed to delete stuff, can't start AutoRemover\n",
    };
  }
  if (removed.length > 0 && options.has("--no-remove")) {
    return { ...failure(100, "E: Packages need to be removed but remove is disabled."), stdout: list };
  }
  if (options.has("--simulate")) {
    return ok(list + [...removed.map((name) => `Remv ${name} [1]\n`), ...names.map((name) => `Inst ${name} (2)\n`)].join(""));
  }
  await machine.takeInstallTime();
  removed.forEach((name) => machine.removePackage(name, false));
  for (const wanted of names) {
    const [name = "", version] = wanted.split("=");
    machine.installPackage(name, version);
  }
  return ok(list);
}

/** The host's own release, and those of further sources in deb822 format. */
function releasesOf({ files }: HostMachine): string[] {
  const own = /\((\w+)\)/.exec(files.readText("/etc/os-release"))?.[1] ?? "";
  const directory = "/etc/apt/sources.list.d";
  const sources = files.exists(directory) ? files.list(directory).filter((name) => name.endsWith(".sources")) : [];
  const suites = sources.flatMap((name) => {
    const suites = /^Suites: (.*)$/m.exec(files.readText(`${directory}/${name}`))?.[1];
    return suites?.split(" ") ?? [];
  });
  return [own, ...suites];
}

function aptCache({ machine, args }: Run): ProgramResult {
  const { operands } = parseArguments(args, {});
  const [command = "", name = ""] = operands;
  if (command === "policy") {
    const fields = (suite: string): string => `release o=Debian,a=${suite},n=${suite},l=Debian,c=main,b=amd64`;
    return ok(
      `Package files:\n${releasesOf(machine)
        .map((suite) => ` 500 http://deb.debian.org/debian ${suite}/main amd64 Packages\n     ${fields(suite)}\n`)
        .join("")}`,
    );
  }
  if (command !== "madison") {
    return failure(127, `apt-cache: not simulated: ${command}`);
  }
  const source = "http://deb.debian.org/debian bookworm/main amd64 Packages";
  return ok(
    machine
      .versionsOf(name)
      .map((version) => `       ${name} | ${version} | ${source}\n`)
      .join(""),
  );
}

async function snap({ machine, args }: Run): Promise<ProgramResult> {
  if (!machine.snapd) {
    return failure(127, "sh: 1: snap: not found");
  }
  const { options, operands } = parseArguments(args, {
    flags: ["--purge", "--hold", "--unhold", "--leave-cohort"],
    valued: ["--channel", "--cohort"],
  });
  const [command = "", name = "", ...rest] = operands;
  const installed = machine.snaps.get(name);
  switch (command) {
    case "install":
      if (name !== "lxd") {
        return failure(1, `error: snap "${name}" not found`);
      }
      await machine.takeInstallTime();
      machine.installSnap(options.get("--channel") ?? "latest/stable");
      return ok(`lxd installed\n`);
    case "refresh":
      if (installed === undefined) {
        return failure(1, `error: snap "${name}" is not installed`);
      }
      if (options.has("--hold") || options.has("--unhold")) {
        installed.held = options.has("--hold");
      } else if (options.has("--leave-cohort")) {
        installed.cohort = false;
      } else {
        machine.installSnap(options.get("--channel") ?? installed.channel);
      }
      return ok();
    case "remove":
      machine.removeSnap(name);
      return ok();
    case "start":
    case "stop":
    case "restart":
      machine.controlUnit(command, "snap.lxd.daemon.service");
      return ok();
    case "set":
      return rest.length > 0 ? ok() : failure(1, "error: the required argument was not provided");
    default:
      return failure(64, `error: unknown command "${command}"`);
  }
}

function ip({ machine, args }: Run): ProgramResult {
  if (args[0] === "-json") {
    return ok(JSON.stringify([...machine.interfaces].map(linkAsJson)));
  }
  const words = args.filter((argument) => !["-o", "-br", "-j", "-4", "-6", "dev"].includes(argument));
  const [object = "", command = "show", name] = words;
  if (object !== "link" && object !== "addr" && object !== "address") {
    return failure(1, `Object "${object}" is unknown, try "ip help".`);
  }
  if (command === "add" && name !== undefined) {
    machine.interfaces.set(name, { type: words.at(-1) ?? "", hwaddr: "00:16:3e:00:00:aa", addresses: [] });
    return ok();
  }
  if (command === "del" || command === "delete") {
    return name !== undefined && machine.interfaces.delete(name) ? ok() : failure(1, `Cannot find device "${name ?? ""}"`);
  }
  if (name !== undefined && !machine.interfaces.has(name)) {
    return failure(1, `Device "${name}" does not exist.`);
  }
  const shown = [...machine.interfaces].filter(([each]) => name === undefined || each === name);
  return ok(
    shown
      .map(([each, { hwaddr }], index) => `${index + 1}: ${each}: <BROADCAST,MULTICAST,UP> mtu 1500 link/ether ${hwaddr}\n`)
      .join(""),
  );
}

function linkAsJson([ifname, { type, addresses }]: [string, { type: string; addresses: string[] }]): object {
  return {
    ifname,
    ...(type === "bridge" && { linkinfo: { info_kind: "bridge" } }),
    addr_info: addresses.map((address) => ({ local: address.split("/")[0] })),
  };
}

/** Listening processes of others, and the server's dnsmasq of each bridge. */
function ss({ machine }: Run): ProgramResult {
  const bridges = [...machine.interfaces].flatMap(([name, { dnsmasqPid }]) =>
    dnsmasqPid === undefined ? [] : [{ process: "dnsmasq", pid: dnsmasqPid, address: `0.0.0.0%${name}`, port: 67 }],
  );
  const lines = [...bridges, ...machine.listeners].map(
    ({ process, pid, address, port }) => `udp UNCONN 0 0 ${address}:${port} 0.0.0.0:* users:(("${process}",pid=${pid},fd=3))\n`,
  );
  return ok(lines.join(""));
}
