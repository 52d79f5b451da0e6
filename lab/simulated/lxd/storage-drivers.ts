/** The drivers of storage pools. */
import type { DaemonHost } from "./surroundings";

/** Drivers that the simulated servers have. */
export const POOL_DRIVERS = ["dir", "btrfs", "lvm", "zfs", "ceph"];

/** The program that LXD uses, by driver. */
export const TOOLS: Readonly<Record<string, string>> = { btrfs: "btrfs", zfs: "zpool", lvm: "lvs" };

/** Whether all members share the pools of a driver. */
export function isRemoteDriver(driver: string): boolean {
  return driver === "ceph";
}

/** The drivers that work on a host. */
export function workingDrivers(host: Pick<DaemonHost, "hasProgram">): string[] {
  return POOL_DRIVERS.filter((driver) => TOOLS[driver] === undefined || host.hasProgram(TOOLS[driver]));
}
