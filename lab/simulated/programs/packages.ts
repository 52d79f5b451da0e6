/** The programs of package managers, the same on hosts and in guests: dpkg and apt of Debian, apk of Alpine. */
import { NEEDED_BY } from "../debian-archive";
import { compareDebianVersions } from "../debian-versions";
import { failure, type Machine, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments } from "../machine";
import { filePrograms } from "./files";

/** A machine with packages. */
export interface PackagedMachine extends Machine {
  /** @default "apt" */
  readonly packageManager?: "apt" | "apk" | "none";
  /** Installed packages and their versions. */
  readonly packages: ReadonlyMap<string, string>;
  /** Those on hold. */
  readonly heldPackages: Set<string>;
  /** Packages that can be installed. */
  readonly archive: ReadonlyMap<string, string>;
  readonly packageTrouble: PackageTrouble;
  /** All versions of a package that the sources have, the newest first. */
  versionsOf(name: string): string[];
  /** Waits for the lab's installation time. */
  takeInstallTime(): Promise<void>;
  installPackage(name: string, version?: string): void;
  removePackage(name: string, purge: boolean): void;
}

/** Faults of a machine's package management. */
export interface PackageTrouble {
  /** Number of next `apt-get update` runs that find the lists locked by another process. */
  listsLocked: number;
  /** Whether dpkg was killed during its work. */
  interrupted: boolean;
  /** Sources that cannot be read. */
  deadSources: string[];
  /** By package, the packages that must be removed for it, as in a conflict. */
  conflicts: Record<string, string[]>;
  /** By package, the packages that need it, and are removed with it. */
  dependents: Record<string, string[]>;
  /** Packages that no other one needs, on a machine whose apt.conf has `APT::Get::AutomaticRemove "true";`. */
  unneeded: string[];
  /** Packages of the sources that the lists have only after the next update. */
  unlisted: string[];
  /** Number of next downloads that fail. */
  failedDownloads: number;
  /** Packages whose installation fails. */
  broken: string[];
}

/** No fault. */
export function noTrouble(): PackageTrouble {
  return {
    ...{ listsLocked: 0, interrupted: false, deadSources: [], conflicts: {}, dependents: {}, unneeded: [] },
    ...{ unlisted: [], failedDownloads: 0, broken: [] },
  };
}

type Run = ProgramRun<PackagedMachine>;

const LISTS = "/var/lib/apt/lists";
const LISTS_LOCK = { path: `${LISTS}/lock`, inode: 4711 };
const APK_DATABASE = "/lib/apk/db/installed";

/** A program of one package manager, which other machines do not have. */
function only(manager: "apt" | "apk", program: (run: Run) => ProgramResult | Promise<ProgramResult>) {
  return (run: Run) =>
    (run.machine.packageManager ?? "apt") === manager ? program(run) : failure(127, `sh: 1: ${run.program}: not found`);
}

function onFiles(program: string, run: Run): ProgramResult | Promise<ProgramResult> {
  return filePrograms[program]?.(run) ?? failure(127, `${program}: not simulated`);
}

/** Programs of package managers, and those for files where they show what package managers keep. */
export const packagePrograms: Programs<PackagedMachine> = {
  "dpkg-query": only("apt", dpkgQuery),
  "apt-get": only("apt", aptGet),
  "apt-mark": only("apt", aptMark),
  dpkg: only("apt", dpkg),
  "apt-cache": only("apt", aptCache),
  apk: only("apk", apk),
  stat: (run) => (run.args.at(-1) === LISTS_LOCK.path ? ok(`${LISTS_LOCK.inode}\n`) : onFiles("stat", run)),
  find: findWithPackages,
  cat: catWithPackages,
};

