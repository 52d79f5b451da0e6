/** Objects of others, which the library must not change. */
import type { Live } from "./live";

/** By path: its type, and the object of the program that contains it, if any. */
export type Foreign = Map<string, { readonly of: string; readonly text: string }>;

/** The current state of foreign objects, without what LXD itself changes in them. */
export function foreignObjects(live: Live, paths: Iterable<string>): Foreign {
  const found: Foreign = new Map();
  for (const path of paths) {
    const [, instance, user] = /^user (.+)\/(.+)$/.exec(path) ?? [];
    if (instance !== undefined && user !== undefined) {
      const of = live.instances.get(instance)?.config?.["volatile.uuid"] ?? "gone";
      found.set(path, { of, text: JSON.stringify(live.user(instance, user)) });
      continue;
    }
    const [, , collection = "", name = ""] = path.split("/");
    const kinds: Readonly<Record<string, ReadonlyMap<string, object>>> = {
      profiles: live.profiles,
      "network-acls": live.acls,
      projects: live.projects,
      networks: live.networks,
      "storage-pools": live.pools,
      instances: live.instances,
    };
    found.set(path, { of: "", text: JSON.stringify(kinds[collection]?.get(name) ?? "gone", leaveOut) });
  }
  return found;
}

/** Parts that LXD, or the use of an object by others, changes. */
function leaveOut(key: string, value: unknown): unknown {
  return /^(used_by|volatile\..*|expanded_.*|state|status|status_code|last_used_at|locations)$/.test(key) ? undefined : value;
}
