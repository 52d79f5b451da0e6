/**
 * Storage pools and networks: objects of the whole cluster with some keys for each member. Both have the same calls and the same
 * pitfalls. {@link ObjectType} holds the differences.
 */
import * as z from "zod";
import { sameJson } from "../../support/equality";
import { RefusedError } from "../../support/errors";
import { nearest } from "../../support/spelling";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import { isServerFailure } from "../client/transient-failures";
import { getServersShared, type Servers } from "../cluster/servers";
import { type Config, ownerKey } from "../config";
import { explainInUse } from "../in-use";
import { commonConfig, configOfMember, filtered, type KeyRules, merged, type WantedConfig } from "./object-config";

export const memberObjectSchema = z.looseObject({
  name: z.string(),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  status: z.string().default(""),
  /** Members on which it is at least defined. */
  locations: z.array(z.string()).nullish(),
  used_by: z.array(z.string()).nullish(),
  /** Only for a pool. */
  driver: z.string().default(""),
  /** Only for a network. */
  type: z.string().default(""),
  /** Only for a network: false for an interface of the host that LXD lists but does not manage. */
  managed: z.boolean().default(true),
});

export type MemberObject = z.output<typeof memberObjectSchema>;

/** Differences between pools and networks. */
export interface ObjectType extends KeyRules {
  /** Start of messages: "Storage pool". */
  readonly noun: string;
  readonly collection: "/1.0/storage-pools" | "/1.0/networks";
  /** Describes an object briefly, for the refusal to take it over. */
  describe(found: MemberObject): string;
  /** Whether LXD wants a definition on each member before it creates the object. @default always */
  isDefinedOnMembers?(identity: Identity): boolean;
  /** Returns the members that, by what they tell, cannot have such an object, each with the reason as a sentence. */
  lackingMembers?(
    lxd: LxdClient,
    wanted: WantedConfig & { readonly identity: Identity },
    servers: Servers,
  ): Promise<Map<string, string>>;
  /** @throws RefusedError for a config that does not fit the other objects. Asked in previews too. */
  refuseConfig?(lxd: LxdClient, ref: ObjectRef, identity: Identity, wanted: WantedConfig): Promise<void>;
  /** @throws RefusedError when something else is in the place of a new object. Asked in previews too. */
  refuseOccupied?(lxd: LxdClient, ref: ObjectRef, servers: Servers): Promise<void>;
  /** @throws RefusedError when something else is in the place of a new object, or LXD would leave it half-made. */
  refuseCreate?(lxd: LxdClient, creation: Creation, servers: Servers): Promise<void>;
  /** @throws RefusedError for a change that LXD would not make. */
  refuseChange?(lxd: LxdClient, ref: ObjectRef, servers: Servers, wanted: WantedConfig): Promise<void>;
}

export interface ObjectRef {
  readonly type: ObjectType;
  readonly name: string;
  /** Only networks belong to a project. */
  readonly project?: string;
}

/** What LXD shows as the type of a pool or network. It never changes. */
export type Identity = { readonly driver: string } | { readonly type: string };

export interface Wanted extends WantedConfig {
  readonly description: string;
  readonly mark: string;
}

export interface Creation extends Wanted {
  readonly ref: ObjectRef;
  readonly identity: Identity;
}

export type Found = Tagged<MemberObject>;

function pathOf({ type, name }: ObjectRef): string {
  return type.collection + api`/${name}`;
}

/** Formats an object's name for messages: `Storage pool "fast"`. */
export function nameOf({ type, name, project }: ObjectRef): string {
  return `${type.noun} "${name}"${project === undefined || project === "default" ? "" : ` of project "${project}"`}`;
}

export function idOf({ project, name }: ObjectRef): string {
  return project === undefined ? name : `${project}/${name}`;
}

/** @param target - A member. Without it, LXD omits the member-specific keys. */
export function queryOf({ project }: ObjectRef, target?: string): Record<string, string | undefined> {
  return { project, target };
}

