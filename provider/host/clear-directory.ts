import type { Deadline } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { unmountBelow } from "./mounts";
import { isThere, realPath } from "./paths";

/** Suffix of a directory that is being deleted. An empty directory takes its place. */
const ASIDE = ".pulumi-lxd-wiped";

/** Calls only rename(2): mv(1) copies, and then deletes, what it cannot rename. The exit status is errno. */
const RENAME = "rename($ARGV[0], $ARGV[1]) or exit $!+0";

/** Linux's errno for a mount point, and for a file system that cannot rename this directory. */
const [EBUSY, EXDEV] = [16, 18];

/**
 * Deletes the contents of a directory in a private mount namespace, where the directory is bound onto itself. Mounts below it are
 * not visible there, so no path leads to them. This includes mounts of the same file system, which `--one-file-system` and
 * `-xdev` do not notice, and mounts that somebody makes meanwhile. A directory with such a mount on it is busy, and the command
 * fails.
 */
const DELETE_ALONE = 'mount --bind -- "$1" "$1" && cd -- "$1" && exec find . -mindepth 1 -delete';

/**
 * Empties a directory, and nothing that is mounted below it. If it can be renamed, it is emptied in one step and is never half
 * empty. Calling this again after an interruption finishes the work.
 * @throws RefusedError when a mount remains below it. Nothing has been deleted then.
 */
export async function clearDirectory(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  const real = await realPath(ssh, directory, deadline);
  const aside = `${real}${ASIDE}`;
  await unmountBelow(ssh, real, deadline);
  if (await isThere(ssh, "-e", aside, deadline)) {
    await replaceBy(ssh, aside, real, deadline);
    await remove(ssh, aside, deadline);
  }
  if (!(await isThere(ssh, "-e", real, deadline))) {
    return;
  }
  const { exitCode, stderr } = await ssh.run(["perl", "-e", RENAME, real, aside], { deadline, allowFailure: true });
  if (exitCode === 0) {
    await replaceBy(ssh, aside, real, deadline);
    await remove(ssh, aside, deadline);
  } else if (exitCode === EBUSY || exitCode === EXDEV) {
    await deleteAlone(ssh, real, deadline);
  } else {
    throw new CommandError(ssh.name, "perl", exitCode, `cannot rename ${real}: error ${exitCode} ${stderr.trim()}`);
  }
}

/** Creates a directory with the owner and the mode of the one that was moved aside. */
async function replaceBy(ssh: SshConnection, aside: string, directory: string, deadline: Deadline): Promise<void> {
  await ssh.run(["mkdir", "--parents", directory], { deadline });
  await ssh.run(["chown", `--reference=${aside}`, directory], { deadline });
  await ssh.run(["chmod", `--reference=${aside}`, directory], { deadline });
}

/** @param aside - May contain what was mounted between the look and the rename. */
async function remove(ssh: SshConnection, aside: string, deadline: Deadline): Promise<void> {
  await unmountBelow(ssh, aside, deadline);
  await deleteAlone(ssh, aside, deadline);
  await ssh.run(["rmdir", aside], { deadline });
}

/**
 * Deletes the contents of a directory. What is mounted below it stays complete.
 * @throws CommandError when something is mounted below, or cannot be deleted.
 */
export async function deleteAlone(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  await ssh.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", DELETE_ALONE, "sh", directory], { deadline });
}
