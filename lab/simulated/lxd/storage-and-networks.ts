/**
 * Shared by storage pools and networks: in a cluster of several members they are defined on each member first, and then
 * created on all at once. Creation happens per member, in that host's files and interfaces, so leftovers of an earlier
 * object block it as they do in LXD.
 */
import { posix } from "node:path";
import {
  type ClusterObject,
  type Config,
  type Database,
  keyOf,
  type LxdServer,
  type Member,
  type Network,
  type StoragePool,
} from "./database";
import { messageOf } from "./errors";
import { async, created, LxdError, type Reply, sync } from "./reply";
import type { ApiRequest } from "./router";
import { TOOLS, workingDrivers } from "./storage-drivers";

const poolMemberKeys = ["size", "source", "volatile.initial_source", "zfs.pool_name", "lvm.thinpool_name", "lvm.vg_name"];
const networkMemberKeys = ["bgp.ipv4.nexthop", "bgp.ipv6.nexthop", "bridge.external_interfaces", "parent"];

/** Keys of an object that are specific to a member. */
export function memberKeysOf(object: ClusterObject): string[] {
  return isPool(object) ? poolMemberKeys : networkMemberKeys;
}

/** LXD's texts for one type of object. */
export interface Kind<Item extends ClusterObject> {
  noun: "storage pool" | "network";
  short: "Pool" | "Network";
  collection: (database: Database) => Map<string, Item>;
  url: (item: Item) => string;
  /** Adds the values that LXD chooses if none are given. */
  complete: (item: Item) => void;
}

/** The define step: `POST ...?target=member`. */
export function define<Item extends ClusterObject>(request: ApiRequest, kind: Kind<Item>, item: Item, target: string): Reply {
  const { daemon } = request;
  const { database } = daemon;
  const member = database.member(target);
  const foreign = Object.keys(item.config).find((key) => !memberKeysOf(item).includes(key));
  if (foreign !== undefined) {
    throw new LxdError(kind.noun === "network" ? 400 : 500, `Config key "${foreign}" may not be used as member-specific key`);
  }
  requireTools(item, daemon, 400); // the member that answers, whichever is the target
  const existing = kind.collection(database).get(item.name);
  if (existing !== undefined && existing.status !== "Pending") {
    throw new LxdError(500, `${kind.noun === "network" ? "Network" : "Storage pool"} is not in pending state`);
  }
  if (existing?.nodes.has(member) === true) {
    throw new LxdError(
      kind.noun === "network" ? daemon.behaviour.duplicateNetworkStatus : 400,
      `The ${kind.noun} already defined on member "${target}"`.replace("network already", "network is already"),
    );
  }
  if (existing !== undefined && isPool(existing) && isPool(item) && existing.driver !== item.driver) {
    throw new LxdError(400, "Storage pool already exists with a different driver");
  }
  return inBackground(request, kind, item, `Defining ${kind.noun}`, () => {
    const own = existing ?? { ...item, config: {}, description: "", status: "Pending" as const, nodes: new Map() };
    own.nodes.set(member, { config: item.config, status: "Pending" });
    kind.collection(database).set(item.name, own);
  });
}

/** The create step: `POST` without target. On a standalone server it is the only one. */
export function create<Item extends ClusterObject>(request: ApiRequest, kind: Kind<Item>, item: Item): Reply {
  const { database } = request.daemon;
  const existing = kind.collection(database).get(item.name);
  if (database.members.length === 1 && existing?.status !== "Pending" && existing?.status !== "Errored") {
    if (existing !== undefined) {
      throw kind.noun === "network"
        ? new LxdError(400, "The network already exists")
        : new LxdError(409, "The storage pool already exists: The record already exists");
    }
    return inBackground(request, kind, item, `Creating ${kind.noun}`, () => {
      const config = pick(item.config, (key) => memberKeysOf(item).includes(key));
      item.config = pick(item.config, (key) => !memberKeysOf(item).includes(key));
      kind.complete(item);
      makeOnMember(item, request.daemon.member, config);
      item.status = "Created";
      kind.collection(database).set(item.name, item);
      request.daemon.event(`${kind.noun.replace(" ", "-")}-created`, kind.url(item));
    });
  }
  requireCreatable(kind, database, item, existing);
  return inBackground(request, kind, item, `Creating ${kind.noun}`, () => createEverywhere(request.daemon, kind, item, existing));
}

