import * as z from "zod";
import type { Deadline } from "../support/deadline";
import { FailedError, hasCode, RefusedError, replyOf } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { mountsBelow, unmountBelow } from "./mounts";
import { realPath } from "./paths";
import { isKind, type Patience, SERVICES, SNAP, Snapd } from "./snapd-api";
import { direction, fullChannel, isOlder, isOlderUpload, sameChannel } from "./snapd-channels";

/** Which snap to install, and how to keep it. */
export interface SnapChoice {
  /** Such as "5.21/stable". */
  readonly channel: string;
  /** Install the same revision on all hosts, even during a progressive release. */
  readonly cohort: boolean;
  /** Stop snapd from upgrading it automatically. */
  readonly hold: boolean;
  readonly revision?: number | undefined;
}

export interface InstalledSnap {
  /** The channel it follows. Empty for one that was installed from a file. */
  readonly channel: string;
  readonly version: string;
  /** `undefined` for one that was installed from a file. */
  readonly revision: number | undefined;
  /** Whether snapd is stopped from upgrading it automatically; `undefined` when snapd does not report it, as 2.58. */
  readonly held: boolean | undefined;
}

/** What a wipe restores. */
export interface KeptSnap extends Pick<SnapChoice, "channel" | "revision"> {
  readonly held: boolean;
}

const snapSchema = z.looseObject({
  version: z.string().default(""),
  revision: z.string().default(""),
  "tracking-channel": z.string().default(""),
  hold: z.string().exactOptional(),
});

const IN_STORE = "/v2/find?name=lxd";

const channelsSchema = z.array(
  z.looseObject({
    channels: z.record(z.string(), z.looseObject({ version: z.string(), revision: z.string().default("") })).nullish(),
  }),
);

export async function findSnap(ssh: SshConnection, deadline: Deadline): Promise<InstalledSnap | undefined> {
  const snapd = await Snapd.on(ssh, { deadline, progress: () => undefined });
  return snapd && installedSnap(snapd);
}

async function installedSnap(snapd: Snapd): Promise<InstalledSnap | undefined> {
  const snap = await snapd.find(SNAP, snapSchema, "snap-not-found");
  if (snap === undefined) {
    return undefined;
  }
  const { version, revision, hold } = snap;
  return {
    channel: snap["tracking-channel"],
    version,
    revision: /^\d+$/.test(revision) ? Number(revision) : undefined,
    held: hold === undefined ? await withoutHold(snapd) : Date.parse(hold) > Date.now(),
  };
}

/**
 * Installs the snap, or changes an installed one to the channel and revision. Then holds or unholds it.
 * @returns Whether another revision runs now, so that its services were restarted.
 * @throws RefusedError when the host has no snapd, or has a newer version than the wanted one; nothing is touched then.
 */
export async function bringSnap(ssh: SshConnection, choice: SnapChoice, patience: Patience): Promise<boolean> {
  const snapd = await Snapd.require(ssh, patience);
  const installed = await installedSnap(snapd);
  let restarted = false;
  if (installed === undefined) {
    await snapd.change(SNAP, { action: "install", ...source(choice) });
    restarted = true;
  } else if (isElsewhere(installed, choice)) {
    await refuseOlder(snapd, installed, choice);
    restarted = await refresh(snapd, installed, choice);
  }
  await keep(snapd, choice.hold);
  return restarted;
}

/** @throws RefusedError when {@link bringSnap} would refuse; nothing is touched. */
export async function judgeSnap(ssh: SshConnection, choice: SnapChoice, patience: Patience): Promise<void> {
  const snapd = await Snapd.require(ssh, patience);
  const installed = await installedSnap(snapd);
  if (installed !== undefined && isElsewhere(installed, choice)) {
    await refuseOlder(snapd, installed, choice);
  }
}

export function isElsewhere(installed: Pick<InstalledSnap, "channel" | "revision">, choice: SnapChoice): boolean {
  return (
    !sameChannel(installed.channel, choice.channel) || (choice.revision !== undefined && choice.revision !== installed.revision)
  );
}

export async function startSnap(ssh: SshConnection, patience: Patience): Promise<void> {
  await control(await Snapd.require(ssh, patience), "start");
}

export function control(snapd: Snapd, action: "start" | "stop" | "restart"): Promise<void> {
  return snapd.change(SERVICES, { action, names: ["lxd"] });
}

/**
 * Collects what {@link installAgain} restores.
 * @throws RefusedError when that would fail: the snap is from a file, or the store does not answer. Nothing is touched then.
 */
export async function snapToKeep(ssh: SshConnection, patience: Patience): Promise<KeptSnap> {
  const snapd = await Snapd.require(ssh, patience);
  const installed = await installedSnap(snapd);
  if (installed === undefined) {
    throw new RefusedError(`snapd on ${ssh.name} has no snap "lxd", so it cannot be removed and installed again`);
  }
  const { channel, revision, held } = installed;
  if (channel === "" || revision === undefined) {
    throw new RefusedError(
      `The LXD snap on ${ssh.name} was installed from a file, so a wipe could not install it again. Switch it to the store: ` +
        "snap refresh --amend lxd --channel=CHANNEL",
    );
  }
  try {
    await snapd.get(IN_STORE, z.unknown());
  } catch (error) {
    if (!hasCode(error, "snapd")) {
      throw error;
    }
    throw new RefusedError(
      `The LXD snap on ${ssh.name} is not removed, because the store does not answer there (${replyOf(error)}) and the snap could not be ` +
        "installed again. Let the host reach the store, then run pulumi up again",
      { cause: error },
    );
  }
  return { channel, revision, held: held ?? true };
}

