/** PUT and PATCH of an instance: what they replace, and what LXD refuses while it runs. */
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { type Config, type Database, type Devices, type Instance, keyOf, urlOf } from "./database";
import { messageOf } from "./errors";
import {
  bytesOf,
  etagFields,
  expandedConfig,
  expandedDevices,
  fillHardwareAddresses,
  requireValidConfig,
  requireValidDevices,
} from "./instance-model";
import { instanceOf, onMember } from "./instance-requests";
import { LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, projectOf } from "./router";

const strings = z.record(z.string(), z.string());
const instancePut = z.object({
  architecture: z.string().optional(),
  config: strings.nullish(),
  devices: z.record(z.string(), strings).nullish(),
  ephemeral: z.boolean().optional(),
  profiles: z.array(z.string()).nullish(),
  description: z.string().optional(),
  restore: z.string().default(""),
});

/** The writable part of an instance. */
type Wanted = Pick<Instance, "config" | "devices" | "ephemeral" | "profiles" | "description">;

/** Keys of a running virtual machine that may change, by LXD's own allow-list. */
const liveKeys =
  /^(limits\.memory|limits\.cpu|cluster\.evacuate|security\.(agent\.metrics|devlxd.*|guestapi|secureboot|csm)|boot\..+|cloud-init\..+|environment\..+|image\..+|snapshots\..+|user\..+|volatile\..+)$/;

/** `PUT`: replaces everything, also the server's own keys. */
export function changeInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  requireEtag(request.headers["if-match"], etagFields(database, instance));
  const body = decode(request, instancePut);
  if (body.restore !== "") {
    return restoreSnapshot(instance, body.restore);
  }
  requireProfiles(database, projectOf(request), body.profiles ?? []);
  return onMember(instance, "Updating instance", () =>
    apply(database, instance, {
      config: body.config ?? {},
      devices: body.devices ?? {},
      ephemeral: body.ephemeral ?? false,
      profiles: body.profiles ?? [],
      description: body.description ?? "",
    }),
  );
}

/** `PATCH`: merges keys and whole devices. A description that is not sent is lost, except in Incus 7. */
export function mergeInstance(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const instance = instanceOf(request);
  requireEtag(request.headers["if-match"], etagFields(database, instance));
  const body = decode(request, instancePut);
  if (body.restore !== "") {
    throw new LxdError(400, "Can't call PATCH in restore mode");
  }
  requireProfiles(database, projectOf(request), body.profiles ?? []);
  apply(database, instance, {
    config: { ...instance.config, ...body.config },
    devices: { ...instance.devices, ...body.devices },
    ephemeral: body.ephemeral ?? instance.ephemeral,
    profiles: body.profiles ?? instance.profiles,
    description: body.description ?? (instance.member.daemon.behaviour.keepsDescription ? instance.description : ""),
  });
  return sync();
}

function requireProfiles(database: Database, project: string, profiles: string[]): void {
  for (const name of profiles) {
    if (!database.profiles.has(keyOf(database.holder(project, "profiles"), name))) {
      throw new LxdError(404, "Profile not found");
    }
  }
}

function apply(database: Database, instance: Instance, wanted: Wanted): void {
  const next: Wanted = {
    ...wanted,
    config: Object.fromEntries(Object.entries(wanted.config).filter(([, value]) => value !== "")),
  };
  try {
    requireValidConfig(instance.member.daemon.behaviour, next.config, instance.type);
  } catch (error) {
    throw new LxdError(500, `Invalid config: ${messageOf(error)}`);
  }
  if (Object.keys(instance.config).some((key) => key.startsWith("volatile.idmap.") && next.config[key] === undefined)) {
    throw new LxdError(500, "Volatile idmap keys can't be deleted by the user");
  }
  const target = { ...instance, ...next };
  const before = expandedDevices(database, instance);
  const devices = expandedDevices(database, target);
  for (const [which, given] of [
    ["devices", next.devices],
    ["expanded devices", devices],
  ] as const) {
    try {
      requireValidDevices(database, given, { instance: true, project: instance.project });
    } catch (error) {
      throw new LxdError(500, `Invalid ${which}: ${messageOf(error)}`);
    }
  }
  requireSamePool(before, devices);
  requireOneNicOnABridge(database, instance.name, before, devices);
  if (instance.status === "Running") {
    requireLive(instance, expandedConfig(database, instance), expandedConfig(database, target));
    requireHotplug(instance, before, devices);
  }
  const resized = rootSize(before) !== rootSize(devices);
  Object.assign(instance, next);
  forgetRemovedDevices(instance, before, devices);
  fillHardwareAddresses(database, instance);
  if (resized && instance.type === "virtual-machine" && instance.status === "Running") {
    const root = Object.entries(devices).find(([, device]) => device["path"] === "/")?.[0] ?? "root";
    instance.config[`volatile.${root}.apply_quota`] = "true";
  }
  instance.member.daemon.event("instance-updated", urlOf(`/1.0/instances/${instance.name}`, instance.project), instance.project);
}

/** Applies a change of a profile to an instance that uses it. Throws LXD's error if the instance refuses it. */
export function applyProfile(database: Database, instance: Instance, before: { config: Config; devices: Devices }): void {
  const config = expandedConfig(database, instance);
  const devices = expandedDevices(database, instance);
  requireValidDevices(database, devices, { instance: true, project: instance.project });
  if (instance.status === "Running") {
    requireLive(instance, before.config, config);
    requireHotplug(instance, before.devices, devices);
    requireStartedNics(instance, before.devices, devices);
  }
  forgetRemovedDevices(instance, before.devices, devices);
  fillHardwareAddresses(database, instance);
}

