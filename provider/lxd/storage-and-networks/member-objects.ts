/**
 * Storage pools and networks: objects of the whole cluster, some of whose keys belong to each member. Both have the same calls and
 * the same traps; what differs is in {@link ObjectType}.
 */
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { api, type LxdClient, type Tagged } from "../client/client";
import type { Servers } from "../cluster/servers";
import { type Config, isServerMade, OWNER_KEY, sameConfig, sameConfigValue } from "../config";
import { explainInUse } from "../in-use";

const memberObjectSchema = z.looseObject({
  name: z.string(),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  status: z.string().default(""),
  /** Members on which it is at least defined. */
  locations: z.array(z.string()).nullish(),
  used_by: z.array(z.string()).nullish(),
  /** Of a pool. */
  driver: z.string().default(""),
  /** Of a network. */
  type: z.string().default(""),
  /** Of a network: false for an interface of the host that LXD only lists. */
  managed: z.boolean().default(true),
});

/** A pool or network as LXD shows it. */
export type MemberObject = z.output<typeof memberObjectSchema>;

/** What pools and networks do not have in common. */
export interface ObjectType {
  /** As messages begin: "Storage pool". */
  readonly noun: string;
  readonly collection: "/1.0/storage-pools" | "/1.0/networks";
  /** Keys that each member has for itself. */
  readonly memberKeys: readonly string[];
  /** Keys that say how a member makes the object, and mean nothing afterwards. LXD replaces their values by what it made. */
  readonly creationKeys: readonly string[];
  /** Whether a live value is what is wanted, where that is more than being the same value. */
  satisfies(key: string, wanted: string, live: string | undefined): boolean;
  /** What is wrong with a value, as far as that can be told without LXD. */
  valueFault(key: string, value: string): string | undefined;
}

/** One pool or network. */
export interface ObjectRef {
  readonly type: ObjectType;
  readonly name: string;
  /** Only networks belong to a project. */
  readonly project?: string;
}

/** Config of a member by its name. */
export type MemberConfig = Record<string, Config>;

/** Config as a program gives it. */
export interface WantedConfig {
  /** What holds for the whole object, and, of the keys that each member has for itself, what holds for every member. */
  readonly config: Config;
  /** What differs on a member. */
  readonly memberConfig: MemberConfig;
}

/** What an object is to be. */
export interface Wanted extends WantedConfig {
  readonly description: string;
  /** The owner's mark. */
  readonly mark: string;
}

/** An object as it was read. */
export type Found = Tagged<MemberObject>;

/** The path of an object. */
function pathOf({ type, name }: ObjectRef): string {
  return type.collection + api`/${name}`;
}

/** How messages name an object: `Storage pool "fast"`. */
export function nameOf({ type, name, project }: ObjectRef): string {
  return `${type.noun} "${name}"${project === undefined || project === "default" ? "" : ` of project "${project}"`}`;
}

/** The query that finds an object, as it is on one member or in general. */
export function queryOf({ project }: ObjectRef, target?: string): Record<string, string | undefined> {
  return { project, target };
}

/** The object, or `undefined`. Without target, LXD leaves out the keys that members have for themselves. */
export function findObject(lxd: LxdClient, ref: ObjectRef, target?: string): Promise<Found | undefined> {
  return lxd.findWithEtag(pathOf(ref), memberObjectSchema, queryOf(ref, target));
}

/** The object as LXD manages it; an interface of the host that has the name of a network is none. */
export async function findManaged(lxd: LxdClient, ref: ObjectRef): Promise<Found | undefined> {
  const found = await findObject(lxd, ref);
  return found?.value.managed === true ? found : undefined;
}

/** {@link findManaged} from one list that all reads of this process share. */
export async function findManagedShared(lxd: LxdClient, ref: ObjectRef): Promise<MemberObject | undefined> {
  const all = await lxd.getShared(ref.type.collection, z.array(memberObjectSchema), { ...queryOf(ref), recursion: 1 });
  return all.find(({ name, managed }) => managed && name === ref.name);
}

/**
 * The object as each member has it. A member that is offline cannot be asked, and is left out.
 * @param members - Names of the members, or all.
 */
