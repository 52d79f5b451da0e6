/** `/1.0/storage-pools/{name}/volumes`: the custom volumes of a pool, and the list of those of instances. */
import { z } from "zod";
import { listed } from "./cluster";
import {
  type Config,
  type CustomVolume,
  type Database,
  type Member,
  type StoragePool,
  urlOf,
  type VolumeSnapshot,
} from "./database";
import { bytesOf, expandedDevices, requireApiName } from "./instance-model";
import { async, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router } from "./router";
import { reach, targetDaemon } from "./server";
import { isRemoteDriver } from "./storage-drivers";
import { copyVolume, offerVolume, volumeSource } from "./volume-copies";

const config = z.record(z.string(), z.string()).nullish();
const volumePost = z.object({
  name: z.string().default(""),
  description: z.string().default(""),
  content_type: z.string().default("filesystem"),
  config,
  source: volumeSource,
});
const movePost = z.object({
  name: z.string().default(""),
  pool: z.string().default(""),
  migration: z.boolean().default(false),
});
const volumePut = z.object({ description: z.string().optional(), config });

/** Keys of a volume's config of any driver, and those of one driver alone. */
const KNOWN_KEY =
  /^(size|security\.(shifted|unmapped)|snapshots\.(expiry|pattern|schedule)|user\..+|volatile\.(idmap\.(last|next)|uuid))$/;
const DRIVER_KEYS: Readonly<Record<string, RegExp>> = {
  lvm: /^(block\.(filesystem|mount_options)|lvm\.stripes(\.size)?)$/,
  zfs: /^(block\.(filesystem|mount_options)|zfs\.(blocksize|remove_snapshots|use_refquota|reserve_space))$/,
  ceph: /^block\.(filesystem|mount_options)$/,
};

/** Adds the endpoints of volumes. */
export function addVolumes(router: Router): void {
  router.add("/1.0/storage-pools/{name}/volumes", { GET: listVolumes });
  router.add("/1.0/storage-pools/{name}/volumes/custom", { GET: listVolumes, POST: createVolume });
  router.add("/1.0/storage-pools/{name}/volumes/custom/{volume}", {
    GET: getVolume,
    PUT: (request) => changeVolume(request, true),
    PATCH: (request) => changeVolume(request, false),
    POST: moveVolume,
    DELETE: deleteVolume,
  });
}

/** The URL of a volume in the list of what uses a pool, or belongs to a project. */
export function urlOfVolume(database: Database, pool: StoragePool, { name, project, member }: CustomVolume): string {
  const url = urlOf(`/1.0/storage-pools/${pool.name}/volumes/custom/${name}`, project);
  const target = database.clustered && member !== undefined ? `target=${member.name}` : "";
  return target === "" ? url : `${url}${url.includes("?") ? "&" : "?"}${target}`;
}

function listVolumes(request: ApiRequest): Reply {
  const { database, behaviour } = request.daemon;
  const pool = database.pool(param(request, "name"));
  const target = request.query.get("target") ?? "";
  const only = target === "" ? undefined : database.member(target);
  const project = database.holder(projectOf(request), "storage.volumes");
  const custom = pool.customVolumes
    .filter((volume) => volume.project === project && (only === undefined || volume.member === only))
    .flatMap((volume) => [
      toApi(database, pool, volume),
      ...(behaviour.server === "incus" ? [] : volume.snapshots).map((snapshot) => ({
        ...toApi(database, pool, volume),
        ...snapshotToApi(snapshot),
        name: `${volume.name}/${snapshot.name}`,
      })),
    ]);
  const instances = request.path.endsWith("/custom")
    ? []
    : [...database.instances.values()]
        .filter((instance) =>
          Object.values(expandedDevices(database, instance)).some(
            (device) => device["path"] === "/" && device["pool"] === pool.name,
          ),
        )
        .map((instance) => ({
          type: instance.type,
          project: instance.project,
          used_by: [urlOf(`/1.0/instances/${instance.name}`, instance.project)],
          name: instance.name,
          location: instance.member.name,
          description: "",
          config: {},
          content_type: instance.type === "container" ? "filesystem" : "block",
          created_at: "2026-01-01T00:00:00Z",
        }));
  return listed(
    request,
    [...custom, ...instances],
    (volume) => `/1.0/storage-pools/${pool.name}/volumes/${volume.type}/${volume.name}`,
    (volume) => volume,
  );
}

function toApi(database: Database, pool: StoragePool, volume: CustomVolume) {
  return {
    type: "custom",
    name: volume.name,
    project: volume.project,
    description: volume.description,
    content_type: volume.contentType,
    location: volume.member?.name ?? "",
    config: volume.config,
    used_by: usersOf(database, pool, volume),
    created_at: "2026-01-01T00:00:00Z",
  };
}

