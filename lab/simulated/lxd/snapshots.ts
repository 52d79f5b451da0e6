/** `/1.0/instances/X/snapshots`. */
import { z } from "zod";
import { listed } from "./cluster";
import type { Instance } from "./database";
import { LxdError } from "./errors";
import { expandedDevices } from "./instance-model";
import { instanceOf, onMember } from "./instance-requests";
import type { Reply } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";

const snapshotPost = z.object({
  name: z.string().default(""),
  stateful: z.boolean().default(false),
  expires_at: z.string().nullish(),
});

/** Adds the endpoints of snapshots. */
export function addSnapshots(router: Router): void {
  router.add("/1.0/instances/{name}/snapshots", {
    GET: (request) => {
      const instance = instanceOf(request);
      return listed(
        request,
        instance.snapshots,
        (snapshot) => `/1.0/instances/${instance.name}/snapshots/${snapshot.name}`,
        (snapshot) => snapshotToApi(instance, snapshot),
      );
    },
    POST: createSnapshot,
  });
  router.add("/1.0/instances/{name}/snapshots/{snapshot}", { DELETE: deleteSnapshot });
}

/** LXD's JSON for a snapshot. */
export function snapshotToApi(instance: Instance, snapshot: Instance["snapshots"][number]): Record<string, unknown> {
  return {
    name: snapshot.name,
    created_at: snapshot.createdAt.toISOString(),
    expires_at: snapshot.expiresAt,
    last_used_at: "0001-01-01T00:00:00Z",
    stateful: snapshot.stateful,
    architecture: instance.architecture,
    ephemeral: instance.ephemeral,
    config: snapshot.config,
    devices: snapshot.devices,
    profiles: snapshot.profiles,
    expanded_config: snapshot.config,
    expanded_devices: expandedDevices(instance.member.daemon.database, { ...instance, ...snapshot }),
    size: -1,
  };
}

function createSnapshot(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const body = decode(request, snapshotPost);
  const name = body.name === "" ? `snap${instance.snapshots.length}` : body.name;
  return onMember(instance, "Snapshotting instance", () => {
    if (instance.snapshots.some((snapshot) => snapshot.name === name)) {
      throw new LxdError(409, `Snapshot "${name}" already exists`);
    }
    instance.snapshots.push({
      name,
      createdAt: new Date(),
      expiresAt: body.expires_at ?? "0001-01-01T00:00:00Z",
      stateful: body.stateful,
      config: { ...instance.config },
      devices: structuredClone(instance.devices),
      profiles: [...instance.profiles],
    });
    instance.member.daemon.event(
      "instance-snapshot-created",
      `/1.0/instances/${instance.name}/snapshots/${name}`,
      instance.project,
    );
  });
}

function deleteSnapshot(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const index = instance.snapshots.findIndex((snapshot) => snapshot.name === param(request, "snapshot"));
  if (index < 0) {
    throw new LxdError(404, "Instance snapshot not found");
  }
  return onMember(instance, "Deleting snapshot", () => void instance.snapshots.splice(index, 1));
}
