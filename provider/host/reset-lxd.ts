/**
 * Brings LXD on a host back to the state of a fresh installation. This destroys everything that LXD keeps there; whoever calls it has
 * made sure that nothing is lost, or that the user said so.
 */
import type { Packaging } from "../lxd/client/endpoint";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { findSnap, installSnap } from "./packages";

const DEB_UNITS = ["lxd.socket", "lxd.service", "lxd-containers.service"];

/** Where the Debian package keeps what it knows and holds. */
const DEB_DATA = "/var/lib/lxd";

/** Files that LXD leaves behind when joining or leaving a cluster was interrupted, relative to its data directory. */
const CLUSTER_FILES = ["cluster.crt", "cluster.key", "cluster.ca"];

/** Where LXD keeps its data. */
function dataDirectory(packaging: Packaging): string {
  return { deb: DEB_DATA, snap: "/var/snap/lxd/common/lxd", incus: "/var/lib/incus" }[packaging];
}

/** Whether an interrupted join or bootstrap left a cluster certificate on the host. It blocks a bootstrap. */
export async function hasLeftoverClusterCertificate(
  ssh: SshConnection,
  packaging: Packaging,
  deadline: Deadline,
): Promise<boolean> {
  for (const file of CLUSTER_FILES) {
    const found = await ssh.run(["test", "-e", `${dataDirectory(packaging)}/${file}`], { deadline, allowFailure: true });
    if (found.exitCode === 0) {
      return true;
    }
  }
  return false;
}

/**
 * Wipes LXD's data on the host and starts it again, empty.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_recover/ for why there is no gentler way to leave a broken cluster
 */
export async function resetLxd(ssh: SshConnection, packaging: Packaging, deadline: Deadline): Promise<void> {
  if (packaging === "snap") {
    const installed = await findSnap(ssh, "lxd", deadline);
    await ssh.run(["snap", "remove", "--purge", "lxd"], { deadline });
    // The cohort gives the revision that the other hosts have.
    await installSnap(
      ssh,
      "lxd",
      { channel: installed?.channel ?? "latest/stable", cohort: true, hold: installed?.held ?? false },
      deadline,
    );
    return;
  }
  const units = packaging === "deb" ? DEB_UNITS : ["incus.socket", "incus.service"];
  const data = dataDirectory(packaging);
  // The socket first: a connection would start the service again.
  await ssh.run(["systemctl", "stop", ...units], { deadline, allowFailure: true });
  await endBridges(ssh, data, deadline);
  await unmountBelow(ssh, data, deadline);
  await ssh.run(["find", data, "-xdev", "-mindepth", "1", "-delete"], { deadline });
  await ssh.run(["systemctl", "start", ...units.slice(0, 2)], { deadline });
}

/** A stopped daemon leaves its bridges and their DHCP servers running. */
async function endBridges(ssh: SshConnection, data: string, deadline: Deadline): Promise<void> {
  const networks = await ssh.run(["ls", `${data}/networks`], { deadline, allowFailure: true });
  for (const network of networks.stdout.split("\n").filter((name) => name !== "")) {
    await ssh.run(["pkill", "--pidfile", `${data}/networks/${network}/dnsmasq.pid`], { deadline, allowFailure: true });
    await ssh.run(["ip", "link", "delete", network], { deadline, allowFailure: true });
  }
}

async function unmountBelow(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  const mounts = await ssh.run(["findmnt", "--raw", "--noheadings", "--output", "TARGET"], { deadline });
  const below = mounts.stdout.split("\n").filter((target) => target.startsWith(`${directory}/`));
  for (const target of below.reverse()) {
    await ssh.run(["umount", "--lazy", target], { deadline, allowFailure: true });
  }
}
