/** Chooses the member for a new instance. Pure: what is known of the members goes in, the decision with its reasons comes out. */
import type { InstanceType } from "../instances/instances";
import type { Placement } from "./schema";

/** A member as it was found. */
export interface Candidate {
  readonly name: string;
  readonly status: string;
  readonly failureDomain: string;
  readonly groups: readonly string[];
  /** Value of `scheduler.instance`: all, group or manual. */
  readonly scheduler: string;
  /** Empty when they were not asked for. */
  readonly architectures: readonly string[];
  /** Instance drivers, such as "lxc | qemu". */
  readonly driver: string;
  /** What the member lacks or did not answer: the end of a sentence that begins with its name. */
  readonly faults: readonly string[];
  /** Free space of the root disk's pool; `undefined` if it is not known. */
  readonly freeDiskBytes?: number | undefined;
  /** `undefined` if the server does not report it. */
  readonly memory?: { readonly totalBytes: number; readonly usedBytes: number } | undefined;
  readonly cpu?: { readonly total: number; readonly load: number } | undefined;
}

/** An instance of the cluster: one that a member has, or one that this process is making. */
export interface PlacedInstance {
  readonly project: string;
  readonly name: string;
  readonly member: string;
  readonly labels: readonly string[];
  /** What it will take of its member. Present only while the member's state does not include it. */
  readonly takes?: Takes;
}

export interface Takes {
  /** In bytes, or as a part of the member's memory. */
  readonly memory: { readonly bytes: number } | { readonly part: number };
  readonly cpus: number;
  /** Space of the root disk, if it is limited. */
  readonly disk: { readonly pool: string; readonly bytes: number } | undefined;
}

/** A new instance. */
export interface PlacementRequest {
  readonly project: string;
  readonly name: string;
  readonly type: InstanceType;
  readonly placement: Placement;
  readonly labels: readonly string[];
  readonly takes: Takes;
  /** Cluster group to which the member must belong. */
  readonly group: string | undefined;
  /** Groups to which the project is restricted. */
  readonly allowedGroups: readonly string[] | undefined;
  /** Of the image, if it is known. */
  readonly architecture: string | undefined;
}

interface LeftOut {
  readonly member: string;
  readonly reason: string;
}

export interface Decision {
  /** `undefined` when every member is left out. */
  readonly member: string | undefined;
  /** Why this member and no other, for messages. */
  readonly because: string;
  /** Every member that cannot take the instance, by name. */
  readonly leftOut: readonly LeftOut[];
}

/** Member that can take the instance, with what the choice is made by. */
interface Ranked {
  readonly name: string;
  readonly domain: string;
  /** Compared in this order; a smaller one is better. */
  readonly ranks: readonly number[];
  readonly shown: string;
}

/**
 * Decides on which member a new instance is made. Neither the order of the members nor that of the instances matters. Among equal members,
 * the first by name is chosen.
 * @param instances - Those of all members. One of the request's own project and name is ignored: it will be replaced.
 */
export function decide(
  request: PlacementRequest,
  candidates: readonly Candidate[],
  instances: readonly PlacedInstance[],
): Decision {
  const others = instances.filter(({ project, name }) => project !== request.project || name !== request.name);
  const byMember = new Map<string, PlacedInstance[]>(candidates.map(({ name }) => [name, []]));
  for (const each of others) {
    byMember.get(each.member)?.push(each);
  }
  const usable: Candidate[] = [];
  const leftOut: LeftOut[] = [];
  for (const candidate of [...candidates].sort((a, b) => compareText(a.name, b.name))) {
    const reason = obstacleTo(request, candidate, byMember.get(candidate.name) ?? [], others);
    if (reason === undefined) {
      usable.push(candidate);
    } else {
      leftOut.push({ member: candidate.name, reason });
    }
  }
  const alike = new Map(candidates.map(({ name }) => [name, alikeOn(request, byMember.get(name) ?? [])]));
  const inDomains = new Map<string, number>();
  for (const { name, failureDomain } of candidates) {
    inDomains.set(failureDomain, (inDomains.get(failureDomain) ?? 0) + (alike.get(name) ?? 0));
  }
  const ranked = usable
    .map((candidate) => {
      const { name, failureDomain } = candidate;
      const numbers = { alike: alike.get(name) ?? 0, inDomain: inDomains.get(failureDomain) ?? 0 };
      return rank(request.placement, candidate, byMember.get(name) ?? [], numbers);
    })
    .sort(compareRanked);
  return { member: ranked[0]?.name, because: describe(request.placement, ranked), leftOut };
}

/** Why a member cannot take the instance; `undefined` when it can. */
function obstacleTo(
  request: PlacementRequest,
  candidate: Candidate,
  there: readonly PlacedInstance[],
  others: readonly PlacedInstance[],
): string | undefined {
  const { status, groups, scheduler } = candidate;
  const { group, allowedGroups, placement } = request;
  if (status !== "Online") {
    return `is ${status}`;
  }
  if (scheduler === "manual") {
    return "takes only instances that name it as target (scheduler.instance: manual)";
  }
  if (group !== undefined && !groups.includes(group)) {
    return `is not in cluster group "${group}"`;
  }
  if (scheduler === "group" && group === undefined) {
    return "takes only instances with one of its cluster groups as target (scheduler.instance: group)";
  }
  if (allowedGroups !== undefined && !allowedGroups.some((allowed) => groups.includes(allowed))) {
    return `is in none of the cluster groups of project "${request.project}" (restricted.cluster.groups: ${allowedGroups.join(", ")})`;
  }
  return (
    candidate.faults[0] ?? obstacleOfHardware(request, candidate, there) ?? obstacleOfLabels(request, placement, there, others)
  );
}

