/**
 * Debian packages on a host. Exit statuses, dpkg's files and the kernel's list of locks decide. Messages show apt's output; only
 * what apt would remove is parsed from it.
 * @see apt-get(8), dpkg(1)
 */
import { type Deadline, until } from "../support/deadline";
import { CommandError, RefusedError } from "../support/errors";
import type { CommandResult, SshConnection } from "../transport/ssh";

/** Locks that another package manager holds while it works. */
const [LISTS_LOCK, DPKG_LOCKS] = ["/var/lib/apt/lists/lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"]];

/** Has numbered files for what dpkg did not finish. apt refuses to work while one exists. */
const DPKG_JOURNAL = "/var/lib/dpkg/updates";

/** Exit status of dpkg-query(1), and of the shell on a host without dpkg. */
const [UNKNOWN_PACKAGE, NO_DPKG] = [1, 127];

/** A host may be configured to remove unneeded packages with every installation (APT::Get::AutomaticRemove). */
const KEEP_UNNEEDED = "--no-auto-remove";

const INCUS = ". Debian 13 has it, and Debian 12 in bookworm-backports (install.repository and install.targetRelease)";

/** Ends of a message, by packages that the host's sources may not have. */
const WHERE_TO_FIND: Readonly<Record<string, string>> = {
  lxd: '. Debian 12 and 13 have it; on Ubuntu use install: {method: "snap"}',
  incus: INCUS,
  "incus-base": INCUS,
};

/** A package to install, or to bring to a version unless it is newer. */
export interface DebPackage {
  readonly name: string;
  /** @default apt's choice */
  readonly version?: string | undefined;
}

const NO_QUESTIONS = ["env", "DEBIAN_FRONTEND=noninteractive"];

/** An upgrade keeps configuration files that were changed on the host. */
const KEEP_CONFIGURATION = ["--option", "DPkg::Options::=--force-confdef", "--option", "DPkg::Options::=--force-confold"];

/**
 * Installs Debian packages with their dependencies. Waits for another package manager that is working, and first finishes what an
 * interrupted one left.
 * @param targetRelease - As apt-get's `--target-release`: the release to prefer, such as "trixie-backports".
 * @returns apt's message about package sources that it could not read, when the packages came from others.
 * @throws RefusedError when a package cannot be installed from the host's sources, or apt would remove another one for it;
 *   nothing is touched then.
 */
export async function installDebPackages(
  ssh: SshConnection,
  packages: readonly DebPackage[],
  deadline: Deadline,
  targetRelease?: string,
): Promise<string | undefined> {
  await finishInterrupted(ssh, deadline);
  const unread = await updateLists(ssh, deadline);
  await installAvailable(ssh, packages, unread, deadline, targetRelease);
  return unread;
}

/**
 * Brings an installed package to a version, and the packages that were built together with it and depend on the same version. Like
 * {@link installDebPackages}.
 */
export async function upgradeDebPackage(
  ssh: SshConnection,
  wanted: Required<DebPackage>,
  deadline: Deadline,
  targetRelease?: string,
  around?: Around,
): Promise<string | undefined> {
  await finishInterrupted(ssh, deadline);
  const unread = await updateLists(ssh, deadline);
  const { name, version } = wanted;
  const packages: DebPackage[] = [wanted];
  for (const sibling of await installedSiblings(ssh, name, deadline)) {
    if (version !== undefined && (await availableVersions(ssh, sibling, deadline)).includes(version)) {
      packages.push({ name: sibling, version });
    }
  }
  await installAvailable(ssh, packages, unread, deadline, targetRelease, around);
  return unread;
}

/** What must surround the installation itself, once it is known that the sources have the packages. */
type Around = <Result>(work: () => Promise<Result>) => Promise<Result>;

