import type { Packaging } from "../lxd/client/endpoint";
import type { Deadline } from "../support/deadline";
import { ResponseShapeError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";

/** The answer is the output: test(1) ends with 1 for "no" and for many failures. */
export const ASK = 'if test "$1" "$2"; then echo yes; else echo no; fi';

/**
 * Whether something exists at a path. Follows symbolic links.
 * @param kind - `-e` for anything, `-d` for a directory.
 * @throws ResponseShapeError when the host answers neither yes nor no.
 */
export async function isThere(ssh: SshConnection, kind: "-e" | "-d", path: string, deadline: Deadline): Promise<boolean> {
  const { stdout } = await ssh.run(["sh", "-c", ASK, "sh", kind, path], { deadline });
  if (stdout !== "yes\n" && stdout !== "no\n") {
    const answer = JSON.stringify(stdout.slice(0, 200));
    throw new ResponseShapeError(`test ${kind} ${path} on ${ssh.name} answered ${answer} instead of yes or no`);
  }
  return stdout === "yes\n";
}

/** The path without symbolic links: somebody may have moved a directory and left a link. */
export async function realPath(ssh: SshConnection, path: string, deadline: Deadline): Promise<string> {
  const { stdout } = await ssh.run(["realpath", "--canonicalize-missing", "--zero", path], { deadline });
  return stdout.replace(/\0$/, "");
}

export function dataDirectory(packaging: Packaging): string {
  return { deb: "/var/lib/lxd", snap: "/var/snap/lxd/common/lxd", incus: "/var/lib/incus" }[packaging];
}
