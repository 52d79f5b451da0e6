/** Starts and stops instances, assigns their addresses, and builds the reply of `/state`. */
import { randomUUID } from "node:crypto";
import { parse } from "yaml";
import { z } from "zod";
import type { Config, Database, Instance } from "./database";
import {
  addressOf,
  deviceWithoutVolume,
  expandedConfig,
  expandedDevices,
  fillHardwareAddresses,
  hasMacOfHost,
  statusCodeOf,
} from "./instance-model";
import { LxdError } from "./reply";

const networkConfig = z.object({
  ethernets: z
    .record(
      z.string(),
      z.object({ addresses: z.array(z.string()).optional(), match: z.object({ macaddress: z.string() }).partial().optional() }),
    )
    .optional(),
});

/** The mapping of user and group ids from containers to the host. */
export const idmap = JSON.stringify(
  [
    { Isuid: true, Isgid: false },
    { Isuid: false, Isgid: true },
  ].map((kind) => ({ ...kind, Hostid: 231072, Nsid: 0, Maprange: 10000001 })),
);

/** Starts an instance: addresses and, for a virtual machine, the agent follow after the lab's delays. */
export function bootInstance(instance: Instance): void {
  const { daemon } = instance.member;
  const { database, surroundings } = daemon;
  const devices = expandedDevices(database, instance);
  for (const device of Object.values(devices)) {
    const parent = device["type"] === "nic" ? (device["parent"] ?? device["network"]) : undefined;
    if (parent !== undefined && !daemon.host.interfaces.has(parent)) {
      throw new LxdError(500, `Failed to start device "${deviceName(devices, device)}": Parent device "${parent}" doesn't exist`);
    }
  }
  const incomplete = deviceWithoutVolume(database, instance, instance.member);
  if (incomplete !== undefined) {
    throw new LxdError(
      500,
      `Failed start validation for device "${incomplete}": Failed loading custom volume: Storage volume not found`,
    );
  }
  const config = expandedConfig(database, instance);
  instance.status = "Running";
  instance.units?.boot();
  instance.lastUsedAt = new Date();
  instance.bootMemory = config["limits.memory"] ?? "1GiB";
  const hasSeed = Object.keys(instance.templates?.files ?? {}).some((file) => file.startsWith("/var/lib/cloud/seed/"));
  instance.foundByCloudInit = daemon.behaviour.server === "incus" ? hasSeed : config["security.devlxd"] !== "false";
  fillHardwareAddresses(database, instance);
  instance.config["volatile.last_state.power"] = "RUNNING";
  instance.config["volatile.uuid"] ??= randomUUID();
  delete instance.config["volatile.apply_template"];
  for (const [name, device] of Object.entries(devices)) {
    if (device["type"] === "nic") {
      instance.config[`volatile.${name}.host_name`] =
        `${instance.type === "container" ? "veth" : "tap"}${Math.random().toString(16).slice(2, 10)}`;
    }
    delete instance.config[`volatile.${name}.apply_quota`];
  }
  if (instance.type === "virtual-machine") {
    instance.config["volatile.vsock_id"] ??= "3";
  } else {
    instance.config["volatile.idmap.current"] = idmap;
    instance.config["volatile.last_state.idmap"] = idmap;
  }
  const { addressMs, agentMs } = surroundings.timings;
  instance.agentReadyAt = Date.now() + agentMs;
  instance.leases.clear();
  if (addressMs === 0) {
    giveAddresses(database, instance);
  } else {
    setTimeout(() => instance.status === "Running" && giveAddresses(database, instance), addressMs).unref();
  }
}

function deviceName(devices: Record<string, Config>, wanted: Config): string {
  return Object.entries(devices).find(([, device]) => device === wanted)?.[0] ?? "";
}

/** Stops an instance, cleanly or not. */
export function haltInstance(instance: Instance): void {
  const { database } = instance.member.daemon;
  instance.status = "Stopped";
  instance.units?.halt();
  instance.config["volatile.last_state.power"] = "STOPPED";
  instance.leases.clear();
  for (const key of Object.keys(instance.config)) {
    if (/^volatile\..+\.host_name$/.test(key)) {
      delete instance.config[key];
    }
  }
  if (instance.ephemeral) {
    database.instances.delete(`${instance.project}/${instance.name}`);
  }
}

