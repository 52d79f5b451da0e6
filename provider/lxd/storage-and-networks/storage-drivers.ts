/**
 * The drivers of storage pools. A server names those that work on it; a driver that this file does not know is left to the server.
 * @see https://documentation.ubuntu.com/lxd/latest/reference/storage_drivers/
 */
import { nearest } from "../../support/spelling";
import type { LxdClient } from "../client/client";
import type { Servers } from "../cluster/servers";
import { getServerShared } from "../server";
import { namesOf } from "./member-objects";
import { faultsOfKeys, type KeyFault, type WantedConfig } from "./object-config";

/** The drivers of LXD and Incus, each with the beginnings of the keys that it shares with no other one. */
const DRIVERS: Readonly<Record<string, readonly string[]>> = {
  dir: [],
  btrfs: ["btrfs."],
  lvm: ["lvm."],
  lvmcluster: ["lvm."],
  zfs: ["zfs."],
  ceph: ["ceph."],
  cephfs: ["cephfs."],
  cephobject: ["cephobject."],
  linstor: ["linstor.", "drbd."],
  truenas: ["truenas."],
  nfs: ["nfs."],
  powerflex: ["powerflex."],
  powerstore: ["powerstore."],
  pure: ["pure."],
  alletra: ["alletra."],
};

/** Drivers that have no size of their own, with the reason. */
const SIZELESS: Readonly<Record<string, string>> = {
  dir: "a dir pool is as large as its file system",
  ceph: "a ceph pool is as large as its Ceph cluster allows",
  cephfs: "a cephfs pool is as large as its Ceph cluster allows",
  cephobject: "a cephobject pool is as large as its Ceph cluster allows",
};

/** Returns what is wrong with a driver, and with a pool's keys for it. */
export function faultsOfDriver({ driver, ...wanted }: WantedConfig & { driver: string }): KeyFault[] {
  const meant = driver in DRIVERS ? undefined : nearest(driver, Object.keys(DRIVERS));
  return meant === undefined
    ? faultsOfKeys(wanted, (key) => faultOfKey(driver, key))
    : [{ property: "driver", reason: `is no storage driver of LXD or Incus. Did you mean ${meant}?` }];
}

function faultOfKey(driver: string, key: string): string | undefined {
  const owners = Object.keys(DRIVERS).filter((each) => DRIVERS[each]?.some((start) => key.startsWith(start)));
  if (owners.length > 0 && !owners.includes(driver)) {
    return `is a key of driver ${owners.join(" and ")}, and the pool's driver is ${driver}`;
  }
  const reason = key === "size" ? SIZELESS[driver] : undefined;
  return reason === undefined ? undefined : `cannot be set: ${reason}`;
}

/**
 * Returns the members that do not name a driver as one of theirs, each with a sentence about it. A server looks for the programs of
 * its drivers when it starts, and when a pool is made or removed.
 */
export async function membersWithout(lxd: LxdClient, driver: string, servers: Servers): Promise<Map<string, string>> {
  const lists = await Promise.all(
    namesOf(servers).map(async (member): Promise<[string, string[] | undefined]> => {
      const { environment } = await getServerShared(lxd, servers.clustered ? member : undefined);
      return [member, environment.storage_supported_drivers?.map(({ Name }) => Name)];
    }),
  );
  return new Map(
    lists.flatMap(([member, drivers]) =>
      drivers === undefined || drivers.includes(driver)
        ? []
        : [
            [
              member,
              `${member} does not have the storage driver ${driver}; it has ${drivers.sort().join(", ")}. Install there what the driver needs, ` +
                "for instance by install.packages of its LxdNode, and restart the server there, which looks for drivers when it starts; or " +
                "choose another driver",
            ] as const,
          ],
    ),
  );
}
