/**
 * Keys of the server config that resources manage: those of the whole cluster, and each member's own. The cluster's own config keeps, for each
 * resource, which keys it manages and which values they had before: in one key `user.pulumi.config.<claim>`.
 */
import * as z from "zod";
import { mayBeSecret } from "../../support/secrets";
import type { LxdClient } from "../client/client";
import type { Servers } from "../cluster/servers";
import type { Config } from "../config";
import { getServer, getServerShared, serverConfig } from "../server";

/** Values by key: of the cluster, and of each member. An empty value is one that is not set. */
export interface ServerValues {
  readonly config: Config;
  readonly memberConfig: Readonly<Record<string, Config>>;
}

export const NO_VALUES: ServerValues = { config: {}, memberConfig: {} };

/** The place of a value. */
export interface ServerKey {
  /** Empty for the whole cluster. */
  readonly member: string;
  readonly key: string;
}

export interface ServerValue extends ServerKey {
  readonly value: string;
}

/** Stands for a former value that may be secret, or that the server does not tell. Only state may have the value itself. */
export const UNRECORDED = "# not recorded, because it may be secret";

/** What the cluster keeps of one resource. */
export interface ServerRecord {
  /** Its key in the cluster's config. */
  readonly at: string;
  /** The owner's mark. */
  readonly mark: string;
  /** The keys that the resource manages, with their former values. */
  readonly former: ServerValues;
}

const RECORDS = "user.pulumi.config.";

const configSchema = z.record(z.string(), z.string());
const recordSchema = z.object({
  mark: z.string(),
  config: configSchema.default({}),
  memberConfig: z.record(z.string(), configSchema).default({}),
});

/** The live config, by member; of the cluster under the empty name. Members that cannot be asked are missing. */
export type LiveServerConfig = ReadonlyMap<string, Config>;

/**
 * Reads the config of the cluster, and of some of its members.
 * @param read - {@link getServer}, or its shared form for a refresh.
 */
export async function readServerConfig(
  lxd: LxdClient,
  { clustered, members }: Servers,
  names: readonly string[],
  read: typeof getServer = getServer,
): Promise<LiveServerConfig> {
  const asked = members.filter(({ server_name, isDown }) => names.includes(server_name) && !isDown);
  const ofMember = async (name: string): Promise<[string, Config]> => {
    return [name, serverConfig(await read(lxd, clustered && name !== "" ? name : undefined))];
  };
  return new Map(await Promise.all(["", ...asked.map(({ server_name }) => server_name)].map(ofMember)));
}

/** {@link readServerConfig} with requests that all reads of this process share. */
export function readServerConfigShared(lxd: LxdClient, servers: Servers, names: readonly string[]): Promise<LiveServerConfig> {
  return readServerConfig(lxd, servers, names, getServerShared);
}

/** The records in the cluster's config. One that cannot be read is nobody's. */
export function recordsIn(live: LiveServerConfig): ServerRecord[] {
  const entries = Object.entries(live.get("") ?? {}).filter(([key]) => key.startsWith(RECORDS));
  return entries.flatMap(([at, text]) => {
    const { data } = recordSchema.safeParse(jsonIn(text));
    return data === undefined ? [] : [{ at, mark: data.mark, former: { config: data.config, memberConfig: data.memberConfig } }];
  });
}

/** The place of the record of a claim. */
export function recordAt(claim: string | undefined): string {
  return `${RECORDS}${claim ?? "unclaimed"}`;
}

/** Returns the config that writes records. One without keys is removed. */
export function toConfig(records: readonly ServerRecord[]): Config {
  return Object.fromEntries(
    records.map(({ at, mark, former }) => {
      const entries = entriesOf(former);
      const recorded = valuesOf(entries.map((each) => ({ ...each, value: isSecret(each) ? UNRECORDED : each.value })));
      return [at, entries.length === 0 ? "" : JSON.stringify({ mark, ...recorded })];
    }),
  );
}

function isSecret({ key, value }: ServerValue): boolean {
  return value !== "" && mayBeSecret(key, value);
}

/** The live value as the former one of a resource. Of some secrets, servers tell only that they are set. */
export function asFormer(key: string, live: string): string {
  return live === "true" && mayBeSecret(key, live) ? UNRECORDED : live;
}

export function entriesOf({ config, memberConfig }: ServerValues): ServerValue[] {
  const of = (member: string, values: Config): ServerValue[] =>
    Object.entries(values).map(([key, value]) => ({ member, key, value }));
  return [...of("", config), ...Object.entries(memberConfig).flatMap(([member, values]) => of(member, values))];
}

export function valuesOf(entries: readonly ServerValue[]): ServerValues {
  const of = (name: string): Config =>
    Object.fromEntries(entries.filter(({ member }) => member === name).map(({ key, value }) => [key, value]));
  const members = [...new Set(entries.map(({ member }) => member))].filter((member) => member !== "");
  return { config: of(""), memberConfig: Object.fromEntries(members.map((member) => [member, of(member)])) };
}

/** The value at a place; `undefined` when there is none. */
export function valueAt(values: ServerValues | undefined, { member, key }: ServerKey): string | undefined {
  return values && (member === "" ? values.config : values.memberConfig[member])?.[key];
}

/** The live value at a place; empty when it is not set, `undefined` when the member was not asked. */
export function liveAt(live: LiveServerConfig, { member, key }: ServerKey): string | undefined {
  const config = live.get(member);
  return config && (config[key] ?? "");
}

/** Path of the property: `memberConfig.bcn1.core.bgp_address`. */
export function pathOf({ member, key }: ServerKey): string {
  return member === "" ? `config.${key}` : `memberConfig.${member}.${key}`;
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
