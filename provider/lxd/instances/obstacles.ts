import { parseSize } from "../../support/units";
import { type Config, type Devices, isServerMade, sameConfig, sameConfigValue } from "../config";
import { type Expanded, isRootDisk, keysOf, rootDiskOf } from "./instances";

/** A part of a change that LXD does not make while the instance runs, or does not make at all. */
export interface Obstacle {
  /** Key or device, such as `limits.memory` or `devices.gpu0`. */
  readonly what: string;
  /** The reason, with the values. */
  readonly why: string;
  /** `stop`: LXD makes the change only while the instance is stopped. `never`: LXD does not make it at all. */
  readonly cure: "stop" | "never";
  /** A storage pool that removes the obstacle when all members share it. */
  readonly unless?: string;
}

/**
 * Keys whose change takes effect on a running virtual machine, or has no meaning for one that runs.
 * @see https://github.com/canonical/lxd/blob/main/lxd/instance/drivers/driver_qemu.go liveUpdateKeys
 */
const LIVE_KEYS = new Set(["cluster.evacuate", "security.agent.metrics"]);
const LIVE_PREFIXES = [
  "boot.",
  "cloud-init.",
  "environment.",
  "image.",
  "security.devlxd",
  "security.guestapi", // Incus's name for it
  "snapshots.",
  "user.",
  "volatile.",
];

/** Keys that LXD accepts on a running virtual machine, but applies only at its next start. */
const NEXT_START_KEYS = new Set(["boot.mode", "security.csm", "security.secureboot"]);

/** Keys for containers that may come from a shared profile. LXD ignores them on virtual machines. */
const CONTAINER_KEYS =
  /^(limits\.(cpu\.(allowance|priority)|memory\.(enforce|swap)|processes|hugepages|kernel)|linux\.|migration\.incremental\.|nvidia\.|raw\.(idmap|lxc|seccomp)|security\.(idmap|nesting|privileged|protection\.shift|syscalls))/;

/** Devices that can be plugged and unplugged while a virtual machine runs. */
const HOTPLUG_TYPES = new Set(["disk", "nic", "none", "pci", "proxy", "usb"]);

export interface LiveOptions {
  /** Whether the server can change the number of CPUs of a running virtual machine. */
  readonly cpuHotplug: boolean;
  /** `limits.memory` that the instance was started with, if known; empty for LXD's default. */
  readonly bootMemory?: string | undefined;
}

/** LXD's defaults for a virtual machine. */
const DEFAULT_CPU = "1";
const DEFAULT_MEMORY = "1GiB";

/**
 * Returns the obstacles to changing an instance while it runs. Judges config and devices after the profiles are merged in, as LXD
 * does.
 */
export function obstaclesToLiveUpdate(type: string, live: Expanded, wanted: Expanded, options: LiveOptions): Obstacle[] {
  const isVm = type === "virtual-machine";
  // A container accepts every change of its config. What LXD cannot apply at once takes effect at the next start.
  const config = isVm ? keysOf(live.config, wanted.config).flatMap((key) => ofKey(key, live.config, wanted.config, options)) : [];
  const devices = keysOf(live.devices, wanted.devices).flatMap((name) => ofDevice(name, live.devices, wanted.devices, isVm));
  return [...config, ...ofRootDisk(live.devices, wanted.devices, isVm), ...devices];
}

/** Formats obstacles as one line for messages: `limits.memory: 4GiB to 8GiB; ...`. */
export function describeObstacles(obstacles: readonly Obstacle[]): string {
  return obstacles.map(({ what, why }) => `${what}: ${why}`).join("; ");
}

function stop(what: string, why: string): Obstacle[] {
  return [{ what, why, cure: "stop" }];
}

function never(what: string, why: string): Obstacle[] {
  return [{ what, why, cure: "never" }];
}

function ofKey(key: string, live: Config, wanted: Config, options: LiveOptions): Obstacle[] {
  const [from, to] = [live[key] ?? "", wanted[key] ?? ""];
  if (isServerMade(key) || sameConfigValue(key, from, to)) {
    return [];
  }
  const reason = reasonOf(key, from, to, live, options);
  return reason === undefined ? [] : stop(key, `${from || "unset"} to ${to || "unset"}; ${reason}`);
}

