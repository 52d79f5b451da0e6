/**
 * Snapshots of custom volumes. The server makes and removes them by `snapshots.*` of the volume's config; users make more.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/storage_backup_volume/#use-snapshots-for-volume-backup
 */
import * as z from "zod";
import { listOf } from "../client/answers";
import { api, type LxdClient } from "../client/client";
import { collectionOf, pathOf, queryOf, type VolumeRef } from "./volumes";

const snapshotSchema = z.looseObject({
  description: z.string().default(""),
  expires_at: z.string().nullish(),
});
const named = { name: z.string().transform((name) => name.slice(name.lastIndexOf("/") + 1)) };
const listedSchema = snapshotSchema.extend(named);
const volumeSchema = z.looseObject({ name: z.string(), location: z.string().default("") });

export type VolumeSnapshot = z.output<typeof listedSchema>;

/**
 * Lists the snapshots of a volume; none when the volume does not exist. Asks for their names in two ways: at the volume's own address LXD 5.0 lists
 * those of the answering member alone, and Incus leaves them out of the list of volumes.
 */
export async function listSnapshots(lxd: LxdClient, ref: VolumeRef): Promise<VolumeSnapshot[]> {
  const { name: volume, location = "" } = ref;
  const [volumes, own] = await Promise.all([
    lxd.find(collectionOf(ref), listOf(volumeSchema), { project: ref.project, recursion: 1 }),
    lxd.find(`${pathOf(ref)}/snapshots`, listOf(listedSchema), { ...queryOf(ref), recursion: 1 }),
  ]);
  const listed = own ?? [];
  const elsewhere = (volumes ?? [])
    .filter((each) => each.name.startsWith(`${volume}/`) && (location === "" || each.location === location))
    .map(({ name }) => name.slice(volume.length + 1))
    .filter((name) => !listed.some((snapshot) => snapshot.name === name));
  const others = await Promise.all(
    elsewhere.map(async (name) => {
      const found = await lxd.find(pathOf(ref) + api`/snapshots/${name}`, snapshotSchema, queryOf(ref));
      return found && { ...found, name };
    }),
  );
  return [...listed, ...others.filter((snapshot) => snapshot !== undefined)];
}

/** Gives copied snapshots the description and expiry of their originals, which servers lose. */
export async function completeSnapshots(
  lxd: LxdClient,
  ref: VolumeRef,
  originals: readonly VolumeSnapshot[],
  copies: readonly VolumeSnapshot[],
): Promise<void> {
  for (const { name, description, expires_at } of originals) {
    const copy = copies.find((each) => each.name === name);
    if (copy !== undefined && !(copy.description === description && sameTime(copy.expires_at, expires_at))) {
      const path = pathOf(ref) + api`/snapshots/${name}`;
      await lxd.change("PUT", path, { query: queryOf(ref), body: { description, expires_at } });
    }
  }
}

/** Whether both are the same moment. Go's zero time means never, as an absent one does. */
function sameTime(a: string | null | undefined, b: string | null | undefined): boolean {
  const moment = (text: string | null | undefined): number => Math.max(Date.parse(text ?? "") || 0, 0);
  return moment(a) === moment(b);
}

/** How many names a message has at most. */
const NAMED = 5;

/** Names snapshots for messages: `2 snapshots (a, b)`; `undefined` without any. */
export function wordsFor(snapshots: readonly VolumeSnapshot[]): string | undefined {
  const names = snapshots.map(({ name }) => name);
  const shown = [...names.slice(0, NAMED), ...(names.length > NAMED ? ["..."] : [])].join(", ");
  return names.length === 0 ? undefined : `${names.length} ${names.length === 1 ? "snapshot" : "snapshots"} (${shown})`;
}
