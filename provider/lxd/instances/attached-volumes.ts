/** Checks the custom volumes that an instance attaches: whether it can have them where it is, and alone. */
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import type { Config, Devices } from "../config";
import { describeUser } from "../in-use";
import { sameTruth } from "../meaning";
import { getServerShared } from "../server";
import { collectionOf, nameOfVolume, type Volume, volumeSchema } from "../storage-and-networks/volumes";
import { findInstance, type InstanceWork, isStopped } from "./instances";

/** The instance that attaches volumes, as it is to be. */
interface Attaching {
  readonly devices: Devices;
  /** Member on which it is to be; `undefined` when the server chooses, or there are no members. */
  readonly member: string | undefined;
  readonly running: boolean;
}

/**
 * @param before - Devices that it has already, which are not judged again.
 * @throws RefusedError for a volume that is on other members only, or whose blocks a running instance writes too. Names those that attach it.
 */
export async function requireVolumes(work: InstanceWork, attaching: Attaching, before: Devices = {}): Promise<void> {
  for (const [name, device] of Object.entries(attaching.devices)) {
    if (isCustomVolume(device) && !isSameVolume(device, before[name])) {
      await requireVolume(work, attaching, name, device);
    }
  }
}

/** Whether a device is a custom volume of a pool. */
export function isCustomVolume({ type, pool = "", source = "", path, "source.type": kind = "custom" }: Config): boolean {
  return type === "disk" && pool !== "" && source !== "" && path !== "/" && kind === "custom" && !source.includes("/");
}

/** The member that a target names; `undefined` for a group, of which the server chooses one. */
export function memberIn(target: string | undefined): string | undefined {
  return target?.startsWith("@") === true ? undefined : target;
}

function isSameVolume(a: Config, b: Config = {}): boolean {
  return ["pool", "source", "readonly"].every((key) => a[key] === b[key]);
}

async function requireVolume(work: InstanceWork, { member, running }: Attaching, name: string, device: Config): Promise<void> {
  const { lxd, project } = work;
  const { pool = "", source = "" } = device;
  const all = (await lxd.findShared(collectionOf({ pool }), listOf(volumeSchema), { project, recursion: 1 })) ?? [];
  const found = all.filter((volume) => volume.name === source);
  // A volume that is not found may be one of the same `pulumi up`; the server names it otherwise.
  const here = found.filter(({ location }) => location === "" || member === undefined || location === member);
  const [volume, ...others] = here;
  const { server_clustered: isClustered } = (await getServerShared(lxd)).environment;
  if (found.length > 0 && volume === undefined && isClustered) {
    const there = found.map((each) => `${each.location}${attachedTo(work, each)}`).join(" and ");
    const [first] = found;
    throw new RefusedError(
      `devices.${name}: ${nameOfVolume({ project, pool, name: source })} is on ${there}, and instance "${work.name}" is to be on ${member}. An instance ` +
        `can attach only what its own member has. Give the instance target: "${first?.location}", or another volume`,
    );
  }
  if (volume === undefined || others.length > 0 || !running || isShared(volume) || sameTruth(device["readonly"] ?? "", "true")) {
    return;
  }
  for (const user of volume.used_by) {
    const other = instanceAt(user);
    const isOther = other !== undefined && !(other.name === work.name && other.project === project);
    const live = isOther ? (await findInstance({ ...work, ...other }))?.value : undefined;
    if (live !== undefined && !isStopped(live) && writes(live.expanded_devices, device)) {
      throw new RefusedError(
        `devices.${name}: ${nameOfVolume({ project, pool, name: source, location: volume.location })} has blocks, and ${describeUser(user)} attaches it ` +
          `already and runs. Two systems that write the same blocks destroy them. Attach it to one of the two, or set security.shared: true in the ` +
          "volume's config if both use a file system made for this",
      );
    }
  }
}

/** Whether several instances may have it. A file system is the host's, which all of them share. */
function isShared({ content_type, config }: Volume): boolean {
  return content_type !== "block" || sameTruth(config?.["security.shared"] ?? "", "true");
}

function writes(devices: Devices, { pool, source }: Config): boolean {
  return Object.values(devices).some(
    (each) => each["pool"] === pool && each["source"] === source && !sameTruth(each["readonly"] ?? "", "true"),
  );
}

function attachedTo({ name }: InstanceWork, { used_by }: Volume): string {
  const users = used_by.filter((url) => instanceAt(url)?.name !== name).map(describeUser);
  return users.length === 0 ? "" : ` (attached by ${users.join(", ")})`;
}

function instanceAt(url: string): { name: string; project: string } | undefined {
  const { pathname, searchParams } = new URL(url, "http://lxd");
  const name = /^\/1\.0\/instances\/([^/]+)$/.exec(pathname)?.[1];
  return name === undefined ? undefined : { name: decodeURIComponent(name), project: searchParams.get("project") ?? "default" };
}
