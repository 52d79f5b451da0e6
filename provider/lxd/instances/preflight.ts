/**
 * Checks before an instance is created or changed. An impossible request is reported with its property, host and
 * remedy, and leaves nothing behind. Objects that many checks need are read once for all of them.
 */
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { listMembersShared, type Member } from "../cluster/cluster";
import { membersOnceHeard } from "../cluster/heartbeats";
import type { Devices } from "../config";
import { findProfileShared, type Profile } from "../profiles";
import { getServerShared } from "../server";
import { findObject } from "../storage-and-networks/member-objects";
import { network } from "../storage-and-networks/networks";
import { pool } from "../storage-and-networks/storage-pools";
import { describeImage, type ImageSource } from "./image-source";
import { type Expanded, expand, type Instance, type InstanceWork, listBackups, rootDiskOf } from "./instances";
import { type InstanceSpec, toApi } from "./spec";
import type { WaitCondition } from "./wait";

/** Includes networks that LXD only sees on the host, which cannot be used by name. */
const namedSchema = z.looseObject({ name: z.string(), managed: z.boolean().default(true) });
const imageSchema = z.looseObject({ type: z.string().default("container") });

/**
 * Checks what an instance is to be made of. Returns its profiles, and its config and devices after they are merged in.
 * @throws RefusedError naming the property, the existing objects, and the remedy.
 */
export async function prepare(
  { lxd, project }: InstanceWork,
  spec: InstanceSpec & { readonly waitFor: readonly WaitCondition[] },
): Promise<{ profiles: Profile[]; expanded: Expanded }> {
  const profiles = await requireProfiles(lxd, project, spec.profiles);
  const expanded = expand(profiles, toApi(spec, profiles, ""));
  await requirePoolsAndNetworks(lxd, project, "devices", spec.devices);
  await requireRootDisk(lxd, project, spec.profiles, expanded.devices, spec.rootDisk !== undefined);
  requireNics(expanded.devices, spec.waitFor);
  return { profiles, expanded };
}

/**
 * Returns the profiles of an instance, in their order.
 * @throws RefusedError naming the first that does not exist, and those that do.
 */
async function requireProfiles(lxd: LxdClient, project: string, names: readonly string[]): Promise<Profile[]> {
  const found = await Promise.all(names.map((name) => findProfileShared(lxd, project, name)));
  const missing = names.find((_, index) => found[index] === undefined);
  if (missing !== undefined) {
    const there = await namesAt(lxd, "/1.0/profiles", project);
    throw new RefusedError(
      `profiles: LXD on ${lxd.host} has no profile "${missing}" in project "${project}" (it has ${there}). ` +
        "Create it first (LxdProfile), or correct the name",
    );
  }
  return found.flatMap((profile) => (profile === undefined ? [] : [profile]));
}

/**
 * Requires that the pools and networks that devices name exist.
 * @param property - Property of the devices in the user's program, such as `devices`.
 * @throws RefusedError
 */
async function requirePoolsAndNetworks(lxd: LxdClient, project: string, property: string, devices: Devices): Promise<void> {
  for (const [name, device] of Object.entries(devices)) {
    const { type, pool, network } = device;
    if (type === "disk" && pool !== undefined && pool !== "") {
      await requireNamed(lxd, project, "/1.0/storage-pools", pool, `${property}.${name}.pool`, "storage pool", "LxdStoragePool");
    }
    if (type === "nic" && network !== undefined && network !== "") {
      await requireNamed(lxd, project, "/1.0/networks", network, `${property}.${name}.network`, "network", "LxdNetwork");
    }
  }
}

/**
 * Requires that an instance has a root disk, and that its pool exists.
 * @param profiles - Their names, for the message.
 * @param isOwn - Whether the user's program configures the root disk.
 * @throws RefusedError
 */
async function requireRootDisk(
  lxd: LxdClient,
  project: string,
  profiles: readonly string[],
  expanded: Devices,
  isOwn: boolean,
): Promise<void> {
  const pool = rootDiskOf(expanded)?.[1]["pool"];
  if (pool === undefined) {
    const which = profiles.length === 0 ? "the instance has no profiles" : `no profile of ${profiles.join(", ")} has a root disk`;
    throw new RefusedError(
      `rootDisk.pool: ${which}, so its storage pool must be named here (LXD on ${lxd.host} has ${await namesAt(lxd, "/1.0/storage-pools", project)})`,
    );
  }
  if (isOwn) {
    await requireNamed(lxd, project, "/1.0/storage-pools", pool, "rootDisk.pool", "storage pool", "LxdStoragePool");
  }
}

