/**
 * What becomes of the instances of a member that is evacuated, worked out before anything is moved by the rules by which LXD decides.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_manage/#evacuate-and-restore-cluster-members
 */
import * as z from "zod";
import { listOf } from "../client/answers";
import type { LxdClient } from "../client/client";
import type { Devices } from "../config";
import { EVACUATED_FROM } from "../instances/evacuation";
import { getServer } from "../server";
import { listMembers, type Member } from "./cluster";

/** How instances leave a member. `auto` leaves it to the key `cluster.evacuate` of each instance. */
export const EVACUATION_MODES = ["auto", "migrate", "live-migrate", "stop"] as const;

export type EvacuationMode = (typeof EVACUATION_MODES)[number];

/** API extension without which the server ignores a mode, and evacuates as `auto`. */
export const EVACUATION_MODE = "clustering_evacuation_mode";

/** Key by which LXD remembers the group that an instance was placed in. */
const PLACED_IN = "volatile.cluster.group";

/** Maps are `null` in the entry of an instance whose member does not answer. */
const departingSchema = z.looseObject({
  name: z.string(),
  project: z.string().default("default"),
  type: z.string().default("container"),
  status: z.string().default(""),
  location: z.string().default(""),
  architecture: z.string().default(""),
  ephemeral: z.boolean().default(false),
  config: z.record(z.string(), z.string()).nullish(),
  expanded_config: z.record(z.string(), z.string()).nullish(),
  expanded_devices: z.record(z.string(), z.record(z.string(), z.string())).nullish(),
});

export type Departing = z.output<typeof departingSchema>;

/** What the rules depend on besides the instance. */
export interface Surroundings {
  /** The mode that the server applies to all instances; `auto` also when it knows no modes. */
  readonly mode: EvacuationMode;
  /** The other members. */
  readonly others: readonly Pick<Member, "server_name" | "status" | "architecture" | "groups" | "config">[];
  /** Types of the managed networks, by name. */
  readonly networks: ReadonlyMap<string, string>;
  /** Storage pools that all members share. */
  readonly sharedPools: ReadonlySet<string>;
}

/**
 * `moved` with a stop if it runs, `live-migrated` without one; `stopped` where it is, `left` as it is because it does not run,
 * `deleted` because LXD deletes an ephemeral instance when it stops.
 */
export type Fate = "moved" | "live-migrated" | "stopped" | "left" | "deleted";

export interface Departure {
  /** With its project, unless that is the default one. */
  readonly instance: string;
  readonly fate: Fate;
  /** Why it is not moved. */
  readonly why?: string;
  /** The disk device at which LXD's daemon ends while it evacuates the member, and leaves all that comes after it. */
  readonly endsAt?: string;
}

/** Works out what becomes of an instance. Pure. */
export function fateOf(instance: Departing, surroundings: Surroundings): Departure {
  const name = titleOf(instance);
  const runs = isRunning(instance);
  const policy = surroundings.mode === "auto" ? (instance.expanded_config?.["cluster.evacuate"] ?? "auto") : surroundings.mode;
  const staying = whyItStays(instance, policy, surroundings);
  const isLive = runs && (policy === "live-migrate" || (policy === "auto" && isReadyForLive(instance)));
  if (runs && instance.ephemeral && (staying !== undefined || !isLive)) {
    return { instance: name, fate: "deleted", why: "it is ephemeral" };
  }
  if (staying !== undefined) {
    const endsAt = policy === "auto" ? pathOfHost(instance) : undefined;
    return { instance: name, fate: runs ? "stopped" : "left", why: staying, ...(endsAt !== undefined && { endsAt }) };
  }
  return { instance: name, fate: isLive ? "live-migrated" : "moved" };
}

export function isRunning({ status }: Pick<Departing, "status">): boolean {
  return status === "Running" || status === "Frozen";
}

function isReadyForLive({ type, expanded_config: config }: Departing): boolean {
  return type === "virtual-machine" && config?.["migration.stateful"] === "true";
}

function whyItStays(instance: Departing, policy: string, surroundings: Surroundings): string | undefined {
  if (policy !== "auto" && policy !== "migrate" && policy !== "live-migrate") {
    return surroundings.mode === "auto" ? `cluster.evacuate: ${policy}` : `mode ${policy}`;
  }
  const bound =
    policy === "auto"
      ? Object.entries(instance.expanded_devices ?? {}).find(([, device]) => !canMove(device, surroundings))
      : undefined;
  if (bound !== undefined) {
    return `its device ${bound[0]} (${bound[1]["type"] ?? "?"}) is bound to the member`;
  }
  return hasPlace(instance, surroundings) ? undefined : "no other member can take it";
}

/**
 * Returns a disk that is a path of the host. To judge whether it can move, LXD and Incus 6 ask the driver of its pool, which it does not have:
 * the daemon ends. No API extension tells the servers that do not.
 * @see https://github.com/lxc/incus/issues/2741
 */
function pathOfHost({ expanded_devices: devices }: Departing): string | undefined {
  const disks = Object.entries(devices ?? {}).filter(([, { type, path }]) => type === "disk" && path !== "/");
  return disks.find(([, { pool }]) => pool === undefined)?.[0];
}