export async function viewsOf(
  lxd: LxdClient,
  ref: ObjectRef,
  servers: Servers,
  members: readonly string[] = namesOf(servers),
): Promise<Map<string, Found>> {
  const asked = servers.members.filter(({ server_name, status }) => status !== "Offline" && members.includes(server_name));
  const views = await Promise.all(
    asked.map(
      async ({ server_name }): Promise<[string, Found | undefined]> => [
        server_name,
        await findObject(lxd, ref, servers.clustered ? server_name : undefined),
      ],
    ),
  );
  return new Map(views.flatMap(([name, found]) => (found === undefined ? [] : [[name, found]])));
}

/** Names of the members, or of the only server. */
export function namesOf({ members }: Servers): string[] {
  return members.map(({ server_name }) => server_name);
}

/** The status of the object on each member, `Offline` for one that cannot be asked. */
export function statusesOf(servers: Servers, views: ReadonlyMap<string, Found>): Record<string, string> {
  return Object.fromEntries(
    servers.members.map(({ server_name, status }) => [server_name, views.get(server_name)?.value.status ?? status]),
  );
}

/** @throws RefusedError when config is given for a server that is not a member. */
export function refuseUnknownMembers(lxd: LxdClient, ref: ObjectRef, servers: Servers, memberConfig: MemberConfig): void {
  const names = namesOf(servers);
  const unknown = Object.keys(memberConfig).find((member) => !names.includes(member));
  if (unknown !== undefined) {
    throw new RefusedError(
      `${nameOf(ref)}: memberConfig names "${unknown}", which is not a member of the cluster of ${lxd.host} (${names.join(", ")})`,
    );
  }
}

/** The keys of `config` that are one and the same for the whole object. */
export function commonConfig({ memberKeys }: ObjectType, config: Config): Config {
  return filtered(config, (key) => !memberKeys.includes(key));
}

/** What is wanted of the keys that a member has for itself. A `source` of its own has its own size. */
export function configOfMember({ memberKeys }: ObjectType, { config, memberConfig }: WantedConfig, member: string): Config {
  const own = memberConfig[member] ?? {};
  const shared = filtered(config, (key) => memberKeys.includes(key) && !(key === "size" && (own["source"] ?? "") !== ""));
  return { ...shared, ...own };
}

/** Config in which every wanted key has a value that satisfies it. Values that do are left as they are, and so are all other keys. */
function merged(type: ObjectType, live: Config, wanted: Config): Config {
  const result: Config = { ...live };
  for (const [key, value] of Object.entries(wanted)) {
    if (value === "") {
      delete result[key];
    } else if (!type.satisfies(key, value, live[key])) {
      result[key] = value;
    }
  }
  return result;
}

/** The live values of the known keys, as they were written where that is satisfied. All other keys are LXD's. */
function keepSpelling(type: ObjectType, known: Config, live: Config): Config {
  return Object.fromEntries(
    Object.entries(known).map(([key, text]) => {
      const value = live[key] ?? "";
      return [key, type.creationKeys.includes(key) || type.satisfies(key, text, value) ? text : value];
    }),
  );
}

/**
 * The live config in the shape of the program: `memberConfig` tells where a member has another value than `config`. Members that could not
 * be asked are taken to be as they were.
 */
export function observedConfig(
  type: ObjectType,
  known: WantedConfig,
  live: Config,
  views: ReadonlyMap<string, Found>,
): WantedConfig {
  const memberConfig = { ...known.memberConfig };
  for (const [member, { value }] of views) {
    const own = known.memberConfig[member];
    if (value.config) {
      const seen = keepSpelling(type, configOfMember(type, known, member), value.config);
      const differing = filtered(seen, (key) => own?.[key] !== undefined || seen[key] !== known.config[key]);
      if (own !== undefined || Object.keys(differing).length > 0) {
        memberConfig[member] = differing;
      }
    }
  }
  const common = keepSpelling(type, commonConfig(type, known.config), live);
  return { config: { ...known.config, ...common }, memberConfig };
}

/**
 * Where the known config differs in meaning from the wanted one. A member's key that is no longer wanted is LXD's from then on.
 * @param members - Those that are known to have the object.
 */
