/**
 * Debian packages of a machine. Exit statuses, dpkg's files and the kernel's list of locks decide. Messages show apt's output; only
 * what apt would remove is parsed from it.
 * @see apt-get(8), dpkg(1)
 */
import { type Deadline, until } from "../../support/deadline";
import { CommandError, RefusedError } from "../../support/errors";
import type { CommandResult, Machine } from "../machine";
import { type PackageChoice, type PackageList, shown } from "./manager";

/** Locks that another package manager holds while it works. */
const [LISTS_LOCK, DPKG_LOCKS] = ["/var/lib/apt/lists/lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"]];

/** Has numbered files for what dpkg did not finish. apt refuses to work while one exists. */
const DPKG_JOURNAL = "/var/lib/dpkg/updates";

/** Exit status of dpkg-query(1), and of the shell on a machine without dpkg. */
const [UNKNOWN_PACKAGE, NO_DPKG] = [1, 127];

/** A machine may be configured to remove unneeded packages with every installation (APT::Get::AutomaticRemove). */
const KEEP_UNNEEDED = "--no-auto-remove";

/** How messages name the inputs of the program that ask for packages. */
export interface PackageTerms {
  /** End of a message about a package that no source has: the input, and what to do. */
  missing(name: string): string;
  /** The input with the version. */
  readonly version: string;
}

interface InstallOptions {
  readonly deadline: Deadline;
  readonly terms: PackageTerms;
  /** As apt-get's `--target-release`: the release to prefer, such as "trixie-backports". */
  readonly targetRelease?: string | undefined;
}

const NO_QUESTIONS = ["env", "DEBIAN_FRONTEND=noninteractive"];

/** An upgrade keeps configuration files that were changed on the machine. */
const KEEP_CONFIGURATION = ["--option", "DPkg::Options::=--force-confdef", "--option", "DPkg::Options::=--force-confold"];

/**
 * Installs Debian packages with their dependencies. Waits for another package manager that is working, and first finishes what an
 * interrupted one left.
 * @returns apt's message about package sources that it could not read, when the packages came from others.
 * @throws RefusedError when a package cannot be installed from the machine's sources, or apt would remove another one for it;
 *   nothing is touched then.
 */
export async function installDebPackages(
  machine: Machine,
  packages: readonly PackageChoice[],
  options: InstallOptions,
): Promise<string | undefined> {
  await finishInterrupted(machine, options.deadline);
  const unread = await updateLists(machine, options.deadline);
  await installAvailable(machine, packages, unread, options);
  return unread;
}

/**
 * Brings an installed package to a version, and the packages that were built together with it and depend on the same version. Like
 * {@link installDebPackages}.
 */
export async function upgradeDebPackage(
  machine: Machine,
  wanted: Required<PackageChoice>,
  options: InstallOptions,
  around?: Around,
): Promise<string | undefined> {
  await finishInterrupted(machine, options.deadline);
  const unread = await updateLists(machine, options.deadline);
  const { name, version } = wanted;
  const packages: PackageChoice[] = [wanted];
  const siblings = await installedSiblings(machine, name);
  const available = await availableDebVersions(machine, siblings);
  for (const sibling of siblings) {
    if (version !== undefined && available.get(sibling)?.includes(version) === true) {
      packages.push({ name: sibling, version });
    }
  }
  await installAvailable(machine, packages, unread, options, around);
  return unread;
}