/** Returns why a running virtual machine does not take a change of the key; `undefined` when it does. */
function reasonOf(key: string, from: string, to: string, live: Config, options: LiveOptions): string | undefined {
  if (key === "limits.cpu") {
    if (!isCount(from || DEFAULT_CPU) || !isCount(to || DEFAULT_CPU)) {
      return "CPU pinning is not changed while a virtual machine runs";
    }
    return options.cpuHotplug ? undefined : "this server does not change CPUs while a virtual machine runs";
  }
  if (key === "limits.memory") {
    return reasonOfMemory(from, to, live, options.bootMemory);
  }
  if (NEXT_START_KEYS.has(key)) {
    return "it takes effect only when the virtual machine starts";
  }
  const isLive = LIVE_KEYS.has(key) || LIVE_PREFIXES.some((prefix) => key.startsWith(prefix)) || CONTAINER_KEYS.test(key);
  return isLive ? undefined : "it is not changed while a virtual machine runs";
}

/** A running virtual machine can give memory up and get it back, but never exceed what it started with. */
function reasonOfMemory(from: string, to: string, live: Config, bootMemory: string | undefined): string | undefined {
  if (sameConfigValue("", live["limits.memory.hugepages"], "true")) {
    return "memory in huge pages is not changed while a virtual machine runs";
  }
  if (to === "") {
    return "the default takes effect only when the virtual machine starts";
  }
  const [before, after] = [parseSize(from || DEFAULT_MEMORY), parseSize(to)];
  const booted = bootMemory === undefined ? undefined : parseSize(bootMemory || DEFAULT_MEMORY);
  const isBelow = (most: bigint | undefined): boolean => most !== undefined && after !== undefined && after <= most;
  return isBelow(before) || isBelow(booted) ? undefined : "the memory of a running virtual machine can only shrink";
}

function ofDevice(name: string, live: Devices, wanted: Devices, isVm: boolean): Obstacle[] {
  const [from, to] = [live[name], wanted[name]];
  if (isRootDisk(from) || isRootDisk(to) || (from !== undefined && to !== undefined && sameConfig(from, to))) {
    return []; // the root disk is checked separately
  }
  const types = [from, to].flatMap((device) => (device === undefined ? [] : [device["type"] ?? ""]));
  const fixed = types.find((type) => (isVm ? !HOTPLUG_TYPES.has(type) : type === "tpm"));
  const removedOrChanged = to === undefined ? "removed" : "changed";
  const verb = from === undefined ? "added" : removedOrChanged;
  if (isVm && isShare(to)) {
    return stop(`devices.${name}`, `a share of a directory cannot be ${verb} while the instance runs`);
  }
  if (fixed === undefined) {
    return [];
  }
  return stop(`devices.${name}`, `a ${fixed} device cannot be ${verb} while the instance runs`);
}

/** Whether a disk is mounted in the guest by its agent. Those of a virtual machine that are not are block devices. */
function isShare({ type, path = "", source = "" }: Config = {}): boolean {
  return type === "disk" && path !== "" && !source.startsWith("/dev/");
}

function ofRootDisk(liveDevices: Devices, wantedDevices: Devices, isVm: boolean): Obstacle[] {
  const [name, from] = rootDiskOf(liveDevices) ?? [];
  const [, to] = rootDiskOf(wantedDevices) ?? [];
  if (from === undefined || to === undefined) {
    return [];
  }
  if (from["pool"] !== to["pool"]) {
    return never(
      `devices.${name}.pool`,
      `the root disk is in pool "${from["pool"]}", and is not moved to "${to["pool"]}" in place. ` +
        "Move it yourself (lxc or incus move --storage), or go back to that pool",
    );
  }
  if (!isVm || sameConfigValue("size", from["size"], to["size"])) {
    return [];
  }
  const what = `devices.${name}.size`;
  const change = `${from["size"] ?? "unset"} to ${to["size"] ?? "unset"}`;
  const [before, after] = [parseSize(from["size"] ?? ""), parseSize(to["size"] ?? "")];
  return before !== undefined && after !== undefined && after < before
    ? never(what, `${change}; the disk of a virtual machine cannot be shrunk. Keep the larger size, or replace the instance`)
    : stop(what, `${change}; a virtual machine's root disk grows only when it starts`);
}

