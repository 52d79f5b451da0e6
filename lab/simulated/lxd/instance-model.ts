/** The model of an instance: its configuration with that of its profiles, LXD's validation of it, and its JSON. */
import { randomBytes } from "node:crypto";
import { isIPv4 } from "node:net";
import { parse } from "yaml";
import type { Config, Database, Devices, Instance, InstanceType, Member } from "./database";
import type { Behaviour } from "./flavours";
import { LxdError } from "./reply";

const keysOfBoth =
  /^(boot\.(autostart|autostart\.delay|autostart\.priority|stop\.priority|host_shutdown_timeout)|cloud-init\.(network-config|user-data|vendor-data)|cluster\.evacuate|environment\..+|image\..+|user\..+|volatile\..+|limits\.(cpu|disk\.priority|memory|network\.priority)|migration\.stateful|raw\.apparmor|security\.protection\.delete|snapshots\.(schedule|schedule\.stopped|pattern|expiry))$/;
const keysOfContainers =
  /^(limits\.(cpu\.(allowance|priority)|memory\.(enforce|swap|swap\.priority)|processes|hugepages\..+|kernel\..+)|linux\.(kernel_modules|sysctl\..+)|migration\.incremental\.memory(\..+)?|nvidia\..+|raw\.(idmap|lxc|seccomp)|security\.(idmap\..+|nesting|privileged|protection\.shift|syscalls\..+))$/;
const keysOfVirtualMachines =
  /^(limits\.memory\.hugepages|raw\.qemu|raw\.qemu\.conf|security\.(agent\.metrics|sev|sev\..+)|agent\.nic_config)$/;
const bootKeys = { true: /^boot\.mode$/, false: /^security\.(secureboot|csm)$/ };
const booleanKeys =
  /^(boot\.autostart|security\.(nesting|privileged|secureboot|devlxd|guestapi|protection\..+|agent\.metrics)|migration\.stateful|limits\.memory\.swap|limits\.memory\.hugepages)$/;

/**
 * Refuses configuration that LXD refuses, with LXD's messages. Without a type, as in a profile, accepts the keys of
 * both types.
 */
export function requireValidConfig({ bootMode, guestApiKey, invalidYaml }: Behaviour, config: Config, type?: InstanceType): void {
  const ofBoot = bootKeys[`${bootMode}`];
  for (const [key, value] of Object.entries(config)) {
    const known =
      keysOfBoth.test(key) ||
      key === guestApiKey ||
      (type !== "virtual-machine" && (keysOfContainers.test(key) || key === `${guestApiKey}.images`)) ||
      (type !== "container" && (keysOfVirtualMachines.test(key) || ofBoot.test(key)));
    if (!known) {
      throw new LxdError(400, `Unknown configuration key: ${bootMode ? JSON.stringify(key) : key}`);
    }
    if (
      value !== "" &&
      booleanKeys.test(key) &&
      !["true", "false", "1", "0", "yes", "no", "on", "off"].includes(value.toLowerCase())
    ) {
      throw new LxdError(400, `Invalid value for a boolean "${value}"`);
    }
    if (key === "limits.memory" && value !== "" && !/^\d+(\.\d+)?(%|([kMGTPE]i?)?B|)$/.test(value)) {
      throw new LxdError(400, `Invalid value: ${value}`);
    }
    if (key === "limits.cpu" && value !== "" && !/^\d+([-,]\d+)*$/.test(value)) {
      throw new LxdError(400, "Invalid CPU limit syntax");
    }
    if (key === "cloud-init.user-data" && value.startsWith("#cloud-config\n")) {
      requireYaml(value, invalidYaml);
    }
  }
}

function requireYaml(value: string, prefix: string): void {
  try {
    parse(value);
  } catch (error) {
    throw new LxdError(400, `${prefix}${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`);
  }
}

const deviceTypes = [
  "none",
  "nic",
  "disk",
  "unix-char",
  "unix-block",
  "usb",
  "gpu",
  "infiniband",
  "proxy",
  "unix-hotplug",
  "tpm",
  "pci",
];

/** Options of the devices whose options are validated. */
const deviceOptions: Record<string, RegExp> = {
  disk: /^(type|boot\.priority|ceph\..+|limits\.(max|read|write)|path|pool|propagation|raw\.mount\.options|readonly|recursive|required|shift|size|size\.state|source)$/,
  nic: /^(type|name|hwaddr|host_name|mtu|network|nictype|parent|ipv[46]\..+|limits\..+|security\..+|boot\.priority|queue\.tx\.length|vlan|vlan\.tagged|maas\..+|gvrp|mode|acceleration|nested|user\..+)$/,
};