/** What must surround the installation itself, once it is known that the sources have the packages. */
type Around = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** @param unread - apt's message about package sources that it cannot read. */
async function installAvailable(
  machine: Machine,
  wanted: readonly PackageChoice[],
  unread: string | undefined,
  { deadline, terms, targetRelease }: InstallOptions,
  around: Around = (work) => work(),
): Promise<void> {
  const sources = unreadSources(unread);
  const names = wanted.map(({ name }) => name);
  refuseUnavailable(machine, wanted, await availableDebVersions(machine, names), terms, unread);
  const from = targetRelease === undefined ? [] : ["--target-release", targetRelease];
  const { exitCode, stdout, stderr } = await around(() => installDebs(machine, wanted, deadline, from));
  if (exitCode !== 0) {
    if (targetRelease !== undefined && !(await hasRelease(machine, targetRelease))) {
      throw new RefusedError(
        `The package sources of ${machine.name} have no release "${targetRelease}" (install.targetRelease). Add its repository there, or give it as ` +
          `install.repository${sources}`,
      );
    }
    const packages = wanted.map(wordOf);
    const { removed } = await simulateDebs(machine, packages, deadline, from);
    if (removed.length > 0) {
      throw new RefusedError(
        `To install ${packages.join(", ")} ${machine.place}, apt would remove ${removed.join(", ")} (${shown(stderr || stdout)}). Nothing was ` +
          `installed or removed. If the host does not need those packages, type there: apt-get ${[...from, "install", ...packages].join(" ")}`,
      );
    }
    throw new CommandError(machine.name, "apt-get install", exitCode, `${shown(stderr || stdout)}${sources}`);
  }
}

/** @throws RefusedError for a package that the sources do not have, or not in the wanted version. */
export function refuseUnavailable(
  { name: where }: Machine,
  wanted: readonly PackageChoice[],
  available: ReadonlyMap<string, readonly string[]>,
  terms: PackageTerms,
  unread?: string,
): void {
  const sources = unreadSources(unread);
  for (const { name, version } of wanted) {
    const versions = available.get(name) ?? [];
    if (versions.length === 0) {
      throw new RefusedError(`The package sources of ${where} have no package "${name}"${terms.missing(name)}${sources}`);
    }
    if (version !== undefined && !versions.includes(version)) {
      throw new RefusedError(
        `The package sources of ${where} have no version ${version} of "${name}" (${terms.version}). They have ${versions.join(", ")}${sources}`,
      );
    }
  }
}

function unreadSources(unread: string | undefined): string {
  return unread === undefined ? "" : `. It cannot read all of its package sources: ${unread}`;
}

/** A package on the command line of apt-get. */
export function wordOf({ name, version }: PackageChoice): string {
  return version === undefined ? name : `${name}=${version}`;
}

/**
 * Installs packages that the sources have, and removes nothing for them.
 * @param options - Further options of apt-get.
 */
export function installDebs(
  machine: Machine,
  packages: readonly PackageChoice[],
  deadline: Deadline,
  options: readonly string[] = [],
): Promise<CommandResult> {
  const how = [KEEP_UNNEEDED, "--no-remove", ...KEEP_CONFIGURATION, ...options];
  return aptGet(machine, [...how, "install", "--", ...packages.map(wordOf)], deadline);
}

/**
 * What apt would do to install packages, also to held ones: the packages that it would remove. `--simulate` writes a line such as
 * "Remv ifupdown [0.8.41]" for each. Takes no lock.
 * @param words - As apt-get's `install`: `name`, `name=version`, or `name-` for a removal.
 */
export async function simulateDebs(
  machine: Machine,
  words: readonly string[],
  deadline: Deadline,
  options: readonly string[] = [],
): Promise<CommandResult & { readonly removed: readonly string[] }> {
  const how = ["--option", "Debug::NoLocking=true", KEEP_UNNEEDED, "--allow-change-held-packages", "--simulate", ...options];
  const result = await aptGet(machine, [...how, "install", "--", ...words], deadline);
  return { ...result, removed: [...result.stdout.matchAll(/^(?:Remv|Purg) (\S+)/gm)].flatMap(([, name]) => name ?? []) };
}

/** Removes packages, and not those that were installed for them. */
export async function removeDebs(machine: Machine, names: readonly string[], deadline: Deadline): Promise<void> {
  const { exitCode, stdout, stderr } = await aptGet(machine, [KEEP_UNNEEDED, "remove", "--", ...names], deadline);
  if (exitCode !== 0) {
    throw new CommandError(machine.name, "apt-get remove", exitCode, shown(stderr || stdout));
  }
}

/** Which of the packages are installed. None on a machine without dpkg. */
export async function installedDebPackages(machine: Machine, names: readonly string[]): Promise<string[]> {
  const versions = await installedDebVersions(machine, names);
  return names.filter((name) => versions.has(name));
}

