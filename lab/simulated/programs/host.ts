/** The programs of a host that are not about files: packages, snaps, units, network links, mounts. */
import { failure, type Machine, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments } from "../machine";

/** A snap on a host. */
export interface InstalledSnap {
  channel: string;
  held: boolean;
  version: string;
  /** False once it has left its cohort. */
  cohort?: boolean;
}

/** What the programs see of a host. */
export interface HostMachine extends Machine {
  readonly kernelVersion: string;
  readonly cpus: number;
  /** Installed Debian packages and their versions. */
  readonly packages: ReadonlyMap<string, string>;
  /** Those that can be installed. */
  readonly archive: ReadonlyMap<string, string>;
  readonly snapd: boolean;
  readonly snaps: ReadonlyMap<string, InstalledSnap>;
  readonly mounts: string[];
  readonly interfaces: Map<string, { hwaddr: string }>;
  hasProgram(name: string): boolean;
  /** Waits as long as installing something takes in this lab. */
  takeInstallTime(): Promise<void>;
  installPackage(name: string): void;
  removePackage(name: string, purge: boolean): void;
  installSnap(channel: string): void;
  removeSnap(name: string): void;
  unitNames(): string[];
  unitActive(unit: string): boolean;
  controlUnit(action: "start" | "stop" | "restart", unit: string): void;
}

type Run = ProgramRun<HostMachine>;

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
  "dpkg-query": dpkgQuery,
  "apt-get": aptGet,
  "apt-cache": aptCache,
  snap,
  systemctl,
  ip,
  findmnt: ({ machine }) => ok(machine.mounts.map((mount) => `${mount}\n`).join("")),
  umount: ({ machine, args }) => {
    const { operands } = parseArguments(args, { flags: ["-l", "--lazy", "-R", "--recursive"] });
    for (const path of operands) {
      const at = machine.mounts.indexOf(path);
      if (at < 0) {
        return failure(32, `umount: ${path}: not mounted.`);
      }
      machine.mounts.splice(at, 1);
    }
    return ok();
  },
  losetup: () => ok(),
  pkill: () => failure(1, ""),
  which: ({ machine, args }) => {
    const found = args.filter((program) => machine.hasProgram(program));
    return {
      exitCode: found.length === args.length ? 0 : 1,
      stdout: found.map((program) => `/usr/bin/${program}\n`).join(""),
      stderr: "",
    };
  },
  journalctl: () => ok("-- No entries --\n"),
};

function dpkgQuery({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { flags: ["-W", "--show"], valued: ["-f", "--showformat"] });
  const [name = ""] = operands;
  const version = machine.packages.get(name);
  if (version === undefined) {
    return failure(1, `dpkg-query: no packages found matching ${name}`);
  }
  const format = options.get("-f") ?? options.get("--showformat") ?? "${Package}\t${Version}\n";
  const values: Record<string, string> = {
    "db:Status-Status": "installed",
    Status: "install ok installed",
    Version: version,
    Package: name,
  };
  return ok(format.replace(/\$\{([^}]+)\}/g, (whole, key: string) => values[key] ?? whole).replaceAll("\\n", "\n"));
}

function aptOptions(args: string[]) {
  return parseArguments(args, {
    flags: ["--quiet", "-q", "-qq", "--yes", "-y", "--no-install-recommends", "--purge", "--assume-yes"],
    valued: ["--option", "-o"],
  });
}

async function aptGet({ machine, args }: Run): Promise<ProgramResult> {
  const [command = "", ...names] = aptOptions(args).operands;
  if (command === "update") {
    return ok("Reading package lists...\n");
  }
  if (command === "install") {
    for (const name of names) {
      if (!machine.archive.has(name)) {
        return failure(100, `E: Unable to locate package ${name}`);
      }
    }
    await machine.takeInstallTime();
    for (const name of names) {
      machine.installPackage(name);
    }
    return ok();
  }
  if (command === "remove" || command === "purge") {
    names.forEach((name) => machine.removePackage(name, command === "purge"));
    return ok();
  }
  return failure(100, `E: Invalid operation ${command}`);
}