/** Refuses devices that LXD refuses. In a profile only their form is validated. */
export function requireValidDevices(database: Database, devices: Devices, options: { instance: boolean; project: string }): void {
  for (const [name, device] of Object.entries(devices)) {
    if (Buffer.byteLength(name) >= 64) {
      throw new LxdError(400, "The maximum device name length is 64 characters");
    }
    const invalid = (reason: string) => new LxdError(400, `Device validation failed for "${name}": ${reason}`);
    const behaviour = database.members[0]?.daemon.behaviour;
    if (behaviour?.apiNames === true) {
      requireApiName(behaviour, name);
    } else if (name.startsWith(".")) {
      throw invalid('Name must not start with "." character');
    }
    if (behaviour?.apiNames !== true && !/^[A-Za-z0-9/:_.-]+$/.test(name)) {
      throw invalid("Name can only contain alphanumeric, forward slash, hyphen, colon, underscore and full stop characters");
    }
    const type = device["type"] ?? "";
    if (!deviceTypes.includes(type)) {
      throw invalid(`Failed loading device "${name}": Unsupported device type`);
    }
    const unknown = Object.keys(device).find((key) => deviceOptions[type]?.test(key) === false);
    if (unknown !== undefined) {
      throw invalid(`Invalid device option "${unknown}"`);
    }
    if (type === "disk" && device["path"] === "/" && device["source"] !== undefined) {
      throw invalid('Root disk entry may not have a "source" property set');
    }
    if (type === "disk" && device["path"] === "/" && device["pool"] === undefined && options.instance) {
      throw invalid('Root disk entry must have a "pool" property set');
    }
    if (type === "disk" && device["path"] !== "/" && device["source"] === undefined) {
      throw invalid('Disk entry is missing the required "source" or "path" property');
    }
    if (type === "nic" && device["network"] === undefined && device["nictype"] === undefined) {
      throw invalid(`Failed loading device "${name}": Unsupported device type`);
    }
    if (type === "nic" && device["network"] !== undefined && !database.networks.has(device["network"])) {
      throw invalid(
        `Failed loading device "${name}": Failed to load network "${device["network"]}" for project "${options.project}": Network not found`,
      );
    }
    requireValidValues(device, invalid);
    const address = device["ipv4.address"];
    const subnet = database.networks.get(device["network"] ?? "")?.config["ipv4.address"];
    if (type === "nic" && address !== undefined && subnet !== undefined && address !== "none" && !isInside(address, subnet)) {
      throw invalid(`Device IP address "${address}" not within network "${device["network"] ?? ""}" subnet`);
    }
  }
}

function requireValidValues(device: Config, invalid: (reason: string) => LxdError): void {
  const { size, hwaddr } = device;
  if (device["type"] === "disk" && size !== undefined && size !== "" && Number.isNaN(bytesOf(size))) {
    throw invalid(`Invalid value for device option "size": Invalid value: ${size}`);
  }
  if (device["type"] === "nic" && hwaddr !== undefined && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(hwaddr)) {
    throw invalid('Invalid value for device option "hwaddr": Invalid MAC address, must be 6 bytes of hex separated by colons');
  }
}

/** Refuses an instance without a root disk, with two, or with one in a pool that does not exist. */
export function requireRootDisk(database: Database, devices: Devices): void {
  const roots = Object.values(devices).filter((device) => device["type"] === "disk" && device["path"] === "/");
  if (roots.length === 0) {
    throw new LxdError(400, "Failed getting root disk: No root device could be found");
  }
  if (roots.length > 1) {
    throw new LxdError(400, "Failed getting root disk: More than one root device found");
  }
  const missing = Object.values(devices).find(
    (device) => device["type"] === "disk" && device["pool"] !== undefined && !database.pools.has(device["pool"]),
  );
  if (missing !== undefined) {
    throw new LxdError(404, "Failed loading storage pool: Storage pool not found");
  }
}

/** Name of a device whose custom volume a member does not have. */
export function deviceWithoutVolume(database: Database, instance: Instance, member: Member): string | undefined {
  const found = Object.entries(expandedDevices(database, instance)).find(([, { type, path, pool, source }]) => {
    const volumes = database.pools.get(pool ?? "")?.customVolumes;
    return (
      type === "disk" &&
      path !== "/" &&
      source !== undefined &&
      volumes?.some((volume) => volume.name === source && (volume.member ?? member) === member) === false
    );
  });
  return found?.[0];
}