function isCount(text: string): boolean {
  return /^\d+$/.test(text);
}

interface Act {
  readonly stops: boolean;
  /** Whether it is to run afterwards. */
  readonly starts: boolean;
  readonly movesTo: string | undefined;
}

interface Movable extends Expanded {
  readonly ephemeral: boolean;
  readonly location: string;
}

/**
 * Returns the obstacles to a stop or move that could not be undone, or would end halfway.
 * @param instance - With its wanted config and devices: they are changed before it is moved or started.
 */
export function obstaclesToStopOrMove({ ephemeral, location, config, devices }: Movable, act: Act): Obstacle[] {
  const { stops, starts, movesTo } = act;
  const isSet = (key: string): boolean => sameConfigValue("", config[key], "true");
  const obstacles: Obstacle[] = [];
  if (ephemeral && stops) {
    const why = "it is ephemeral, so it is deleted with its disk as soon as it stops";
    obstacles.push(...never("ephemeral", `${why}. To keep it, set ephemeral: false first (lxc or incus config edit)`));
  }
  if (isSet("security.protection.start") && stops && starts) {
    const why = "it would not start again once it is stopped";
    obstacles.push(...never("security.protection.start", `${why}. Unset the key first`));
  }
  if (isSet("security.protection.delete") && movesTo !== undefined) {
    const why = "a move makes a copy and deletes the original, and the key forbids the deletion";
    obstacles.push(...never("security.protection.delete", `${why}. Unset the key first`));
  }
  return movesTo === undefined ? obstacles : [...obstacles, ...ofBoundDevices(location, devices, movesTo)];
}

function ofBoundDevices(location: string, devices: Devices, to: string): Obstacle[] {
  return Object.entries(devices).flatMap(([name, device]): Obstacle[] => {
    const bound = (what: string): Obstacle[] =>
      never(`devices.${name}`, `${what} is on ${location}, and does not move to ${to}. Remove the device first`);
    const { type = "", source = "", pool = "", path } = device;
    if (type === "disk" && path !== "/" && pool !== "") {
      return bound(`volume "${source}" of pool "${pool}"`).map((obstacle) => ({ ...obstacle, unless: pool }));
    }
    if (type === "disk" && path !== "/" && source.startsWith("/")) {
      return bound(`the host path ${source}`);
    }
    return isHardware(device) ? bound(`the ${type} device`) : [];
  });
}

/** Whether an instance does not start without this device of its host. */
function isHardware({ type = "", required = "" }: Config): boolean {
  switch (type) {
    case "gpu":
    case "pci":
    case "infiniband":
      return true;
    case "unix-char":
    case "unix-block":
      return !sameConfigValue("", required, "false");
    case "usb":
    case "unix-hotplug":
      return sameConfigValue("", required, "true");
    default:
      return false;
  }
}

/** Returns the obstacle to a move, for which LXD copies the stopped instance to another member. */
export function obstacleToMove(from: string, to: string): Obstacle {
  return { what: "target", why: `${from} to ${to}; a running instance is not moved to another member`, cure: "stop" };
}

export function isProtected(expandedConfig: Config): boolean {
  return sameConfigValue("", expandedConfig["security.protection.delete"], "true");
}

export function refusalToDelete(name: string, host?: string): string {
  return (
    `Instance "${name}"${host === undefined ? "" : ` on ${host}`} is protected from deletion (security.protection.delete); nothing was ` +
    "changed. Remove that key from config, or from the profile, run pulumi up, then remove the instance"
  );
}

export function refusalToRestart(name: string, obstacles: readonly Obstacle[]): string {
  return (
    `This change requires stopping the running instance "${name}"; nothing is changed. ${describeObstacles(obstacles)}. ` +
    "Set allowRestart: true to let pulumi up stop and start it, or stop it first"
  );
}
