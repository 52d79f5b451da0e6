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
import { faultOfSize, type KeyRules, merged, namesOf } from "./member-objects";

const volumeSchema = z.looseObject({
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

function collectionOf({ pool }: Pick<VolumeRef, "pool">): string {
  return api`/1.0/storage-pools/${pool}/volumes/custom`;
}

function pathOf(ref: VolumeRef): string {
  return collectionOf(ref) + api`/${ref.name}`;
}

function queryOf({ project, location = "" }: VolumeRef): Record<string, string | undefined> {
  return { project, target: location === "" ? undefined : location };
}

/**
 * Finds a volume. Without a location, finds it in the list of all members, because the server fails for a name that several have.
 * @throws RefusedError when several members have one of that name.
 */
export async function findVolume(lxd: LxdClient, ref: VolumeRef): Promise<FoundVolume | undefined> {
  if ((ref.location ?? "") !== "") {
    return lxd.findWithEtag(pathOf(ref), volumeSchema, queryOf(ref));
  }
  const all = await lxd.find(collectionOf(ref), listOf(volumeSchema), { ...queryOf(ref), recursion: 1 });
  const found = theOnly(ref, all ?? []);
  return found && lxd.findWithEtag(pathOf(ref), volumeSchema, queryOf({ ...ref, location: found.location }));
}

/** {@link findVolume} in one list of each pool, which all reads of this process share, and which a member that is down does not prevent. */
export async function findVolumeShared(lxd: LxdClient, ref: VolumeRef): Promise<Volume | undefined> {
  const all = await lxd.findShared(collectionOf(ref), listOf(volumeSchema), { project: ref.project, recursion: 1 });
  return theOnly(ref, all ?? []);
}

function theOnly(ref: VolumeRef, all: readonly Volume[]): Volume | undefined {
  const { name, location = "" } = ref;
  const named = all.filter((volume) => volume.name === name && (location === "" || volume.location === location));
  if (named.length > 1) {
    const members = named.map((volume) => volume.location).join(", ");
    throw new RefusedError(`${nameOfVolume(ref)} exists on several members: ${members}. Set target to one of them`);
  }
  return named[0];
}

/**
 * Returns the member on which a volume has to be; `undefined` where there is none to choose.
 * @param present - Where a volume is that may stay there.
 * @throws RefusedError when the program has to name one, or must not.
 */
async function memberFor(lxd: LxdClient, ref: VolumeRef, target: string | undefined, present = ""): Promise<string | undefined> {
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

interface NewVolume {
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

/** A volume, and the pool and member to which it moves. The members are empty where there are none. */
export interface Move {
  readonly from: VolumeRef & { readonly location: string };
  readonly to: { readonly pool: string; readonly location: string };
}

/** Returns the move to the wanted pool and member; `undefined` for a volume that is there. */
export async function moveTo(
  lxd: LxdClient,
  from: Move["from"],
  { pool, target = from.location }: { readonly pool: string; readonly target?: string | undefined },
): Promise<Move | undefined> {
  if (pool === from.pool && target === from.location) {
    return undefined;
  }
  const isGiven = target !== from.location;
  const location = (await memberFor(lxd, { ...from, pool }, isGiven ? target : undefined, from.location)) ?? "";
  return { from, to: { pool, location } };
}

/**
 * Explains why a volume is not moved; `undefined` when nothing is known to prevent it. A move between members is refused: LXD 5.0 leaves it
 * to its client. Servers with the extension end the operation before the copy, and lose config, description and type of content; they
 * also move a volume that a stopped instance has, which then starts no more.
 */
export async function refusalOfMove(lxd: LxdClient, { from, to }: Move, found: FoundVolume): Promise<string | undefined> {
  const isNot = `${nameOfVolume(from)} is not moved to pool "${to.pool}"${to.location === "" ? "" : ` on ${to.location}`}, because`;
  const users = usersOf(found.value);
  if (users !== undefined) {
    return `${isNot} it is used by ${users}. Remove its disk device there first`;
  }
  if (from.location === "" || to.location === "" || from.location === to.location) {
    return undefined;
  }
  const { api_extensions, environment } = await getServer(lxd);
  const { name, client } = lxd.names;
  return api_extensions.includes("cluster_internal_custom_volume_copy")
    ? `${isNot} ${name} ${environment.server_version} moves volumes between members without their config. Make another volume there with ` +
        "another LxdStorageVolume, and copy the data inside an instance"
    : `${isNot} ${name} ${environment.server_version} leaves moves between members to its client. Run on a member: ${client} storage volume ` +
        `move ${from.pool}/${from.name} ${to.pool}/${from.name} --project ${from.project} --target ${from.location} ` +
        `--destination-target ${to.location}. Then run pulumi up with adopt: true`;
}

/** Moves a volume with its snapshots to another pool. The server copies it, and then removes the original. */
export async function moveVolume(lxd: LxdClient, { from, to }: Move): Promise<void> {
  const location = from.location === "" ? to.location : from.location;
  const body = { name: from.name, pool: to.pool };
  await lxd.change("POST", pathOf(from), { query: queryOf({ ...from, location }), body });
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
