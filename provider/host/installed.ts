import { type ApiSocket, findSocket, namesOf, type Packaging, type ServerKind } from "../lxd/client/endpoint";
import { hostMachine } from "../machine/host";
import { installedDebPackages } from "../machine/packages/apt";
import type { Deadline } from "../support/deadline";
import { RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { findSnap } from "./snapd";

/** Debian packages that have the daemon. `incus` depends on `incus-base`, which has no virtual machines. */
export const DAEMON_PACKAGES = { lxd: ["lxd"], incus: ["incus", "incus-base"] } as const;

/** How a server is to be installed. `false` accepts every method and server. */
type Method = false | { readonly method: "snap" } | { readonly method: "deb"; readonly server: ServerKind };

export function packagingOf(install: Exclude<Method, false>): Packaging {
  return install.method === "deb" && install.server === "incus" ? "incus" : install.method;
}

function acceptedBy(install: Method): readonly Packaging[] {
  return install === false ? ["deb", "incus", "snap"] : [packagingOf(install)];
}

/** The packagings in which LXD or Incus is installed on the host, running or not. */
async function installedPackagings(ssh: SshConnection, deadline: Deadline, among: readonly Packaging[]): Promise<Packaging[]> {
  const packages = among.flatMap((each) => (each === "snap" ? [] : DAEMON_PACKAGES[namesOf(each).server]));
  const debs: readonly string[] = packages.length === 0 ? [] : await installedDebPackages(hostMachine(ssh, deadline), packages);
  const hasSnap = among.includes("snap") && (await findSnap(ssh, deadline)) !== undefined;
  return among.filter((each) =>
    each === "snap" ? hasSnap : DAEMON_PACKAGES[namesOf(each).server].some((name) => debs.includes(name)),
  );
}

/** Whether the server is installed on the host. */
export async function isInstalled(ssh: SshConnection, deadline: Deadline, install: Method = false): Promise<boolean> {
  return (await installedPackagings(ssh, deadline, acceptedBy(install))).length > 0;
}

/** How the other one of the two servers is installed on the host, running or not; `undefined` when it is not. */
export async function findRival(ssh: SshConnection, server: ServerKind, deadline: Deadline): Promise<Packaging | undefined> {
  return (await installedPackagings(ssh, deadline, server === "lxd" ? ["incus"] : ["deb", "snap"]))[0];
}

/**
 * Returns the socket on which LXD listens; `undefined` when LXD is not installed.
 * @throws RefusedError when LXD is installed and does not listen: its contents are then unknown, so it is not gone.
 */
export async function findSocketUnlessGone(
  ssh: SshConnection,
  deadline: Deadline,
  install: Method = false,
): Promise<ApiSocket | undefined> {
  const socket = await findSocket(ssh, deadline);
  if (socket === undefined) {
    const [silent] = await installedPackagings(ssh, deadline, acceptedBy(install));
    if (silent !== undefined) {
      const { name, log } = namesOf(silent);
      throw new RefusedError(
        `${name} is installed on ${ssh.name} but does not answer on its socket. Start it, and try again. Its log: ${log}`,
      );
    }
  }
  return socket;
}