/**
 * Requires that the instance has the network devices that its wait conditions name.
 * @throws RefusedError
 */
function requireNics(expanded: Devices, conditions: readonly WaitCondition[]): void {
  const nics = Object.keys(expanded).filter((name) => expanded[name]?.["type"] === "nic");
  for (const [index, condition] of conditions.entries()) {
    if ("nic" in condition && !nics.includes(condition.nic)) {
      throw new RefusedError(
        `waitFor.${index}.nic: the instance will have no network device "${condition.nic}"; with its profiles it has ${nics.join(", ") || "none"}`,
      );
    }
  }
}

async function requireNamed(
  lxd: LxdClient,
  project: string,
  path: "/1.0/storage-pools" | "/1.0/networks",
  name: string,
  property: string,
  noun: string,
  resource: string,
): Promise<void> {
  const found = await lxd.findShared(path + api`/${name}`, namedSchema, { project });
  if (found?.managed !== true) {
    const there = await namesAt(lxd, path, project);
    throw new RefusedError(
      `${property}: LXD on ${lxd.host} has no ${noun} "${name}" (it has ${there}). Create it first (${resource}), or correct the name`,
    );
  }
}

async function namesAt(lxd: LxdClient, path: string, project: string): Promise<string> {
  const objects = await lxd.get(path, z.array(namedSchema), { project, recursion: 1 });
  const names = objects
    .filter(({ managed }) => managed)
    .map(({ name }) => name)
    .sort();
  return names.length === 0 ? "none" : `${names.slice(0, 20).join(", ")}${names.length > 20 ? ", ..." : ""}`;
}

/**
 * Requires that an image of the cluster exists and has the right type. Leaves an image of an image server for LXD to
 * find.
 * @throws RefusedError
 */
export async function requireImage(lxd: LxdClient, project: string, image: ImageSource, type: string): Promise<void> {
  if (image.server !== undefined) {
    return;
  }
  const found = await findImage(lxd, project, image);
  if (found === undefined) {
    const there = await namesAt(lxd, "/1.0/images/aliases", project);
    const property = image.alias === undefined ? "image.fingerprint" : "image.alias";
    throw new RefusedError(
      `${property}: LXD on ${lxd.host} has no image ${describeImage(image)} in project "${project}" (aliases it has: ${there}). ` +
        'Import it first (LxdImage), or let LXD download one: image: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" }',
    );
  }
  if (found.type !== type) {
    throw new RefusedError(
      `image: ${describeImage(image)} on ${lxd.host} is an image for a ${found.type}, and instanceType is "${type}". ` +
        "Change instanceType, or take an image of the other kind",
    );
  }
}

async function findImage(
  lxd: LxdClient,
  project: string,
  { alias, fingerprint }: ImageSource,
): Promise<{ type: string } | undefined> {
  const path = alias === undefined ? api`/1.0/images/${fingerprint ?? ""}` : api`/1.0/images/aliases/${alias}`;
  return lxd.findShared(path, imageSchema, { project });
}

/**
 * Requires that the place of an instance exists and can hold it.
 * @param target - A member, `@group`, or `undefined` to let LXD choose.
 * @throws RefusedError
 */
export async function requirePlace(lxd: LxdClient, target: string | undefined, type: string): Promise<void> {
  const { environment } = await getServerShared(lxd);
  if (!environment.server_clustered) {
    if (target !== undefined) {
      throw new RefusedError(
        `target: ${lxd.host} is not in a cluster, so there is no member "${target}". Leave out target, or form the cluster first ` +
          "(LxdClusterMember)",
      );
    }
    requireDriver(type, [[environment.server_name || lxd.host, environment.driver]], lxd.host);
    return;
  }
  const candidates = candidatesOf(await membersFor(lxd, target), target, lxd.host);
  if (type === "virtual-machine") {
    const drivers = candidates.map(async ({ server_name }): Promise<[string, string]> => {
      const server = await getServerShared(lxd, server_name);
      return [server_name, server.environment.driver];
    });
    requireDriver(type, await Promise.all(drivers), lxd.host);
  }
}

/**
 * Requires that a member can receive an instance.
 * @throws RefusedError
 */
