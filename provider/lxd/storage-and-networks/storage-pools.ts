import { RefusedError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import type { Servers } from "../cluster/servers";
import { sameConfigValue } from "../config";
import { getServer } from "../server";
import { type Found, type Kind, type MemberConfig, nameOf, type Subject, viewsOf } from "./member-objects";

/** `/1.0/storage-pools`: https://documentation.ubuntu.com/lxd/latest/reference/storage_drivers/ */
export const POOLS: Kind = {
  noun: "Storage pool",
  collection: "/1.0/storage-pools",
  memberKeys: ["source", "size", "source.wipe", "source.recover", "zfs.pool_name", "lvm.vg_name", "lvm.thinpool_name"],
  creationKeys: ["source", "source.wipe", "source.recover"],
  satisfies: (key, wanted, live) => sameConfigValue(key, wanted, live),
};

/** A pool of that name. */
export function pool(name: string): Subject {
  return { kind: POOLS, name };
}

/** What each member was given as source: LXD writes what it made of it (a UUID, a loop file) over the key itself. */
export function sourcesOf(views: ReadonlyMap<string, Found>): Record<string, string> {
  return Object.fromEntries(
    [...views].flatMap(([member, { value }]) => {
      const source = value.config?.["volatile.initial_source"] ?? value.config?.["source"];
      return source === undefined || source === "" ? [] : [[member, source]];
    }),
  );
}

/**
 * Servers without the extension take another size, show it, and resize nothing.
 * @throws RefusedError when a pool would have to be resized where LXD cannot.
 */
export async function refuseResize(
  lxd: LxdClient,
  subject: Subject,
  servers: Servers,
  memberConfig: MemberConfig,
): Promise<void> {
  const sized = Object.keys(memberConfig).filter((member) => (memberConfig[member]?.["size"] ?? "") !== "");
  const others = [...(await viewsOf(lxd, subject, servers, sized))].filter(
    ([member, { value }]) => !sameConfigValue("size", memberConfig[member]?.["size"], value.config?.["size"]),
  );
  const [first] = others;
  if (first === undefined) {
    return;
  }
  const { api_extensions, environment } = await getServer(lxd);
  if (!api_extensions.includes("storage_pool_loop_resize")) {
    const [member, { value }] = first;
    throw new RefusedError(
      `${nameOf(subject)} has ${value.config?.["size"] ?? "no size of its own"} on ${member}, and LXD ${environment.server_version} cannot resize a pool ` +
        `(memberConfig.${member}.size). Give the size that it has, or make another pool`,
    );
  }
}
