/** `/1.0/instances`: listing, creating, state, moving and removing. */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { listed } from "./cluster";
import { keyOf, urlOf, type Database, type Image, type Instance, type Member } from "./database";
import { requireImage } from "./images";
import { changeInstance, mergeInstance } from "./instance-changes";
import { instanceOf, onMember } from "./instance-requests";
import {
  etagFields,
  expandedDevices,
  fillHardwareAddresses,
  instanceToApi,
  requireInstanceName,
  requireRootDisk,
  requireValidConfig,
  requireValidDevices,
} from "./instance-model";
import { bootInstance, haltInstance, stateToApi } from "./instance-state";
import { LxdError, sync, type Reply } from "./reply";
import { decode, param, projectOf, recursionOf, type ApiRequest, type Router } from "./router";
import { reach } from "./server";

const strings = z.record(z.string(), z.string());
const instancesPost = z.object({
  name: z.string().default(""),
  type: z.string().default(""),
  architecture: z.string().default(""),
  description: z.string().default(""),
  ephemeral: z.boolean().default(false),
  profiles: z.array(z.string()).nullish(),
  config: strings.nullish(),
  devices: z.record(z.string(), strings).nullish(),
  start: z.boolean().default(false),
  source: z
    .object({
      type: z.string().default(""),
      alias: z.string().default(""),
      fingerprint: z.string().default(""),
      server: z.string().default(""),
      protocol: z.string().default(""),
      properties: strings.nullish(),
    })
    .default({ type: "", alias: "", fingerprint: "", server: "", protocol: "" }),
});
const instancePost = z.object({
  name: z.string().default(""),
  migration: z.boolean().default(false),
  live: z.boolean().optional(),
  pool: z.string().default(""),
});
const statePut = z.object({
  action: z.string().default(""),
  timeout: z.number().default(-1),
  force: z.boolean().default(false),
  stateful: z.boolean().default(false),
});
const snapshotPost = z.object({
  name: z.string().default(""),
  stateful: z.boolean().default(false),
  expires_at: z.string().nullish(),
});

/** Adds the endpoints of instances, without those that reach into the guest. */
export function addInstances(router: Router): void {
  router.add("/1.0/instances", { GET: listInstances, POST: createInstance });
  router.add("/1.0/instances/{name}", {
    GET: getInstance,
    PUT: changeInstance,
    PATCH: mergeInstance,
    POST: renameOrMove,
    DELETE: deleteInstance,
  });
  router.add("/1.0/instances/{name}/state", {
    GET: (request) => {
      const instance = instanceOf(request);
      const state = stateToApi(request.daemon.database, instance);
      return sync(state, state);
    },
    PUT: changeState,
  });
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

function listInstances(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const all = request.query.get("all-projects") === "true";
  const project = projectOf(request);
  database.project(project);
  const instances = [...database.instances.values()].filter((instance) => all || instance.project === project);
  return listed(
    request,
    instances,
    (instance) => urlOf(`/1.0/instances/${instance.name}`, instance.project),
    (instance) => toApi(request, instance),
  );
}

function toApi(request: ApiRequest, instance: Instance): Record<string, unknown> {
  const { database } = request.daemon;
  const shown = instanceToApi(database, instance);
  if (recursionOf(request) < 2) {
    return shown;
  }
  const offline = !instance.member.daemon.answers;
  return {
    ...shown,
    backups: null,
    state: offline ? null : stateToApi(database, instance),
    snapshots: offline ? null : instance.snapshots.map((snapshot) => snapshotToApi(instance, snapshot)),
  };
}

function getInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  const shown = instanceToApi(database, instance);
  if (recursionOf(request) === 0) {
    return sync(shown, etagFields(database, instance));
  }
  const snapshots = instance.snapshots.map((snapshot) => snapshotToApi(instance, snapshot));
  return sync({ ...shown, backups: [], state: stateToApi(database, instance), snapshots }, etagFields(database, instance));
}

function createInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const body = decode(request, instancesPost);
  const project = projectOf(request);
  database.project(project);
  const type = body.type === "" ? "container" : body.type;
  if (type !== "container" && type !== "virtual-machine") {
    throw new LxdError(400, "Invalid instance type");
  }
  const member = place(request);
  if (database.pools.size === 0) {
    throw new LxdError(400, "No storage pool found. Please create a new storage pool");
  }
  if (member.evacuated) {
    throw new LxdError(403, "Cluster member is evacuated");
  }
  const name = body.name === "" ? `quiet-${randomUUID().slice(0, 8)}` : body.name;
  if (name.includes("/")) {
    throw new LxdError(400, 'Invalid instance name: "/" is reserved for snapshots');
  }
  requireInstanceName(name);
  if (type === "virtual-machine" && !member.daemon.host.virtualMachines) {
    throw new LxdError(
      500,
      `Instance type "virtual-machine" is not supported on this server: KVM support is missing (no /dev/kvm)`,
    );
  }
  for (const profile of body.profiles ?? ["default"]) {
    if (!database.profiles.has(keyOf(database.holder(project, "profiles"), profile))) {
      throw new LxdError(400, `Requested profile '${profile}' doesn't exist`);
    }
  }
  const image = imageFor(request, project, type, body.source);
  const { daemon } = member;
  const location = { member, project, name, type } as const;
  return onMember(request, location, "Creating instance", () => {
    const instance: Instance = {
      ...location,
      architecture: "x86_64",
      description: body.description,
      ephemeral: body.ephemeral,
      stateful: false,
      profiles: body.profiles ?? image?.profiles ?? ["default"],
      config: { ...imageConfig(image), ...withoutEmpty(body.config ?? {}), "volatile.last_state.power": "STOPPED" },
      devices: body.devices ?? {},
      status: "Stopped",
      createdAt: new Date(),
      lastUsedAt: new Date(0),
      snapshots: [],
      agent: image?.agent ?? false,
      agentReadyAt: 0,
      bootMemory: "",
      leases: new Map(),
      execOutput: new Map(),
    };
    delete instance.config["volatile.last_state.power"];
    addInstance(database, instance);
    daemon.event("instance-created", urlOf(`/1.0/instances/${name}`, project), project);
    if (body.start && daemon.behaviour.createStarts) {
      bootInstance(instance);
    }
  });
}

