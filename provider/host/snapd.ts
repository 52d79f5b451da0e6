/** Installs, keeps and restores the snap on a host through snapd's API (snapd-api.ts). */
import * as z from "zod";
import type { Deadline } from "../support/deadline";
import { FailedError, hasCode, RefusedError, replyOf } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { mountsBelow, unmountBelow } from "./mounts";
import { realPath } from "./paths";
import { isKind, type Patience, SERVICES, Snapd } from "./snapd-api";
import { direction, fullChannel, isOlder, isOlderUpload, sameChannel } from "./snapd-channels";

/** Which snap to install, and how to keep it. */
export interface SnapChoice {
  /** Such as "5.21/stable". */
  readonly channel: string;
  /** Install the same revision on all hosts, even during a progressive release. */
  readonly cohort: boolean;
  /** Stop snapd from upgrading it automatically. */
  readonly hold: boolean;
  /** Only this revision. */
  readonly revision?: number | undefined;
}

/** An installed snap. */
export interface InstalledSnap {
  /** The channel it follows. Empty for one that was installed from a file. */
  readonly channel: string;
  /** Such as "5.21.4-8a3cf61". */
  readonly version: string;
  /** `undefined` for one that was installed from a file. */
  readonly revision: number | undefined;
  /** Whether snapd is stopped from upgrading it automatically; `undefined` when snapd does not report it, as 2.58. */
  readonly held: boolean | undefined;
}

/** What a wipe restores. */
export interface KeptSnap {
  readonly channel: string;
  readonly held: boolean;
  readonly revision?: number | undefined;
}

const snapSchema = z.looseObject({
  version: z.string().default(""),
  revision: z.string().default(""),
  "tracking-channel": z.string().default(""),
  hold: z.string().exactOptional(),
});

const channelsSchema = z.array(
  z.looseObject({
    channels: z.record(z.string(), z.looseObject({ version: z.string(), revision: z.string().default("") })).nullish(),
  }),
);

const NO_REPORT = (): void => undefined;

/** The installed snap of a name, or `undefined`. */
export async function findSnap(ssh: SshConnection, name: string, deadline: Deadline): Promise<InstalledSnap | undefined> {
  const snapd = await Snapd.on(ssh, { deadline, progress: NO_REPORT });
  return snapd === undefined ? undefined : installedSnap(snapd, name);
}

async function installedSnap(snapd: Snapd, name: string): Promise<InstalledSnap | undefined> {
  const snap = await snapd.find(pathOf(name), snapSchema, "snap-not-found");
  if (snap === undefined) {
    return undefined;
  }
  const { version, revision, hold } = snap;
  return {
    channel: snap["tracking-channel"],
    version,
    revision: /^\d+$/.test(revision) ? Number(revision) : undefined,
    held: hold === undefined ? ((await tellsHolds(snapd)) ? false : undefined) : Date.parse(hold) > Date.now(),
  };
}

/**
 * Installs a snap, or changes an installed one to the channel and revision. Then holds or unholds it.
 * @returns Whether another revision runs now, so that its services were restarted.
 * @throws RefusedError when the host has no snapd, or has a newer version than the wanted one; nothing is touched then.
 */
export async function bringSnap(ssh: SshConnection, name: string, choice: SnapChoice, patience: Patience): Promise<boolean> {
  const snapd = await requireSnapd(ssh, patience);
  const installed = await installedSnap(snapd, name);
  let moved = true;
  if (installed === undefined) {
    await snapd.change(pathOf(name), name, { action: "install", ...source(choice) });
  } else if (isElsewhere(installed, choice)) {
    await refuseOlder(snapd, name, installed, choice);
    moved = await refresh(snapd, name, installed, choice);
  } else {
    moved = false;
  }
  await keep(snapd, name, choice.hold);
  return moved;
}

/** @throws RefusedError when {@link bringSnap} would refuse; nothing is touched. */
export async function judgeSnap(ssh: SshConnection, name: string, choice: SnapChoice, patience: Patience): Promise<void> {
  const snapd = await requireSnapd(ssh, patience);
  const installed = await installedSnap(snapd, name);
  if (installed !== undefined && isElsewhere(installed, choice)) {
    await refuseOlder(snapd, name, installed, choice);
  }
}

