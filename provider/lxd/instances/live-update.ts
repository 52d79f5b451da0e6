import { parseSize } from "../../support/units";
import { type Config, type Devices, isServerMade, sameConfig, sameConfigValue } from "../config";
import { type Expanded, type InstanceType, rootDiskOf } from "./instances";

/** A change that a running instance does not take. */
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
const LIVE_PREFIXES = ["boot.", "cloud-init.", "environment.", "image.", "security.devlxd", "snapshots.", "user.", "volatile."];

/** Keys that LXD accepts on a running virtual machine, but applies only at its next start. */
const NEXT_START_KEYS = new Set(["boot.mode", "security.csm", "security.secureboot"]);

/** Keys for containers that may come from a shared profile. LXD ignores them on virtual machines. */
const CONTAINER_KEYS =
  /^(limits\.(cpu\.(allowance|priority)|memory\.(enforce|swap)|processes|hugepages|kernel)|linux\.|migration\.incremental\.|nvidia\.|raw\.(idmap|lxc|seccomp)|security\.(idmap|nesting|privileged|protection\.shift|syscalls))/;

/** Devices that can be plugged and unplugged while a virtual machine runs. */
const HOTPLUG_TYPES = new Set(["disk", "nic", "none", "pci", "proxy", "usb"]);

/** Facts of the server and the instance, besides its config. */
interface LiveOptions {
  readonly cpuHotplug: boolean;
  readonly bootMemory?: string;
}

/** LXD's defaults for a virtual machine. */
const DEFAULT_CPU = "1";
const DEFAULT_MEMORY = "1GiB";

/**
 * Returns the obstacles to changing an instance while it runs. Judges config and devices after the profiles are merged
 * in, as LXD does.
 * @param options.cpuHotplug - Whether the server can change the number of CPUs of a running virtual machine.
 * @param options.bootMemory - `limits.memory` that it was started with, if known; empty for LXD's default.
 */
export function obstaclesToLiveUpdate(type: InstanceType, live: Expanded, wanted: Expanded, options: LiveOptions): Obstacle[] {
  const isVm = type === "virtual-machine";
  // A container accepts every change of its config. What LXD cannot apply at once takes effect at the next start.
  const config = isVm ? keysOf(live.config, wanted.config).flatMap((key) => ofKey(key, live.config, wanted.config, options)) : [];
  const devices = keysOf(live.devices, wanted.devices).flatMap((name) => ofDevice(name, live.devices, wanted.devices, isVm));
  return [...config, ...ofRootDisk(live.devices, wanted.devices, isVm), ...devices];
}

/** Formats obstacles as one line for messages: `limits.memory (4GiB to 8GiB): ...`. */
export function describeObstacles(obstacles: readonly Obstacle[]): string {
  return obstacles.map(({ what, why }) => `${what}: ${why}`).join("; ");
}

function ofKey(key: string, live: Config, wanted: Config, options: LiveOptions): Obstacle[] {
  const [from, to] = [live[key] ?? "", wanted[key] ?? ""];
  if (isServerMade(key) || sameConfigValue(key, from, to)) {
    return [];
  }
  const change = `${from || "unset"} to ${to || "unset"}`;
  const stop = (why: string): Obstacle[] => [{ what: key, why: `${change}; ${why}`, cure: "stop" }];
  if (key === "limits.cpu") {
    if (!isCount(from || DEFAULT_CPU) || !isCount(to || DEFAULT_CPU)) {
      return stop("CPU pinning is not changed while a virtual machine runs");
    }
    return options.cpuHotplug ? [] : stop("this server does not change CPUs while a virtual machine runs");
  }
  if (key === "limits.memory") {
    return ofMemory(from, to, live, options.bootMemory).flatMap(stop);
  }
  if (NEXT_START_KEYS.has(key)) {
    return stop("it takes effect only when the virtual machine starts");
  }
  const isLive = LIVE_KEYS.has(key) || LIVE_PREFIXES.some((prefix) => key.startsWith(prefix)) || CONTAINER_KEYS.test(key);
  return isLive ? [] : stop("LXD does not change it while a virtual machine runs");
}

/**
 * Checks a change of memory. A running virtual machine can give memory up and get it back, but never exceed what it
 * started with.
 */
function ofMemory(from: string, to: string, live: Config, bootMemory: string | undefined): string[] {
  if (sameConfigValue("", live["limits.memory.hugepages"], "true")) {
    return ["memory in huge pages is not changed while a virtual machine runs"];
  }
  if (to === "") {
    return ["the default takes effect only when the virtual machine starts"];
  }
  const [before, after] = [parseSize(from || DEFAULT_MEMORY), parseSize(to)];
  const booted = bootMemory === undefined ? undefined : parseSize(bootMemory || DEFAULT_MEMORY);
  const isBelow = (most: bigint | undefined): boolean => most !== undefined && after !== undefined && after <= most;
  return isBelow(before) || isBelow(booted) ? [] : ["the memory of a running virtual machine can only shrink"];
}

function ofDevice(name: string, live: Devices, wanted: Devices, isVm: boolean): Obstacle[] {
  const [from, to] = [live[name], wanted[name]];
  const isRoot = [from, to].some((device) => device?.["type"] === "disk" && device["path"] === "/");
  if (isRoot || (from !== undefined && to !== undefined && sameConfig(from, to))) {
    return []; // the root disk is checked separately
  }
  const types = [from, to].flatMap((device) => (device === undefined ? [] : [device["type"] ?? ""]));
  const fixed = types.find((type) => (isVm ? !HOTPLUG_TYPES.has(type) : type === "tpm"));
  if (fixed === undefined) {
    return [];
  }
  const verb = from === undefined ? "added" : to === undefined ? "removed" : "changed";
  return [{ what: `devices.${name}`, why: `a ${fixed} device cannot be ${verb} while the instance runs`, cure: "stop" }];
}

function ofRootDisk(liveDevices: Devices, wantedDevices: Devices, isVm: boolean): Obstacle[] {
  const [live, wanted] = [rootDiskOf(liveDevices), rootDiskOf(wantedDevices)];
  if (live === undefined || wanted === undefined) {
    return [];
  }
  const [name, from] = live;
  const [, to] = wanted;
  const what = `devices.${name}`;
  if (from["pool"] !== to["pool"]) {
    const why = `the root disk is in pool "${from["pool"]}" and LXD does not move it to "${to["pool"]}" in place; lxc move does (--storage), or go back to that pool`;
    return [{ what: `${what}.pool`, why, cure: "never" }];
  }
  if (!isVm || sameConfigValue("size", from["size"], to["size"])) {
    return [];
  }
  const change = `${from["size"] ?? "unset"} to ${to["size"] ?? "unset"}`;
  const [before, after] = [parseSize(from["size"] ?? ""), parseSize(to["size"] ?? "")];
  if (before !== undefined && after !== undefined && after < before) {
    const why = `${change}; the disk of a virtual machine cannot be shrunk. Keep the larger size, or replace the virtual machine`;
    return [{ what: `${what}.size`, why, cure: "never" }];
  }
  return [{ what: `${what}.size`, why: `${change}; a virtual machine's root disk grows only when it starts`, cure: "stop" }];
}

function isCount(text: string): boolean {
  return /^\d+$/.test(text);
}

function keysOf(a: object, b: object): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
}
