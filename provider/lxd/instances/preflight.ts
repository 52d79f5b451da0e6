/** Checks before an instance is created or changed. Objects that many checks need are read once for all of them. */
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient } from "../client/client";
import { EVACUATED, listMembersShared, type Member } from "../cluster/cluster";
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

const POOL = { path: "/1.0/storage-pools", noun: "storage pool", resource: "LxdStoragePool" } as const;
const NETWORK = { path: "/1.0/networks", noun: "network", resource: "LxdNetwork" } as const;

/**
 * Checks what an instance is to be made of. Returns its profiles, and its config and devices after they are merged in.
 * @throws RefusedError for anything that is missing.
 */
export async function prepare(
  { lxd, project }: InstanceWork,
  spec: InstanceSpec & { readonly waitFor: readonly WaitCondition[] },
): Promise<{ profiles: Profile[]; expanded: Expanded }> {
  const profiles = await requireProfiles(lxd, project, spec.profiles);
  const expanded = expand(profiles, toApi(spec, profiles, ""));
  await requirePoolsAndNetworks(lxd, project, spec.devices);
  await requireRootDisk(lxd, project, spec, expanded.devices);
  requireNics(expanded.devices, spec.waitFor);
  return { profiles, expanded };
}

async function requireProfiles(lxd: LxdClient, project: string, names: readonly string[]): Promise<Profile[]> {
  const found = await Promise.all(names.map((name) => findProfileShared(lxd, project, name)));
  const missing = names.find((_, index) => found[index] === undefined);
  if (missing !== undefined) {
    const there = await namesAt(lxd, "/1.0/profiles", project);
    throw new RefusedError(
      `profiles: ${lxd.title} has no profile "${missing}" in project "${project}" (it has ${there}). ` +
        "Create it first (LxdProfile), or correct the name",
    );
  }
  return found.flatMap((profile) => (profile === undefined ? [] : [profile]));
}

async function requirePoolsAndNetworks(lxd: LxdClient, project: string, devices: Devices): Promise<void> {
  for (const [name, { type, pool, network }] of Object.entries(devices)) {
    if (type === "disk" && pool !== undefined && pool !== "") {
      await requireNamed(lxd, project, POOL, pool, `devices.${name}.pool`);
    }
    if (type === "nic" && network !== undefined && network !== "") {
      await requireNamed(lxd, project, NETWORK, network, `devices.${name}.network`);
    }
  }
}

async function requireRootDisk(lxd: LxdClient, project: string, spec: InstanceSpec, expanded: Devices): Promise<void> {
  const { profiles, rootDisk } = spec;
  const pool = rootDiskOf(expanded)?.[1]["pool"];
  if (pool === undefined) {
    const which = profiles.length === 0 ? "the instance has no profiles" : `no profile of ${profiles.join(", ")} has a root disk`;
    throw new RefusedError(
      `rootDisk.pool: ${which}, so its storage pool must be named here (${lxd.title} has ${await namesAt(lxd, POOL.path, project)})`,
    );
  }
  if (rootDisk !== undefined) {
    await requireNamed(lxd, project, POOL, pool, "rootDisk.pool");
  }
}

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

/** @param property - Path of the name in the user's program. */
async function requireNamed(
  lxd: LxdClient,
  project: string,
  { path, noun, resource }: typeof POOL | typeof NETWORK,
  name: string,
  property: string,
): Promise<void> {
  const found = await lxd.findShared(path + api`/${name}`, namedSchema, { project });
  if (found?.managed !== true) {
    const there = await namesAt(lxd, path, project);
    throw new RefusedError(
      `${property}: ${lxd.title} has no ${noun} "${name}" (it has ${there}). Create it first (${resource}), or correct the name`,
    );
  }
}

async function namesAt(lxd: LxdClient, path: string, project: string): Promise<string> {
  const objects = await lxd.get(path, listOf(namedSchema), { project, recursion: 1 });
  const names = objects
    .filter(({ managed }) => managed)
    .map(({ name }) => name)
    .sort();
  return names.length === 0 ? "none" : `${names.slice(0, 20).join(", ")}${names.length > 20 ? ", ..." : ""}`;
}

/** Requires that an image of the cluster exists and has the right type. Leaves an image of an image server for LXD to find. */
export async function requireImage(lxd: LxdClient, project: string, image: ImageSource, type: string): Promise<void> {
  if (image.server !== undefined) {
    return;
  }
  const { alias, fingerprint = "" } = image;
  const path = alias === undefined ? api`/1.0/images/${fingerprint}` : api`/1.0/images/aliases/${alias}`;
  const found = await lxd.findShared(path, imageSchema, { project });
  if (found === undefined) {
    const there = await namesAt(lxd, "/1.0/images/aliases", project);
    const property = alias === undefined ? "image.fingerprint" : "image.alias";
    throw new RefusedError(
      `${property}: ${lxd.title} has no image ${describeImage(image)} in project "${project}" (aliases it has: ${there}). ` +
        'Import it first (LxdImage), or have one downloaded: image: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" }',
    );
  }
  if (found.type !== type) {
    throw new RefusedError(
      `image: ${describeImage(image)} on ${lxd.host} is an image for a ${found.type}, and instanceType is "${type}". ` +
        "Change instanceType, or use an image of that type",
    );
  }
}