/** Whether an installed snap differs in channel or revision from the wanted one. */
export function isElsewhere(installed: Pick<InstalledSnap, "channel" | "revision">, choice: SnapChoice): boolean {
  return (
    !sameChannel(installed.channel, choice.channel) || (choice.revision !== undefined && choice.revision !== installed.revision)
  );
}

/** Starts the services of a snap. */
export async function startSnap(ssh: SshConnection, name: string, patience: Patience): Promise<void> {
  await (await requireSnapd(ssh, patience)).change(SERVICES, name, { action: "start", names: [name] });
}

/**
 * Collects what {@link installAgain} restores.
 * @throws RefusedError when that would fail: the snap is from a file, or the store does not answer. Nothing is touched
 *   then.
 */
export async function snapToKeep(ssh: SshConnection, name: string, patience: Patience): Promise<KeptSnap> {
  const snapd = await requireSnapd(ssh, patience);
  const installed = await installedSnap(snapd, name);
  if (installed === undefined) {
    throw new RefusedError(`snapd on ${ssh.name} has no snap "${name}", so it cannot be removed and installed again`);
  }
  const { channel, revision, held } = installed;
  if (channel === "" || revision === undefined) {
    throw new RefusedError(
      `The snap "${name}" on ${ssh.name} was installed from a file, and would not come back after it was removed. Bring it to the store's: ` +
        `snap refresh --amend ${name} --channel=CHANNEL`,
    );
  }
  try {
    await snapd.get(storePath(name), z.unknown());
  } catch (error) {
    if (!hasCode(error, "snapd")) {
      throw error;
    }
    throw new RefusedError(
      `The snap "${name}" on ${ssh.name} is not removed, because it would not come back: the store does not answer there ` +
        `(${replyOf(error)}). Let the host reach it, and try again`,
      { cause: error },
    );
  }
  return { channel, revision, held: held ?? true };
}

/**
 * Removes a snap with its data, unless it is already removed. First unmounts everything in the data directory, such as
 * a directory of the host that was a device of a container: snapd would delete its contents.
 * @throws RefusedError when a mount remains. Nothing has been deleted then.
 */
export async function purgeSnap(ssh: SshConnection, name: string, patience: Patience): Promise<void> {
  const snapd = await requireSnapd(ssh, patience);
  const { deadline } = patience;
  if ((await installedSnap(snapd, name)) === undefined) {
    return;
  }
  const data = await realPath(ssh, `/var/snap/${name}`, deadline);
  if ((await mountsBelow(ssh, data, deadline)).length > 0) {
    await snapd.change(SERVICES, name, { action: "stop", names: [name] }); // running services would mount it again
    await unmountBelow(ssh, data, deadline);
  }
  await snapd.change(pathOf(name), name, { action: "remove", purge: true });
}

/** Installs a removed snap again. Of one that is installed, starts the services and sets the hold. */
export async function installAgain(ssh: SshConnection, name: string, kept: KeptSnap, patience: Patience): Promise<void> {
  const snapd = await requireSnapd(ssh, patience);
  if ((await installedSnap(snapd, name)) === undefined) {
    await installKept(snapd, name, kept);
  } else {
    await snapd.change(SERVICES, name, { action: "start", names: [name] });
  }
  await keep(snapd, name, kept.held);
}

async function installKept(snapd: Snapd, name: string, { channel, revision }: KeptSnap): Promise<void> {
  try {
    await snapd.change(pathOf(name), name, { action: "install", ...source({ channel, revision, cohort: true }) });
  } catch (error) {
    // The store no longer has the revision. The next one loses nothing, because no data is left.
    if (revision === undefined || !isKind(error, "snap-revision-not-available")) {
      throw error;
    }
    await snapd.change(pathOf(name), name, { action: "install", ...source({ channel, cohort: true }) });
  }
}

/** @throws RefusedError when the host has no snapd. */
export async function requireSnapd(ssh: SshConnection, patience: Patience): Promise<Snapd> {
  const snapd = await Snapd.on(ssh, patience);
  if (snapd === undefined) {
    throw new RefusedError(
      `${ssh.name} has no snapd, which install: {method: "snap"} needs. Install it (apt-get install snapd), or use {method: "deb"}`,
    );
  }
  return snapd;
}

