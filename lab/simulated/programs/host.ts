/** The programs of a host other than those for files and packages: snaps, units, network links, mounts. */

import { ASK } from "../../../provider/host/paths";
import { failure, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments, type SimulatedMount } from "../machine";
import type { InstalledSnap } from "../snapd-model";
import { killProcesses, visudo } from "./accounts";
import { filePrograms } from "./files";
import { mount, mountinfo, rename, umount, unshare } from "./mounts";
import { openrcPrograms } from "./openrc";
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
  ...(packagePrograms as Programs<HostMachine>),
  snap,
  systemctl: ({ machine, args }) => machine.units.systemctl(args),
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