/**
 * Whether evacuation moves an instance instead of stopping it.
 * @param mode - Of the evacuation: it has precedence over the instance's own key. Empty when it has none.
 */
export function migratable(database: Database, instance: Instance, mode: string): boolean {
  const own = expandedConfig(database, instance)["cluster.evacuate"] ?? "";
  const policy = mode || own || "auto";
  return policy === "auto"
    ? Object.values(expandedDevices(database, instance)).every((device) => followsInstance(database, device))
    : policy === "migrate" || policy === "live-migrate";
}

/** Whether another member has what a device is. */
function followsInstance(database: Database, { type, path, pool, network, nictype, parent }: Config): boolean {
  switch (type) {
    case "none":
    case "tpm":
      return true;
    case "disk":
      return path === "/" || database.pools.get(pool ?? "")?.driver === "ceph";
    case "nic": {
      const managed = network ?? (nictype === "bridged" ? parent : undefined) ?? "";
      return [...database.networks.values()].some((each) => each.name === managed && each.type !== "physical");
    }
    default:
      return false;
  }
}

/** Whether commands and files can access the inside of an instance. */
export function requireReachable(instance: Instance): void {
  if (instance.type === "virtual-machine" && !agentAnswers(instance)) {
    throw new LxdError(500, "LXD VM agent isn't currently running");
  }
}

function agentAnswers(instance: Instance): boolean {
  return instance.status === "Running" && instance.agent && Date.now() >= instance.agentReadyAt;
}

/** Static addresses that cloud-init would set, by NIC in the order of the file. */
function cloudInitAddresses(config: Config): { name: string; mac: string | undefined; addresses: string[] }[] {
  const text = config["cloud-init.network-config"] ?? config["user.network-config"];
  const parsed = networkConfig.safeParse(text === undefined ? {} : parse(text));
  if (!parsed.success) {
    return [];
  }
  return Object.entries(parsed.data.ethernets ?? {}).map(([name, { addresses, match }]) => ({
    name,
    mac: match?.macaddress?.toLowerCase(),
    addresses: addresses ?? [],
  }));
}

/** The name of a NIC inside the guest. */
function guestName(instance: Instance, index: number, device: string, config: Config): string {
  return instance.type === "virtual-machine"
    ? `enp${5 + index}s0`
    : (config["name"] ?? instance.config[`volatile.${device}.name`] ?? device);
}

function nicsOf(database: Database, instance: Instance): { device: string; config: Config; name: string }[] {
  return Object.entries(expandedDevices(database, instance))
    .filter(([, config]) => config["type"] === "nic")
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([device, config], index) => ({ device, config, name: guestName(instance, index, device, config) }));
}

function giveAddresses(database: Database, instance: Instance): void {
  const fixed = instance.foundByCloudInit ? cloudInitAddresses(expandedConfig(database, instance)) : [];
  for (const { device, config, name } of nicsOf(database, instance)) {
    const mac = addressOf(instance, device, config);
    const stated = fixed.find((each) => each.name === name || each.mac === mac.toLowerCase())?.addresses ?? [];
    const network = database.networks.get(config["network"] ?? config["parent"] ?? "");
    const ipv4 =
      stated.find((address) => !address.includes(":"))?.split("/")[0] ??
      config["ipv4.address"]?.split(",")[0] ??
      (network === undefined ? undefined : dhcpAddress(database, network.config["ipv4.address"] ?? "none", instance, device));
    const ipv6 =
      stated.find((address) => address.includes(":"))?.split("/")[0] ??
      config["ipv6.address"]?.split(",")[0] ??
      (network === undefined ? undefined : autoAddress(network.config["ipv6.address"] ?? "none", mac));
    instance.leases.set(device, { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) });
  }
}

