/**
 * Brings LXD on a host back to the state of a fresh installation. This destroys everything that LXD keeps there; whoever calls it has
 * made sure that nothing is lost, or that the user said so.
 */
import * as z from "zod";
import { LxdClient } from "../lxd/client/client";
import { endpointOf, findSocket, type Packaging } from "../lxd/client/endpoint";
import type { Config } from "../lxd/config";
import { takeInventory } from "../lxd/inventory";
import { type Server, setServerConfig, untilReady } from "../lxd/server";
import type { Deadline } from "../support/deadline";
import { CommandError, hasCode } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { configOfHost } from "./https-address";
import { readNote, removeNotes, writeNote } from "./notes";
import { findSnap, installSnap } from "./packages";

const DEB_UNITS = ["lxd.socket", "lxd.service", "lxd-containers.service"];

/** Where the Debian package keeps what it knows and holds. */
const DEB_DATA = "/var/lib/lxd";

/** Files that LXD leaves behind when joining or leaving a cluster was interrupted, relative to its data directory. */
const CLUSTER_FILES = ["cluster.crt", "cluster.key", "cluster.ca"];

/** Where LXD keeps its data. */
export function dataDirectory(packaging: Packaging): string {
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

/** Text of the note of a wipe, as JSON: how LXD is installed, and the config it gets back. */
const wipeSchema = z.object({
  packaging: z.enum(["deb", "snap", "incus"]),
  snap: z.object({ channel: z.string(), held: z.boolean() }).optional(),
  config: z.record(z.string(), z.string()),
});

type Wipe = z.output<typeof wipeSchema>;

/**
 * Wipes LXD's data on the host and starts it again, empty. When that is interrupted, {@link finishReset} goes on.
 * @param before - What LXD told of itself, when the config of the host itself is to stay.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_recover/ for why there is no gentler way to leave a broken cluster
 */
export async function resetLxd(ssh: SshConnection, packaging: Packaging, deadline: Deadline, before?: Server): Promise<void> {
  const snap = packaging === "snap" ? await findSnap(ssh, "lxd", deadline) : undefined;
  const config = before === undefined ? {} : await configOfHost(ssh, before, deadline);
  const wanted: Wipe = { packaging, ...(snap && { snap: { channel: snap.channel, held: snap.held } }), config };
  await writeNote(ssh, "pulumi-lxd-wipe", JSON.stringify(wanted), deadline);
  await wipe(ssh, wanted, deadline);
}

/** Whether LXD on the host was being wiped when something came in between; it may not run, or not even be installed. */
export async function isResetUnfinished(ssh: SshConnection, deadline: Deadline): Promise<boolean> {
  return (await readNote(ssh, "pulumi-lxd-wipe", deadline)) !== undefined;
}

/**
 * Finishes a wipe that was interrupted, unless LXD holds something by now that must not be lost: then it was as good as finished, and what
 * LXD's config is now is the host's own.
 * @returns Whether LXD was wiped.
 */
export async function finishReset(ssh: SshConnection, deadline: Deadline): Promise<boolean> {
  const text = await readNote(ssh, "pulumi-lxd-wipe", deadline);
  if (text === undefined) {
    return false;
  }
  if (await holdsSomething(ssh, deadline)) {
    await removeNotes(ssh, deadline);
    return false;
  }
  await wipe(ssh, wipeSchema.parse(JSON.parse(text)), deadline);
  return true;
}

/** Whether LXD runs and has something on it that was not there to be wiped. */
async function holdsSomething(ssh: SshConnection, deadline: Deadline): Promise<boolean> {
  if ((await findSocket(ssh, deadline)) === undefined) {
    return false;
  }
  const patience = deadline.atMost(30, `asking LXD on ${ssh.name} what it holds`);
  try {
    const inventory = await takeInventory(new LxdClient(await endpointOf(ssh, patience), patience));
    return inventory.instances !== undefined || inventory["custom-volumes"] !== undefined;
  } catch (error) {
    if (!ssh.open) {
      throw error;
    }
    return false; // what was started on half of its data, after a reboot, holds nothing new
  }
}

async function wipe(ssh: SshConnection, { packaging, snap, config }: Wipe, deadline: Deadline): Promise<void> {
  if (packaging === "snap") {
    const { channel, held } = snap ?? { channel: "latest/stable", held: false };
    await ssh.run(["snap", "remove", "--purge", "lxd"], { deadline });
    // The cohort gives the revision that the other hosts have.
    await installSnap(ssh, "lxd", { channel, cohort: true, hold: held }, deadline);
  } else {
    const units = packaging === "deb" ? DEB_UNITS : ["incus.socket", "incus.service"];
    const data = dataDirectory(packaging);
    // The socket first: a connection would start the service again.
    await runUnless(ssh, ["systemctl", "stop", ...units], UNIT_NOT_LOADED, deadline);
    await endBridges(ssh, data, deadline);
    await unmountBelow(ssh, data, deadline);
    await ssh.run(["find", data, "-xdev", "-mindepth", "1", "-delete"], { deadline });
    await ssh.run(["systemctl", "start", ...units.slice(0, 2)], { deadline });
  }
  if (Object.keys(config).length > 0) {
    await giveBack(ssh, config, deadline);
  }
  await removeNotes(ssh, deadline);
}

/** Sets the config that LXD had. What it refuses now is for the resource that wants it to say: its next refresh shows what is missing. */
async function giveBack(ssh: SshConnection, config: Config, deadline: Deadline): Promise<void> {
  const lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
  await untilReady(lxd);
  try {
    await setServerConfig(lxd, config);
  } catch (error) {
    if (!hasCode(error, "api")) {
      throw error;
    }
  }
}

/** Exit status of systemctl(1) for a unit that the package does not have, and of ls(1) for a directory that is not there. */
const UNIT_NOT_LOADED = 5;
const NOT_FOUND = 2;

/** Runs a command of which one failure means that there is nothing to do. */
async function runUnless(ssh: SshConnection, argv: readonly string[], nothingToDo: number, deadline: Deadline): Promise<string> {
  const { exitCode, stdout, stderr } = await ssh.run(argv, { deadline, allowFailure: true });
  if (exitCode !== 0 && exitCode !== nothingToDo) {
    throw new CommandError(ssh.name, argv[0] ?? "", exitCode, stderr.trim());
  }
  return stdout;
}

/** A stopped daemon leaves its bridges and their DHCP servers running. */
async function endBridges(ssh: SshConnection, data: string, deadline: Deadline): Promise<void> {
  const networks = await runUnless(ssh, ["ls", `${data}/networks`], NOT_FOUND, deadline);
  for (const network of networks.split("\n").filter((name) => name !== "")) {
    await ssh.run(["pkill", "--pidfile", `${data}/networks/${network}/dnsmasq.pid`], { deadline, allowFailure: true });
    const { exitCode, stderr } = await ssh.run(["ip", "link", "delete", network], { deadline, allowFailure: true });
    if (exitCode !== 0 && (await ssh.run(["ip", "link", "show", network], { deadline, allowFailure: true })).exitCode === 0) {
      throw new CommandError(ssh.name, "ip", exitCode, stderr.trim());
    }
  }
}

async function unmountBelow(ssh: SshConnection, directory: string, deadline: Deadline): Promise<void> {
  const mounts = await ssh.run(["findmnt", "--raw", "--noheadings", "--output", "TARGET"], { deadline });
  const below = mounts.stdout.split("\n").filter((target) => target.startsWith(`${directory}/`));
  for (const target of below.reverse()) {
    await ssh.run(["umount", "--lazy", target], { deadline, allowFailure: true });
  }
}