/** The versions of those packages that are installed. None on a machine without dpkg. */
export async function installedDebVersions(machine: Machine, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status} ${Version}\\n", ...names];
  const { exitCode, stdout, stderr } = await machine.run(query, { allowFailure: true });
  if (exitCode !== 0 && exitCode !== UNKNOWN_PACKAGE && exitCode !== NO_DPKG) {
    throw new CommandError(machine.name, "dpkg-query", exitCode, stderr.trim());
  }
  const lines = stdout.split("\n").map((line) => line.split(" "));
  return new Map(
    lines.flatMap(([name = "", status, version = ""]) => (status === "installed" ? [[name, version] as const] : [])),
  );
}

/** Of all packages: asked for some, dpkg-query ends in the same way when it fails and when it knows none of them. */
export const LIST_DEBS = [
  "dpkg-query",
  "--show",
  "--showformat=${Package} ${Architecture} ${db:Status-Want} ${db:Status-Status} ${Version}\\n",
];

/** The installed packages of the machine's own architecture, in the answer to {@link LIST_DEBS}. */
export function debsIn(stdout: string): PackageList {
  const lines = stdout.split("\n").map((line) => line.split(" "));
  const native = lines.find(([name]) => name === "dpkg")?.[1];
  return new Map(
    lines.flatMap(([name = "", architecture = "", want, status, version = ""]) => {
      const isForeign = native !== undefined && architecture !== native && architecture !== "all";
      return status === "installed" && !isForeign ? [[name, { version, isHeld: want === "hold" }] as const] : [];
    }),
  );
}

/** Which of the packages are installed, and whether they are held: apt leaves a held one as it is, and so does unattended-upgrades. */
export async function debHolds(machine: Machine, names: readonly string[]): Promise<ReadonlyMap<string, boolean>> {
  const installed = debsIn((await machine.run(LIST_DEBS)).stdout);
  return new Map([...installed].flatMap(([name, { isHeld }]) => (names.includes(name) ? [[name, isHeld] as const] : [])));
}

/** Holds installed packages, or releases them. Waits for another package manager. */
export async function setDebHold(machine: Machine, names: readonly string[], isHeld: boolean, deadline: Deadline): Promise<void> {
  const others = [...(await debHolds(machine, names))].flatMap(([name, held]) => (held === isHeld ? [] : [name]));
  if (others.length === 0) {
    return;
  }
  await until(deadline, async (report) => {
    const command = ["apt-mark", isHeld ? "hold" : "unhold", ...others];
    const { exitCode, stdout, stderr } = await machine.run(command, { allowFailure: true });
    if (exitCode === 0) {
      return true;
    }
    if (!(await isLocked(machine, DPKG_LOCKS))) {
      throw new CommandError(machine.name, command.slice(0, 2).join(" "), exitCode, shown(stderr || stdout));
    }
    report(`waiting for another package manager ${machine.place} to end`);
    return undefined;
  });
}

/** The other installed packages that were built together with a package, in the same version. */
async function installedSiblings(machine: Machine, name: string): Promise<string[]> {
  const format = "--showformat=${Package} ${db:Status-Status} ${Version} ${source:Package}\\n";
  const { stdout } = await machine.run(["dpkg-query", "--show", format]);
  const installed = stdout.split("\n").flatMap((line) => {
    const [name = "", status, version, source] = line.split(" ");
    return status === "installed" ? [{ name, version, source }] : [];
  });
  const own = installed.find((each) => each.name === name);
  return installed
    .filter((each) => own !== undefined && each !== own && each.version === own.version && each.source === own.source)
    .map((each) => each.name);
}

/** Whether a version of a package is older than another one, as dpkg compares them. */
export async function isOlderDeb(machine: Machine, version: string, other: string): Promise<boolean> {
  const compare = ["dpkg", "--compare-versions", version, "lt", other];
  const { exitCode, stderr } = await machine.run(compare, { allowFailure: true });
  if (exitCode > 1) {
    throw new CommandError(machine.name, "dpkg --compare-versions", exitCode, shown(stderr));
  }
  return exitCode === 0;
}

export async function hasDebPackage(machine: Machine, name: string): Promise<boolean> {
  return (await installedDebPackages(machine, [name])).length > 0;
}

