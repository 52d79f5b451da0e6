import type { Deadline } from "../support/deadline";
import { RefusedError } from "../support/errors";
import { mountPoints } from "../support/mountinfo";
import type { SshConnection } from "../transport/ssh";

export async function mountsBelow(ssh: SshConnection, directory: string, deadline: Deadline): Promise<string[]> {
  const { stdout } = await ssh.run(["cat", "/proc/self/mountinfo"], { deadline });
  return mountPoints(stdout, ssh.name).filter((target) => target.startsWith(`${directory}/`));
}

/**
 * Unmounts everything below a directory. Other mounts of the same file systems stay. Each mount is made private first: unmounting
 * a bind mount that shares its events with its origin would also unmount what is mounted in the origin.
 * @throws RefusedError naming what could not be unmounted.
 */
export async function unmountBelow(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  const attempt = { deadline, allowFailure: true };
  let below = await mountsBelow(ssh, directory, deadline);
  while (below.length > 0) {
    // A path leads to the topmost mount. A mount that another one hides is unmounted in a later round.
    const reached: string[] = [];
    for (const target of below) {
      if ((await ssh.run(["mount", "--make-private", "--", target], attempt)).exitCode === 0) {
        reached.push(target);
      }
    }
    let said = "";
    for (const target of reached.reverse()) {
      const { exitCode, stderr } = await ssh.run(["umount", "--lazy", "--no-canonicalize", "--", target], attempt);
      said = exitCode === 0 ? said : stderr.trim();
    }
    const left = await mountsBelow(ssh, directory, deadline);
    if (left.length >= below.length) {
      const named = left.slice(0, 5).map((target) => JSON.stringify(target));
      const more = left.length > 5 ? ` and ${left.length - 5} more` : "";
      const reason = said === "" ? "" : ` (${said})`;
      throw new RefusedError(
        `${ssh.name} still has mounts below ${directory}: ${named.join(", ")}${more}${reason}. Nothing is deleted while they are mounted. ` +
          "Unmount them there, then run pulumi up again",
      );
    }
    below = left;
  }
}
