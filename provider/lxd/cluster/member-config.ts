import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { nearest } from "../../support/spelling";
import { api, type LxdClient } from "../client/client";
import { type Config, configValueSchema } from "../config";
import { configKeySchema, networkNameSchema, poolNameSchema } from "../names";
import { type ObjectType } from "../storage-and-networks/member-objects";
import { NETWORKS } from "../storage-and-networks/networks";
import { faultOfMemberKey } from "../storage-and-networks/object-config";
import { POOLS } from "../storage-and-networks/storage-pools";
import type { MemberConfigKey } from "./cluster";

const entitySchema = z.looseObject({ driver: z.string().default(""), config: z.record(z.string(), z.string()).default({}) });

/** Member-specific keys that only some servers have: Incus, and LXD from 5.21 on. */
const FURTHER_KEYS = ["lvm.vg.force_reuse", "acceleration.parent"];

/** The values of a member for one object. Keys that no server has as its member-specific ones are faults. */
function valuesSchema(type: ObjectType, common: string) {
  return z.record(configKeySchema, configValueSchema).superRefine((values, context) => {
    for (const [key, value] of Object.entries(values)) {
      const message = FURTHER_KEYS.includes(key)
        ? undefined
        : (faultOfMemberKey(type, key, `config of the ${common}`) ?? type.valueFault(key, value));
      if (message !== undefined) {
        context.addIssue({ code: "custom", path: [key], message });
      }
    }
  });
}

/** A server's own values for member-specific keys, by pool and by network. */
export const memberConfigSchema = z.strictObject({
  pools: z.record(poolNameSchema, valuesSchema(POOLS, "LxdStoragePool")).optional(),
  networks: z.record(networkNameSchema, valuesSchema(NETWORKS, "LxdNetwork")).optional(),
});

export type MemberConfig = z.output<typeof memberConfigSchema>;

/** Property of {@link MemberConfig} for an entity in LXD's list. */
const GROUPS = { "storage-pool": "pools", network: "networks" } as const;

export function memberConfigFromKeys(keys: readonly MemberConfigKey[]): MemberConfig {
  const result: Partial<Record<keyof MemberConfig, Record<string, Config>>> = {};
  for (const { entity, name, key, value } of keys) {
    const group = (result[GROUPS[entity]] ??= {});
    group[name] = { ...group[name], [key]: value };
  }
  return result;
}

/**
 * Determines the value that a joining server brings for each member-specific key: the given one, or otherwise the one that
 * follows from an existing member.
 * @param member - The member that `lxd` is connected to.
 * @throws RefusedError for a value that only the user can know, such as the disk to use, and for a key that a pool or network
 * does not have.
 */
export async function workOutMemberConfig(
  lxd: LxdClient,
  keys: readonly MemberConfigKey[],
  given: MemberConfig,
  joining: string,
  member: string,
): Promise<MemberConfigKey[]> {
  refuseUnknown(keys, given);
  const values: MemberConfigKey[] = [];
  for (const { entity, name, key } of keys) {
    const value = given[GROUPS[entity]]?.[name]?.[key] ?? (await naturalValue(lxd, { entity, name, key }, joining, member));
    values.push({ entity, name, key, value });
  }
  return values;
}

/**
 * Refuses unknown keys. LXD only logs them, so a misspelt key would mean the default. Pools and networks that the cluster does
 * not have are allowed, for a later join.
 */
function refuseUnknown(keys: readonly MemberConfigKey[], given: MemberConfig): void {
  const known = memberConfigFromKeys(keys);
  for (const group of ["pools", "networks"] as const) {
    for (const [name, values] of Object.entries(given[group] ?? {})) {
      const allowed = Object.keys(known[group]?.[name] ?? {});
      const unknown = Object.keys(values).find((key) => !allowed.includes(key));
      if (allowed.length > 0 && unknown !== undefined) {
        throw new RefusedError(
          `memberConfig.${group}.${name}.${unknown} is not a member-specific key of "${name}", which has ${allowed.sort().join(", ")}`,
        );
      }
    }
  }
}

/** Describes the pools and networks that values are given for and that the cluster does not have: one that comes later, or a misspelt one. */
export function describeAbsent(keys: readonly MemberConfigKey[], given: MemberConfig): string[] {
  const known = memberConfigFromKeys(keys);
  return (["pools", "networks"] as const).flatMap((group) => {
    const names = Object.keys(known[group] ?? {});
    const unused = names.filter((name) => given[group]?.[name] === undefined);
    return Object.keys(given[group] ?? {})
      .filter((name) => !names.includes(name))
      .map((name) => {
        const meant = nearest(name, unused);
        return (
          `memberConfig.${group}.${name} has no effect: the cluster has no such ${group === "pools" ? "storage pool" : "network"} with values of members` +
          (meant === undefined ? "" : `. Did you mean ${meant}?`)
        );
      });
  });
}

async function naturalValue(
  lxd: LxdClient,
  { entity, name, key }: Omit<MemberConfigKey, "value">,
  joining: string,
  member: string,
): Promise<string> {
  if (entity === "network") {
    if (key !== "parent") {
      return "";
    }
    const network = await lxd.get(api`/1.0/networks/${name}`, entitySchema, { target: member });
    return network.config["parent"] ?? ""; // hosts of one cluster usually name their interfaces alike
  }
  if (key !== "source" && key !== "size") {
    return "";
  }
  const pool = await lxd.get(api`/1.0/storage-pools/${name}`, entitySchema, { target: member });
  if (!isDefaultSource(name, pool.driver, pool.config)) {
    throw new RefusedError(
      `Pool "${name}" (${pool.driver}) uses ${pool.config["source"] ?? "?"} on ${member}. Give what it uses on ${joining}: ` +
        `memberConfig: { pools: { ${JSON.stringify(name)}: { source: "/dev/..." } } }. Without it, the pool would be a file on the root disk`,
    );
  }
  return key === "size" ? (pool.config["size"] ?? "") : "";
}

/** Whether LXD chose the pool's source itself: a directory or a loop file. */
function isDefaultSource(name: string, driver: string, config: Config): boolean {
  const source = config["source"] ?? "";
  return source === "" || driver === "ceph" || source.endsWith(`/disks/${name}.img`) || source.endsWith(`/storage-pools/${name}`);
}