function requireCreatable<Item extends ClusterObject>(
  kind: Kind<Item>,
  database: Database,
  item: Item,
  existing: Item | undefined,
): void {
  const own = Object.keys(item.config).find((key) => memberKeysOf(item).includes(key));
  if (own !== undefined) {
    throw new LxdError(500, `Config key "${own}" is cluster member specific`);
  }
  if (existing === undefined) {
    throw new LxdError(500, `${kind.short} not pending on any node (use --target <node> first)`);
  }
  if (existing.status === "Created") {
    throw new LxdError(500, `The ${kind.noun} is already created`);
  }
  const undefinedOn = database.members.filter((member) => !existing.nodes.has(member));
  if (undefinedOn.length > 0) {
    throw new LxdError(500, `${kind.short} not defined on nodes: ${undefinedOn.map((member) => member.name).join(", ")}`);
  }
  if (existing.status === "Errored" && Object.keys(item.config).length > 0) {
    const noun = kind.noun === "network" ? "Network" : "Storage pool";
    throw new LxdError(500, `${noun} already partially created. Please do not specify any global config when re-running create`);
  }
}

function createEverywhere<Item extends ClusterObject>(
  daemon: LxdServer,
  kind: Kind<Item>,
  item: Item,
  existing: Item | undefined,
): void {
  if (existing === undefined) {
    return;
  }
  if (existing.status === "Pending") {
    existing.config = { ...item.config };
    kind.complete(existing);
  }
  existing.description = item.description;
  // A failure after this point leaves this state; LXD writes it first, and corrects it after the last member.
  existing.status = "Errored";
  daemon.database.requireAllOnline();
  const ordered = [daemon.member, ...daemon.database.members.filter((member) => member !== daemon.member)];
  for (const member of ordered) {
    const node = existing.nodes.get(member);
    if (node !== undefined && node.status !== "Created") {
      notifying(daemon, member, () => makeOnMember(existing, member, node.config));
    }
  }
  existing.status = "Created";
  daemon.event(`${kind.noun.replace(" ", "-")}-created`, kind.url(existing));
}

/** An error of another member contains its address. */
function notifying(daemon: LxdServer, member: Member, change: () => void): void {
  try {
    change();
  } catch (error) {
    if (member.daemon === daemon) {
      throw error;
    }
    throw new LxdError(500, `failed to notify peer ${member.address}: ${messageOf(error)}`);
  }
}

/** Runs a change at once, or as an operation if this version does so. */
export function inBackground<Item extends ClusterObject>(
  request: ApiRequest,
  kind: Kind<Item>,
  item: Item,
  description: string,
  change: () => void,
): Reply {
  if (request.daemon.behaviour.asyncPoolsAndNetworks) {
    return async(request.daemon.operate({ description }, change));
  }
  change();
  return request.method === "POST" ? created(kind.url(item)) : sync();
}

/** Creates an object on one member. Throws LXD's error if that fails. */
export function makeOnMember(object: ClusterObject, member: Member, config: Config): void {
  const made = isPool(object) ? makePool(object, member.daemon, config) : makeNetwork(object as Network, member.daemon, config);
  object.nodes.set(member, { config: made, status: "Created" });
}

/** Undoes {@link makeOnMember}. */
export function removeFromMember(object: ClusterObject, member: Member): void {
  const { daemon } = member;
  const { files, interfaces } = daemon.host;
  if (isPool(object)) {
    daemon.drivers = workingDrivers(daemon.host);
    for (const path of [daemon.path("storage-pools", object.name), daemon.path("disks", `${object.name}.img`)]) {
      if (files.exists(path)) {
        files.remove(path, true);
      }
    }
  } else if (object.nodes.get(member)?.status === "Created" && (object as Network).type === "bridge") {
    interfaces.delete(object.name);
    const directory = daemon.path("networks", object.name);
    if (files.exists(directory)) {
      files.remove(directory, true);
    }
  }
  object.nodes.delete(member);
}