/** Whether a package source has a release of this name, codename or version. Each source has a line of its fields. */
async function hasRelease(machine: Machine, release: string): Promise<boolean> {
  // lines such as "     release o=Debian Backports,a=stable-backports,n=trixie-backports,l=Debian Backports,c=main,b=amd64"
  const { stdout } = await machine.run(["apt-cache", "policy"]);
  const fields = stdout.split("\n").flatMap((line) =>
    line
      .trim()
      .replace(/^release /, "")
      .split(","),
  );
  return ["a", "n", "v"].some((field) => fields.includes(`${field}=${release}`));
}

/**
 * The versions of the packages with exactly these names, the newest first: apt-get reads "x-" as the removal of x, and "x.y" as a
 * pattern. A package that no source has is not in the answer.
 */
export async function availableDebVersions(
  machine: Machine,
  names: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  if (names.length === 0) {
    return new Map();
  }
  // lines such as "lxd | 5.0.2-5 | http://…"
  const { stdout } = await machine.run(["apt-cache", "madison", "--", ...names]);
  const lines = stdout.split("\n").map((line) => line.split("|").map((field) => field.trim()));
  return new Map(
    names.flatMap((name) => {
      const versions = new Set(lines.flatMap(([found, version = ""]) => (found === name ? [version] : [])));
      return versions.size === 0 ? [] : [[name, [...versions]] as const];
    }),
  );
}

/** Finishes what an interrupted dpkg left. Waits for another package manager. */
export async function finishInterrupted(machine: Machine, deadline: Deadline): Promise<void> {
  await until(deadline, async (report) => {
    const journal = await machine.run(["find", DPKG_JOURNAL, "-mindepth", "1", "-maxdepth", "1"]);
    if (!journal.stdout.split("\n").some((path) => /\/\d+$/.test(path))) {
      return true;
    }
    const configure = [...NO_QUESTIONS, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"];
    const { exitCode, stdout, stderr } = await machine.run(configure, { allowFailure: true });
    if (exitCode === 0) {
      return true;
    }
    if (!(await isLocked(machine, DPKG_LOCKS))) {
      throw new CommandError(machine.name, "dpkg --configure -a", exitCode, shown(stderr || stdout));
    }
    report(`waiting for another package manager ${machine.place} to end`);
    return undefined;
  });
}

/** Updates apt's lists. @returns apt's message when it could not read all sources. The lists of the other sources are up to date. */
export async function updateLists(machine: Machine, deadline: Deadline): Promise<string | undefined> {
  let failures = 0;
  const { stderr, exitCode } = await until(deadline, async (report) => {
    // apt-get does not wait for this lock. With this Error-Mode, an unreachable source counts as a failure.
    const result = await aptGet(machine, ["--option", "APT::Update::Error-Mode=any", "update"], deadline);
    if (result.exitCode === 0) {
      return result;
    }
    if (await isLocked(machine, [LISTS_LOCK])) {
      report(`waiting for another apt-get ${machine.place} to update the package lists`);
      return undefined;
    }
    failures += 1;
    return failures > 1 ? result : undefined; // the other apt-get may have ended between the two commands
  });
  return exitCode === 0 ? undefined : shown(stderr);
}

async function aptGet(machine: Machine, args: readonly string[], deadline: Deadline): Promise<CommandResult> {
  const lock = `DPkg::Lock::Timeout=${Math.max(1, Math.floor(deadline.remainingMs / 1000))}`;
  const apt = [...NO_QUESTIONS, "apt-get", "--quiet", "--yes", "--option", lock];
  return machine.run([...apt, ...args], { allowFailure: true });
}

async function isLocked(machine: Machine, paths: readonly string[]): Promise<boolean> {
  const files = await machine.run(["stat", "--format=%i", ...paths], { allowFailure: true });
  const inodes = files.stdout.split("\n").filter((line) => line !== "");
  const { stdout } = await machine.run(["cat", "/proc/locks"]);
  // number, kind, mode, type, process, device and inode such as 08:01:1234, from, to
  return stdout.split("\n").some((line) => inodes.includes(line.trim().split(/\s+/)[5]?.split(":")[2] ?? ""));
}