/** Refuses a name by the rule that Incus 7 has for most objects. */
export function requireApiName({ apiNames }: Behaviour, name: string, slashes = false): void {
  const isWhole = slashes || !name.includes("/");
  if (apiNames && !(isWhole && name.length <= 64 && /^[A-Za-z0-9]([^\s"'$&*+?`]*[A-Za-z0-9])?$/.test(name))) {
    throw new LxdError(400, `Invalid name "${name}"`);
  }
}

/** The configuration of the profiles, later ones override earlier ones, with the instance's own on top. */
export function expandedConfig(database: Database, instance: Pick<Instance, "project" | "profiles" | "config">): Config {
  return Object.assign({}, ...profilesOf(database, instance).map((profile) => profile.config), instance.config) as Config;
}

/** The same for devices, which are replaced as a whole. */
export function expandedDevices(database: Database, instance: Pick<Instance, "project" | "profiles" | "devices">): Devices {
  return Object.assign({}, ...profilesOf(database, instance).map((profile) => profile.devices), instance.devices) as Devices;
}

function profilesOf(database: Database, instance: Pick<Instance, "project" | "profiles">) {
  return instance.profiles.map((name) => database.profile(instance.project, name));
}

/** A MAC address in the server's range. */
function hardwareAddress({ macPrefix }: Behaviour): string {
  return `${macPrefix}:${[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;
}

/** Gives every NIC without an address or a name a permanent one, as LXD does whenever it stores an instance. */
export function fillHardwareAddresses(database: Database, instance: Instance): void {
  let nics = 0;
  for (const [name, device] of Object.entries(expandedDevices(database, instance))) {
    if (device["type"] !== "nic") {
      continue;
    }
    if (device["hwaddr"] === undefined && !hasMacOfHost(device)) {
      instance.config[`volatile.${name}.hwaddr`] ??= hardwareAddress(instance.member.daemon.behaviour);
    }
    if (device["name"] === undefined && instance.type === "container") {
      instance.config[`volatile.${name}.name`] ??= `eth${nics}`;
    }
    nics += 1;
  }
}

/** Whether a NIC has the MAC address of a host interface, which LXD does not report. */
export function hasMacOfHost({ nictype }: Config): boolean {
  return nictype === "physical" || nictype === "ipvlan";
}

/** The MAC address of a NIC, as far as LXD reports it. */
export function addressOf(instance: Instance, device: string, config: Config): string {
  return config["hwaddr"] ?? instance.config[`volatile.${device}.hwaddr`] ?? "";
}

/** The part of an instance that its ETag covers. */
export function etagFields(database: Database, instance: Instance) {
  const profiles = profilesOf(database, instance);
  return [instance.architecture, instance.config, instance.devices, instance.ephemeral, profiles];
}

const statusCodes = { Stopped: 102, Running: 103, Frozen: 110, Error: 112 };

/** LXD's status code of an instance. */
export function statusCodeOf(status: keyof typeof statusCodes): number {
  return statusCodes[status];
}

/** LXD's JSON for an instance. One whose member is offline is listed without its configuration, as in LXD 5.0. */
export function instanceToApi(database: Database, instance: Instance, offline: boolean): Record<string, unknown> {
  const status = offline ? "Error" : instance.status;
  return {
    name: instance.name,
    description: offline ? "" : instance.description,
    status,
    status_code: statusCodes[status],
    created_at: offline ? "0001-01-01T00:00:00Z" : instance.createdAt.toISOString(),
    last_used_at: offline ? "0001-01-01T00:00:00Z" : instance.lastUsedAt.toISOString(),
    location: instance.member.name,
    type: offline ? "" : instance.type,
    project: instance.project,
    architecture: offline ? "" : instance.architecture,
    ephemeral: !offline && instance.ephemeral,
    stateful: !offline && instance.stateful,
    profiles: offline ? null : instance.profiles,
    config: offline ? null : { ...instance.config },
    devices: offline ? null : instance.devices,
    ...(offline
      ? {}
      : { expanded_config: expandedConfig(database, instance), expanded_devices: expandedDevices(database, instance) }),
  };
}

/** Refuses a name that cannot be a host name. */
export function requireInstanceName(name: string, { digitFirst }: Behaviour): void {
  const reason =
    name.length < 1 || name.length > 63
      ? "Name must be 1-63 characters long"
      : !digitFirst && /^\d/.test(name)
        ? "Name must not start with a number"
        : /^\d+$/.test(name)
          ? "Name cannot be a number"
          : name.startsWith("-")
            ? 'Name must not start with "-" character'
            : name.endsWith("-")
              ? 'Name must not end with "-" character'
              : /^[a-zA-Z0-9-]+$/.test(name)
                ? undefined
                : "Name can only contain alphanumeric and hyphen characters";
  if (reason !== undefined) {
    throw new LxdError(400, `Invalid instance name: ${reason}`);
  }
}

/** Bytes of a size text such as "4GiB"; NaN for one in percent. */
export function bytesOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kMGTPE]?)(i?)B?$/.exec(text);
  if (match === null) {
    return Number.NaN;
  }
  const power = ["", "k", "M", "G", "T", "P", "E"].indexOf(match[2] ?? "");
  return Number(match[1]) * (match[3] === "i" ? 1024 : 1000) ** power;
}

function isInside(address: string, subnet: string): boolean {
  const [gateway = "", prefix = ""] = subnet.split("/");
  if (!isIPv4(address) || !isIPv4(gateway)) {
    return false;
  }
  const number = (text: string) => text.split(".").reduce((value, part) => value * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(prefix));
  return Math.floor(number(address) / size) === Math.floor(number(gateway) / size);
}
