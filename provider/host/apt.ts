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

const NO_QUESTIONS = ["env", "DEBIAN_FRONTEND=noninteractive"];

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
  names: readonly string[],
  deadline: Deadline,
  targetRelease?: string,
): Promise<string | undefined> {
  await finishInterrupted(ssh, deadline);
  const unread = await updateLists(ssh, deadline);
  const sources = unread === undefined ? "" : `. It cannot read all of its package sources: ${unread}`;
  for (const name of names) {
    if (!(await isAvailable(ssh, name, deadline))) {
      const hint = WHERE_TO_FIND[name] ?? " (install.packages)";
      throw new RefusedError(`The package sources of ${ssh.name} have no package "${name}"${hint}${sources}`);
    }
  }
  const from = targetRelease === undefined ? [] : ["--target-release", targetRelease];
  const install = [KEEP_UNNEEDED, "--no-remove", ...from, "install", "--", ...names];
  const { exitCode, stdout, stderr } = await aptGet(ssh, install, deadline);
  if (exitCode !== 0) {
    if (targetRelease !== undefined && !(await hasRelease(ssh, targetRelease, deadline))) {
      throw new RefusedError(
        `The package sources of ${ssh.name} have no release "${targetRelease}" (install.targetRelease). Add its repository there, or give it as ` +
          `install.repository${sources}`,
      );
    }
    const removed = await removedFor(ssh, [...from, "install", "--", ...names], deadline);
    if (removed.length > 0) {
      throw new RefusedError(
        `To install ${names.join(", ")} on ${ssh.name}, apt would remove ${removed.join(", ")} (${shown(stderr || stdout)}). Nothing was ` +
          `installed or removed. If the host does not need those packages, type there: apt-get ${[...from, "install", ...names].join(" ")}`,
      );
    }
    throw new CommandError(ssh.name, "apt-get install", exitCode, `${shown(stderr || stdout)}${sources}`);
  }
  return unread;
}

/** Packages that apt would remove to install others. `--simulate` writes a line such as "Remv ifupdown [0.8.41]" for each. */
async function removedFor(ssh: SshConnection, install: readonly string[], deadline: Deadline): Promise<string[]> {
  const { stdout } = await aptGet(ssh, [KEEP_UNNEEDED, "--simulate", ...install], deadline);
  return [...stdout.matchAll(/^Remv (\S+)/gm)].flatMap(([, name]) => name ?? []);
}

/** Which of the packages are installed. None on a host without dpkg. */
export async function installedDebPackages(ssh: SshConnection, names: readonly string[], deadline: Deadline): Promise<string[]> {
  const query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", ...names];
  const { exitCode, stdout, stderr } = await ssh.run(query, { deadline, allowFailure: true });
  if (exitCode !== 0 && exitCode !== UNKNOWN_PACKAGE && exitCode !== NO_DPKG) {
    throw new CommandError(ssh.name, "dpkg-query", exitCode, stderr.trim());
  }
  const lines = stdout.split("\n");
  return names.filter((name) => lines.includes(`${name} installed`));
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

/** Whether a package with exactly this name exists: apt-get reads "x-" as the removal of x, and "x.y" as a pattern. */
async function isAvailable(ssh: SshConnection, name: string, deadline: Deadline): Promise<boolean> {
  // lines such as "lxd | 5.0.2-5 | http://…"
  const { stdout } = await ssh.run(["apt-cache", "madison", "--", name], { deadline });
  return stdout.split("\n").some((line) => line.split("|")[0]?.trim() === name);
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