/** Puts an instance into the database, as LXD checks and completes it. */
export function addInstance(database: Database, instance: Instance): void {
  const within = (check: () => void) => {
    try {
      check();
    } catch (error) {
      throw new LxdError(500, `Failed creating instance record: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  within(() => requireValidConfig(instance.config, instance.type));
  within(() => {
    if (database.instances.has(keyOf(instance.project, instance.name))) {
      throw new LxdError(409, `Instance "${instance.name}" already exists`);
    }
  });
  try {
    const expanded = expandedDevices(database, instance);
    requireValidDevices(database, instance.devices, { instance: true });
    requireValidDevices(database, expanded, { instance: true });
    requireRootDisk(expanded);
  } catch (error) {
    throw new LxdError(
      500,
      `Failed creating instance record: Failed initialising instance: Invalid devices: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  instance.config["volatile.apply_template"] = "create";
  instance.config["volatile.uuid"] = randomUUID();
  if (instance.type === "container") {
    instance.config["volatile.idmap.base"] = "0";
    instance.config["volatile.last_state.idmap"] = "[]";
  }
  fillHardwareAddresses(database, instance);
  database.instances.set(keyOf(instance.project, instance.name), instance);
}

function imageConfig(image: Image | undefined): Record<string, string> {
  if (image === undefined) {
    return {};
  }
  const properties = Object.entries(image.properties).map(([key, value]) => [`image.${key}`, value]);
  return { ...Object.fromEntries(properties), "volatile.base_image": image.fingerprint };
}

function withoutEmpty(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

function imageFor(
  request: ApiRequest,
  project: string,
  type: Instance["type"],
  source: z.output<typeof instancesPost>["source"],
): Image | undefined {
  if (source.type === "none") {
    return undefined;
  }
  if (source.type !== "image") {
    throw new LxdError(400, `Unknown source type ${source.type}`);
  }
  return requireImage(request.daemon, project, type, source);
}

/** The member that is to have a new instance. */
function place(request: ApiRequest): Member {
  const { database } = request.daemon;
  const target = request.query.get("target") ?? "";
  if (target !== "" && !database.clustered) {
    throw new LxdError(400, "Target only allowed when clustered");
  }
  if (target !== "" && !target.startsWith("@")) {
    const member = database.member(target);
    reach(member.daemon);
    return member;
  }
  const group = target.slice(1);
  if (group !== "" && !database.groups.has(group)) {
    throw new LxdError(404, "Cluster group not found");
  }
  const counts = new Map<Member, number>();
  for (const instance of database.instances.values()) {
    counts.set(instance.member, (counts.get(instance.member) ?? 0) + 1);
  }
  const candidates = database
    .online()
    .filter((member) => !member.evacuated && (group === "" || member.groups.includes(group)))
    .filter(
      (member) =>
        member.config["scheduler.instance"] !== "manual" && (group !== "" || member.config["scheduler.instance"] !== "group"),
    )
    .sort((a, b) => (counts.get(a) ?? 0) - (counts.get(b) ?? 0));
  const member = database.clustered ? candidates[0] : database.members[0];
  if (member === undefined) {
    throw new LxdError(400, "No suitable cluster member could be found");
  }
  return member;
}

function renameOrMove(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const body = decode(request, instancePost);
  const instance = database.instance(projectOf(request), param(request, "name"));
  const target = request.query.get("target") ?? "";
  if (target !== "" && !database.clustered) {
    throw new LxdError(400, "Target only allowed when clustered");
  }
  if (target !== "") {
    return move(request, instance, database.member(target));
  }
  reach(instance.member.daemon);
  if (body.migration) {
    throw new LxdError(400, "Moving to another pool is not simulated");
  }
  requireInstanceName(body.name);
  if (database.instances.has(keyOf(instance.project, body.name))) {
    throw new LxdError(409, `Name "${body.name}" already in use`);
  }
  return onMember(request, instance, "Renaming instance", () => {
    if (instance.status !== "Stopped") {
      throw new LxdError(500, `Renaming of running ${instance.type === "container" ? "container" : "instance"} not allowed`);
    }
    database.instances.delete(keyOf(instance.project, instance.name));
    instance.name = body.name;
    database.instances.set(keyOf(instance.project, instance.name), instance);
    instance.member.daemon.event(
      "instance-renamed",
      urlOf(`/1.0/instances/${instance.name}`, instance.project),
      instance.project,
    );
  });
}

function move(request: ApiRequest, instance: Instance, target: Member): Reply {
  if (!target.daemon.answers) {
    throw new LxdError(400, "Target node is offline");
  }
  if (!instance.member.daemon.answers) {
    throw new LxdError(400, "The cluster member hosting the instance is offline");
  }
  if (instance.member === target) {
    throw new LxdError(400, "Target must be different than instance's current location");
  }
  return onMember(request, instance, "Migrating instance", () => {
    const running = instance.status === "Running";
    if (running) {
      haltInstance(instance);
    }
    instance.member = target;
    if (running) {
      bootInstance(instance);
    }
    target.daemon.event("instance-migrated", urlOf(`/1.0/instances/${instance.name}`, instance.project), instance.project);
  });
}

function deleteInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  const force = request.query.get("force") === "1" && request.daemon.behaviour.version !== "5.0.2";
  if (instance.status !== "Stopped" && !force) {
    throw new LxdError(400, "Instance is running");
  }
  return onMember(request, instance, "Deleting instance", () => {
    if (instance.config["security.protection.delete"] === "true") {
      throw new LxdError(500, "Instance is protected");
    }
    instance.status = "Stopped";
    database.instances.delete(keyOf(instance.project, instance.name));
    instance.member.daemon.event(
      "instance-deleted",
      urlOf(`/1.0/instances/${instance.name}`, instance.project),
      instance.project,
    );
  });
}

const stateDescriptions: Record<string, string> = {
  start: "Starting instance",
  stop: "Stopping instance",
  restart: "Restarting instance",
  freeze: "Freezing instance",
  unfreeze: "Unfreezing instance",
};

function changeState(request: ApiRequest): Reply {
  const body = decode(request, statePut);
  const instance = instanceOf(request);
  const description = stateDescriptions[body.action];
  if (description === undefined) {
    throw new LxdError(400, `Unknown state change "${body.action}"`);
  }
  if (instance.member.evacuated && (body.action === "start" || body.action === "restart")) {
    throw new LxdError(403, "Cluster member is evacuated");
  }
  return onMember(request, instance, description, () => {
    const url = urlOf(`/1.0/instances/${instance.name}`, instance.project);
    const { daemon } = instance.member;
    const stopped = instance.status === "Stopped";
    if (body.action === "start") {
      if (!stopped) {
        throw new LxdError(
          500,
          instance.type === "container" ? "The container is already running" : "The instance is already running",
        );
      }
      bootInstance(instance);
      daemon.event("instance-started", url, instance.project);
    } else if (body.action === "stop") {
      if (stopped) {
        throw new LxdError(500, "The instance is already stopped");
      }
      haltInstance(instance);
      daemon.event(body.force || body.timeout === 0 ? "instance-stopped" : "instance-shutdown", url, instance.project);
    } else if (body.action === "restart") {
      if (stopped) {
        throw new LxdError(500, "The instance is already stopped");
      }
      haltInstance(instance);
      bootInstance(instance);
      daemon.event("instance-restarted", url, instance.project);
    } else {
      instance.status = body.action === "freeze" ? "Frozen" : "Running";
      daemon.event(body.action === "freeze" ? "instance-paused" : "instance-resumed", url, instance.project);
    }
  });
}

function snapshotToApi(instance: Instance, snapshot: Instance["snapshots"][number]): Record<string, unknown> {
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
    expanded_devices: snapshot.devices,
    size: 0,
  };
}

function createSnapshot(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const body = decode(request, snapshotPost);
  const name = body.name === "" ? `snap${instance.snapshots.length}` : body.name;
  return onMember(request, instance, "Snapshotting instance", () => {
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
  return onMember(request, instance, "Deleting snapshot", () => void instance.snapshots.splice(index, 1));
}
