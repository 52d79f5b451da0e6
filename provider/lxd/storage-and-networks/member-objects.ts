/**
 * Storage pools and networks: objects of the whole cluster, some of whose keys belong to each member. Both have the same calls and
 * the same traps; what differs is in {@link ObjectType}.
 */
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { untilKnown } from "../client/operations";
import type { Servers } from "../cluster/servers";
import { type Config, isServerMade, OWNER_KEY, sameConfigValue } from "../config";
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
}

/** One pool or network. */
export interface ObjectRef {
  readonly kind: ObjectType;
  readonly name: string;
  /** Only networks belong to a project. */
  readonly project?: string;
}

/** Config of a member by its name. */
export type MemberConfig = Record<string, Config>;

/** An object and the ETag that guards its next change. */
export interface Found {
  readonly value: MemberObject;
  readonly etag: string | undefined;
}

/** The path of an object. */
function pathOf({ kind, name }: ObjectRef): string {
  return kind.collection + api`/${name}`;
}

/** How messages name an object: `Storage pool "fast"`. */
export function nameOf({ kind, name, project }: ObjectRef): string {
  return `${kind.noun} "${name}"${project === undefined || project === "default" ? "" : ` of project "${project}"`}`;
}

/** The query that finds an object, as it is on one member or in general. */
export function queryOf({ project }: ObjectRef, target?: string): Record<string, string | undefined> {
  return { project, target };
}

/** The object, or `undefined`. Without target, LXD leaves out the keys that members have for themselves. */
export function findObject(lxd: LxdClient, subject: ObjectRef, target?: string): Promise<Found | undefined> {
  return lxd.findWithEtag(pathOf(subject), memberObjectSchema, queryOf(subject, target));
}

/** {@link findObject} out of one list that all reads of this process share. */
export async function findObjectShared(lxd: LxdClient, subject: ObjectRef): Promise<MemberObject | undefined> {
  const all = await lxd.getShared(subject.kind.collection, z.array(memberObjectSchema), { ...queryOf(subject), recursion: 1 });
  return all.find(({ name }) => name === subject.name);
}

/**
 * The object as each member has it. A member that is offline cannot be asked, and is left out.
 * @param members - Names of the members, or all.
 */
export async function viewsOf(
  lxd: LxdClient,
  subject: ObjectRef,
  servers: Servers,
  members = servers.members.map(({ server_name }) => server_name),
): Promise<Map<string, Found>> {
  const asked = servers.members.filter(({ server_name, status }) => status !== "Offline" && members.includes(server_name));
  const views = await Promise.all(
    asked.map(
      async ({ server_name }): Promise<[string, Found | undefined]> => [
        server_name,
        await findObject(lxd, subject, servers.clustered ? server_name : undefined),
      ],
    ),
  );
  return new Map(views.flatMap(([name, found]) => (found === undefined ? [] : [[name, found]])));
}

/** The status of the object on each member, `Offline` for one that cannot be asked. */
export function statusesOf(servers: Servers, views: ReadonlyMap<string, Found>): Record<string, string> {
  return Object.fromEntries(
    servers.members.map(({ server_name, status }) => [server_name, views.get(server_name)?.value.status ?? status]),
  );
}

/** @throws RefusedError when config is given for a server that is not a member. */
export function refuseUnknownMembers(lxd: LxdClient, subject: ObjectRef, servers: Servers, memberConfig: MemberConfig): void {
  const names = servers.members.map(({ server_name }) => server_name);
  for (const member of Object.keys(memberConfig)) {
    if (!names.includes(member)) {
      throw new RefusedError(
        `${nameOf(subject)}: memberConfig names "${member}", which is not a member of the cluster of ${lxd.host} (${names.join(", ")})`,
      );
    }
  }
}

/** Config in which every wanted key has a value that satisfies it. Values that do are left as they are, and so are all other keys. */
function merged(kind: ObjectType, live: Config, wanted: Config): Config {
  const result: Config = { ...live };
  for (const [key, value] of Object.entries(wanted)) {
    if (value === "") {
      delete result[key];
    } else if (!kind.satisfies(key, value, live[key])) {
      result[key] = value;
    }
  }
  return result;
}

/** The live values of the keys that the user named, in his words where they satisfy them. Keys that he did not name are LXD's. */
export function namedKeys(kind: ObjectType, known: Config, live: Config): Config {
  return Object.fromEntries(
    Object.entries(known).flatMap(([key, wording]) => {
      const value = live[key] ?? "";
      return kind.creationKeys.includes(key) || kind.satisfies(key, wording, value)
        ? [[key, wording]]
        : value === ""
          ? []
          : [[key, value]];
    }),
  );
}

/** {@link namedKeys} for each member; those that could not be asked are taken to be as they were. */
export function namedMemberKeys(kind: ObjectType, known: MemberConfig, views: ReadonlyMap<string, Found>): MemberConfig {
  return Object.fromEntries(
    Object.entries(known).map(([member, config]) => {
      const live = views.get(member)?.value.config;
      return [member, live ? namedKeys(kind, config, live) : config];
    }),
  );
}