function findWithPackages(run: Run): ProgramResult | Promise<ProgramResult> {
  const [path = "", ...rest] = run.args;
  if (path === "/var/lib/dpkg/updates") {
    return ok(run.machine.packageTrouble.interrupted ? "/var/lib/dpkg/updates/0001\n" : "");
  }
  if (rest.slice(0, 3).join(" ") === "-maxdepth 0 -mmin") {
    const node = run.machine.files.get(path);
    const minutes = Number(rest[3]?.slice(1));
    const isNewer = node !== undefined && Date.now() - node.modified.getTime() < minutes * 60_000;
    return node === undefined ? failure(1, `find: '${path}': No such file or directory`) : ok(isNewer ? `${path}\n` : "");
  }
  return onFiles("find", run);
}

/** `cat`, also of the kernel's locks and of Alpine's database. */
export function catWithPackages(run: Run): ProgramResult | Promise<ProgramResult> {
  const { machine, args } = run;
  if (args[0] === "/proc/locks") {
    const text = locks(machine);
    machine.packageTrouble.listsLocked = Math.max(0, machine.packageTrouble.listsLocked - 1);
    return ok(text);
  }
  if (args[0] === APK_DATABASE && machine.packageManager === "apk") {
    return ok([...machine.packages].map(([name, version]) => `C:Q1\nP:${name}\nV:${version}\nA:x86_64\n\n`).join(""));
  }
  return onFiles("cat", run);
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
        Architecture: "amd64",
        "source:Package": name === "incus-base" ? "incus" : name,
      };
      result.stdout += format.replace(/\$\{([^}]+)\}/g, (whole, key: string) => values[key] ?? whole);
    }
  }
  return result;
}

function locks({ packageTrouble }: PackagedMachine): string {
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
      ...["--no-remove", "--no-auto-remove", "--simulate", "--allow-change-held-packages", "--download-only"],
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
    if (dead.length > 0) {
      return failure(100, dead.join(""));
    }
    trouble.unlisted = [];
    touch(machine, LISTS);
    return ok("Reading package lists...\n");
  }
  if (trouble.interrupted && !options.has("--simulate") && !options.has("--download-only")) {
    return failure(100, "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.");
  }
  if (command === "install") {
    for (const wanted of names) {
      const [name = "", version] = wanted.split("=");
      if (isRemoval(machine, wanted)) {
        continue;
      }
      if (knownVersions(machine, name).length === 0) {
        return failure(100, `E: Unable to locate package ${name}`);
      }
      if (version !== undefined && !knownVersions(machine, name).includes(version)) {
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
    const held = names.filter((name) => machine.heldPackages.has(name));
    if (held.length > 0) {
      return failure(100, "E: Held packages were changed and -y was used without --allow-change-held-packages.");
    }
    withDependents(machine, names).forEach((name) => machine.removePackage(name, command === "purge"));
    return ok();
  }
  return failure(100, `E: Invalid operation ${command}`);
}

/** As apt 2.6.1 of Debian 12 does it, verified with sysvinit-core replacing systemd-sysv. */
async function install(
  machine: PackagedMachine,
  names: string[],
  options: { has(option: string): boolean },
): Promise<ProgramResult> {
  const { conflicts, unneeded } = machine.packageTrouble;
  const cleans = !options.has("--no-auto-remove") && unneeded.length > 0;
  const gone = names.filter((name) => isRemoval(machine, name)).map((name) => name.slice(0, -1));
  const wantedNames = names.filter((name) => !isRemoval(machine, name)).map((name) => name.split("=", 1)[0] ?? "");
  const inTheWay = wantedNames.flatMap((name) => conflicts[name] ?? []).filter((name) => machine.packages.has(name));
  const removed = [...new Set([...withDependents(machine, gone), ...inTheWay, ...(cleans ? unneeded : [])])];
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
  if (machine.packageTrouble.failedDownloads > 0) {
    machine.packageTrouble.failedDownloads -= 1;
    return failure(100, "E: Failed to fetch http://deb.debian.org/debian/pool  Could not connect to deb.debian.org:80");
  }
  if (options.has("--download-only")) {
    return ok(list);
  }
  await machine.takeInstallTime();
  if (machine.packageTrouble.broken.some((name) => wantedNames.includes(name))) {
    return failure(100, "E: Sub-process /usr/bin/dpkg returned an error code (1)");
  }
  removed.forEach((name) => machine.removePackage(name, false));
  for (const wanted of names) {
    const [name = "", version] = wanted.split("=");
    machine.installPackage(name, version);
  }
  return ok(list);
}

/** The host's own release, and those of further sources in deb822 format. */
function releasesOf({ files }: PackagedMachine): string[] {
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
  const [command = "", ...names] = operands;
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
    names.flatMap((name) => knownVersions(machine, name).map((version) => `       ${name} | ${version} | ${source}\n`)).join(""),
  );
}