/** The JSON for a snapshot of a volume. */
export function snapshotToApi({ name, description, createdAt, expiresAt, config }: VolumeSnapshot) {
  return { name, description, config, created_at: createdAt.toISOString(), expires_at: expiresAt };
}

/** Instances and profiles whose own devices attach the volume, and the daemon that stores its own data in it. */
function usersOf(database: Database, pool: StoragePool, volume: CustomVolume): string[] {
  const attaches = (project: string, devices: Readonly<Record<string, Config>>): boolean =>
    database.holder(project, "storage.volumes") === volume.project &&
    Object.values(devices).some(
      (device) => device["type"] === "disk" && device["pool"] === pool.name && device["source"] === volume.name,
    );
  const { localConfig = {} } = volume.member?.daemon ?? {};
  const isOfDaemon = ["storage.backups_volume", "storage.images_volume"].some(
    (key) => localConfig[key] === `${pool.name}/${volume.name}`,
  );
  return [
    ...(isOfDaemon ? ["/1.0"] : []),
    ...[...database.instances.values()]
      .filter(
        ({ project, devices, member }) => (volume.member === undefined || member === volume.member) && attaches(project, devices),
      )
      .map(({ name, project }) => urlOf(`/1.0/instances/${name}`, project)),
    ...[...database.profiles.values()]
      .filter(({ project, devices }) => attaches(project, devices))
      .map(({ name, project }) => urlOf(`/1.0/profiles/${name}`, project)),
  ];
}

/**
 * The volume of a request. Without a target, the members are searched for it.
 * @throws LxdError when several members have one of that name, or none has.
 */
export function volumeOf(request: ApiRequest): { pool: StoragePool; volume: CustomVolume } {
  const { database } = request.daemon;
  const project = database.holder(projectOf(request), "storage.volumes");
  const pool = database.pool(param(request, "name"));
  const name = param(request, "volume");
  const named = pool.customVolumes.filter((volume) => volume.name === name && volume.project === project);
  const target = request.query.get("target") ?? "";
  if (target === "" && named.length > 1) {
    throw new LxdError(500, `More than one cluster member has a volume named "${name}". Please target a specific member`);
  }
  const member = target === "" ? named[0]?.member : targetDaemon(request).member;
  const volume = named.find((each) => each.member === undefined || each.member === member);
  if (volume === undefined) {
    throw new LxdError(404, "Storage volume not found");
  }
  if (volume.member !== undefined && volume.member !== request.daemon.member) {
    reach(volume.member.daemon, database);
  }
  return { pool, volume };
}

function etagFields({ name, config: own }: CustomVolume): unknown[] {
  return [name, "custom", own];
}

function getVolume(request: ApiRequest): Reply {
  const { pool, volume } = volumeOf(request);
  return sync(toApi(request.daemon.database, pool, volume), etagFields(volume));
}

function createVolume(request: ApiRequest): Reply {
  const { database, behaviour } = request.daemon;
  const body = decode(request, volumePost);
  if (body.name === "") {
    throw new LxdError(400, "No name provided");
  }
  if (body.name.includes("/")) {
    throw new LxdError(400, "Storage volume names may not contain slashes");
  }
  requireApiName(behaviour, body.name);
  if (!["filesystem", "block"].includes(body.content_type)) {
    throw new LxdError(400, "Invalid volume content type name");
  }
  const project = database.holder(projectOf(request), "storage.volumes");
  const pool = database.pool(param(request, "name"));
  const { member } = targetDaemon(request);
  const volume: CustomVolume = {
    name: body.name,
    member: memberOf(pool, member),
    project,
    config: withoutEmpty(body.config ?? {}),
    description: body.description,
    contentType: body.content_type,
    snapshots: [],
  };
  if (pool.customVolumes.some((each) => each.name === volume.name && each.project === project && each.member === volume.member)) {
    throw new LxdError(409, "Volume by that name already exists");
  }
  const { source } = body;
  if (source && source.type !== "" && source.type !== "copy" && source.type !== "migration") {
    throw new LxdError(400, `Unknown source type "${source.type}"`);
  }
  if (source && source.type !== "" && (source.type === "migration" || source.name !== "")) {
    return copyVolume(request, pool, volume, source);
  }
  requireValidConfig(pool, volume, volume.config);
  pool.customVolumes.push(volume);
  request.daemon.event("storage-volume-created", urlOfVolume(database, pool, volume), project);
  return sync();
}