/** Members with a key whose wanted value is not the known one. A key that is no longer wanted is LXD's from then on. */
export function sameMemberConfig(known: MemberConfig, wanted: MemberConfig): boolean {
  return Object.entries(wanted).every(([member, config]) =>
    Object.entries(config).every(([key, value]) => sameConfigValue(key, known[member]?.[key], value)),
  );
}

/** What an object is to be. */
export interface Wanted {
  readonly description: string;
  readonly config: Config;
  /** Keys that were the user's once, and are to be unset. */
  readonly dropped: readonly string[];
  readonly memberConfig: MemberConfig;
  /** The owner's mark. */
  readonly mark: string;
}

/**
 * Brings a created object to what is wanted. What already is so, and what LXD made, is left alone: without a difference nothing is
 * written.
 */
export async function changeObject(
  lxd: LxdClient,
  subject: ObjectRef,
  servers: Servers,
  found: Found,
  wanted: Wanted,
): Promise<void> {
  const { kind } = subject;
  const [only] = servers.members;
  const own = servers.clustered || only === undefined ? {} : afterCreation(kind, wanted.memberConfig[only.server_name] ?? {});
  const live = found.value.config ?? {};
  const kept = Object.fromEntries(Object.entries(live).filter(([key]) => !wanted.dropped.includes(key)));
  const config = merged(kind, kept, { ...wanted.config, ...own, ...ownerKey(wanted.mark) });
  if (wanted.description !== found.value.description || !identical(config, live)) {
    await putObject(lxd, subject, { description: wanted.description, config }, found.etag);
  }
  if (!servers.clustered) {
    return;
  }
  const changing = Object.keys(wanted.memberConfig);
  for (const [member, { value }] of await viewsOf(lxd, subject, servers, changing)) {
    await changeOnMember(lxd, subject, member, value, afterCreation(kind, wanted.memberConfig[member] ?? {}));
  }
}

/** Writes the owner's mark, and nothing else. */
export async function markObject(lxd: LxdClient, subject: ObjectRef, { value, etag }: Found, mark: string): Promise<void> {
  const config = { ...value.config, ...ownerKey(mark) };
  await putObject(lxd, subject, { description: value.description, config }, etag);
}

/** Sets keys of one member. */
export async function changeOnMember(
  lxd: LxdClient,
  subject: ObjectRef,
  member: string,
  view: MemberObject,
  wanted: Config,
): Promise<void> {
  const live = view.config ?? {};
  const config = merged(subject.kind, live, wanted);
  if (!identical(config, live)) {
    // With everything that LXD showed for this member: what is left out, it removes, even from the keys of the whole cluster.
    await putObject(lxd, subject, { description: view.description, config }, undefined, member);
  }
}

async function putObject(
  lxd: LxdClient,
  subject: ObjectRef,
  body: { description: string; config: Config },
  etag: string | undefined,
  target?: string,
): Promise<void> {
  const put = (): Promise<unknown> => lxd.change("PUT", pathOf(subject), { query: queryOf(subject, target), body, etag });
  await untilKnown(put, async () => {
    const { description, config } = (await findObject(lxd, subject, target))?.value ?? {};
    return description === body.description && identical(config ?? {}, body.config);
  });
}

/**
 * Removes an object; one that is gone is done.
 * @throws RefusedError telling who uses it.
 */
export async function deleteObject(lxd: LxdClient, subject: ObjectRef): Promise<void> {
  try {
    await lxd.remove(pathOf(subject), queryOf(subject));
  } catch (error) {
    throw explainInUse(error, nameOf(subject), lxd.host, (await findObject(lxd, subject))?.value.used_by ?? []);
  }
}

/** The mark of the owner, when there is one. */
export function ownerKey(mark: string): Config {
  return mark === "" ? {} : { [OWNER_KEY]: mark };
}

function afterCreation(kind: ObjectType, config: Config): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => !kind.creationKeys.includes(key)));
}

function identical(a: Config, b: Config): boolean {
  return Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value);
}

/**
 * Refuses, as an input is checked, keys that do not belong where they stand.
 * @returns The reason, or `undefined` for a key that is in its place.
 */
export function misplaced(kind: ObjectType, key: string, place: "config" | "memberConfig"): string | undefined {
  const ofMember = kind.memberKeys.includes(key);
  if (isServerMade(key)) {
    return "is written by LXD or by this package, and cannot be set";
  }
  if (place === "config" && ofMember) {
    return `is a key that each member has for itself: give it as memberConfig: {<member>: {"${key}": ...}}`;
  }
  if (place === "memberConfig" && !ofMember) {
    return `is the same for all members: give it in config. Members have ${kind.memberKeys.join(", ")} for themselves`;
  }
  return undefined;
}