export function changedConfig(
  type: ObjectType,
  known: WantedConfig,
  wanted: WantedConfig,
  members: readonly string[],
): ("config" | "memberConfig")[] {
  const changed = new Set<"config" | "memberConfig">();
  if (!sameConfig(commonConfig(type, known.config), commonConfig(type, wanted.config))) {
    changed.add("config");
  }
  for (const member of new Set([...members, ...Object.keys(wanted.memberConfig)])) {
    const live = configOfMember(type, known, member);
    for (const [key, value] of Object.entries(configOfMember(type, wanted, member))) {
      if (!sameConfigValue(key, live[key], value)) {
        const isOwn = [known, wanted].some(({ memberConfig }) => memberConfig[member]?.[key] !== undefined);
        changed.add(isOwn ? "memberConfig" : "config");
      }
    }
  }
  return [...changed];
}

/**
 * Brings a created object to what is wanted. What already is so, and what LXD made, is left alone: without a difference nothing is
 * written.
 * @param former - The config as it was given before: what is no longer given is unset.
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
  const dropped = commonConfig(
    type,
    filtered(former, (key) => !(key in wanted.config)),
  );
  const given = {
    ...commonConfig(type, wanted.config),
    ...(servers.clustered || only === undefined ? {} : own(only)),
    ...ownerKey(wanted.mark),
  };
  const change = (live: Config): Config =>
    merged(
      type,
      filtered(live, (key) => !(key in dropped)),
      given,
    );
  await modifyObject(lxd, ref, found, change, { description: wanted.description });
  if (servers.clustered) {
    const changing = namesOf(servers).filter((member) => Object.keys(own(member)).length > 0);
    for (const [member, view] of await viewsOf(lxd, ref, servers, changing)) {
      await changeOnMember(lxd, ref, member, view.value, own(member));
    }
  }
}

/** Writes the owner's mark, and nothing else. */
export async function markObject(lxd: LxdClient, ref: ObjectRef, found: Found, mark: string): Promise<void> {
  await modifyObject(lxd, ref, found, (live) => ({ ...live, ...ownerKey(mark) }));
}

/** Sets keys of one member. */
export async function changeOnMember(
  lxd: LxdClient,
  ref: ObjectRef,
  member: string,
  view: MemberObject,
  wanted: Config,
): Promise<void> {
  // With everything that LXD showed for this member: what is left out, it removes, even from the keys of the whole cluster.
  const change = (live: Config): Config => merged(ref.type, live, wanted);
  await modifyObject(lxd, ref, { value: view, etag: undefined }, change, { target: member });
}

/** Writes a config, and a description when there is one, if LXD has another. */
async function modifyObject(
  lxd: LxdClient,
  ref: ObjectRef,
  found: Found,
  change: (live: Config) => Config,
  { description, target }: { description?: string; target?: string } = {},
): Promise<void> {
  const contents = (live: MemberObject): object | undefined => {
    const wanted = { description: description ?? live.description, config: change(live.config ?? {}) };
    return wanted.description === live.description && identical(wanted.config, live.config ?? {}) ? undefined : wanted;
  };
  await lxd.modify(pathOf(ref), memberObjectSchema, contents, { query: queryOf(ref, target), found });
}

/**
 * Removes an object; one that is gone is done.
 * @throws RefusedError telling who uses it.
 */
export async function deleteObject(lxd: LxdClient, ref: ObjectRef): Promise<void> {
  try {
    await lxd.remove(pathOf(ref), queryOf(ref));
  } catch (error) {
    throw explainInUse(error, nameOf(ref), lxd.host, (await findObject(lxd, ref))?.value.used_by ?? []);
  }
}

/** The mark of the owner, when there is one. */
export function ownerKey(mark: string): Config {
  return mark === "" ? {} : { [OWNER_KEY]: mark };
}

function filtered(config: Config, keep: (key: string) => boolean): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => keep(key)));
}

function identical(a: Config, b: Config): boolean {
  return Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value);
}

/** What is wrong with a key where it stands, or with its value; `undefined` when nothing is. */
export function faultOf(type: ObjectType, place: "config" | "memberConfig", key: string, value: string): string | undefined {
  if (isServerMade(key)) {
    return "is written by LXD or by this package, and cannot be set";
  }
  return place === "memberConfig" && !type.memberKeys.includes(key)
    ? `is the same for all members: give it in config. Members have ${type.memberKeys.join(", ")} for themselves`
    : type.valueFault(key, value);
}
