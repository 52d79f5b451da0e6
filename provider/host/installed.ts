import { type ApiSocket, findSocket } from "../lxd/client/endpoint";
import type { Deadline } from "../support/deadline";
import { RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { hasDebPackage } from "./apt";
import { findSnap } from "./snapd";

/** Whether LXD is installed on the host. `false` accepts every method. */
export async function isInstalled(
  ssh: SshConnection,
  deadline: Deadline,
  install: false | { readonly method: "deb" | "snap" } = false,
): Promise<boolean> {
  const method = install === false ? undefined : install.method;
  const isDeb = method !== "snap" && (await hasDebPackage(ssh, "lxd", deadline));
  return isDeb || (method !== "deb" && (await findSnap(ssh, deadline)) !== undefined);
}

/**
 * Returns the socket on which LXD listens; `undefined` when LXD is not installed.
 * @throws RefusedError when LXD is installed and does not listen: its contents are then unknown, so it is not gone.
 */
export async function findSocketUnlessGone(
  ssh: SshConnection,
  deadline: Deadline,
  install?: Parameters<typeof isInstalled>[2],
): Promise<ApiSocket | undefined> {
  const socket = await findSocket(ssh, deadline);
  if (socket === undefined && (await isInstalled(ssh, deadline, install))) {
    throw new RefusedError(
      `LXD is installed on ${ssh.name} but does not answer on its socket. Start it, and try again. Its log: journalctl --unit lxd ` +
        "(snap: snap logs lxd)",
    );
  }
  return socket;
}
