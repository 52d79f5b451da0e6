import * as z from "zod";
import { fallback, RefusedError } from "../../support/errors";
import { isSmaller, parseSize } from "../../support/units";
import { api, type LxdClient } from "../client/client";
import type { Servers } from "../cluster/servers";
import { sameConfigValue } from "../config";
import { getDiskBytes, getServer } from "../server";
import { type Found, nameOf, namesOf, type ObjectRef, type ObjectType, viewsOf } from "./member-objects";
import { configOfMember, faultOfSize, type WantedConfig } from "./object-config";
import { membersWithout } from "./storage-drivers";

/** `/1.0/storage-pools`: https://documentation.ubuntu.com/lxd/latest/reference/storage_drivers/ */
export const POOLS: ObjectType = {
  noun: "Storage pool",
  collection: "/1.0/storage-pools",
  memberKeys: ["source", "size", "source.wipe", "source.recover", "zfs.pool_name", "lvm.vg_name", "lvm.thinpool_name"],
  creationKeys: ["source", "source.wipe", "source.recover"],
  satisfies: (key, wanted, live) => sameConfigValue(key, wanted, live),
  valueFault: faultOfSize,
  describe: ({ driver, status, used_by }) => `driver ${driver}, status ${status}, used by ${used_by?.length ?? 0} objects`,
  lackingMembers: async (lxd, { identity, ...wanted }, servers) =>
    new Map([
      ...(await membersTooSmall(lxd, wanted, servers)),
      ...("driver" in identity ? await membersWithout(lxd, identity.driver, servers) : []),
    ]),
  refuseChange: refuseResize,
};

interface KnownPool extends WantedConfig {
  readonly name: string;
  readonly sources: Readonly<Record<string, string>>;
  readonly memberStatus: Readonly<Record<string, string>>;
}

export function pool(name: string): ObjectRef {
  return { type: POOLS, name };
}

const resourcesSchema = z.looseObject({ space: z.looseObject({ total: z.number(), used: z.number().default(0) }) });

/** Returns the free space of a pool on a member; `undefined` when the server does not tell it, as with some drivers. */
export async function getFreeBytes(lxd: LxdClient, name: string, target: string): Promise<number | undefined> {
  const resources = await lxd
    .get(api`/1.0/storage-pools/${name}/resources`, resourcesSchema, { target })
    .catch(fallback(undefined, "api", "response-shape"));
  const { total = 0, used = 0 } = resources?.space ?? {};
  return total === 0 ? undefined : total - used;
}

/** Returns the source that each member was given. LXD overwrites the key with the result (a UUID, a loop file). */
export function sourcesOf(views: ReadonlyMap<string, Found>): Record<string, string> {
  return Object.fromEntries(
    [...views].flatMap(([member, { value }]) => {
      const source = value.config?.["volatile.initial_source"] ?? value.config?.["source"];
      return source === undefined || source === "" ? [] : [[member, source]];
    }),
  );
}

/**
 * Refuses an impossible resize. Servers without the extension accept another size, show it, and resize nothing. Servers with it
 * can only enlarge a pool.
 * @throws RefusedError when a pool would need a resize that LXD cannot make.
 */
async function refuseResize(lxd: LxdClient, ref: ObjectRef, servers: Servers, wanted: WantedConfig): Promise<void> {
  const sizeOn = (member: string): string => configOfMember(POOLS, wanted, member)["size"] ?? "";
  const sized = namesOf(servers).filter((member) => sizeOn(member) !== "");
  const others = [...(await viewsOf(lxd, ref, servers, sized))].filter(
    ([member, { value }]) => value.status === "Created" && !sameConfigValue("size", sizeOn(member), value.config?.["size"]),
  );
  const [first] = others;
  if (first === undefined) {
    return;
  }
  const { api_extensions, environment } = await getServer(lxd);
  const refuse = ([member, { value }]: [string, Found], what: string): never => {
    throw new RefusedError(
      `${nameOf(ref)} has ${value.config?.["size"] ?? "no size of its own"} on ${member}, and ${lxd.names.name} ${environment.server_version} cannot ${what} a pool ` +
        `(${placeOfSize(wanted, member)}). Give the size that it has, or make another pool`,
    );
  };
  if (!api_extensions.includes("storage_pool_loop_resize")) {
    refuse(first, "resize");
  }
  const larger = others.find(([member, { value }]) => isSmaller(sizeOn(member), value.config?.["size"] ?? ""));
  if (larger !== undefined) {
    refuse(larger, "shrink");
  }
}

/**
 * Returns the members whose disks together are smaller than the loop file that they would get, each with a sentence about it. LXD makes
 * such a file, which is sparse, up to the limit of the file system, and writing fails later.
 */
async function membersTooSmall(lxd: LxdClient, wanted: WantedConfig, servers: Servers): Promise<Map<string, string>> {
  const faultsOf = async (member: string): Promise<[string, string][]> => {
    const { size = "", source = "" } = configOfMember(POOLS, wanted, member);
    const bytes = source === "" ? Number(parseSize(size) ?? 0) : 0;
    const there = bytes === 0 ? 0 : await getDiskBytes(lxd, servers.clustered ? member : undefined);
    const all = `all disks of ${member} together have ${Math.floor(there / 2 ** 30)}GiB`;
    return there > 0 && bytes > there
      ? [[member, `${placeOfSize(wanted, member)} is ${size}, and ${all}. Give a size that fits`]]
      : [];
  };
  return new Map((await Promise.all(namesOf(servers).map(faultsOf))).flat());
}

/** Describes the moves to which a change amounts. LXD cannot move a pool. */
export function describeMoves(known: KnownPool, wanted: WantedConfig): string[] {
  return Object.entries(known.sources).flatMap(([member, live]) => {
    const { source = "" } = configOfMember(POOLS, wanted, member);
    const isHere = [configOfMember(POOLS, known, member)["source"], live].some((each) => sameConfigValue("source", each, source));
    return known.memberStatus[member] !== "Created" || source === "" || isHere
      ? []
      : [`Storage pool "${known.name}" is on ${live} at ${member} and cannot be moved`];
  });
}

/** Whether a change gives the pool another location somewhere, as far as its config tells. */
export function isElsewhere(former: WantedConfig, wanted: WantedConfig): boolean {
  const members = ["", ...Object.keys(former.memberConfig), ...Object.keys(wanted.memberConfig)];
  return members.some((member) => {
    const [before = "", after = ""] = [former, wanted].map((each) => configOfMember(POOLS, each, member)["source"]);
    return after !== "" && !sameConfigValue("source", before, after);
  });
}

/** Describes where a change would shrink a pool, which LXD never does. Whether LXD can enlarge it is not known here. */
export function describeShrinks(known: KnownPool, wanted: WantedConfig): string[] {
  return Object.keys(known.memberStatus).flatMap((member) => {
    const [size = "", live = ""] = [wanted, known].map((each) => configOfMember(POOLS, each, member)["size"]);
    const place = placeOfSize(wanted, member);
    return isSmaller(size, live)
      ? [
          `pulumi up will refuse this. Storage pool "${known.name}" has ${live} on ${member}, and a pool cannot be shrunk (${place})`,
        ]
      : [];
  });
}

function placeOfSize({ memberConfig }: WantedConfig, member: string): string {
  return memberConfig[member]?.["size"] === undefined ? "config.size" : `memberConfig.${member}.size`;
}
