/** `/1.0/instances`: listing, creating, state, moving and deleting. */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { backupToApi } from "./backups";
import { listed } from "./cluster";
import { type Database, type Image, type Instance, keyOf, type LxdServer, type Member, urlOf } from "./database";
import { messageOf } from "./errors";
import { requireImage } from "./images";
import { changeInstance, mergeInstance } from "./instance-changes";
import {
  deviceWithoutVolume,
  etagFields,
  expandedConfig,
  expandedDevices,
  fillHardwareAddresses,
  instanceToApi,
  requireInstanceName,
  requireRootDisk,
  requireValidConfig,
  requireValidDevices,
} from "./instance-model";
import { instanceOf, onMember } from "./instance-requests";
import { bootInstance, haltInstance, idmap, stateToApi } from "./instance-state";
import { LxdError, type Reply, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router, recursionOf } from "./router";
import { reach } from "./server";
import { snapshotToApi } from "./snapshots";
import { orNull, sortedByName } from "./storage-and-networks";

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

/** Adds the endpoints of instances, except those that access the guest. */
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
      return sync(stateToApi(request.daemon.database, instance));
    },
    PUT: changeState,
  });
}

function listInstances(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const all = request.query.get("all-projects") === "true";
  const project = projectOf(request);
  database.project(project);
  const instances = [...database.instances.values()].filter((instance) => all || instance.project === project);
  return listed(
    request,
    sortedByName(instances),
    (instance) => urlOf(`/1.0/instances/${instance.name}`, instance.project),
    (instance) => toApi(request, instance),
  );
}

function toApi(request: ApiRequest, instance: Instance): Record<string, unknown> {
  const { database } = request.daemon;
  const offline = !instance.member.daemon.heard;
  const shown = instanceToApi(database, instance, offline);
  if (recursionOf(request) < 2) {
    return shown;
  }
  return {
    ...shown,
    backups: offline ? null : orNull((instance.backups ?? []).map(backupToApi)),
    state: offline ? null : stateToApi(database, instance),
    snapshots: offline ? null : orNull(instance.snapshots.map((snapshot) => snapshotToApi(instance, snapshot))),
  };
}

function getInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  const shown = instanceToApi(database, instance, false); // its own member answers
  if (recursionOf(request) === 0) {
    return sync(shown, etagFields(database, instance));
  }
  const snapshots = orNull(instance.snapshots.map((snapshot) => snapshotToApi(instance, snapshot)));
  const backups = orNull((instance.backups ?? []).map(backupToApi));
  return sync({ ...shown, backups, state: stateToApi(database, instance), snapshots }, etagFields(database, instance));
}

