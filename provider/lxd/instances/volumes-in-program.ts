/** Compares the volumes of a program with the instances that attach them, before anything of it exists. */
import { sameJson } from "../../support/equality";
import type { ClusterConnection } from "../client/cluster-connection";
import type { Config, Devices } from "../config";
import { sameTruth } from "../meaning";
import { nameOfVolume } from "../storage-and-networks/volumes";
import { isCustomVolume, memberIn } from "./attached-volumes";

interface Place {
  readonly cluster: ClusterConnection;
  readonly project: string;
  readonly name: string;
  readonly target?: string | undefined;
}

interface VolumePart extends Place {
  readonly part: "volume";
  readonly pool: string;
  /** Whether it has blocks that only one system may write. */
  readonly isForOne: boolean;
}

interface InstancePart extends Place {
  readonly part: "instance";
  readonly running: boolean;
  /** The disks that are custom volumes, by the name of the device. */
  readonly disks: Devices;
}

type Part = VolumePart | InstancePart;

export function partOfVolume(volume: Place & { pool: string; contentType: string; config: Config }): VolumePart {
  const { cluster, project, name, target, pool, contentType, config } = volume;
  const isForOne = contentType === "block" && !sameTruth(config["security.shared"] ?? "", "true");
  return { part: "volume", cluster, project, name, target, pool, isForOne };
}

/** @returns `undefined` for an instance without volumes of its own. */
export function partOfInstance(instance: Place & { running: boolean; devices: Devices }): InstancePart | undefined {
  const { cluster, project, name, target, running, devices } = instance;
  const disks = Object.fromEntries(Object.entries(devices).filter(([, device]) => isCustomVolume(device)));
  return Object.keys(disks).length === 0 ? undefined : { part: "instance", cluster, project, name, target, running, disks };
}

/**
 * Finds instances on another member than their volume, and blocks that two instances write.
 * @param own - The resource that is checked; faults that do not concern it were told before.
 */
export function compareVolumes(
  own: Part,
  others: readonly Part[],
): { failures: { property: string; reason: string }[]; warnings: string[] } {
  const all = [own, ...others].filter(({ cluster, project }) => isSamePlace({ cluster, project }, own));
  const instances = all.filter((each) => each.part === "instance");
  const volumes = all.filter((each) => each.part === "volume");
  const attachments = instances.flatMap((instance) =>
    Object.entries(instance.disks).map(([device, disk]) => ({ instance, device, disk })),
  );
  const warnings = attachments.flatMap(({ instance, device, disk }) => {
    const named = volumes.filter((volume) => isVolumeOf(disk, volume));
    const members = named.flatMap(({ target }) => target ?? []);
    const member = memberIn(instance.target);
    const isElsewhere =
      members.length > 0 && members.length === named.length && member !== undefined && !members.includes(member);
    const [volume] = named;
    if (!isElsewhere || volume === undefined || !(instance === own || named.some((each) => each === own))) {
      return [];
    }
    const users = attachments
      .filter((each) => each.instance !== instance && isVolumeOf(each.disk, volume))
      .map((each) => `"${each.instance.name}"`);
    return [
      `devices.${device} of instance "${instance.name}" attaches ${nameOfVolume({ ...volume, location: "" })}, which this program puts on ` +
        `${members.join(" and ")}, and the instance on ${member}${users.length === 0 ? "" : ` (${users.join(", ")} attaches it, too)`}. pulumi up will refuse ` +
        `this, unless ${member} has a volume of that name. Give the instance target: "${members[0]}"`,
    ];
  });
  const failures = attachments.flatMap((mine) =>
    attachments
      .filter((theirs) => theirs.instance !== mine.instance && isWrittenByBoth(mine, theirs))
      .flatMap(({ instance: { name } }) => {
        const volume = volumes.find((each) => each.isForOne && isVolumeOf(mine.disk, each) && isOn(each, mine.instance));
        return volume === undefined || mine.instance !== own
          ? []
          : [
              {
                property: `devices.${mine.device}`,
                reason:
                  `attaches ${nameOfVolume({ ...volume, location: volume.target })}, which instance "${name}" of this program attaches, too. Two systems that write ` +
                  "the same blocks destroy them. Attach it to one of the two, or set security.shared: true in the volume's config if both use a " +
                  "file system made for this",
              },
            ];
      }),
  );
  return { failures, warnings };
}

interface Attachment {
  readonly instance: InstancePart;
  readonly disk: Config;
}

function isSamePlace(a: Pick<Place, "cluster" | "project">, b: Pick<Place, "cluster" | "project">): boolean {
  return a.project === b.project && sameJson(a.cluster.endpoints, b.cluster.endpoints);
}

function isVolumeOf({ pool, source }: Config, volume: VolumePart): boolean {
  return volume.pool === pool && volume.name === source;
}

/** Whether it is sure that an instance has this volume, and not one of the same name. */
function isOn({ target }: VolumePart, instance: InstancePart): boolean {
  return target === undefined || target === instance.target;
}

function isWrittenByBoth(a: Attachment, b: Attachment): boolean {
  const isSame = a.disk["pool"] === b.disk["pool"] && a.disk["source"] === b.disk["source"];
  const areAtOnePlace = a.instance.target === b.instance.target;
  const run = a.instance.running && b.instance.running;
  return isSame && areAtOnePlace && run && ![a, b].some(({ disk }) => sameTruth(disk["readonly"] ?? "", "true"));
}
