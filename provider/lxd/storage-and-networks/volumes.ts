/**
 * Custom storage volumes. In a cluster, a volume of a pool that is local to each member is on one of them, and several members may
 * have volumes of the same name. A pool that all members share has a name once.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/storage/#storage-volumes
 */
import * as z from "zod";
import { sameJson } from "../../support/equality";
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import { getServers } from "../cluster/servers";
import { type Config, ownerKey, sameConfigValue } from "../config";
import { describeUser, explainInUse } from "../in-use";
import { getServer } from "../server";
import { namesOf } from "./member-objects";
import { faultOfSize, type KeyRules, merged } from "./object-config";

export const volumeSchema = z.looseObject({
  name: z.string(),
  description: z.string().default(""),
  content_type: z.string().default("filesystem"),
  /** `none` without a member: on a standalone server, and in newer servers for a pool that all members share. */
  location: z
    .string()
    .default("")
    .transform((name) => (name === "none" ? "" : name)),
  config: z.record(z.string(), z.string()).nullish(),
  used_by: listOf(z.string()),
});

export type Volume = z.output<typeof volumeSchema>;

export type FoundVolume = Tagged<Volume>;

const poolSchema = z.looseObject({ driver: z.string() });

/** Rules of the keys of a volume's config, which has one value for each key. */
export const VOLUME_KEYS: KeyRules = {
  memberKeys: [],
  creationKeys: [],
  satisfies: (key, wanted, live) => sameConfigValue(key, wanted, live),
  valueFault: faultOfSize,
};

export interface VolumeRef {
  readonly project: string;
  readonly pool: string;
  readonly name: string;
  /** Member that has the volume; empty or absent if unknown, or if there is none. */
  readonly location?: string | undefined;
}

/** Formats a volume's name for messages: `Storage volume "data" of pool "fast" on bcn1`. */
export function nameOfVolume({ project, pool, name, location = "" }: VolumeRef): string {
  return (
    `Storage volume "${name}" of pool "${pool}"` +
    `${project === "default" ? "" : ` in project "${project}"`}${location === "" ? "" : ` on ${location}`}`
  );
}

/** The address of the volumes of a pool. */
export function collectionOf({ pool }: Pick<VolumeRef, "pool">): string {
  return api`/1.0/storage-pools/${pool}/volumes/custom`;
}

/** The address of a volume in the API. */
export function pathOf(ref: VolumeRef): string {
  return collectionOf(ref) + api`/${ref.name}`;
}

/** Whose volume is meant: the project, and the member if there is one. */
export function queryOf({ project, location = "" }: VolumeRef): Record<string, string | undefined> {
  return { project, target: location === "" ? undefined : location };
}

/**
 * Finds a volume. Without a location, finds it in the list of all members, because the server fails for a name that several have.
 * @param input - The input by which the program can name the member.
 * @throws RefusedError when several members have one of that name.
 */
export async function findVolume(lxd: LxdClient, ref: VolumeRef, input = "target"): Promise<FoundVolume | undefined> {
  if ((ref.location ?? "") !== "") {
    return lxd.findWithEtag(pathOf(ref), volumeSchema, queryOf(ref));
  }
  const all = await lxd.find(collectionOf(ref), listOf(volumeSchema), { ...queryOf(ref), recursion: 1 });
  const found = theOnly(ref, all ?? [], input);
  return found && lxd.findWithEtag(pathOf(ref), volumeSchema, queryOf({ ...ref, location: found.location }));
}

/** {@link findVolume} in one list of each pool, which all reads of this process share, and which a member that is down does not prevent. */
export async function findVolumeShared(lxd: LxdClient, ref: VolumeRef): Promise<Volume | undefined> {
  const all = await lxd.findShared(collectionOf(ref), listOf(volumeSchema), { project: ref.project, recursion: 1 });
  return theOnly(ref, all ?? []);
}

function theOnly(ref: VolumeRef, all: readonly Volume[], input = "target"): Volume | undefined {
  const { name, location = "" } = ref;
  const named = all.filter((volume) => volume.name === name && (location === "" || volume.location === location));
  if (named.length > 1) {
    const members = named.map((volume) => volume.location).join(", ");
    throw new RefusedError(`${nameOfVolume(ref)} exists on several members: ${members}. Set ${input} to one of them`);
  }
  return named[0];
}

