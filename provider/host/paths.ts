/** Paths on a host. */
import type { Packaging } from "../lxd/client/endpoint";
import type { Deadline } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** test(1) ends with 1 for "no" and for many failures. So the answer is the output. */
export const ASK = 'if test "$1" "$2"; then echo yes; else echo no; fi';

/**
 * Whether something exists at a path. Follows symbolic links.
 * @param kind - `-e` for anything, `-d` for a directory.
 * @throws CommandError when the host answers neither yes nor no.
 */
export async function isThere(ssh: SshConnection, kind: "-e" | "-d", path: string, deadline: Deadline): Promise<boolean> {
  const { stdout } = await ssh.run(["sh", "-c", ASK, "sh", kind, path], { deadline });
  if (stdout !== "yes\n" && stdout !== "no\n") {
    throw new CommandError(
      ssh.name,
      "test",
      0,
      `${path}: it answered ${JSON.stringify(stdout.slice(0, 200))} instead of yes or no`,
    );
  }
  return stdout === "yes\n";
}

/** The path without symbolic links: somebody may have moved a directory and left a link. */
export async function realPath(ssh: SshConnection, path: string, deadline: Deadline): Promise<string> {
  const { stdout } = await ssh.run(["realpath", "--canonicalize-missing", "--zero", path], { deadline });
  return stdout.replace(/\0$/, "");
}

/** LXD's data directory. */
export function dataDirectory(packaging: Packaging): string {
  return { deb: "/var/lib/lxd", snap: "/var/snap/lxd/common/lxd", incus: "/var/lib/incus" }[packaging];
}