/** See {@link queryOf} for `target`. */
export function findObject(lxd: LxdClient, ref: ObjectRef, target?: string): Promise<Found | undefined> {
  return lxd.findWithEtag(pathOf(ref), memberObjectSchema, queryOf(ref, target));
}

/** Finds an object that LXD manages. Ignores a host interface with the name of a network. */
export async function findManaged(lxd: LxdClient, ref: ObjectRef): Promise<Found | undefined> {
  const found = await findObject(lxd, ref);
  return found?.value.managed === true ? found : undefined;
}

/**
 * {@link findManaged} in one list that all reads of this process share. A server that fails to read one of the objects on its own member lists none:
 * then another member is asked.
 */
export async function findManagedShared(lxd: LxdClient, ref: ObjectRef): Promise<MemberObject | undefined> {
  try {
    const all = await lxd.getShared(ref.type.collection, listOf(memberObjectSchema), { ...queryOf(ref), recursion: 1 });
    return all.find(({ name, managed }) => managed && name === ref.name);
  } catch (error) {
    if (!isServerFailure(error)) {
      throw error;
    }
    const { views, failing } = await readOnMembers(lxd, ref, await getServersShared(lxd));
    const [found] = views.values();
    if (found === undefined && failing.size > 0) {
      throw error;
    }
    return found?.value.managed === true ? found.value : undefined;
  }
}

/** The object on each member that was asked. */
export interface Views {
  readonly views: ReadonlyMap<string, Found>;
  /** The error of each member whose server fails to read it, such as a pool for whose driver the member has no tools. */
  readonly failing: ReadonlyMap<string, unknown>;
}

/**
 * Reads the object on each member. Omits a member that is down, which cannot be asked.
 * @param members - Names of the members, or all.
 */
export async function readOnMembers(
  lxd: LxdClient,
  ref: ObjectRef,
  servers: Servers,
  members: readonly string[] = namesOf(servers),
): Promise<Views> {
  const views = new Map<string, Found>();
  const failing = new Map<string, unknown>();
  const read = async (member: string): Promise<void> => {
    try {
      const found = await findObject(lxd, ref, servers.clustered ? member : undefined);
      if (found !== undefined) {
        views.set(member, found);
      }
    } catch (error) {
      if (!isServerFailure(error)) {
        throw error;
      }
      failing.set(member, error);
    }
  };
  const asked = servers.members.filter(({ server_name, isDown }) => !isDown && members.includes(server_name));
  await Promise.all(asked.map(({ server_name }) => read(server_name)));
  return { views, failing };
}

/** {@link readOnMembers}. @throws The error of a member that fails to read it. */
export async function viewsOf(...what: Parameters<typeof readOnMembers>): Promise<ReadonlyMap<string, Found>> {
  const { views, failing } = await readOnMembers(...what);
  for (const error of failing.values()) {
    throw error;
  }
  return views;
}

export function namesOf({ members }: Servers): string[] {
  return members.map(({ server_name }) => server_name);
}

/** Status of an object that its member fails to read. LXD itself uses it for a pool that it could not mount. */
const UNAVAILABLE = "Unavailable";

/** Returns the status of the object on each member, or the member's own, such as `Offline`, where it was not read. */
export function statusesOf(servers: Servers, { views, failing }: Views): Record<string, string> {
  return Object.fromEntries(
    servers.members.map(({ server_name: name, status }) => [
      name,
      failing.has(name) ? UNAVAILABLE : (views.get(name)?.value.status ?? status),
    ]),
  );
}

/** @throws RefusedError when an existing object has another type than the wanted one. */
export function refuseOtherType({ host }: LxdClient, ref: ObjectRef, found: MemberObject, wanted: Identity): void {
  for (const [property, value] of Object.entries(wanted)) {
    if (found[property] !== value) {
      throw new RefusedError(
        `${nameOf(ref)} already exists on ${host} with ${property} ${String(found[property])}, not ${value}. Choose another name, or remove it first`,
      );
    }
  }
}

