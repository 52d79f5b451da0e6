/** `/1.0/storage-pools`. */
import { z } from "zod";
import { listed } from "./cluster";
import { type Database, type LxdServer, type StoragePool, urlOf } from "./database";
import { bytesOf, expandedDevices, requireApiName } from "./instance-model";
import { LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";
import { targetDaemon } from "./server";
import {
  changedConfig,
  create,
  define,
  inBackground,
  type Kind,
  orNull,
  removeFromMember,
  shownConfig,
  sortedByName,
} from "./storage-and-networks";
import { POOL_DRIVERS } from "./storage-drivers";
import { urlOfVolume } from "./volumes";

const poolKeys =
  /^(source|size|rsync\..+|volume\..+|user\..+|volatile\..+|btrfs\.mount_options|zfs\.(pool_name|clone_copy|export)|lvm\.(thinpool_name|thinpool_metadata_size|use_thinpool|vg_name|vg\.force_reuse)|ceph\..+)$/;

const config = z.record(z.string(), z.string()).nullish();
const poolPost = z.object({
  name: z.string().default(""),
  driver: z.string().default(""),
  description: z.string().default(""),
  config,
});
const poolPut = z.object({ description: z.string().default(""), config });

const kind: Kind<StoragePool> = {
  noun: "storage pool",
  short: "Pool",
  collection: (database) => database.pools,
  url: (pool) => `/1.0/storage-pools/${pool.name}`,
  complete: () => undefined,
};

/** Space of a pool on a member. */
export function poolResources({ host }: LxdServer): object {
  return { space: { used: host.usage.diskBytes, total: 30 * 2 ** 30 }, inodes: { used: 1000, total: 1_000_000 } };
}

/** Adds the endpoints of storage pools. */
export function addPools(router: Router): void {
  router.add("/1.0/storage-pools", {
    GET: (request) => {
      const pools = sortedByName(request.daemon.database.pools.values());
      if (request.query.get("recursion") === "1") {
        pools.forEach((pool) => requireDriver(request.daemon, pool));
      }
      return pools.length === 0 && request.daemon.behaviour.nullForNoPools
        ? sync(null)
        : listed(request, pools, kind.url, (pool) => toApi(request, pool));
    },
    POST: createPool,
  });
  router.add("/1.0/storage-pools/{name}", {
    GET: (request) => {
      const pool = poolOf(request);
      requireDriver(targetDaemon(request), pool);
      const shown = toApi(request, pool);
      return request.daemon.behaviour.poolEtags ? sync(shown, etagFields(request, pool)) : sync(shown);
    },
    PUT: (request) => changePool(request, true),
    PATCH: (request) => changePool(request, false),
    DELETE: deletePool,
  });
  router.add("/1.0/storage-pools/{name}/resources", {
    GET: (request) => {
      poolOf(request);
      return sync(poolResources(targetDaemon(request)));
    },
  });
}

/** LXD loads the driver of a pool that it shows. A daemon that has started without the driver's tools cannot. */
function requireDriver({ drivers }: LxdServer, { driver, status }: StoragePool): void {
  if (status === "Created" && !drivers.includes(driver)) {
    throw new LxdError(500, `Required tool "${driver}" is missing`);
  }
}

function poolOf(request: ApiRequest): StoragePool {
  return request.daemon.database.pool(param(request, "name"));
}

function etagFields(request: ApiRequest, pool: StoragePool) {
  return [pool.name, pool.driver, pool.description, shownConfig(request, pool)];
}

function createPool(request: ApiRequest): Reply {
  const body = decode(request, poolPost);
  if (body.name === "") {
    throw new LxdError(400, "No name provided");
  }
  if (body.name.includes("/")) {
    throw new LxdError(400, "Storage pool names may not contain slashes");
  }
  if (/\s/.test(body.name)) {
    throw new LxdError(400, "Storage name cannot contain white space");
  }
  requireApiName(request.daemon.behaviour, body.name);
  if (body.driver === "") {
    throw new LxdError(400, "No driver provided");
  }
  const target = request.query.get("target") ?? "";
  if (!POOL_DRIVERS.includes(body.driver)) {
    throw new LxdError(target === "" ? 500 : 400, "Unknown driver");
  }
  const pool: StoragePool = {
    name: body.name,
    driver: body.driver,
    description: body.description,
    config: withoutEmpty(body.config ?? {}),
    status: "Pending",
    nodes: new Map(),
    customVolumes: [],
  };
  requireKnownKeys(pool);
  return target === "" ? create(request, kind, pool) : define(request, kind, pool, target);
}

function requireKnownKeys(pool: StoragePool): void {
  const unknown = Object.keys(pool.config).find((key) => !poolKeys.test(key));
  if (unknown !== undefined) {
    throw new LxdError(500, `Invalid option "${unknown}"`);
  }
}

function withoutEmpty(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

function changePool(request: ApiRequest, replace: boolean): Reply {
  const pool = poolOf(request);
  if (request.daemon.behaviour.poolEtags) {
    requireEtag(request.headers["if-match"], etagFields(request, pool));
  }
  const body = decode(request, poolPut);
  requireKnownKeys({ ...pool, config: body.config ?? {} });
  const change = changedConfig(request, pool, body.config ?? {}, replace);
  if (change.target === undefined && pool.status !== "Created") {
    throw new LxdError(400, "Cannot update storage pool global config when not in created state");
  }
  if (change.target === undefined && request.daemon.database.clustered) {
    request.daemon.database.requireAllOnline();
  }
  return inBackground(request, kind, pool, "Updating storage pool", () => {
    if (change.target === undefined) {
      const node = pool.nodes.get(request.daemon.member);
      if (change.own !== undefined && node !== undefined) {
        requireGrowth(request, node.config, change.own);
        node.config = change.own;
      }
      pool.config = change.config;
      pool.description = body.description;
    } else {
      requireGrowth(request, pool.nodes.get(change.target)?.config, change.config);
      pool.config = change.common ?? pool.config;
      pool.description = body.description;
      pool.nodes.set(change.target, { config: change.config, status: pool.nodes.get(change.target)?.status ?? "Pending" });
    }
    request.daemon.event("storage-pool-updated", kind.url(pool));
  });
}

/**
 * LXD's error for another size, with drivers that apply the size of a pool at all.
 * @see https://github.com/canonical/lxd/blob/main/lxd/storage/backend_lxd.go (Update)
 */
function requireGrowth(request: ApiRequest, before: Record<string, string> = {}, after: Record<string, string>): void {
  const [from, to] = [before["size"] ?? "", after["size"] ?? ""];
  if (request.daemon.behaviour.apiExtensions.includes("storage_pool_loop_resize") && bytesOf(to) < bytesOf(from)) {
    throw new LxdError(500, "Pool cannot be shrunk");
  }
}

function deletePool(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const pool = poolOf(request);
  if (usedBy(database, pool).some((url) => !url.startsWith("/1.0/images/"))) {
    throw new LxdError(400, "The storage pool is currently in use");
  }
  if (database.clustered) {
    database.requireAllOnline();
  }
  return inBackground(request, kind, pool, "Deleting storage pool", () => {
    for (const member of pool.nodes.keys()) {
      removeFromMember(pool, member);
    }
    database.pools.delete(pool.name);
    request.daemon.event("storage-pool-deleted", kind.url(pool));
  });
}

function toApi(request: ApiRequest, pool: StoragePool): Record<string, unknown> {
  const { database } = request.daemon;
  const target = request.query.get("target") ?? "";
  return {
    name: pool.name,
    driver: pool.driver,
    description: pool.description,
    config: shownConfig(request, pool),
    status: target === "" ? pool.status : (pool.nodes.get(database.member(target))?.status ?? "Pending"),
    locations: [...pool.nodes.keys()].map((member) => member.name),
    used_by: orNull(usedBy(database, pool)),
  };
}

function usedBy(database: Database, pool: StoragePool): string[] {
  const urls: string[] = [];
  // The dir driver keeps no unpacked images.
  for (const image of pool.driver === "dir" ? [] : database.images.values()) {
    if (
      image.cached ||
      [...database.instances.values()].some((each) => each.config["volatile.base_image"] === image.fingerprint)
    ) {
      urls.push(urlOf(`/1.0/images/${image.fingerprint}`, image.project));
    }
  }
  for (const instance of database.instances.values()) {
    if (
      Object.values(expandedDevices(database, instance)).some(
        (device) => device["type"] === "disk" && device["pool"] === pool.name,
      )
    ) {
      urls.push(urlOf(`/1.0/instances/${instance.name}`, instance.project));
    }
  }
  for (const profile of database.profiles.values()) {
    if (Object.values(profile.devices).some((device) => device["type"] === "disk" && device["pool"] === pool.name)) {
      urls.push(urlOf(`/1.0/profiles/${profile.name}`, profile.project));
    }
  }
  for (const volume of pool.customVolumes) {
    urls.push(urlOfVolume(database, pool, volume));
  }
  return urls;
}