function makePool(pool: StoragePool, daemon: LxdServer, config: Config): Config {
  const { files } = daemon.host;
  const mount = daemon.path("storage-pools", pool.name);
  const source = config["source"] === "" ? undefined : config["source"];
  const made = { ...config };
  requireTools(pool, daemon, 500);
  if (files.exists(mount)) {
    throw new LxdError(500, `Storage pool directory "${mount}" already exists`);
  }
  if (pool.driver === "dir") {
    if (source !== undefined && source !== mount) {
      requireEmptyDirectory(daemon, source);
    }
    made["source"] = source ?? mount;
  } else if (source === undefined) {
    const image = daemon.path("disks", `${pool.name}.img`);
    if (files.exists(image)) {
      throw new LxdError(500, `Failed to create sparse file "${image}": open ${image}: file exists`);
    }
    files.writeFile(image, "", { mode: 0o600 });
    made["source"] = image;
    made["size"] = config["size"] ?? "5GiB";
  } else if (source.startsWith("/dev/")) {
    if (!files.exists(source)) {
      throw new LxdError(500, `Custom loop file locations are not supported: stat ${source}: no such file or directory`);
    }
    made["volatile.initial_source"] = source;
  }
  if (pool.driver === "zfs") {
    made["zfs.pool_name"] ??= pool.name;
  } else if (pool.driver === "lvm") {
    made["lvm.vg_name"] ??= pool.name;
    made["lvm.thinpool_name"] ??= "LXDThinPool";
  }
  files.makeDirectory(mount, { mode: 0o711 });
  daemon.drivers = workingDrivers(daemon.host);
  return made;
}

function requireTools(object: ClusterObject, daemon: LxdServer, status: 400 | 500): void {
  const tool = isPool(object) ? TOOLS[object.driver] : undefined;
  if (tool !== undefined && !daemon.host.hasProgram(tool)) {
    throw new LxdError(status, `Required tool "${tool}" is missing`);
  }
}

function requireEmptyDirectory(daemon: LxdServer, source: string): void {
  const { files } = daemon.host;
  if (files.get(source)?.type !== "directory") {
    throw new LxdError(500, `Source path '${source}' doesn't exist`);
  }
  if (posix.normalize(source).startsWith(`${daemon.dataDirectory}/`)) {
    throw new LxdError(500, `Source path '${source}' is within the LXD directory`);
  }
  if (files.list(source).length > 0) {
    throw new LxdError(500, `Source path '${source}' isn't empty`);
  }
}

function makeNetwork(network: Network, daemon: LxdServer, config: Config): Config {
  const { files, interfaces } = daemon.host;
  if (network.type === "bridge") {
    if (interfaces.has(network.name)) {
      throw new LxdError(500, `Network interface "${network.name}" already exists`);
    }
    for (const external of (config["bridge.external_interfaces"] ?? "").split(",").filter((name) => name !== "")) {
      if (!interfaces.has(external.trim())) {
        throw new LxdError(500, `Failed to attach external interface "${external.trim()}": not found`);
      }
    }
    requireAcls(daemon.database, network.project, network.config, 500);
    const addresses = [network.config["ipv4.address"], network.config["ipv6.address"]];
    requireFreePorts(daemon, addresses);
    files.makeDirectory(daemon.path("networks", network.name), { parents: true, mode: 0o711 });
    interfaces.set(network.name, {
      type: "bridge",
      hwaddr: network.config["volatile.bridge.hwaddr"] ?? "00:16:3e:00:00:01",
      addresses: addresses.filter((address): address is string => address !== undefined && address !== "none"),
      dnsmasqPid: 2000 + interfaces.size,
    });
  } else if (["physical", "macvlan", "sriov"].includes(network.type)) {
    const parent = config["parent"] ?? "";
    if (parent === "") {
      throw new LxdError(500, `Invalid value for network "${network.name}" option "parent": Required value`);
    }
    if (!interfaces.has(parent)) {
      throw new LxdError(500, `Parent interface "${parent}" not found`);
    }
    if (network.type === "physical") {
      requireFreeParent(daemon, parent);
      network.config["volatile.last_state.created"] = "false";
    }
  }
  return { ...config };
}

/** The server starts dnsmasq, which ends when another process has one of its ports. */
function requireFreePorts({ host }: LxdServer, [ipv4 = "none", ipv6 = "none"]: (string | undefined)[]): void {
  const address = [ipv4, ipv6].find((each) => each !== "none")?.split("/")[0];
  const failure = {
    53: `failed to create listening socket for ${address}: Address already in use`,
    67: ipv4 === "none" ? undefined : "failed to bind DHCP server socket: Address already in use",
  };
  for (const [port, reason] of Object.entries(failure)) {
    const isTaken = host.listeners.some((each) => each.port === Number(port) && ["0.0.0.0", address].includes(each.address));
    if (address !== undefined && reason !== undefined && isTaken) {
      const how = `Process exited with non-zero value 2 ("dnsmasq: ${reason}")`;
      throw new LxdError(500, `The DNS and DHCP service exited prematurely: ${how}`);
    }
  }
}

