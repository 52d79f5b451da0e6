import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import type { Config } from "../config";
import type { MemberConfigKey } from "./cluster";

const entitySchema = z.looseObject({ driver: z.string().default(""), config: z.record(z.string(), z.string()).default({}) });

/**
 * The values that a joining server brings for each member-specific key: what the user says for it, else what a member that is
 * already there shows to be the natural choice.
 * @param member - The member that `lxd` speaks to.
 * @throws RefusedError where only a person can know, such as which disk to use.
 */
export async function workOutMemberConfig(
  lxd: LxdClient,
  keys: readonly MemberConfigKey[],
  overrides: readonly MemberConfigKey[],
  joining: string,
  member: string,
): Promise<MemberConfigKey[]> {
  refuseUnknown(keys, overrides);
  const values: MemberConfigKey[] = [];
  for (const { entity, name, key } of keys) {
    const override = overrides.find((wish) => wish.entity === entity && wish.name === name && wish.key === key);
    values.push({
      entity,
      name,
      key,
      value: override?.value ?? (await naturalValue(lxd, { entity, name, key }, joining, member)),
    });
  }
  return values;
}

/**
 * LXD only logs keys that it does not know, so a typo would silently mean the default. What is said of a pool or network that the
 * cluster does not have yet is for a later join.
 */
function refuseUnknown(keys: readonly MemberConfigKey[], overrides: readonly MemberConfigKey[]): void {
  for (const { entity, name, key } of overrides) {
    const known = keys
      .filter((candidate) => candidate.entity === entity && candidate.name === name)
      .map((candidate) => candidate.key);
    if (known.length > 0 && !known.includes(key)) {
      throw new RefusedError(
        `memberConfig: ${entity} "${name}" has no member-specific key "${key}"; it has ${known.sort().join(", ")}`,
      );
    }
  }
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
      `memberConfig: pool "${name}" (${pool.driver}) is on ${pool.config["source"] ?? "?"} at ${member}; say what it is to use on ${joining}: ` +
        `{entity: "storage-pool", name: "${name}", key: "source", value: "/dev/..."}. Left out, LXD would make a file on the root disk`,
    );
  }
  return key === "size" ? (pool.config["size"] ?? "") : "";
}

/** Whether LXD chose the place of the pool itself: a directory or a loop file of its own. */
function isDefaultSource(name: string, driver: string, config: Config): boolean {
  const source = config["source"] ?? "";
  return source === "" || driver === "ceph" || source.endsWith(`/disks/${name}.img`) || source.endsWith(`/storage-pools/${name}`);
}