function aptCache({ machine, args }: Run): ProgramResult {
  const [command = "", name = ""] = args;
  if (command !== "policy") {
    return failure(127, `apt-cache: not simulated: ${command}`);
  }
  const candidate = machine.archive.get(name);
  if (candidate === undefined) {
    return ok();
  }
  return ok(`${name}:\n  Installed: ${machine.packages.get(name) ?? "(none)"}\n  Candidate: ${candidate}\n  Version table:\n`);
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
    case "version":
      return ok("snap    2.63\nsnapd   2.63\nseries  16\n");
    case "list":
      if (installed === undefined) {
        return failure(1, `error: no matching snaps installed`);
      }
      return ok(
        `Name  Version       Rev    Tracking     Publisher   Notes\n${name}   ${installed.version}  29351  ${installed.channel}  canonical✓  ${installed.held ? "held" : "-"}\n`,
      );
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
        installed.channel = options.get("--channel") ?? installed.channel;
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

function systemctl({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, {
    flags: ["--no-pager", "--plain", "--no-legend", "--now", "--quiet", "-q", "--value"],
    valued: ["-p", "--property", "--type"],
  });
  const [command = "", ...units] = operands;
  if (command === "is-system-running") {
    return ok("running\n");
  }
  if (command === "daemon-reload") {
    return ok();
  }
  if (command === "list-unit-files") {
    const known = machine.unitNames().filter((unit) => units.length === 0 || units.includes(unit));
    return ok(known.map((unit) => `${unit} enabled enabled\n`).join(""));
  }
  const names = units.map((unit) => (unit.includes(".") ? unit : `${unit}.service`));
  if (command === "is-active") {
    const states = names.map((unit) => (machine.unitActive(unit) ? "active" : "inactive"));
    return { exitCode: states.every((state) => state === "active") ? 0 : 3, stdout: `${states.join("\n")}\n`, stderr: "" };
  }
  if (command === "is-enabled") {
    const all = names.every((unit) => machine.unitNames().includes(unit));
    return all ? ok("enabled\n") : failure(1, "Failed to get unit file state: No such file or directory");
  }
  if (command === "show") {
    const property = options.get("-p") ?? options.get("--property") ?? "ActiveState";
    const values: Record<string, string> = {
      ActiveState: machine.unitActive(names[0] ?? "") ? "active" : "inactive",
      LoadState: machine.unitNames().includes(names[0] ?? "") ? "loaded" : "not-found",
      SubState: machine.unitActive(names[0] ?? "") ? "running" : "dead",
    };
    const lines = property
      .split(",")
      .map((name) => (options.has("--value") ? (values[name] ?? "") : `${name}=${values[name] ?? ""}`));
    return ok(`${lines.join("\n")}\n`);
  }
  if (command === "start" || command === "stop" || command === "restart" || command === "enable" || command === "disable") {
    const unknown = names.find((unit) => !machine.unitNames().includes(unit));
    if (unknown !== undefined) {
      return failure(5, `Failed to ${command} ${unknown}: Unit ${unknown} not loaded.`);
    }
    for (const unit of names) {
      if (command === "start" || command === "stop" || command === "restart") {
        machine.controlUnit(command, unit);
      }
    }
    return ok();
  }
  return failure(1, `Unknown command verb ${command}.`);
}

function ip({ machine, args }: Run): ProgramResult {
  const words = args.filter((argument) => !["-o", "-br", "-j", "-4", "-6", "dev"].includes(argument));
  const [object = "", command = "show", name] = words;
  if (object !== "link" && object !== "addr" && object !== "address") {
    return failure(1, `Object "${object}" is unknown, try "ip help".`);
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
