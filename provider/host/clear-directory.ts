/** Deletes what is in a directory of a host, and nothing that is only seen through it. */
import type { Deadline } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { unmountBelow } from "./mounts";
import { isThere, realPath } from "./paths";

/** A directory that is being deleted stands under this name beside the one that takes its place. */
const ASIDE = ".pulumi-lxd-wiped";

/** rename(2) and no more: mv(1) copies, and then deletes, what it cannot rename. The exit status is errno. */
const RENAME = "rename($ARGV[0], $ARGV[1]) or exit $!+0";

/** Linux's numbers: a mount point, and a file system that cannot rename this directory. */
const [EBUSY, EXDEV] = [16, 18];

/**
 * Deletes what is in a directory, in a mount namespace of its own, in which the directory is bound on itself alone. Mounts below cannot be
 * seen there, not even those of the same file system, which `--one-file-system` and `-xdev` do not notice, nor those that somebody makes
 * meanwhile: there is no path from here to anything else. A directory that one of them is mounted on is busy, and the command fails.
 */
const DELETE_ALONE = 'mount --bind -- "$1" "$1" && cd -- "$1" && exec find . -mindepth 1 -delete';

/**
 * Empties a directory. Where it can be renamed, it is empty in one step, and never half of itself; being interrupted does not matter,
 * when this is called again.
 * @throws RefusedError when something stays mounted below. Nothing has been deleted then.
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

/** Makes a directory again, with the owner and the mode of the one that was moved aside. */
async function replaceBy(ssh: SshConnection, aside: string, directory: string, deadline: Deadline): Promise<void> {
  await ssh.run(["mkdir", "--parents", directory], { deadline });
  await ssh.run(["chown", `--reference=${aside}`, directory], { deadline });
  await ssh.run(["chmod", `--reference=${aside}`, directory], { deadline });
}

/** @param aside - What was mounted in it between the look and the renaming has moved along. */
async function remove(ssh: SshConnection, aside: string, deadline: Deadline): Promise<void> {
  await unmountBelow(ssh, aside, deadline);
  await deleteAlone(ssh, aside, deadline);
  await ssh.run(["rmdir", aside], { deadline });
}

/**
 * Deletes what is in a directory, whatever is mounted below; that stays whole.
 * @throws CommandError when something is mounted below, or cannot be deleted.
 */
export async function deleteAlone(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  await ssh.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", DELETE_ALONE, "sh", directory], { deadline });
}