/**
 * Returns the member on which a volume has to be; `undefined` where there is none to choose.
 * @param present - Where a volume is that may stay there.
 * @throws RefusedError when the program has to name one, or must not.
 */
export async function memberFor(
  lxd: LxdClient,
  ref: VolumeRef,
  target: string | undefined,
  present = "",
): Promise<string | undefined> {
  const servers = await getServers(lxd);
  const members = namesOf(servers);
  if (!servers.clustered) {
    if (target !== undefined) {
      throw new RefusedError(`${nameOfVolume(ref)}: ${lxd.title} is not a member of a cluster. Leave out target`);
    }
    return undefined;
  }
  const { driver } = await lxd.get(api`/1.0/storage-pools/${ref.pool}`, poolSchema);
  const { storage_supported_drivers: drivers } = (await getServer(lxd)).environment;
  if (drivers?.find(({ Name }) => Name === driver)?.Remote === true) {
    if (target !== undefined) {
      throw new RefusedError(
        `${nameOfVolume(ref)}: all members share the pool, because its driver is ${driver}. Leave out target`,
      );
    }
    return undefined;
  }
  if (target === undefined && present !== "") {
    return present;
  }
  if (target === undefined && members.length > 1) {
    throw new RefusedError(
      `${nameOfVolume(ref)}: each member has its own part of the pool, because its driver is ${driver}. Set target to one of ` +
        members.join(", "),
    );
  }
  if (target !== undefined && !members.includes(target)) {
    throw new RefusedError(
      `${nameOfVolume(ref)}: target is "${target}", which is not a member of the cluster of ${lxd.host} (${members.join(", ")})`,
    );
  }
  return target ?? members[0];
}

/** What a new volume is to be. */
export interface NewVolume {
  readonly target: string | undefined;
  readonly contentType: string;
  readonly description: string;
  readonly config: Config;
}

/** Creates a volume. Returns where it is: the name of a member, or nothing. */
export async function createVolume(
  lxd: LxdClient,
  ref: VolumeRef,
  { target, contentType, ...contents }: NewVolume,
): Promise<string> {
  const location = (await memberFor(lxd, ref, target)) ?? "";
  const body = { name: ref.name, type: "custom", content_type: contentType, ...contents };
  await lxd.change("POST", collectionOf(ref), { query: queryOf({ ...ref, location }), body });
  return location;
}

/**
 * Changes a volume to the wanted one. Keeps values that already match, and keys that are not given. Writes nothing without a
 * difference.
 * @param wanted.config - An empty value unsets its key.
 */
export async function changeVolume(
  lxd: LxdClient,
  ref: VolumeRef,
  found: FoundVolume,
  wanted: { readonly description?: string; readonly config: Config; readonly mark: string },
): Promise<void> {
  const contents = (live: Volume): object | undefined => {
    const current = { description: live.description, config: live.config ?? {} };
    const config = merged(VOLUME_KEYS, current.config, { ...wanted.config, ...ownerKey(wanted.mark) });
    const changed = { description: wanted.description ?? live.description, config };
    return sameJson(changed, current) ? undefined : changed;
  };
  await lxd.modify(pathOf(ref), volumeSchema, contents, { query: queryOf(ref), found });
}

/**
 * Removes a volume with its snapshots. Succeeds when it does not exist.
 * @throws RefusedError naming its users.
 */
export async function deleteVolume(lxd: LxdClient, ref: VolumeRef): Promise<void> {
  try {
    await lxd.remove(pathOf(ref), queryOf(ref));
  } catch (error) {
    throw explainInUse(error, nameOfVolume(ref), lxd.title, (await findVolume(lxd, ref))?.value.used_by ?? []);
  }
}

/** Names the users of a volume for messages; `undefined` without any. */
export function usersOf({ used_by }: Volume): string | undefined {
  return used_by.length === 0 ? undefined : used_by.map(describeUser).join(", ");
}