function createInstance(request: ApiRequest): Reply {
  const { daemon: daemonAsked } = request;
  const { database } = daemonAsked;
  const body = decode(request, instancesPost);
  const project = projectOf(request);
  database.project(project);
  const type = body.type === "" ? "container" : body.type;
  if (type !== "container" && type !== "virtual-machine") {
    throw new LxdError(400, "Invalid instance type");
  }
  const source = imageOf(request, project, type, body.source);
  const member = place(request);
  if (database.pools.size === 0) {
    throw new LxdError(400, "No storage pool found. Please create a new storage pool");
  }
  if (member.evacuated) {
    throw new LxdError(403, "Cluster member is evacuated");
  }
  for (const profile of body.profiles ?? ["default"]) {
    if (!database.profiles.has(keyOf(database.holder(project, "profiles"), profile))) {
      throw new LxdError(500, `Requested profile "${profile}" doesn't exist`);
    }
  }
  const name = body.name === "" ? `quiet-${randomUUID().slice(0, 8)}` : body.name;
  if (name.includes("/")) {
    throw new LxdError(400, 'Invalid instance name: The character "/" is reserved for snapshots');
  }
  requireInstanceName(name, daemonAsked.behaviour);
  if (daemonAsked.behaviour.refusesNameFirst && database.instances.has(keyOf(project, name))) {
    throw new LxdError(500, `Instance "${name}" already exists`);
  }
  const { daemon } = member;
  const location = { member, project, name, type } as const;
  const reply = onMember(location, "Creating instance", () => {
    const image = source();
    if (image !== undefined && image.type !== type) {
      throw new LxdError(500, `Requested image's type "${image.type}" doesn't match instance type "${type}"`);
    }
    if (image?.lostFiles === true) {
      const file = `${daemon.dataDirectory}/images/${image.fingerprint}`;
      throw new LxdError(500, `Failed creating instance from image: open ${file}: no such file or directory`);
    }
    if (type === "virtual-machine" && !daemon.host.virtualMachines) {
      throw new LxdError(
        500,
        'Instance type "virtual-machine" is not supported on this server: KVM support is missing (no /dev/kvm)',
      );
    }
    image?.members.add(member); // fetched from another one
    const instance: Instance = {
      ...location,
      architecture: "x86_64",
      description: body.description,
      ephemeral: body.ephemeral,
      stateful: false,
      profiles: body.profiles ?? image?.profiles ?? ["default"],
      config: { ...imageConfig(image), ...withoutEmpty(body.config ?? {}), ...groupConfig(request) },
      devices: body.devices ?? {},
      status: "Stopped",
      createdAt: new Date(),
      lastUsedAt: new Date(0),
      snapshots: [],
      agent: image?.agent ?? false,
      agentReadyAt: 0,
      bootMemory: "",
      foundByCloudInit: false,
      leases: new Map(),
      execOutput: new Map(),
    };
    addInstance(database, instance);
    daemon.event("instance-created", urlOf(`/1.0/instances/${name}`, project), project);
    if (body.start && daemon.behaviour.createStarts) {
      bootInstance(instance);
    }
  });
  // In a cluster the chosen member gets a client request, even if it is the same member.
  return reply.kind === "async" && database.clustered ? { ...reply, forwardedProject: project } : reply;
}

/** Class of an error with more text before it: what is not found stays so. */
function classOf(error: unknown): number {
  return error instanceof LxdError && error.code === 404 ? 404 : 500;
}

/** Inserts an instance into the database after LXD's validation and completion. */
export function addInstance(database: Database, instance: Instance): void {
  const within = (check: () => void) => {
    try {
      check();
    } catch (error) {
      throw new LxdError(classOf(error), `Failed creating instance record: ${messageOf(error)}`);
    }
  };
  within(() => requireValidConfig(instance.member.daemon.behaviour, instance.config, instance.type));
  within(() => {
    if (database.instances.has(keyOf(instance.project, instance.name))) {
      const { status, text } = instance.member.daemon.behaviour.duplicateRow("instances", "instances.project_id, instances.name");
      throw new LxdError(status, `Add instance info to the database: ${text}`);
    }
  });
  within(() => {
    const expanded = expandedDevices(database, instance);
    try {
      requireValidDevices(database, expanded, { instance: true, project: instance.project });
    } catch (error) {
      throw new LxdError(500, `Failed initialising instance: Invalid devices: ${messageOf(error)}`);
    }
    try {
      requireRootDisk(database, expanded);
    } catch (error) {
      throw new LxdError(classOf(error), `Failed initialising instance: ${messageOf(error)}`);
    }
  });
  instance.config["volatile.apply_template"] = "create";
  instance.config["volatile.uuid"] = randomUUID();
  if (instance.type === "container") {
    instance.config["volatile.idmap.base"] = "0";
    instance.config["volatile.idmap.next"] = idmap;
    instance.config["volatile.last_state.idmap"] = "[]";
    instance.config["volatile.cloud-init.instance-id"] = randomUUID();
  }
  fillHardwareAddresses(database, instance);
  database.instances.set(keyOf(instance.project, instance.name), instance);
}