function canMove(device: Devices[string], { networks, sharedPools }: Surroundings): boolean {
  switch (device["type"]) {
    case "none":
    case "tpm":
      return true;
    case "disk":
      return device["path"] === "/" || sharedPools.has(device["pool"] ?? "");
    case "nic": {
      const { network = "", nictype = "", parent = "" } = device;
      const type = networks.get(network) ?? (nictype === "bridged" ? networks.get(parent) : undefined);
      return type !== undefined && MOVABLE_NETWORKS.has(type);
    }
    default:
      return false;
  }
}

const MOVABLE_NETWORKS = new Set(["bridge", "macvlan", "sriov", "ovn"]);

function hasPlace({ architecture, config }: Departing, { others }: Surroundings): boolean {
  const group = config?.[PLACED_IN] ?? "";
  return others.some((member) => {
    const scheduler = member.config?.["scheduler.instance"] ?? "all";
    return (
      member.status === "Online" &&
      scheduler !== "manual" &&
      (scheduler !== "group" || group !== "") &&
      (group === "" || (member.groups ?? []).includes(group)) &&
      (architecture === "" || member.architecture === "" || member.architecture === architecture)
    );
  });
}

const ALL = { "all-projects": "true", recursion: 1 } as const;

/** Lists the instances of all projects. */
export function listDeparting(lxd: LxdClient): Promise<Departing[]> {
  return lxd.get("/1.0/instances", listOf(departingSchema), ALL);
}

/** {@link listDeparting}, shared by all reads of this process. */
export function listDepartingShared(lxd: LxdClient): Promise<Departing[]> {
  return lxd.getShared("/1.0/instances", listOf(departingSchema), ALL);
}

const namedSchema = z.looseObject({
  name: z.string(),
  driver: z.string().default(""),
  type: z.string().default(""),
  managed: z.boolean().default(true),
});

/** Works out what an evacuation of a member would do to each of its instances. */
export async function foresee(lxd: LxdClient, member: string, mode: EvacuationMode): Promise<Departure[]> {
  const leaving = (await listDeparting(lxd)).filter(({ location }) => location === member);
  if (leaving.length === 0) {
    return [];
  }
  const [server, members, pools, networks] = await Promise.all([
    getServer(lxd),
    listMembers(lxd),
    lxd.get("/1.0/storage-pools", listOf(namedSchema), { recursion: 1 }),
    lxd.get("/1.0/networks", listOf(namedSchema), { recursion: 1 }),
  ]);
  const remote = new Set(
    (server.environment.storage_supported_drivers ?? []).flatMap(({ Name, Remote }) => (Remote ? [Name] : [])),
  );
  const surroundings: Surroundings = {
    mode: server.api_extensions.includes(EVACUATION_MODE) ? mode : "auto",
    others: members.filter(({ server_name }) => server_name !== member),
    networks: new Map(networks.filter(({ managed }) => managed).map(({ name, type }) => [name, type])),
    sharedPools: new Set(pools.filter(({ driver }) => remote.has(driver)).map(({ name }) => name)),
  };
  return leaving.map((instance) => fateOf(instance, surroundings));
}

/** Lists the instances that an evacuation has moved away from a member, or stopped on it: its restore takes them back. */
export async function awaiting(lxd: LxdClient, member: string): Promise<{ moved: string[]; stopped: string[] }> {
  const all = await listDeparting(lxd);
  return {
    moved: all.filter(({ config, location }) => config?.[EVACUATED_FROM] === member && location !== member).map(titleOf),
    stopped: all
      .filter((each) => each.location === member && !isRunning(each) && each.config?.["volatile.last_state.power"] === "RUNNING")
      .map(titleOf),
  };
}

function titleOf({ project, name }: Pick<Departing, "project" | "name">): string {
  return project === "default" ? name : `${project}/${name}`;
}

const IN_WORDS: Readonly<Record<Fate, string>> = {
  moved: "moved to other members, stopped meanwhile if they run",
  "live-migrated": "migrated while they run",
  stopped: "stopped, and stay",
  left: "stay",
  deleted: "deleted",
};

/** Formats departures for messages: `moved to other members: c1, c2; stopped, and stay: c3 (cluster.evacuate: stop)`. */
export function describeDepartures(departures: readonly Departure[]): string {
  const fates = Object.keys(IN_WORDS) as Fate[];
  return fates
    .flatMap((fate) => {
      const names = departures
        .filter((each) => each.fate === fate)
        .map(({ instance, why }) => (why === undefined ? instance : `${instance} (${why})`));
      const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : "";
      return names.length === 0 ? [] : [`${IN_WORDS[fate]}: ${names.slice(0, SHOWN).join(", ")}${more}`];
    })
    .join("; ");
}

const SHOWN = 10;

/** The instances that would not be on another member after an evacuation. */
export function staying(departures: readonly Departure[]): Departure[] {
  return departures.filter(({ fate }) => fate !== "moved" && fate !== "live-migrated");
}