export async function requireMove(work: InstanceWork, live: Instance, member: string, devices: Devices): Promise<void> {
  await requirePlace(work.lxd, member, live.type);
  await requirePoolsAndNetworksOn(work, member, devices);
  await requireNoBackups(work, member);
}

/** LXD would move the instance to a member without them, and then fail to start it. */
async function requirePoolsAndNetworksOn({ lxd, name, project }: InstanceWork, member: string, devices: Devices): Promise<void> {
  for (const [device, { type, network: managed, parent, pool: from }] of Object.entries(devices)) {
    const needed = type === "nic" ? managed || parent : type === "disk" ? from : undefined;
    if (needed === undefined || needed === "") {
      continue;
    }
    const ref = type === "nic" ? network(managed === undefined ? "default" : project, needed) : pool(needed);
    const found = (await findObject(lxd, ref, member))?.value;
    if (found === undefined || (found.managed && found.status !== "Created")) {
      const status = found === undefined ? "does not exist" : `is ${found.status}`;
      throw new RefusedError(
        `target: instance "${name}" cannot be moved to ${member}, and nothing was changed: its device ${device} needs "${needed}", ` +
          `which ${status} on ${member}. Create it there first, or choose another member`,
      );
    }
  }
}

/** LXD would refuse the move only after the stop for it. */
async function requireNoBackups(work: InstanceWork, member: string): Promise<void> {
  const backups = await listBackups(work);
  if (backups.length > 0) {
    throw new RefusedError(
      `target: instance "${work.name}" cannot be moved to ${member}, and nothing was changed: it has backups (${backups.join(", ")}), ` +
        "and LXD moves no instance with backups. Save what you need of them (lxc export), then remove each: lxc query -X DELETE " +
        `"/1.0/instances/${work.name}/backups/NAME?project=${work.project}"`,
    );
  }
}

/** Lists the members. When all that the target names are offline, waits for those that answer. */
function membersFor(lxd: LxdClient, target: string | undefined): Promise<Member[]> {
  return membersOnceHeard(lxd, listMembersShared, (members) => {
    const named = members.filter(({ server_name, groups }) =>
      target?.startsWith("@") === true ? groups?.includes(target.slice(1)) : server_name === target,
    );
    return named.every(({ status }) => status === "Offline") ? named : [];
  });
}

function candidatesOf(members: readonly Member[], target: string | undefined, host: string): Member[] {
  const there = members.map(({ server_name, status }) => `${server_name} (${status})`).join(", ");
  const online = members.filter(({ status }) => status === "Online");
  if (target === undefined) {
    return online;
  }
  if (target.startsWith("@")) {
    const inGroup = members.filter(({ groups }) => groups?.includes(target.slice(1)));
    if (inGroup.length === 0) {
      const groups = [...new Set(members.flatMap((member) => member.groups ?? []))].sort().join(", ");
      throw new RefusedError(
        `target: no member of the cluster at ${host} is in group "${target.slice(1)}"; groups with members: ${groups}`,
      );
    }
    const ready = inGroup.filter((member) => online.includes(member));
    if (ready.length === 0) {
      throw new RefusedError(
        `target: no member of group "${target.slice(1)}" is Online; members of the cluster at ${host}: ${there}`,
      );
    }
    return ready;
  }
  const member = members.find(({ server_name }) => server_name === target);
  if (member === undefined) {
    throw new RefusedError(`target: "${target}" is not a member of the cluster at ${host}; its members are ${there}`);
  }
  if (member.status !== "Online") {
    throw new RefusedError(
      `target: cluster member "${target}" is ${member.status} (${member.message}); members of the cluster at ${host}: ${there}. ` +
        (member.status === "Evacuated"
          ? `Restore it (lxc cluster restore ${target}), or choose another`
          : "Bring it back, or choose another"),
    );
  }
  return [member];
}

/** Requires a driver for the instance type. `driver` is such as "lxc" or "lxc | qemu". */
function requireDriver(type: string, drivers: readonly [member: string, driver: string][], host: string): void {
  if (type === "virtual-machine" && drivers.length > 0 && !drivers.some(([, driver]) => driver.includes("qemu"))) {
    const members = drivers.map(([member, driver]) => `${member}: ${driver || "none"}`).join(", ");
    throw new RefusedError(
      `instanceType: LXD cannot run virtual machines there (instance drivers by member: ${members}; asked: ${host}). It needs /dev/kvm ` +
        'and /dev/vhost-vsock: turn on virtualisation in the firmware, or set instanceType: "container"',
    );
  }
}