/** @throws RefusedError when config is given for a server that is not a member. */
export function refuseUnknownMembers(
  lxd: LxdClient,
  ref: ObjectRef,
  servers: Servers,
  memberConfig: WantedConfig["memberConfig"],
): void {
  const names = namesOf(servers);
  const unknown = Object.keys(memberConfig).find((member) => !names.includes(member));
  if (unknown !== undefined) {
    const meant = nearest(unknown, names);
    throw new RefusedError(
      `${nameOf(ref)}: memberConfig names "${unknown}", which is not a member of the cluster of ${lxd.host} (${names.join(", ")})` +
        (meant === undefined ? "" : `. Did you mean "${meant}"?`),
    );
  }
}

/**
 * Changes a created object to the wanted one. Keeps values that already match, and those that LXD made. Writes nothing without a
 * difference.
 * @param former - The config given before. Keys that are no longer given are unset.
 */
export async function changeObject(
  lxd: LxdClient,
  ref: ObjectRef,
  servers: Servers,
  found: Found,
  wanted: Wanted,
  former: Config,
): Promise<void> {
  const { type } = ref;
  const own = (member: string): Config =>
    filtered(configOfMember(type, wanted, member), (key) => !type.creationKeys.includes(key));
  const [only] = namesOf(servers);
  const dropped = Object.keys(commonConfig(type, former)).filter((key) => !(key in wanted.config));
  const given = {
    ...Object.fromEntries(dropped.map((key) => [key, ""])),
    ...commonConfig(type, wanted.config),
    ...(servers.clustered || only === undefined ? {} : own(only)),
    ...ownerKey(wanted.mark),
  };
  const change = (live: Config): Config => merged(type, live, given);
  await modifyObject(lxd, ref, found, change, { description: wanted.description });
  if (servers.clustered) {
    const changing = namesOf(servers).filter((member) => Object.keys(own(member)).length > 0);
    for (const [member, view] of await viewsOf(lxd, ref, servers, changing)) {
      await changeOnMember(lxd, ref, member, view.value, own(member));
    }
  }
}

/** Writes only the owner's mark. */
export async function markObject(lxd: LxdClient, ref: ObjectRef, found: Found, mark: string): Promise<void> {
  await modifyObject(lxd, ref, found, (live) => ({ ...live, ...ownerKey(mark) }));
}

export async function changeOnMember(
  lxd: LxdClient,
  ref: ObjectRef,
  member: string,
  view: MemberObject,
  wanted: Config,
): Promise<void> {
  // Includes everything that LXD showed for this member: LXD removes omitted keys, even those of the whole cluster.
  const change = (live: Config): Config => merged(ref.type, live, wanted);
  await modifyObject(lxd, ref, { value: view, etag: undefined }, change, { target: member });
}

/** Writes a config, and a description if given, when LXD's differ. */
async function modifyObject(
  lxd: LxdClient,
  ref: ObjectRef,
  found: Found,
  change: (live: Config) => Config,
  { description, target }: { description?: string; target?: string } = {},
): Promise<void> {
  const contents = (live: MemberObject): object | undefined => {
    const current = { description: live.description, config: live.config ?? {} };
    const wanted = { description: description ?? live.description, config: change(current.config) };
    return sameJson(wanted, current) ? undefined : wanted;
  };
  await lxd.modify(pathOf(ref), memberObjectSchema, contents, { query: queryOf(ref, target), found });
}

/**
 * Removes an object. Succeeds when it does not exist.
 * @throws RefusedError naming its users.
 */
export async function deleteObject(lxd: LxdClient, ref: ObjectRef): Promise<void> {
  try {
    await lxd.remove(pathOf(ref), queryOf(ref));
  } catch (error) {
    throw explainInUse(error, nameOf(ref), lxd.title, (await findObject(lxd, ref))?.value.used_by ?? []);
  }
}