/** @param target - A member, `@group`, or `undefined` to let LXD choose. */
export async function requirePlace(lxd: LxdClient, target: string | undefined, type: string): Promise<void> {
  const { environment } = await getServerShared(lxd);
  if (!environment.server_clustered) {
    if (target !== undefined) {
      throw new RefusedError(
        `target: ${lxd.host} is not in a cluster, so there is no member "${target}". Leave out target, or form the cluster first ` +
          "(LxdClusterMember)",
      );
    }
    requireDriver(type, [[environment.server_name || lxd.host, environment.driver]], lxd);
    return;
  }
  const candidates = candidatesOf(await membersFor(lxd, target), target, lxd);
  if (type === "virtual-machine") {
    const driverOf = async ({ server_name }: Member): Promise<[string, string]> => {
      const server = await getServerShared(lxd, server_name);
      return [server_name, server.environment.driver];
    };
    requireDriver(type, await Promise.all(candidates.map(driverOf)), lxd);
  }
}

/** Requires that a member can receive an instance. */
export async function requireMove(work: InstanceWork, live: Instance, member: string, devices: Devices): Promise<void> {
  await requirePlace(work.lxd, member, live.type);
  await requirePoolsAndNetworksOn(work, member, devices);
  await requireNoBackups(work, member);
}

/** LXD would move the instance to a member without them, and then fail to start it. */
async function requirePoolsAndNetworksOn({ lxd, name, project }: InstanceWork, member: string, devices: Devices): Promise<void> {
  const lack = await lackOn(lxd, project, member, devices);
  if (lack !== undefined) {
    throw new RefusedError(
      `target: instance "${name}" cannot be moved to ${member}, and nothing was changed: its device ${lack.device} needs "${lack.needed}", ` +
        `which ${lack.status} on ${member}. Create it there first, or choose another member`,
    );
  }
}

/** A storage pool, network or interface of the host that a device needs. */
interface Lack {
  readonly device: string;
  readonly needed: string;
  /** Such as "does not exist". */
  readonly status: string;
}

/** Finds the first pool, network or interface that an instance with these devices needs and a member does not have. */
export async function lackOn(lxd: LxdClient, project: string, member: string, devices: Devices): Promise<Lack | undefined> {
  for (const [device, { type, network: managed, parent, pool: from }] of Object.entries(devices)) {
    const needed = type === "nic" ? managed || parent : type === "disk" ? from : undefined;
    if (needed === undefined || needed === "") {
      continue;
    }
    const ref = type === "nic" ? network(managed === undefined ? "default" : project, needed) : pool(needed);
    const found = (await findObject(lxd, ref, member))?.value;
    if (found === undefined || (found.managed && found.status !== "Created")) {
      return { device, needed, status: found === undefined ? "does not exist" : `is ${found.status}` };
    }
  }
  return undefined;
}

/** LXD would refuse the move only after the stop for it. */
async function requireNoBackups(work: InstanceWork, member: string): Promise<void> {
  const backups = await listBackups(work);
  if (backups.length > 0) {
    const { name, client } = work.lxd.names;
    throw new RefusedError(
      `target: instance "${work.name}" cannot be moved to ${member}, and nothing was changed: it has backups (${backups.join(", ")}), ` +
        `and ${name} moves no instance with backups. Save what you need of them (${client} export), then remove each: ${client} query -X DELETE ` +
        `"/1.0/instances/${work.name}/backups/NAME?project=${work.project}"`,
    );
  }
}

function isTarget({ server_name, groups }: Member, target: string): boolean {
  return target.startsWith("@") ? groups?.includes(target.slice(1)) === true : server_name === target;
}

/** Lists the members. When all that the target names are offline, waits for those that answer. */
export function membersFor(lxd: LxdClient, target: string | undefined): Promise<Member[]> {
  return membersOnceHeard(lxd, listMembersShared, (members) => {
    const named = members.filter((member) => target !== undefined && isTarget(member, target));
    return named.every(({ isDown }) => isDown) ? named : [];
  });
}

function candidatesOf(members: readonly Member[], target: string | undefined, lxd: LxdClient): Member[] {
  const online = members.filter(({ status }) => status === "Online");
  if (target === undefined) {
    return online;
  }
  const candidates = online.filter((member) => isTarget(member, target));
  if (candidates.length === 0) {
    throw new RefusedError(`target: ${describeNoCandidate(members, target, lxd)}`);
  }
  return candidates;
}

function describeNoCandidate(members: readonly Member[], target: string, { host, names }: LxdClient): string {
  const [member] = members.filter((each) => isTarget(each, target));
  const there = members.map(({ server_name, status }) => `${server_name} (${status})`).join(", ");
  if (target.startsWith("@")) {
    const group = target.slice(1);
    const groups = [...new Set(members.flatMap((each) => each.groups ?? []))].sort().join(", ");
    return member === undefined
      ? `no member of the cluster at ${host} is in group "${group}"; groups with members: ${groups}`
      : `no member of group "${group}" is Online; members of the cluster at ${host}: ${there}`;
  }
  if (member === undefined) {
    return `"${target}" is not a member of the cluster at ${host}; its members are ${there}`;
  }
  const remedy = member.status === EVACUATED ? `Restore it (${names.client} cluster restore ${target})` : "Bring it back";
  return (
    `cluster member "${target}" is ${member.status} (${member.message}); members of the cluster at ${host}: ${there}. ` +
    `${remedy}, or choose another`
  );
}

/** Requires a driver for the instance type. `driver` is such as "lxc" or "lxc | qemu". */
function requireDriver(type: string, drivers: readonly [member: string, driver: string][], { host, names }: LxdClient): void {
  if (type === "virtual-machine" && drivers.length > 0 && !drivers.some(([, driver]) => driver.includes("qemu"))) {
    const members = drivers.map(([member, driver]) => `${member}: ${driver || "none"}`).join(", ");
    throw new RefusedError(
      `instanceType: ${names.name} cannot run virtual machines there (instance drivers by member: ${members}; asked: ${host}). It needs /dev/kvm ` +
        'and /dev/vhost-vsock: turn on virtualisation in the firmware, or set instanceType: "container"',
    );
  }
}