/** snapd accepts a revision or a cohort, not both. "+" is the default cohort, common to all systems. */
function source({ channel, revision, cohort }: Omit<SnapChoice, "hold">): Record<string, string> {
  const which = revision === undefined ? (cohort ? { "cohort-key": "+" } : {}) : { revision: String(revision) };
  return { channel, ...which };
}

async function refresh(snapd: Snapd, name: string, installed: InstalledSnap, choice: SnapChoice): Promise<boolean> {
  if (choice.revision !== undefined && choice.revision === installed.revision) {
    await snapd.change(pathOf(name), name, { action: "switch", channel: choice.channel });
    return false;
  }
  try {
    await snapd.change(pathOf(name), name, { action: "refresh", ...source(choice) });
  } catch (error) {
    if (isKind(error, "snap-local")) {
      throw new RefusedError(
        `The snap "${name}" on ${snapd.host} was installed from a file, which snapd does not bring to ${choice.channel} by itself. Do it there: ` +
          `snap refresh --amend ${name} --channel=${choice.channel}`,
        { cause: error },
      );
    }
    throw error;
  }
  return true;
}

async function refuseOlder(snapd: Snapd, name: string, installed: InstalledSnap, choice: SnapChoice): Promise<void> {
  const has = `the snap "${name}" ${installed.version} (revision ${installed.revision ?? "of a file"}) from ${installed.channel || "a file"}`;
  const cure =
    `LXD does not start on the data of a newer one, so this is not done. Set install to what is there, or, when nothing on the host is ` +
    `needed any more, remove it there (snap remove --purge ${name}) and run pulumi up`;
  const { revision } = choice;
  let way = direction(installed, choice);
  if (way !== "backwards") {
    const [found] = (await snapd.find(storePath(name), channelsSchema, "snap-not-found")) ?? [];
    const offers = found?.channels ?? {};
    const offer =
      revision === undefined
        ? offers[fullChannel(choice.channel)]
        : Object.values(offers).find((each) => each.revision === String(revision));
    if (revision !== undefined && isOlderUpload({ revision, version: offer?.version }, installed)) {
      throw new RefusedError(`${snapd.host} has ${has}, but install.revision is ${revision}, which is older. ${cure}`);
    }
    way = direction(installed, { ...choice, version: offer?.version });
  }
  if (way === "backwards" || way === "unknown") {
    const what = way === "backwards" ? "which is older" : "of which it cannot be told that it is not older";
    throw new RefusedError(`${snapd.host} has ${has}, but install.channel is ${choice.channel}, ${what}. ${cure}`);
  }
}

async function keep(snapd: Snapd, name: string, hold: boolean): Promise<void> {
  const installed = await installedSnap(snapd, name);
  if (installed === undefined || installed.held === hold) {
    return;
  }
  if (!(await knowsHolds(snapd))) {
    throw new FailedError(
      `snapd on ${snapd.host} is older than 2.58 and cannot hold a snap. Upgrade it (snap install snapd), or set hold: false in install, ` +
        "and LXD is upgraded when its channel is",
    );
  }
  const body = hold ? { action: "hold", time: "forever", "hold-level": "general" } : { action: "unhold" };
  await snapd.change(pathOf(name), name, body);
}

/** Whether snapd can hold single snaps, as it can from 2.58 on. An older one has no holds. */
async function knowsHolds(snapd: Snapd): Promise<boolean> {
  return !isOlder(await versionOf(snapd), "2.58");
}

/** Whether snapd reports which snaps are held. 2.58 holds snaps and does not report it. */
async function tellsHolds(snapd: Snapd): Promise<boolean> {
  return !/^2\.58(?![.\d])/.test(await versionOf(snapd));
}

/** snapd reports its abilities only through its version. */
async function versionOf(snapd: Snapd): Promise<string> {
  return (await snapd.get("/v2/system-info", z.looseObject({ version: z.string() }))).version;
}

function pathOf(name: string): string {
  return `/v2/snaps/${encodeURIComponent(name)}`;
}

function storePath(name: string): string {
  return `/v2/find?name=${encodeURIComponent(name)}`;
}