function obstacleOfHardware(
  { type, architecture, takes }: PlacementRequest,
  { architectures, driver, freeDiskBytes, memory }: Candidate,
  there: readonly PlacedInstance[],
): string | undefined {
  if (architecture !== undefined && !architectures.includes(architecture)) {
    return `cannot run the image: it is for ${architecture}, and the member runs ${architectures.join(", ") || "none that is known"}`;
  }
  if (type === "virtual-machine" && !driver.includes("qemu")) {
    return `cannot run virtual machines (instance drivers: ${driver || "none"})`;
  }
  const { disk } = takes;
  if (disk !== undefined && freeDiskBytes !== undefined) {
    const reserved = sum(there, (each) => (each.takes?.disk?.pool === disk.pool ? each.takes.disk.bytes : 0));
    const free = freeDiskBytes - reserved;
    if (disk.bytes > free) {
      return `has no room: ${inGiB(Math.max(0, free))} are free in storage pool "${disk.pool}", and the root disk needs ${inGiB(disk.bytes)}`;
    }
  }
  // What a container does not use of its limit stays free for others.
  if (type === "virtual-machine" && memory !== undefined) {
    const needed = bytesOf(takes, memory.totalBytes);
    if (needed > memory.totalBytes) {
      return `has no room: it has ${inGiB(memory.totalBytes)} of memory, and the instance needs ${inGiB(needed)}`;
    }
  }
  return undefined;
}

function obstacleOfLabels(
  { project, labels }: PlacementRequest,
  { affinity, antiAffinity }: Placement,
  there: readonly PlacedInstance[],
  others: readonly PlacedInstance[],
): string | undefined {
  const holds = (label: string) => (each: PlacedInstance) => each.project === project && each.labels.includes(label);
  const kept = antiAffinity === undefined ? undefined : there.filter(holds(antiAffinity)).map(({ name }) => name);
  if (kept !== undefined && kept.length > 0) {
    return `has an instance with label "${antiAffinity}": ${kept.sort(compareText).slice(0, 3).join(", ")} (antiAffinity)`;
  }
  if (affinity === undefined || there.some(holds(affinity))) {
    return undefined;
  }
  // The first instance with the label can be anywhere.
  const isFirst = labels.includes(affinity) && !others.some(holds(affinity));
  return isFirst ? undefined : `has no instance with label "${affinity}" (affinity)`;
}

/** Counts the instances of the same project and labels. */
function alikeOn({ project, labels }: PlacementRequest, there: readonly PlacedInstance[]): number {
  return there.filter((each) => each.project === project && sameLabels(each.labels, labels)).length;
}

function rank(
  { policy, spreadFailureDomains }: Placement,
  { name, failureDomain, memory, cpu }: Candidate,
  there: readonly PlacedInstance[],
  { alike, inDomain }: { alike: number; inDomain: number },
): Ranked {
  const [value, shown] = valueOf();
  return { name, domain: failureDomain, ranks: spreadFailureDomains ? [inDomain, value] : [value], shown };

  function valueOf(): [number, string] {
    switch (policy) {
      case "roundRobin":
        return [alike, `${counted(alike)} of its kind`];
      case "leastInstances":
        return [there.length, counted(there.length)];
      case "leastMemory": {
        const { totalBytes, usedBytes } = memory ?? { totalBytes: 1, usedBytes: 1 };
        const inUse = usedBytes + sum(there, ({ takes }) => (takes === undefined ? 0 : bytesOf(takes, totalBytes)));
        return [inUse / totalBytes, `${inGiB(inUse)} of ${inGiB(totalBytes)} memory in use`];
      }
      case "leastCpu": {
        const { total, load } = cpu ?? { total: 1, load: 1 };
        const inUse = load + sum(there, ({ takes }) => takes?.cpus ?? 0);
        return [inUse / total, `${inUse.toFixed(2)} of ${total} CPUs in use`];
      }
    }
  }
}

function compareRanked(a: Ranked, b: Ranked): number {
  for (const [index, rankOfA] of a.ranks.entries()) {
    const difference = rankOfA - (b.ranks[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return compareText(a.name, b.name);
}

function describe({ policy, spreadFailureDomains }: Placement, [chosen, ...rest]: readonly Ranked[]): string {
  if (chosen === undefined) {
    return "";
  }
  const shown = ({ ranks, domain, shown: value }: Ranked): string =>
    spreadFailureDomains ? `failure domain ${domain} has ${counted(ranks[0] ?? 0)} of its kind, ${value}` : value;
  const others = rest.slice(0, SHOWN_OTHERS).map((each) => `${each.name}: ${shown(each)}`);
  const more = rest.length > SHOWN_OTHERS ? `; and ${rest.length - SHOWN_OTHERS} more` : "";
  return `${policy}: ${shown(chosen)}${others.length === 0 ? "" : `; ${others.join("; ")}${more}`}`;
}

const SHOWN_OTHERS = 4;

/** Describes members that cannot take an instance: `bcn1 is Offline; bcn2 is Evacuated`. */
export function describeLeftOut(leftOut: readonly LeftOut[]): string {
  return leftOut.map(({ member, reason }) => `${member} ${reason}`).join("; ");
}

function bytesOf({ memory }: Takes, totalBytes: number): number {
  return "part" in memory ? Math.floor(memory.part * totalBytes) : memory.bytes;
}

function sameLabels(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((label) => b.includes(label));
}

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function counted(count: number): string {
  return `${count} ${count === 1 ? "instance" : "instances"}`;
}

function inGiB(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** Compares as LXD sorts names, whatever the language of the process. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