/** Removes the volatile keys of a device together with the device. */
function forgetRemovedDevices(instance: Instance, before: Devices, after: Devices): void {
  for (const name of Object.keys(before).filter((each) => after[each] === undefined)) {
    for (const key of Object.keys(instance.config).filter((each) => each.startsWith(`volatile.${name}.`))) {
      delete instance.config[key];
    }
  }
}

function rootSize(devices: Devices): string {
  return Object.values(devices).find((device) => device["type"] === "disk" && device["path"] === "/")?.["size"] ?? "";
}

function requireSamePool(before: Devices, after: Devices): void {
  const poolOf = (devices: Devices) =>
    Object.values(devices).find((device) => device["type"] === "disk" && device["path"] === "/")?.["pool"];
  if (poolOf(before) !== undefined && poolOf(after) !== undefined && poolOf(before) !== poolOf(after)) {
    throw new LxdError(500, `Cannot update root disk device pool name to "${poolOf(after) ?? ""}"`);
  }
}

/** On a managed bridge all NICs of an instance would have the same DNS name. */
function requireOneNicOnABridge(database: Database, name: string, before: Devices, after: Devices): void {
  const networkOf = (device: Config): string | undefined => (device["type"] === "nic" ? device["network"] : undefined);
  const nics = Object.entries(after).filter(([, device]) => database.networks.has(networkOf(device) ?? ""));
  const [added] =
    nics.find(([key, device]) => {
      const others = nics.filter(([other]) => other !== key).map(([, { network }]) => network);
      return !isDeepStrictEqual(before[key], device) && others.includes(device["network"]);
    }) ?? [];
  if (added !== undefined) {
    throw new LxdError(500, `Failed add validation for device "${added}": Instance DNS name "${name}" already used on network`);
  }
}

function requireLive(instance: Instance, before: Config, after: Config): void {
  if (instance.type !== "virtual-machine") {
    return;
  }
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (before[key] === after[key]) {
      continue;
    }
    if (!liveKeys.test(key)) {
      throw new LxdError(500, `Key "${key}" cannot be updated when VM is running`);
    }
    const wanted = after[key] ?? "";
    if (key === "limits.cpu" && wanted !== "" && !(/^\d*$/.test(before[key] ?? "") && /^\d+$/.test(wanted))) {
      throw new LxdError(500, "Cannot change CPU pinning when VM is running");
    }
    if (key === "limits.memory" && wanted !== "" && bytesOf(wanted) > bytesOf(instance.bootMemory)) {
      const mebibytes = (text: string) => Math.floor(bytesOf(text) / 1024 / 1024);
      throw new LxdError(
        500,
        `Cannot increase memory size beyond boot time size when VM is running (Boot time size ${mebibytes(instance.bootMemory)}MiB, new size ${mebibytes(wanted)}MiB)`,
      );
    }
  }
}

function requireHotplug(instance: Instance, before: Devices, after: Devices): void {
  for (const [name, device] of Object.entries(after)) {
    const changed = !isDeepStrictEqual(before[name], device);
    const parent = device["type"] === "nic" ? device["parent"] : undefined;
    if (changed && parent !== undefined && !instance.member.daemon.host.interfaces.has(parent)) {
      throw new LxdError(500, `Failed to start device "${name}": Parent device "${parent}" doesn't exist`);
    }
  }
  if (instance.type !== "virtual-machine") {
    return;
  }
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const isShare = after[name]?.["type"] === "disk" && !["/", undefined].includes(after[name]["path"]);
    if (isShare && !isDeepStrictEqual(before[name], after[name])) {
      throw new LxdError(500, `Failed to start device "${name}": Cannot attach directory while instance is running`);
    }
    const fixed = (device: Config | undefined) => ["gpu", "tpm", "pci"].includes(device?.["type"] ?? "");
    if (isDeepStrictEqual(before[name], after[name]) || (!fixed(before[name]) && !fixed(after[name]))) {
      continue;
    }
    const [verb, done] = after[name] === undefined ? ["stop", "stopped"] : ["start", "started"];
    throw new LxdError(500, `Failed to ${verb} device "${name}": Device cannot be ${done} when instance is running`);
  }
}

/** A NIC whose parent does not exist never started. Newer servers fail to stop it. */
function requireStartedNics(instance: Instance, before: Devices, after: Devices): void {
  const { behaviour, host } = instance.member.daemon;
  for (const [name, { type, parent }] of Object.entries(before)) {
    const neverStarted = type === "nic" && parent !== undefined && !host.interfaces.has(parent);
    if (behaviour.needsStartedNic && instance.type === "container" && neverStarted && after[name] === undefined) {
      throw new LxdError(
        500,
        `Failed to stop device "${name}": Failed clearing netprio rules for instance "${instance.name}" in project "${instance.project}": Failed to set network priority: device name is empty`,
      );
    }
  }
}

function restoreSnapshot(instance: Instance, name: string): Reply {
  const snapshot = instance.snapshots.find((each) => each.name === name);
  if (snapshot === undefined) {
    throw new LxdError(404, `Instance snapshot not found`);
  }
  return onMember(instance, "Restoring snapshot", () => {
    instance.config = { ...snapshot.config };
    instance.devices = structuredClone(snapshot.devices);
    instance.profiles = [...snapshot.profiles];
    instance.member.daemon.event("instance-restored", `/1.0/instances/${instance.name}`, instance.project);
  });
}