/** @param unread - apt's message about package sources that it cannot read. */
async function installAvailable(
  ssh: SshConnection,
  wanted: readonly DebPackage[],
  unread: string | undefined,
  deadline: Deadline,
  targetRelease?: string,
  around: Around = (work) => work(),
): Promise<void> {
  const sources = unread === undefined ? "" : `. It cannot read all of its package sources: ${unread}`;
  for (const { name, version } of wanted) {
    const versions = await availableVersions(ssh, name, deadline);
    if (versions.length === 0) {
      const hint = WHERE_TO_FIND[name] ?? " (install.packages)";
      throw new RefusedError(`The package sources of ${ssh.name} have no package "${name}"${hint}${sources}`);
    }
    if (version !== undefined && !versions.includes(version)) {
      throw new RefusedError(
        `The package sources of ${ssh.name} have no version ${version} of "${name}" (install.version). They have ${versions.join(", ")}${sources}`,
      );
    }
  }
  const packages = wanted.map(({ name, version }) => (version === undefined ? name : `${name}=${version}`));
  const from = targetRelease === undefined ? [] : ["--target-release", targetRelease];
  const install = [KEEP_UNNEEDED, "--no-remove", ...KEEP_CONFIGURATION, ...from, "install", "--", ...packages];
  const { exitCode, stdout, stderr } = await around(() => aptGet(ssh, install, deadline));
  if (exitCode !== 0) {
    if (targetRelease !== undefined && !(await hasRelease(ssh, targetRelease, deadline))) {
      throw new RefusedError(
        `The package sources of ${ssh.name} have no release "${targetRelease}" (install.targetRelease). Add its repository there, or give it as ` +
          `install.repository${sources}`,
      );
    }
    const removed = await removedFor(ssh, [...from, "install", "--", ...packages], deadline);
    if (removed.length > 0) {
      throw new RefusedError(
        `To install ${packages.join(", ")} on ${ssh.name}, apt would remove ${removed.join(", ")} (${shown(stderr || stdout)}). Nothing was ` +
          `installed or removed. If the host does not need those packages, type there: apt-get ${[...from, "install", ...packages].join(" ")}`,
      );
    }
    throw new CommandError(ssh.name, "apt-get install", exitCode, `${shown(stderr || stdout)}${sources}`);
  }
}

/** Packages that apt would remove to install others. `--simulate` writes a line such as "Remv ifupdown [0.8.41]" for each. */
async function removedFor(ssh: SshConnection, install: readonly string[], deadline: Deadline): Promise<string[]> {
  const { stdout } = await aptGet(ssh, [KEEP_UNNEEDED, "--allow-change-held-packages", "--simulate", ...install], deadline);
  return [...stdout.matchAll(/^Remv (\S+)/gm)].flatMap(([, name]) => name ?? []);
}

/** Which of the packages are installed. None on a host without dpkg. */
export async function installedDebPackages(ssh: SshConnection, names: readonly string[], deadline: Deadline): Promise<string[]> {
  const versions = await installedDebVersions(ssh, names, deadline);
  return names.filter((name) => versions.has(name));
}

/** The versions of those packages that are installed. None on a host without dpkg. */
export async function installedDebVersions(
  ssh: SshConnection,
  names: readonly string[],
  deadline: Deadline,
): Promise<ReadonlyMap<string, string>> {
  const query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status} ${Version}\\n", ...names];
  const { exitCode, stdout, stderr } = await ssh.run(query, { deadline, allowFailure: true });
  if (exitCode !== 0 && exitCode !== UNKNOWN_PACKAGE && exitCode !== NO_DPKG) {
    throw new CommandError(ssh.name, "dpkg-query", exitCode, stderr.trim());
  }
  const lines = stdout.split("\n").map((line) => line.split(" "));
  return new Map(
    lines.flatMap(([name = "", status, version = ""]) => (status === "installed" ? [[name, version] as const] : [])),
  );
}

/** Which of the packages are installed, and whether they are held: apt leaves a held one as it is, and so does unattended-upgrades. */
export async function debHolds(
  ssh: SshConnection,
  names: readonly string[],
  deadline: Deadline,
): Promise<ReadonlyMap<string, boolean>> {
  // Of all packages: asked for some, dpkg-query ends in the same way when it fails and when it knows none of them.
  const query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\\n"];
  const { stdout } = await ssh.run(query, { deadline });
  const lines = stdout.split("\n").map((line) => line.split(" "));
  return new Map(
    lines.flatMap(([name = "", want, status]) =>
      status === "installed" && names.includes(name) ? [[name, want === "hold"] as const] : [],
    ),
  );
}

/** Holds installed packages, or releases them. Waits for another package manager. */
export async function setDebHold(
  ssh: SshConnection,
  names: readonly string[],
  isHeld: boolean,
  deadline: Deadline,
): Promise<void> {
  const others = [...(await debHolds(ssh, names, deadline))].flatMap(([name, held]) => (held === isHeld ? [] : [name]));
  if (others.length === 0) {
    return;
  }
  await until(deadline, async (report) => {
    const command = ["apt-mark", isHeld ? "hold" : "unhold", ...others];
    const { exitCode, stdout, stderr } = await ssh.run(command, { deadline, allowFailure: true });
    if (exitCode === 0) {
      return true;
    }
    if (!(await isLocked(ssh, DPKG_LOCKS, deadline))) {
      throw new CommandError(ssh.name, command.slice(0, 2).join(" "), exitCode, shown(stderr || stdout));
    }
    report(`waiting for another package manager on ${ssh.name} to end`);
    return undefined;
  });
}