function memberOf({ driver }: StoragePool, member: Member): Member | undefined {
  return isRemoteDriver(driver) ? undefined : member;
}

function changeVolume(request: ApiRequest, replace: boolean): Reply {
  const { database, behaviour } = request.daemon;
  const { pool, volume } = volumeOf(request);
  requireEtag(request.headers["if-match"], etagFields(volume));
  const body = decode(request, volumePut);
  const wanted = withoutEmpty(replace ? (body.config ?? {}) : { ...volume.config, ...body.config });
  requireValidConfig(pool, volume, wanted);
  const [from, to] = [volume.config["size"] ?? "", wanted["size"] ?? ""];
  if (volume.contentType === "block" && to !== "" && bytesOf(to) < bytesOf(from)) {
    throw new LxdError(500, "Block volumes cannot be shrunk: Cannot be shrunk");
  }
  volume.config = wanted;
  volume.description = body.description ?? (behaviour.keepsDescription ? volume.description : "");
  request.daemon.event("storage-volume-updated", urlOfVolume(database, pool, volume), volume.project);
  return sync();
}

/** Moves a volume to another pool. */
function moveVolume(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const body = decode(request, movePost);
  const { daemon } = targetDaemon(request).member;
  const { pool, volume } = volumeOf(request);
  if (body.migration) {
    return offerVolume(request, pool, volume);
  }
  if (body.name !== volume.name) {
    throw new LxdError(500, "Renaming a volume is not simulated");
  }
  const to = database.pool(body.pool);
  const member = memberOf(to, (volume.member ?? daemon.member).daemon.member);
  if (to.customVolumes.some((each) => each.name === volume.name && each.project === volume.project && each.member === member)) {
    throw new LxdError(409, "Volume by that name already exists");
  }
  const description = "Moving storage volume";
  const operation = (volume.member?.daemon ?? daemon).operate({ description, project: volume.project }, () => {
    pool.customVolumes.splice(pool.customVolumes.indexOf(volume), 1);
    to.customVolumes.push({ ...volume, member });
    daemon.event("storage-volume-created", urlOfVolume(database, to, { ...volume, member }), volume.project);
  });
  return async(operation);
}

function deleteVolume(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const { pool, volume } = volumeOf(request);
  if (usersOf(database, pool, volume).length > 0) {
    throw new LxdError(400, "The storage volume is still in use");
  }
  pool.customVolumes.splice(pool.customVolumes.indexOf(volume), 1);
  request.daemon.event("storage-volume-deleted", urlOfVolume(database, pool, volume), volume.project);
  return sync();
}

function requireValidConfig(pool: StoragePool, { name }: CustomVolume, values: Config): void {
  for (const [key, value] of Object.entries(values)) {
    if (!KNOWN_KEY.test(key) && DRIVER_KEYS[pool.driver]?.test(key) !== true) {
      throw new LxdError(500, `Invalid option for volume "default_${name}" option "${key}"`);
    }
    const reason = invalidValue(key, value);
    if (reason !== undefined) {
      throw new LxdError(500, `Invalid value for volume "default_${name}" option "${key}": ${reason}`);
    }
  }
}

function invalidValue(key: string, value: string): string | undefined {
  switch (key) {
    case "size":
      return /^\d+ *([kMGTPE]i?B|B)?$/.test(value) ? undefined : `Invalid value: ${value}`;
    case "security.shifted":
    case "security.unmapped":
      return /^(true|false|1|0|yes|no|on|off)$/i.test(value) ? undefined : `Invalid value for a boolean "${value}"`;
    case "snapshots.expiry": {
      const units = value
        .trim()
        .split(" ")
        .map((part) => /^\d+([SMHdwmy])$/.exec(part)?.[1]);
      const isValid = !units.includes(undefined) && new Set(units).size === units.length;
      return isValid ? undefined : "Invalid expiry expression";
    }
    case "snapshots.schedule":
      return value
        .split(", ")
        .map(invalidTrigger)
        .find((reason) => reason !== undefined);
    default:
      return undefined;
  }
}

function invalidTrigger(trigger: string): string | undefined {
  if (/^@(hourly|daily|midnight|weekly|monthly|annually|yearly)$/i.test(trigger)) {
    return undefined;
  }
  const fields = trigger.split(" ");
  if (fields.length !== 5) {
    return "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>";
  }
  const wrong = fields.find((field) => !/^[\d*,/?-]+$|^[a-z]{3}(-[a-z]{3})?$/i.test(field));
  return wrong === undefined ? undefined : `Error parsing schedule: failed to parse int from ${wrong}`;
}

function withoutEmpty(values: Config): Config {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}