function imageConfig(image: Image | undefined): Record<string, string> {
  if (image === undefined) {
    return {};
  }
  const properties = Object.entries(image.properties).map(([key, value]): [string, string] => [`image.${key}`, value]);
  return { ...Object.fromEntries(properties), "volatile.base_image": image.fingerprint };
}

function withoutEmpty(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

/** How to get the image for a new instance: a local one is looked up now, a remote one when the work begins. */
function imageOf(
  request: ApiRequest,
  project: string,
  type: Instance["type"],
  source: z.output<typeof instancesPost>["source"],
): () => Image | undefined {
  if (source.type === "none") {
    return () => undefined;
  }
  if (source.type !== "image") {
    throw new LxdError(400, `Unknown instance source type "${source.type}"`);
  }
  if (source.server !== "") {
    return () => requireImage(request.daemon, project, type, source);
  }
  if ((source.fingerprint !== "" && (request.query.get("target") ?? "") !== "") || request.daemon.behaviour.lateAlias) {
    return () => imageOrComplaint(request, project, type, source);
  }
  const image = requireImage(request.daemon, project, type, source);
  return () => image;
}

/** If LXD does not need the image to choose a member, it resolves a fingerprint only when the work begins. */
function imageOrComplaint(
  request: ApiRequest,
  project: string,
  type: Instance["type"],
  source: z.output<typeof instancesPost>["source"],
): Image {
  try {
    return requireImage(request.daemon, project, type, source);
  } catch {
    throw new LxdError(500, "Image not provided for instance creation");
  }
}

/** The member for a new instance. */
function place(request: ApiRequest): Member {
  const { database } = request.daemon;
  const target = request.query.get("target") ?? "";
  if (target !== "" && !database.clustered) {
    throw new LxdError(400, "Target only allowed when clustered");
  }
  if (target !== "" && !target.startsWith("@")) {
    const member = placeNamed(request.daemon, target);
    if (!member.daemon.answers) {
      const { address } = member;
      const url = `https://${address}/1.0/instances?project=${projectOf(request)}&target=${target}`;
      throw new LxdError(
        500,
        `Post "${url}": Unable to connect to: ${address} ([dial tcp ${address}: connect: no route to host])`,
      );
    }
    return member;
  }
  const group = target.slice(1);
  if (group !== "" && !database.groups.has(group)) {
    throw new LxdError(400, `Cluster group "${group}" doesn't exist`);
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

/** Incus keeps the group in which an instance was placed. */
function groupConfig({ daemon, query }: ApiRequest): Record<string, string> {
  const target = query.get("target") ?? "";
  const isKept = target.startsWith("@") && daemon.behaviour.server === "incus";
  return isKept ? { "volatile.cluster.group": target.slice(1) } : {};
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
    return move(request, instance, placeNamed(request.daemon, target, "Failed to get target node: "));
  }
  reach(instance.member.daemon);
  if (body.migration) {
    throw new LxdError(400, "Moving to another pool is not simulated");
  }
  requireInstanceName(body.name, request.daemon.behaviour);
  if (database.instances.has(keyOf(instance.project, body.name))) {
    throw new LxdError(409, `Name "${body.name}" already in use`);
  }
  return onMember(instance, "Renaming instance", () => {
    if (instance.status !== "Stopped") {
      throw new LxdError(500, `Renaming of running ${instance.type === "container" ? "container" : "instance"} not allowed`);
    }
    database.instances.delete(keyOf(instance.project, instance.name));
    instance.name = body.name;
    instance.config["volatile.apply_template"] = "rename";
    database.instances.set(keyOf(instance.project, instance.name), instance);
    instance.member.daemon.event(
      "instance-renamed",
      urlOf(`/1.0/instances/${instance.name}`, instance.project),
      instance.project,
    );
  });
}

/** The member that is named as the place of an instance. */
function placeNamed({ database, behaviour }: LxdServer, name: string, prefix = ""): Member {
  const member = database.members.find((each) => each.name === name);
  if (member === undefined) {
    throw new LxdError(404, `${prefix}Cluster member${behaviour.namesMissingPlace ? ` "${name}"` : ""} not found`);
  }
  return member;
}

function move(request: ApiRequest, instance: Instance, target: Member): Reply {
  if (!target.daemon.heard) {
    throw new LxdError(400, "Target node is offline");
  }
  if ((instance.backups ?? []).length > 0) {
    throw new LxdError(400, request.daemon.behaviour.moveOfBackups);
  }
  if (request.daemon.behaviour.refusesSameMemberFirst && instance.member === target) {
    throw new LxdError(400, "Requested target server is the same as current server");
  }
  // An offline member cannot work on its instance; the member that received the request tries instead.
  const worker = instance.member.daemon.answers ? instance.member : request.daemon.member;
  return onMember({ ...instance, member: worker }, "Migrating instance", () => {
    if (worker !== instance.member) {
      throw new LxdError(
        500,
        "Failed loading instance storage pool: Failed getting instance storage pool name: Instance storage pool not found",
      );
    }
    if (instance.member === target) {
      throw new LxdError(400, "Target must be different than instance's current location");
    }
    const { behaviour } = instance.member.daemon;
    if (!behaviour.movesAsItIs) {
      requireVolumesOn(request.daemon.database, instance, target);
    }
    const running = instance.status === "Running";
    if (running) {
      haltInstance(instance);
    }
    if (!behaviour.movesAsItIs) {
      moveByCopy(request.daemon.database, instance, target);
    }
    instance.member = target;
    if (running) {
      bootInstance(instance);
    }
    target.daemon.event("instance-migrated", urlOf(`/1.0/instances/${instance.name}`, instance.project), instance.project);
  });
}

/** Copies it under another name, deletes the original, and renames the copy. If the original cannot be deleted, both remain. */
function moveByCopy(database: Database, instance: Instance, target: Member): void {
  const name = `lxd-move-of-${randomUUID()}`;
  database.instances.set(keyOf(instance.project, name), {
    ...{ ...instance, name, member: target, config: { ...instance.config } },
    ...{ leases: new Map(), execOutput: new Map(), snapshots: [...instance.snapshots] },
  });
  requireUnprotected(database, instance);
  database.instances.delete(keyOf(instance.project, name));
}

function requireUnprotected(database: Database, instance: Instance): void {
  if (expandedConfig(database, instance)["security.protection.delete"] === "true") {
    throw new LxdError(500, `${instance.type === "container" ? "Container" : "Instance"} is protected`);
  }
}

/** Volumes of a pool that is local to each member are not moved. */
function requireVolumesOn(database: Database, instance: Instance, target: Member): void {
  const name = deviceWithoutVolume(database, instance, target);
  if (name !== undefined) {
    throw new LxdError(
      400,
      `Failed instance creation: Failed creating instance record: Failed initialising instance: Failed add validation for device "${name}": ` +
        "Failed loading custom volume: Storage volume not found",
    );
  }
}

function deleteInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  const force = request.query.get("force") === "1" && request.daemon.behaviour.apiExtensions.includes("instance_force_delete");
  if (instance.status !== "Stopped" && !force) {
    throw new LxdError(400, "Instance is running");
  }
  return onMember(instance, "Deleting instance", () => {
    requireUnprotected(database, instance);
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
    throw new LxdError(400, `Unknown action: '${body.action}'`);
  }
  if (instance.member.evacuated && (body.action === "start" || body.action === "restart")) {
    throw new LxdError(403, "Cluster member is evacuated");
  }
  return onMember(instance, description, () => {
    const url = urlOf(`/1.0/instances/${instance.name}`, instance.project);
    const { daemon } = instance.member;
    const stopped = instance.status === "Stopped";
    if (body.action === "start") {
      if (!stopped) {
        throw new LxdError(500, "The instance is already running");
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