/**
 * Removes the snap with its data, unless it is already removed. First unmounts everything in the data directory, such as a
 * directory of the host that was a device of a container: snapd would delete its contents.
 * @throws RefusedError when a mount remains. Nothing has been deleted then.
 */
export async function purgeSnap(ssh: SshConnection, patience: Patience): Promise<void> {
  const snapd = await Snapd.require(ssh, patience);
  const { deadline } = patience;
  if ((await installedSnap(snapd)) === undefined) {
    return;
  }
  const data = await realPath(ssh, "/var/snap/lxd", deadline);
  if ((await mountsBelow(ssh, data, deadline)).length > 0) {
    await control(snapd, "stop"); // running services would mount it again
    await unmountBelow(ssh, data, deadline);
  }
  await snapd.change(SNAP, { action: "remove", purge: true });
}

/** Installs the removed snap again, or starts the services of one that is installed. Sets the hold. */
export async function installAgain(ssh: SshConnection, kept: KeptSnap, patience: Patience): Promise<void> {
  const snapd = await Snapd.require(ssh, patience);
  if ((await installedSnap(snapd)) === undefined) {
    await installKept(snapd, kept);
  } else {
    await control(snapd, "start");
  }
  await keep(snapd, kept.held);
}

async function installKept(snapd: Snapd, { channel, revision }: KeptSnap): Promise<void> {
  try {
    await snapd.change(SNAP, { action: "install", ...source({ channel, revision, cohort: true }) });
  } catch (error) {
    // The store no longer has the revision. The next one loses nothing, because no data is left.
    if (revision === undefined || !isKind(error, "snap-revision-not-available")) {
      throw error;
    }
    await snapd.change(SNAP, { action: "install", ...source({ channel, cohort: true }) });
  }
}

/** snapd accepts a revision or a cohort, not both. "+" is the default cohort, common to all systems. */
function source({ channel, revision, cohort }: Omit<SnapChoice, "hold">): Record<string, string> {
  if (revision !== undefined) {
    return { channel, revision: String(revision) };
  }
  return { channel, ...(cohort && { "cohort-key": "+" }) };
}

async function refresh(snapd: Snapd, installed: InstalledSnap, choice: SnapChoice): Promise<boolean> {
  if (choice.revision !== undefined && choice.revision === installed.revision) {
    await snapd.change(SNAP, { action: "switch", channel: choice.channel });
    return false;
  }
  try {
    await snapd.change(SNAP, { action: "refresh", ...source(choice) });
  } catch (error) {
    if (isKind(error, "snap-local")) {
      throw new RefusedError(
        `The LXD snap on ${snapd.host} was installed from a file, so snapd does not switch it to ${choice.channel} by itself. Switch it there: ` +
          `snap refresh --amend lxd --channel=${choice.channel}`,
        { cause: error },
      );
    }
    throw error;
  }
  return true;
}

async function refuseOlder(snapd: Snapd, installed: InstalledSnap, choice: SnapChoice): Promise<void> {
  const { version, revision: present = "of a file", channel } = installed;
  const { revision } = choice;
  const refusal = (wanted: string): RefusedError =>
    new RefusedError(
      `${snapd.host} has the LXD snap ${version} (revision ${present}) from ${channel || "a file"}, but ${wanted}. LXD does not start on the ` +
        "data of a newer version. Set install to what is installed. Or, if nothing on the host is needed, remove the snap there (snap remove " +
        "--purge lxd) and run pulumi up again",
    );
  let way = direction(installed, choice);
  if (way !== "backwards") {
    const [found] = (await snapd.find(IN_STORE, channelsSchema, "snap-not-found")) ?? [];
    const offers = found?.channels ?? {};
    const offer =
      revision === undefined
        ? offers[fullChannel(choice.channel)]
        : Object.values(offers).find((each) => each.revision === String(revision));
    if (revision !== undefined && isOlderUpload({ revision, version: offer?.version }, installed)) {
      throw refusal(`install.revision is ${revision}, which is older`);
    }
    way = direction(installed, { ...choice, version: offer?.version });
  }
  if (way === "backwards" || way === "unknown") {
    throw refusal(`install.channel is ${choice.channel}, which ${way === "backwards" ? "is" : "may be"} older`);
  }
}

async function keep(snapd: Snapd, hold: boolean): Promise<void> {
  const installed = await installedSnap(snapd);
  if (installed === undefined || installed.held === hold) {
    return;
  }
  if (isOlder(await versionOf(snapd), "2.58")) {
    throw new FailedError(
      `snapd on ${snapd.host} is older than 2.58 and cannot hold a snap. Upgrade it (snap install snapd), or set hold: false in install; ` +
        "LXD is then upgraded with its channel",
    );
  }
  await snapd.change(SNAP, hold ? { action: "hold", time: "forever", "hold-level": "general" } : { action: "unhold" });
}

/** What it means that snapd reports no hold: 2.58 holds snaps and does not report it. An older one has no holds. */
async function withoutHold(snapd: Snapd): Promise<false | undefined> {
  return /^2\.58(?![.\d])/.test(await versionOf(snapd)) ? undefined : false;
}

async function versionOf(snapd: Snapd): Promise<string> {
  return (await snapd.get("/v2/system-info", z.looseObject({ version: z.string() }))).version;
}
