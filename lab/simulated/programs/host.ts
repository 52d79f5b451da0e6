/** The programs of a host other than those for files and packages: snaps, units, network links, mounts. */

import { ASK } from "../../../provider/host/paths";
import { failure, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments, type SimulatedMount } from "../machine";
import type { InstalledSnap } from "../snapd-model";
import { killProcesses, visudo } from "./accounts";
import { filePrograms } from "./files";
import { mount, mountinfo, rename, umount, unshare } from "./mounts";
import { catWithPackages, type PackagedMachine, packagePrograms } from "./packages";

/** What the programs can access on a host. */
export interface HostMachine extends PackagedMachine {
  readonly kernelVersion: string;
  readonly cpus: number;
  readonly snapd: boolean;
  readonly snaps: ReadonlyMap<string, InstalledSnap>;
  readonly mounts: SimulatedMount[];
  readonly interfaces: Map<string, { hwaddr: string; type: string; addresses: string[]; dnsmasqPid?: number | undefined }>;
  readonly listeners: readonly { process: string; pid: number; address: string; port: number }[];
  hasProgram(name: string): boolean;
  installSnap(channel: string): void;
  removeSnap(name: string): void;
  unitNames(): string[];
  unitActive(unit: string): boolean;
  controlUnit(action: "start" | "stop" | "restart", unit: string): void;
  /** Units that stop with a unit, because they require it. */
  requiredBy(unit: string): string[];
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
  ...(packagePrograms as Programs<HostMachine>),
  snap,
  systemctl,
  ip,
  ss,
  mount,
  umount,
  unshare,
  cat: (run) => (run.args[0] === "/proc/self/mountinfo" ? ok(mountinfo(run.machine)) : catWithPackages(run)),
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
  journalctl: () => ok("-- No entries --\n"),
};

/** Bridges are visible in /sys. */
function test(run: Run): ProgramResult | Promise<ProgramResult> {
  const bridge = /^\/sys\/class\/net\/([^/]+)\/bridge$/.exec(run.args[1] ?? "")?.[1];
  if (bridge === undefined) {
    return onFiles("test", run);
  }
  return { exitCode: run.machine.interfaces.get(bridge)?.type === "bridge" ? 0 : 1, stdout: "", stderr: "" };
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

function systemctl({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, {
    flags: ["--no-pager", "--plain", "--no-legend", "--now", "--quiet", "-q", "--value"],
    valued: ["-p", "--property", "--type", "--signal"],
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
  if (command === "kill") {
    return machine.unitNames().includes(names[0] ?? "")
      ? ok()
      : failure(1, `Failed to kill unit ${names[0] ?? ""}: Unit not loaded.`);
  }
  if (command === "show") {
    const wanted = (options.get("-p") ?? options.get("--property") ?? "ActiveState").split(",");
    const shown = names.map((unit) => {
      const [loaded, active] = [machine.unitNames().includes(unit), machine.unitActive(unit)];
      const values: Record<string, string> = {
        Id: unit,
        ActiveState: active ? "active" : "inactive",
        LoadState: loaded ? "loaded" : "not-found",
        SubState: active ? "running" : "dead",
        UnitFileState: loaded ? (unit === "lxd.service" ? "indirect" : "enabled") : "",
        RequiredBy: machine.requiredBy(unit).join(" "),
      };
      return wanted.map((name) => (options.has("--value") ? (values[name] ?? "") : `${name}=${values[name] ?? ""}`));
    });
    return ok(`${shown.map((lines) => lines.join("\n")).join("\n\n")}\n`);
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