/** LXD looks at the networks that are created on all members. */
function requireFreeParent({ database, member }: LxdServer, parent: string): void {
  const isTaken = ({ type, status, nodes }: Network): boolean =>
    type === "physical" && status === "Created" && nodes.get(member)?.config["parent"] === parent;
  if ([...database.networks.values()].some(isTaken)) {
    throw new LxdError(500, `Parent interface "${parent}" in use by another network`);
  }
}

/** Some keys of a configuration. */
function pick(config: Config, wanted: (key: string) => boolean): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => wanted(key)));
}

/** Distinguishes a pool from a network. */
function isPool(object: ClusterObject): object is StoragePool {
  return "driver" in object;
}

/**
 * Changes an object: without target its common keys, with target those of one member.
 * @returns The new object, ready to be applied; `own` is a standalone server's member-specific keys.
 */
export function changedConfig(
  request: ApiRequest,
  object: ClusterObject,
  wanted: Config,
  replace: boolean,
): { target: Member | undefined; config: Config; common?: Config; own?: Config } {
  const { database } = request.daemon;
  const targetName = request.query.get("target") ?? "";
  const own = memberKeysOf(object);
  if (targetName !== "") {
    const target = database.member(targetName);
    const node = object.nodes.get(target);
    const foreign = Object.keys(wanted).find((key) => !own.includes(key) && wanted[key] !== object.config[key]);
    if (foreign !== undefined) {
      throw new LxdError(400, `Config key "${foreign}" may not be used as member-specific key`);
    }
    if (
      isPool(object) &&
      node?.status === "Created" &&
      wanted["source"] !== undefined &&
      wanted["source"] !== node.config["source"]
    ) {
      throw new LxdError(500, "Pool source cannot be changed when not in pending state");
    }
    // A PUT for one member that omits keys of the whole cluster removes these too.
    const common = replace ? pick(object.config, (key) => wanted[key] !== undefined) : object.config;
    return { target, common, config: { ...(replace ? {} : node?.config), ...pick(wanted, (key) => own.includes(key)) } };
  }
  if (database.clustered) {
    const specific = Object.keys(wanted).find((key) => own.includes(key));
    if (specific !== undefined) {
      throw new LxdError(400, `Config key "${specific}" is cluster member specific`);
    }
  }
  const config = { ...(replace ? {} : object.config), ...wanted };
  const node = object.nodes.get(request.daemon.member);
  return {
    target: undefined,
    config: pick(config, (key) => config[key] !== "" && !own.includes(key)),
    ...(!database.clustered && node !== undefined && { own: pick({ ...node.config, ...wanted }, (key) => own.includes(key)) }),
  };
}

/** An object's configuration as one request sees it. */
export function shownConfig(request: ApiRequest, object: ClusterObject): Config {
  const { database, member } = request.daemon;
  const target = request.query.get("target") ?? "";
  if (target !== "") {
    return { ...object.config, ...object.nodes.get(database.member(target))?.config };
  }
  return database.clustered ? { ...object.config } : { ...object.config, ...object.nodes.get(member)?.config };
}

/** Go's empty list, which LXD shows as null. */
export function orNull<Item>(items: Item[]): Item[] | null {
  return items.length === 0 ? null : items;
}

/** In the order of LXD's database. */
export function sortedByName<Item extends { name: string }>(items: Iterable<Item>): Item[] {
  return [...items].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The names in `security.acls` of a network or NIC. */
export function aclsIn(config: Config): string[] {
  return (config["security.acls"] ?? "").split(",").flatMap((name) => (name.trim() === "" ? [] : [name.trim()]));
}

/** Refuses a network whose config names an ACL that does not exist, or one twice. */
export function requireAcls(database: Database, project: string, values: Config, status: number): void {
  const names = aclsIn(values);
  for (const [index, name] of names.entries()) {
    if (!database.acls.has(keyOf(project, name))) {
      throw new LxdError(status, `Network ACL "${name}" does not exist`);
    }
    if (names.indexOf(name) < index) {
      throw new LxdError(status, `Network ACL "${name}" specified multiple times`);
    }
  }
}