/** A name with a dash at its end is to be removed, as apt-get's `install` reads it. */
function isRemoval(machine: PackagedMachine, word: string): boolean {
  return word.endsWith("-") && knownVersions(machine, word).length === 0 && machine.packages.has(word.slice(0, -1));
}

/** Installed packages, and those that need them. */
function withDependents(machine: PackagedMachine, names: readonly string[]): string[] {
  const all = names.flatMap((name) => [name, ...(NEEDED_BY[name] ?? []), ...(machine.packageTrouble.dependents[name] ?? [])]);
  return [...new Set(all)].filter((name) => machine.packages.has(name));
}

/** The versions of a package that the machine's lists have. */
function knownVersions(machine: PackagedMachine, name: string): string[] {
  return machine.packageTrouble.unlisted.includes(name) ? [] : machine.versionsOf(name);
}

function touch({ files }: PackagedMachine, path: string): void {
  files.makeDirectory(path, { parents: true });
  const node = files.get(path);
  if (node !== undefined) {
    node.modified = new Date();
  }
}

/** As apk-tools 2.14 documents it; not tried against a real one. */
async function apk({ machine, args }: Run): Promise<ProgramResult> {
  const { options, operands } = parseArguments(args, {
    flags: ["--exact", "--simulate", "--quiet", "--test"],
    valued: ["--wait"],
  });
  const [command = "", ...names] = operands;
  const { packageTrouble: trouble } = machine;
  switch (command) {
    case "update":
      if (trouble.deadSources.length > 0) {
        return failure(trouble.deadSources.length, `WARNING: opening ${trouble.deadSources[0] ?? ""}: network error`);
      }
      trouble.unlisted = [];
      touch(machine, "/var/cache/apk");
      return ok();
    case "search":
      return ok(names.flatMap((name) => knownVersions(machine, name).map((version) => `${name}-${version}\n`)).join(""));
    case "version": {
      const [left = "", right = ""] = names;
      return ok(compareDebianVersions(left, "lt", right) === true ? "<\n" : left === right ? "=\n" : ">\n");
    }
    case "add": {
      const unknown = names.find((word) => {
        const [name = "", version] = word.split("=");
        const known = knownVersions(machine, name);
        return known.length === 0 || (version !== undefined && !known.includes(version));
      });
      if (unknown !== undefined) {
        return failure(1, `ERROR: unable to select packages:\n  ${unknown} (no such package)`);
      }
      if (options.has("--simulate")) {
        return ok();
      }
      if (trouble.failedDownloads > 0) {
        trouble.failedDownloads -= 1;
        return failure(1, "ERROR: temporary error (try again later)");
      }
      await machine.takeInstallTime();
      for (const word of names) {
        const [name = "", version] = word.split("=");
        machine.installPackage(name, version);
      }
      return ok();
    }
    case "del": {
      const known = new Map(machine.packages);
      const needed = names.filter((name) => withDependents(machine, [name]).length > 1);
      if (!options.has("--simulate")) {
        names.filter((name) => !needed.includes(name)).forEach((name) => machine.removePackage(name, true));
      }
      const gone = names.filter((name) => !needed.includes(name) && known.has(name));
      const purging = gone.map((name, index) => `(${index + 1}/${gone.length}) Purging ${name} (${known.get(name) ?? ""})\n`);
      return ok(
        purging.join("") +
          needed.map((name) => `World updated, but the following packages are not removed due to:\n  ${name}\n`).join(""),
      );
    }
    default:
      return failure(1, `ERROR: '${command}' is not an apk command.`);
  }
}
