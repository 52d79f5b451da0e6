import { type Config, type Devices, sameConfigValue } from "../config";
import type { Obstacle } from "./live-update";

/** Action on an instance. */
export interface Act {
  /** Whether it is stopped for the action. */
  readonly stops: boolean;
  /** Whether it is to run afterwards. */
  readonly starts: boolean;
  /** Member to which it is moved. */
  readonly movesTo: string | undefined;
}

/** Properties of an instance that decide what can be undone. */
export interface Undoable {
  readonly ephemeral: boolean;
  readonly location: string;
  /** Its wanted config and devices, with those of its profiles: they are changed before it is moved or started. */
  readonly config: Config;
  readonly devices: Devices;
}

/** Returns the obstacles to an act that could not be undone, or would end halfway. Pure. */
export function obstaclesToUndoing({ ephemeral, location, config, devices }: Undoable, act: Act): Obstacle[] {
  const isSet = (key: string): boolean => sameConfigValue("", config[key], "true");
  const never = (what: string, why: string): Obstacle => ({ what, why, cure: "never" });
  const obstacles: Obstacle[] = [];
  if (ephemeral && act.stops) {
    obstacles.push(
      never(
        "ephemeral",
        "it is ephemeral, so LXD deletes it with its disk as soon as it stops. To keep it, set ephemeral: false first (lxc config edit)",
      ),
    );
  }
  if (isSet("security.protection.start") && act.stops && act.starts) {
    obstacles.push(never("security.protection.start", "once stopped, LXD would not start it again. Unset the key first"));
  }
  if (isSet("security.protection.delete") && act.movesTo !== undefined) {
    obstacles.push(
      never(
        "security.protection.delete",
        `LXD moves an instance by copying it and deleting the original, which the key forbids: one copy would be left on each member. Unset the key first`,
      ),
    );
  }
  return act.movesTo === undefined ? obstacles : [...obstacles, ...ofBoundDevices(location, devices, act.movesTo)];
}

/** Returns the devices that do not move to another member. */
function ofBoundDevices(location: string, devices: Devices, to: string): Obstacle[] {
  return Object.entries(devices).flatMap(([name, device]): Obstacle[] => {
    const bound = (why: string, unless?: string): Obstacle[] => [
      {
        what: `devices.${name}`,
        why: `${why}. Take the device away first`,
        cure: "never",
        ...(unless !== undefined && { unless }),
      },
    ];
    const { type = "", source = "", pool = "", path } = device;
    if (type === "disk" && path !== "/" && pool !== "") {
      return bound(`volume "${source}" of pool "${pool}" is on ${location} and does not move to ${to}`, pool);
    }
    if (type === "disk" && path !== "/" && source.startsWith("/")) {
      return bound(`${source} is a path of ${location}, and what is there does not move to ${to}`);
    }
    return isHardware(device) ? bound(`the ${type} is one of ${location}, and does not move to ${to}`) : [];
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

/** Whether LXD refuses to delete the instance. */
export function isProtected(expandedConfig: Config): boolean {
  return sameConfigValue("", expandedConfig["security.protection.delete"], "true");
}

/** Explains why a protected instance is not deleted, and the remedy. */
export function refusalToDelete(name: string, host?: string): string {
  return (
    `Instance "${name}"${host === undefined ? "" : ` on ${host}`} is protected from being deleted (security.protection.delete); nothing was ` +
    "changed. Take that key out of config, or out of the profile, run pulumi up, then remove it"
  );
}