/** The other installed packages that were built together with a package, in the same version. */
async function installedSiblings(ssh: SshConnection, name: string, deadline: Deadline): Promise<string[]> {
  const format = "--showformat=${Package} ${db:Status-Status} ${Version} ${source:Package}\\n";
  const { stdout } = await ssh.run(["dpkg-query", "--show", format], { deadline });
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
export async function isOlderDeb(ssh: SshConnection, version: string, other: string, deadline: Deadline): Promise<boolean> {
  const compare = ["dpkg", "--compare-versions", version, "lt", other];
  const { exitCode, stderr } = await ssh.run(compare, { deadline, allowFailure: true });
  if (exitCode > 1) {
    throw new CommandError(ssh.name, "dpkg --compare-versions", exitCode, shown(stderr));
  }
  return exitCode === 0;
}

export async function hasDebPackage(ssh: SshConnection, name: string, deadline: Deadline): Promise<boolean> {
  return (await installedDebPackages(ssh, [name], deadline)).length > 0;
}

/** Whether a package source has a release of this name, codename or version. Each source has a line of its fields. */
async function hasRelease(ssh: SshConnection, release: string, deadline: Deadline): Promise<boolean> {
  // lines such as "     release o=Debian Backports,a=stable-backports,n=trixie-backports,l=Debian Backports,c=main,b=amd64"
  const { stdout } = await ssh.run(["apt-cache", "policy"], { deadline });
  const fields = stdout.split("\n").flatMap((line) =>
    line
      .trim()
      .replace(/^release /, "")
      .split(","),
  );
  return ["a", "n", "v"].some((field) => fields.includes(`${field}=${release}`));
}

/**
 * The versions of a package with exactly this name: apt-get reads "x-" as the removal of x, and "x.y" as a pattern. None when there is no such
 * package.
 */
async function availableVersions(ssh: SshConnection, name: string, deadline: Deadline): Promise<string[]> {
  // lines such as "lxd | 5.0.2-5 | http://…"
  const { stdout } = await ssh.run(["apt-cache", "madison", "--", name], { deadline });
  const lines = stdout.split("\n").map((line) => line.split("|").map((field) => field.trim()));
  return [...new Set(lines.flatMap(([found, version = ""]) => (found === name ? [version] : [])))];
}

async function finishInterrupted(ssh: SshConnection, deadline: Deadline): Promise<void> {
  await until(deadline, async (report) => {
    const journal = await ssh.run(["find", DPKG_JOURNAL, "-mindepth", "1", "-maxdepth", "1"], { deadline });
    if (!journal.stdout.split("\n").some((path) => /\/\d+$/.test(path))) {
      return true;
    }
    const configure = [...NO_QUESTIONS, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"];
    const { exitCode, stdout, stderr } = await ssh.run(configure, { deadline, allowFailure: true });
    if (exitCode === 0) {
      return true;
    }
    if (!(await isLocked(ssh, DPKG_LOCKS, deadline))) {
      throw new CommandError(ssh.name, "dpkg --configure -a", exitCode, shown(stderr || stdout));
    }
    report(`waiting for another package manager on ${ssh.name} to end`);
    return undefined;
  });
}

/** @returns apt's message when it could not read all sources. The lists of the other sources are up to date. */
async function updateLists(ssh: SshConnection, deadline: Deadline): Promise<string | undefined> {
  let failures = 0;
  const { stderr, exitCode } = await until(deadline, async (report) => {
    // apt-get does not wait for this lock. With this Error-Mode, an unreachable source counts as a failure.
    const result = await aptGet(ssh, ["--option", "APT::Update::Error-Mode=any", "update"], deadline);
    if (result.exitCode === 0) {
      return result;
    }
    if (await isLocked(ssh, [LISTS_LOCK], deadline)) {
      report(`waiting for another apt-get on ${ssh.name} to update the package lists`);
      return undefined;
    }
    failures += 1;
    return failures > 1 ? result : undefined; // the other apt-get may have ended between the two commands
  });
  return exitCode === 0 ? undefined : shown(stderr);
}

async function aptGet(ssh: SshConnection, args: readonly string[], deadline: Deadline): Promise<CommandResult> {
  const lock = `DPkg::Lock::Timeout=${Math.max(1, Math.floor(deadline.remainingMs / 1000))}`;
  const apt = [...NO_QUESTIONS, "apt-get", "--quiet", "--yes", "--option", lock];
  return ssh.run([...apt, ...args], { deadline, allowFailure: true });
}

async function isLocked(ssh: SshConnection, paths: readonly string[], deadline: Deadline): Promise<boolean> {
  const files = await ssh.run(["stat", "--format=%i", ...paths], { deadline, allowFailure: true });
  const inodes = files.stdout.split("\n").filter((line) => line !== "");
  const { stdout } = await ssh.run(["cat", "/proc/locks"], { deadline });
  // number, kind, mode, type, process, device and inode such as 08:01:1234, from, to
  return stdout.split("\n").some((line) => inodes.includes(line.trim().split(/\s+/)[5]?.split(":")[2] ?? ""));
}

function shown(text: string): string {
  return text.trim().split("\n").slice(0, 5).join("; ");
}
