import * as z from "zod";
import { LxdClient } from "../lxd/client/client";
import { endpointOf, findSocket, namesOf, type Packaging } from "../lxd/client/endpoint";
import { forgetPresented } from "../lxd/client/presented";
import { isServerFailure } from "../lxd/client/transient-failures";
import { howToWipe } from "../lxd/cluster/join-preflight";
import { throughRestart, untilReady } from "../lxd/cluster/restarts";
import type { Config } from "../lxd/config";
import { dataIn, describeInventory, type InventoryKind, takeInventory } from "../lxd/inventory";
import { LOCAL_CONFIG, type Server, serverConfig, setServerConfig } from "../lxd/server";
import type { Deadline } from "../support/deadline";
import { hasCode, havingChanged, messageOf, RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { bridgesOf, endBridges } from "./bridges";
import { clearDirectory } from "./clear-directory";
import { valuablesOf } from "./half-joined";
import { pathOfNote, readNote, readSnapSettings, removeNotes, SNAP_SETTINGS, writeNote, writeSnapSettings } from "./notes";
import { lookAtDisk } from "./on-disk";
import { dataDirectory, isThere } from "./paths";
import { applySnapSettings, findSnapSettings, type SnapSettings, snapSettingsSchema } from "./snap-settings";
import { installAgain, type KeptSnap, purgeSnap, snapToKeep } from "./snapd";
import type { Patience } from "./snapd-api";
import { howToStop, startUnits, stopUnits, unitsToStart } from "./units";

const ANSWER_SECONDS = 30;

/** LXD leaves these files in its data directory when joining or leaving a cluster was interrupted. */
const CLUSTER_FILES = ["cluster.crt", "cluster.key", "cluster.ca"];

/** Whether an interrupted join or bootstrap left a cluster certificate on the host. It blocks a bootstrap. */
export async function hasLeftoverClusterCertificate(
  ssh: SshConnection,
  packaging: Packaging,
  deadline: Deadline,
): Promise<boolean> {
  for (const file of CLUSTER_FILES) {
    if (await isThere(ssh, "-e", `${dataDirectory(packaging)}/${file}`, deadline)) {
      return true;
    }
  }
  return false;
}

/** The note of a wipe, as JSON. Version 0.1.0 did not write what has a default. */
const wipeSchema = z.object({
  packaging: z.enum(["deb", "snap", "incus"]),
  snap: z
    .object({
      channel: z.string(),
      held: z.boolean(),
      revision: z.number().optional(),
      /** Whether the snap had settings, which are kept in a separate file. */
      settings: z.boolean().default(false),
    })
    .optional(),
  config: z.record(z.string(), z.string()),
  bridges: z.array(z.string()).default([]),
  /** Pools that existed. After LXD is stopped, their contents are unknown. */
  pools: z.array(z.string()).default([]),
  units: z.array(z.string()).default([]),
  /** Whether the data is deleted, so that everything on the host is newer. */
  cleared: z.boolean().default(false),
});

type Wipe = z.output<typeof wipeSchema>;

/**
 * Wipes LXD's data on the host and starts LXD again, empty and with a new certificate. The caller has made sure that nothing is
 * lost, or that the user agreed. After an interruption, {@link finishReset} continues.
 * @param before - LXD's own report from before, when the host's own config is to stay.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_recover/: a broken cluster cannot be left in a gentler way
 */
export async function resetLxd(ssh: SshConnection, packaging: Packaging, patience: Patience, before?: Server): Promise<void> {
  const { deadline } = patience;
  const snap = packaging === "snap" ? await keepSnap(ssh, patience) : undefined;
  const config = before === undefined ? {} : await configOfHost(ssh, before, deadline);
  const bridges = await bridgesOf(ssh, dataDirectory(packaging), deadline);
  const { pools } = await lookAtDisk(ssh, packaging, deadline);
  const units = packaging === "snap" ? [] : await unitsToStart(ssh, packaging, deadline);
  const wipe: Wipe = { packaging, snap, config, bridges, pools: [...pools], units, cleared: false };
  await note(ssh, wipe, deadline);
  await finish(ssh, wipe, patience);
}

/** The host's own part of LXD's config: without what came with the membership, and without keys that name a volume. */
async function configOfHost(ssh: SshConnection, server: Server, deadline: Deadline): Promise<Config> {
  const noted = await readNote(ssh, "pulumi-lxd-https-address", deadline);
  const isOwn = ([key, value]: [string, string]): boolean =>
    LOCAL_CONFIG.test(key) && !key.endsWith("_volume") && !(key === "core.https_address" && value === noted);
  return Object.fromEntries(Object.entries(serverConfig(server)).filter(isOwn));
}

async function keepSnap(ssh: SshConnection, patience: Patience): Promise<KeptSnap & { settings: boolean }> {
  const kept = await snapToKeep(ssh, patience);
  const settings = await findSnapSettings(ssh, patience);
  if (settings !== undefined) {
    await writeSnapSettings(ssh, JSON.stringify(settings), patience.deadline);
  }
  return { ...kept, settings: settings !== undefined };
}

/** Whether a wipe of LXD was interrupted. LXD may then be stopped or not installed. */
export async function isResetUnfinished(ssh: SshConnection, deadline: Deadline): Promise<boolean> {
  return (await readNote(ssh, "pulumi-lxd-wipe", deadline)) !== undefined;
}

/**
 * Finishes an interrupted wipe, unless LXD holds something by now that must not be lost. In that case the wipe counts as
 * finished, and LXD's present config is the host's own.
 * @param mayGo - Kinds that may be deleted when LXD does not run and cannot be asked: they may be newer than the wipe.
 * @returns Whether LXD was wiped.
 * @throws RefusedError when it is unknown whether LXD holds such a thing, or the disk holds something that must stay.
 */
export async function finishReset(ssh: SshConnection, patience: Patience, mayGo: readonly InventoryKind[]): Promise<boolean> {
  const { deadline } = patience;
  const text = await readNote(ssh, "pulumi-lxd-wipe", deadline);
  if (text === undefined) {
    return false;
  }
  const wipe = wipeSchema.parse(JSON.parse(text));
  const started = wipe.cleared ? await start(ssh, wipe, patience) : undefined; // deletes nothing
  if ((await findSocket(ssh, deadline)) === undefined) {
    await requireConsent(ssh, wipe, mayGo, deadline);
  } else if (await holdsSomething(ssh, wipe, deadline)) {
    await removeNotes(ssh, deadline);
    return false;
  }
  await finish(ssh, wipe, patience, started);
  return true;
}

async function finish(ssh: SshConnection, wipe: Wipe, patience: Patience, started?: LxdClient): Promise<void> {
  await havingChanged(async () => {
    const cleared = wipe.cleared ? wipe : await clear(ssh, wipe, patience);
    await end(ssh, started ?? (await start(ssh, cleared, patience)), cleared, patience);
  });
}

/** @throws RefusedError when the disk holds something of value that must stay. */
async function requireConsent(
  ssh: SshConnection,
  { packaging, pools }: Wipe,
  mayGo: readonly InventoryKind[],
  deadline: Deadline,
): Promise<void> {
  const { name } = namesOf(packaging);
  const disk = await lookAtDisk(ssh, packaging, deadline);
  // The wipe itself closes pools. An instance in a closed pool is still found: LXD's own directory has a link to each instance.
  const valuables = valuablesOf({ ...disk, closedPools: disk.closedPools.filter((pool) => !pools.includes(pool)) });
  const kinds = Object.keys(valuables) as InventoryKind[];
  if (kinds.some((kind) => !mayGo.includes(kind))) {
    throw new RefusedError(
      `The wipe of ${name} on ${ssh.name} was interrupted, and ${name} does not run. On its disk are ${describeInventory(valuables)}, which may be newer ` +
        `than the wipe, so nothing was deleted. To keep them: rm ${pathOfNote("pulumi-lxd-wipe")}, start ${name} there, and run pulumi up again. To ` +
        `finish the wipe: ${howToWipe(kinds)}, and run pulumi up again`,
    );
  }
}

/**
 * Whether the running LXD holds something that is newer than the wipe.
 * @throws RefusedError when LXD does not report it, and something on the disk may be newer than the wipe.
 */
async function holdsSomething(ssh: SshConnection, { packaging, cleared }: Wipe, deadline: Deadline): Promise<boolean> {
  const { name } = namesOf(packaging);
  const patience = deadline.atMostHalf(ANSWER_SECONDS, `asking ${name} on ${ssh.name} what it holds`);
  try {
    const lxd = new LxdClient(await endpointOf(ssh, patience), deadline).within(patience);
    return Object.keys(dataIn(await throughRestart(lxd, () => takeInventory(lxd)))).length > 0;
  } catch (error) {
    if (!ssh.open || cleared) {
      throw error;
    }
    const valuables = valuablesOf(await lookAtDisk(ssh, packaging, deadline));
    if (Object.keys(valuables).length === 0) {
      return false; // a daemon that a reboot started on half of its data holds nothing new
    }
    throw new RefusedError(
      `The wipe of ${name} on ${ssh.name} was interrupted. ${name} runs again, but does not report what it holds (${messageOf(error)}). On its disk are ` +
        `${describeInventory(valuables)}, which may be newer than the wipe, so nothing was deleted. Repair ${name} and run pulumi up again. To keep ` +
        `what is on the disk: rm ${pathOfNote("pulumi-lxd-wipe")}. To finish the wipe without an answer: stop ${name} there (${howToStop(packaging)}), ` +
        `${howToWipe(Object.keys(valuables))}, and run pulumi up again`,
      { cause: error },
    );
  }
}

/** Deletes LXD's data and notes that: everything found later is newer. */
async function clear(ssh: SshConnection, wipe: Wipe, patience: Patience): Promise<Wipe> {
  const { deadline } = patience;
  const { packaging } = wipe;
  let cleared: Wipe;
  if (packaging === "snap") {
    cleared = { ...wipe, snap: wipe.snap ?? (await keepSnap(ssh, patience)), cleared: true };
    await purgeSnap(ssh, patience);
    await endBridges(ssh, wipe.bridges, deadline);
  } else {
    const data = dataDirectory(packaging);
    const units = new Set([...wipe.units, ...(await unitsToStart(ssh, packaging, deadline))]);
    const bridges = new Set([...wipe.bridges, ...(await bridgesOf(ssh, data, deadline))]);
    cleared = { ...wipe, units: [...units], cleared: true };
    await stopUnits(ssh, packaging, data, deadline);
    await endBridges(ssh, [...bridges], deadline);
    await clearDirectory(ssh, data, deadline);
  }
  await note(ssh, cleared, deadline);
  return cleared;
}

async function note(ssh: SshConnection, wipe: Wipe, deadline: Deadline): Promise<void> {
  await writeNote(ssh, "pulumi-lxd-wipe", JSON.stringify(wipe), deadline);
}

async function start(ssh: SshConnection, { packaging, snap, units }: Wipe, patience: Patience): Promise<LxdClient> {
  if (packaging === "snap") {
    await installAgain(ssh, snap ?? (await snapToKeep(ssh, patience)), patience);
  } else {
    await startUnits(ssh, units, patience.deadline);
  }
  return untilAnswers(ssh, patience.deadline);
}

async function untilAnswers(ssh: SshConnection, deadline: Deadline): Promise<LxdClient> {
  const lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
  forgetPresented(lxd.endpoint);
  await throughRestart(lxd, () => untilReady(lxd)); // open connections to the former daemon break on their next use
  return lxd;
}

/** Restores the snap's settings and LXD's config, and removes the notes. This finishes the wipe. */
async function end(ssh: SshConnection, lxd: LxdClient, { config, snap }: Wipe, patience: Patience): Promise<void> {
  const { deadline } = patience;
  const settings = snap?.settings === true ? await keptSettings(ssh, deadline) : undefined;
  let answering = lxd;
  if (settings !== undefined) {
    const cure = `To continue without all former settings of the snap, type there: rm ${SNAP_SETTINGS}`;
    await applySnapSettings(ssh, settings, cure, patience);
    answering = await untilAnswers(ssh, deadline);
  }
  if (Object.keys(config).length > 0) {
    await restoreConfig(answering, config);
  }
  await removeNotes(ssh, deadline);
}

/** The settings of the snap, or `undefined` when somebody removed the file to continue without them. */
async function keptSettings(ssh: SshConnection, deadline: Deadline): Promise<SnapSettings | undefined> {
  const text = await readSnapSettings(ssh, deadline);
  try {
    return text === undefined ? undefined : snapSettingsSchema.parse(JSON.parse(text));
  } catch {
    // No cause: it would quote the settings.
    throw new RefusedError(
      `${SNAP_SETTINGS} on ${ssh.name}, which keeps the settings of the LXD snap, cannot be read. Repair it, or continue without it: ` +
        `rm ${SNAP_SETTINGS}`,
    );
  }
}

/** Ignores what LXD refuses, or fails at twice: the next refresh of the resource that wants it shows what is missing. */
async function restoreConfig(lxd: LxdClient, config: Config): Promise<void> {
  const restore = (): Promise<void> => setServerConfig(lxd, config);
  try {
    await restore().catch((error: unknown) => {
      if (isServerFailure(error)) {
        return restore();
      }
      throw error;
    });
  } catch (error) {
    if (!hasCode(error, "api")) {
      throw error;
    }
  }
}
