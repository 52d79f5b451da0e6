/** `/1.0/storage-pools/{name}/volumes/custom/{volume}/snapshots`. */
import { z } from "zod";
import { listed } from "./cluster";
import type { VolumeSnapshot } from "./database";
import { async, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";
import { snapshotToApi, urlOfVolume, volumeOf } from "./volumes";

/** Go's zero time: never. */
const NEVER = "0001-01-01T00:00:00Z";

const snapshotPost = z.object({
  name: z.string().default(""),
  description: z.string().default(""),
  expires_at: z.string().nullish(),
});
const snapshotPut = z.object({ description: z.string().default(""), expires_at: z.string().nullish() });

export function addVolumeSnapshots(router: Router): void {
  const collection = "/1.0/storage-pools/{name}/volumes/custom/{volume}/snapshots";
  router.add(collection, { GET: listSnapshots, POST: createSnapshot });
  router.add(`${collection}/{snapshot}`, { GET: getSnapshot, PUT: changeSnapshot, DELETE: deleteSnapshot });
}

/** Before LXD 5.21, a member lists only the snapshots that it has itself. */
function listSnapshots(request: ApiRequest): Reply {
  const { behaviour, member } = request.daemon;
  const { pool, volume } = volumeOf(request);
  const isShown = behaviour.server === "incus" || behaviour.since521 || volume.member === undefined || volume.member === member;
  return listed(
    request,
    isShown ? volume.snapshots : [],
    ({ name }) => `/1.0/storage-pools/${pool.name}/volumes/custom/${volume.name}/snapshots/${name}`,
    (snapshot) => ({ ...snapshotToApi(snapshot), name: `${volume.name}/${snapshot.name}`, content_type: volume.contentType }),
  );
}

function createSnapshot(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const { pool, volume } = volumeOf(request);
  const body = decode(request, snapshotPost);
  const name = body.name === "" ? `snap${volume.snapshots.length}` : body.name;
  if (name.includes("/")) {
    throw new LxdError(400, "Snapshot names may not contain slashes");
  }
  if (volume.snapshots.some((snapshot) => snapshot.name === name)) {
    throw new LxdError(409, `Snapshot "${name}" already in use`);
  }
  const daemon = volume.member?.daemon ?? request.daemon;
  const operation = daemon.operate({ description: "Snapshotting storage volume", project: volume.project }, () => {
    const { config } = volume;
    const description = body.description === "" ? volume.description : body.description;
    const expiresAt = body.expires_at ?? NEVER;
    volume.snapshots.push({ name, description, createdAt: new Date(), expiresAt, config: { ...config } });
    daemon.event("storage-volume-snapshot-created", `${urlOfVolume(database, pool, volume)}/snapshots/${name}`, volume.project);
  });
  return async(operation);
}

function snapshotOf(request: ApiRequest): { volume: ReturnType<typeof volumeOf>["volume"]; snapshot: VolumeSnapshot } {
  const { volume } = volumeOf(request);
  const snapshot = volume.snapshots.find(({ name }) => name === param(request, "snapshot"));
  if (snapshot === undefined) {
    throw new LxdError(404, "Storage volume snapshot not found");
  }
  return { volume, snapshot };
}

function etagFields({ name, description, config, expiresAt }: VolumeSnapshot): unknown[] {
  return [name, description, config, expiresAt];
}

function getSnapshot(request: ApiRequest): Reply {
  const { snapshot } = snapshotOf(request);
  return sync(snapshotToApi(snapshot), etagFields(snapshot));
}

function changeSnapshot(request: ApiRequest): Reply {
  const { snapshot } = snapshotOf(request);
  requireEtag(request.headers["if-match"], etagFields(snapshot));
  const { description, expires_at } = decode(request, snapshotPut);
  Object.assign(snapshot, { description, expiresAt: expires_at ?? NEVER });
  return sync();
}

function deleteSnapshot(request: ApiRequest): Reply {
  const { volume, snapshot } = snapshotOf(request);
  const daemon = volume.member?.daemon ?? request.daemon;
  const description = "Deleting storage volume snapshot";
  return async(
    daemon.operate({ description, project: volume.project }, () => {
      volume.snapshots.splice(volume.snapshots.indexOf(snapshot), 1);
    }),
  );
}
