import { type Deadline, until } from "../support/deadline";
import { CommandError, hasCode, messageOf, RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** Where LXD's snap comes from and how it is kept. */
export interface SnapChoice {
  /** Such as "5.21/stable". */
  readonly channel: string;
  /** Get the same revision on all hosts, even while a release is being rolled out. */
  readonly cohort: boolean;
  /** Do not let snapd upgrade it by itself. */
  readonly hold: boolean;
}

/** What a host says of the LXD snap that is installed. */
export interface InstalledSnap {
  readonly channel: string;
  readonly held: boolean;
}

/**
 * Installs Debian packages with their dependencies, waiting for another package manager that is at work.
 * @throws RefusedError when the host's package sources lack one of them; nothing is installed then.
 */
export async function installDebPackages(ssh: SshConnection, names: readonly string[], deadline: Deadline): Promise<void> {
  const lock = `DPkg::Lock::Timeout=${lockSeconds(deadline)}`;
  const apt = ["env", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--option", lock];
  // That option is for the lock of dpkg. For the one of the package lists, which an interrupted `up` may have left at work, apt-get does
  // not wait.
  await until(deadline, async (report) => {
    try {
      return await ssh.run([...apt, "update"], { deadline });
    } catch (error) {
      if (!hasCode(error, "command") || !/Could not get lock .*\/lists\/lock/.test(messageOf(error))) {
        throw error;
      }
      report(`another apt-get is updating the package lists of ${ssh.name}`);
      return undefined;
    }
  });
  for (const name of names) {
    const candidate = await ssh.run(["apt-cache", "policy", name], { deadline });
    if (!/^ {2}Candidate: (?!\(none\))/m.test(candidate.stdout)) {
      throw new RefusedError(
        `The package sources of ${ssh.name} have no package "${name}"` +
          (name === "lxd" ? '. Debian 12 and 13 have it; on Ubuntu use install: {method: "snap"}' : " (install.packages)"),
      );
    }
  }
  await ssh.run([...apt, "--yes", "install", ...names], { deadline });
}

/** Whether a Debian package is installed. */
export async function hasDebPackage(ssh: SshConnection, name: string, deadline: Deadline): Promise<boolean> {
  const query = await ssh.run(["dpkg-query", "--show", "--showformat=${db:Status-Status}", name], {
    deadline,
    allowFailure: true,
  });
  return query.exitCode === 0 && query.stdout.trim() === "installed";
}

/** The installed snap of a name, or `undefined`. */
export async function findSnap(ssh: SshConnection, name: string, deadline: Deadline): Promise<InstalledSnap | undefined> {
  const list = await ssh.run(["env", "LC_ALL=C", "snap", "list", name], { deadline, allowFailure: true });
  // A host without snapd has no snaps; but one whose snapd does not answer may have this one.
  if (list.exitCode === 127 || (list.exitCode !== 0 && list.stderr.includes("no matching snaps"))) {
    return undefined;
  }
  if (list.exitCode !== 0) {
    throw new CommandError(ssh.name, "snap", list.exitCode, list.stderr.trim());
  }
  // Name  Version  Rev  Tracking  Publisher  Notes
  const fields = list.stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .find(([first]) => first === name);
  return fields === undefined ? undefined : { channel: fields[3] ?? "", held: (fields[5] ?? "").split(",").includes("held") };
}

/** Installs a snap, or brings an installed one to the channel; then holds it or lets it go. */
export async function installSnap(ssh: SshConnection, name: string, choice: SnapChoice, deadline: Deadline): Promise<void> {
  const installed = await findSnap(ssh, name, deadline);
  if (installed === undefined && (await ssh.run(["snap", "version"], { deadline, allowFailure: true })).exitCode !== 0) {
    throw new RefusedError(
      `${ssh.name} has no snapd, which install: {method: "snap"} needs. Install it (apt-get install snapd), or use {method: "deb"}`,
    );
  }
  const options = [`--channel=${choice.channel}`, ...(choice.cohort ? ["--cohort=+"] : [])];
  if (installed === undefined) {
    await ssh.run(["snap", "install", name, ...options], { deadline });
  } else if (!sameChannel(installed.channel, choice.channel)) {
    await ssh.run(["snap", "refresh", name, ...options], { deadline });
  }
  if ((installed?.held ?? false) !== choice.hold) {
    await ssh.run(["snap", "refresh", choice.hold ? "--hold" : "--unhold", name], { deadline });
  }
}

/** Starts LXD where it is installed and does not listen. */
export async function startLxd(ssh: SshConnection, method: "deb" | "snap", deadline: Deadline): Promise<void> {
  await ssh.run(method === "snap" ? ["snap", "start", "lxd"] : ["systemctl", "start", "lxd.socket", "lxd.service"], { deadline });
}

/** Whether two channel texts mean the same; "latest" is the track when none is named, "stable" the risk. */
export function sameChannel(a: string, b: string): boolean {
  const full = (channel: string): string => {
    const parts = channel.split("/");
    const risks = ["stable", "candidate", "beta", "edge"];
    if (parts.length === 1) {
      return risks.includes(parts[0] ?? "") ? `latest/${parts[0] ?? ""}` : `${parts[0] ?? ""}/stable`;
    }
    return channel;
  };
  return full(a) === full(b);
}

function lockSeconds(deadline: Deadline): string {
  return String(Math.max(1, Math.floor(deadline.remainingMs / 1000)));
}