/** The next free address of a bridge; a NIC keeps its address as long as the instance exists. */
function dhcpAddress(database: Database, subnet: string, instance: Instance, device: string): string | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(subnet);
  if (match === null) {
    return undefined;
  }
  const gateway = match.slice(1, 5).reduce((value, part) => value * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(match[5]));
  const first = gateway - (gateway % size);
  const taken = leasesOf(database);
  const mac = instance.config[`volatile.${device}.hwaddr`] ?? "";
  let offset = 2 + (Number.parseInt(mac.replaceAll(":", "").slice(-6) || "0", 16) % Math.max(1, size - 3));
  for (let tries = 0; tries < size; tries += 1) {
    const candidate = dotted(first + offset);
    if (first + offset !== gateway && !taken.has(candidate)) {
      taken.add(candidate);
      return candidate;
    }
    offset = offset + 1 >= size - 1 ? 2 : offset + 1;
  }
  return undefined;
}

function leasesOf(database: Database): Set<string> {
  const taken = new Set<string>();
  for (const instance of database.instances.values()) {
    for (const { ipv4 } of instance.leases.values()) {
      if (ipv4 !== undefined) {
        taken.add(ipv4);
      }
    }
  }
  return taken;
}

function dotted(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}

function autoAddress(subnet: string, mac: string): string | undefined {
  const prefix = /^([0-9a-f:]+)::[0-9a-f]*\/64$/i.exec(subnet)?.[1];
  return prefix === undefined ? undefined : `${prefix}:${interfaceIdentifier(mac)}`;
}

function interfaceIdentifier(mac: string): string {
  const bytes = mac.split(":").map((part) => Number.parseInt(part, 16));
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = bytes;
  const hex = (high: number, low: number) => ((high << 8) | low).toString(16);
  return [hex(a ^ 2, b), hex(c, 0xff), hex(0xfe, d), hex(e, f)].join(":");
}

const noCounters = {
  bytes_received: 0,
  bytes_sent: 0,
  packets_received: 0,
  packets_sent: 0,
  errors_received: 0,
  errors_sent: 0,
  packets_dropped_outbound: 0,
  packets_dropped_inbound: 0,
};

/** MAC address of the host's interface, for NICs without their own. */
const MAC_OF_HOST = "52:54:00:12:34:56";

/** LXD's JSON for the state of an instance. */
export function stateToApi(database: Database, instance: Instance): Record<string, unknown> {
  const running = instance.status === "Running";
  const inside = instance.type === "container" || agentAnswers(instance);
  return {
    status: instance.status,
    status_code: statusCodeOf(instance.status),
    disk: {},
    memory: { usage: running ? 100_000_000 : 0, usage_peak: 0, swap_usage: 0, swap_usage_peak: 0 },
    network: running ? networkState(database, instance, inside) : null,
    pid: running ? 4242 : 0,
    processes: running ? (inside ? 20 : -1) : 0,
    cpu: { usage: running ? 1_000_000_000 : 0 },
  };
}

function networkState(database: Database, instance: Instance, inside: boolean): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const { device, config, name } of nicsOf(database, instance)) {
    const mac = hasMacOfHost(config) ? MAC_OF_HOST : addressOf(instance, device, config);
    const lease = instance.leases.get(device);
    // Without the agent LXD knows only what the host sees: leases on bridges, by the name of the device.
    if (!inside && config["nictype"] !== undefined && config["nictype"] !== "bridged") {
      continue;
    }
    const addresses: Record<string, string>[] = [];
    if (lease?.ipv4 !== undefined) {
      addresses.push({ family: "inet", address: lease.ipv4, netmask: "24", scope: "global" });
    }
    if (lease?.ipv6 !== undefined) {
      addresses.push({ family: "inet6", address: lease.ipv6, netmask: "64", scope: "global" });
    }
    if (inside) {
      addresses.push({ family: "inet6", address: `fe80::${interfaceIdentifier(mac)}`, netmask: "64", scope: "link" });
    }
    shown[inside ? name : device] = {
      addresses,
      counters: noCounters,
      hwaddr: mac,
      host_name: instance.config[`volatile.${device}.host_name`] ?? "",
      mtu: 1500,
      state: "up",
      type: "broadcast",
    };
  }
  if (inside) {
    shown["lo"] = {
      addresses: [
        { family: "inet", address: "127.0.0.1", netmask: "8", scope: "local" },
        { family: "inet6", address: "::1", netmask: "128", scope: "local" },
      ],
      counters: noCounters,
      hwaddr: "",
      host_name: "",
      mtu: 65536,
      state: "up",
      type: "loopback",
    };
  }
  return shown;
}
