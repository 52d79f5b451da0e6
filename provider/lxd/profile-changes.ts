/**
 * Effect of a profile change on the instances that use the profile. LXD saves the profile first, then offers the change
 * to each running instance once. An instance that does not take it runs on unchanged until its next start, while LXD
 * shows it with the new contents.
 */
import { createHash } from "node:crypto";
import * as z from "zod";
import { tryUntil } from "../support/deadline";
import { canonicalJson } from "../support/equality";
import { hasCode, replyOf } from "../support/errors";
import type { LxdClient } from "./client/client";
import { sameConfig, sameDevices } from "./config";
import { isBusy } from "./instances/instance-lock";
import { type Expanded, expand, type Instance, type InstanceType, isStopped } from "./instances/instances";
import { describeObstacles, type Obstacle, obstaclesToLiveUpdate } from "./instances/obstacles";
import { withoutSecrets } from "./instances/running-config";
import { findInstanceShared } from "./instances/shared-reads";
import { type FoundProfile, findProfile, listProfilesShared, type Profile, type ProfilePut, replaceProfile } from "./profiles";
import { getServer } from "./server";

/** A running instance that has not taken a change of its profile. */
export interface Waiting {
  readonly project: string;
  readonly name: string;
  /** When LXD started it, by LXD's clock. Another time means that it was started again and has the change. */
  readonly startedAt: string;
  /** Digest of the profile's contents that it runs with. */
  readonly runsWith: string;
}

/** Result of a change. */
export interface Changed {
  /** All instances that run on without the change. */
  readonly waiting: readonly Waiting[];
  /** LXD's text for each instance that refused the change; empty when none did. */
  readonly refusals: readonly string[];
  /** Why it is unknown whether LXD made the change. `waiting` then holds the instances that could not take it. */
  readonly lost?: Error;
}

/** Instance that uses a profile. */
interface User {
  readonly project: string;
  readonly name: string;
  readonly instance: Instance;
}

/**
 * Replaces the contents of a profile, and checks which of its instances took the change.
 * @param found - The profile as it was read.
 */
export async function changeProfile(
  lxd: LxdClient,
  project: string,
  name: string,
  body: ProfilePut,
  found: FoundProfile,
): Promise<Changed> {
  const before = found.value;
  const changes = !sameContents(before, body);
  const foreseen = changes ? (await foreseeChange(lxd, before, body)).map(({ user }) => user) : [];
  if (changes) {
    await untilIdle(lxd, before.used_by);
  }
  try {
    await replaceProfile(lxd, project, name, () => body, found);
  } catch (error) {
    const isAnswer = hasCode(error, "api") || hasCode(error, "operation");
    if (!isAnswer && foreseen.length > 0 && error instanceof Error) {
      return { waiting: foreseen.map((user) => waitingOf(user, before)), refusals: [], lost: error };
    }
    if (!changes || !isAnswer || !(await isSaved(lxd, project, name, body))) {
      throw error;
    }
    const refusals = refusalsOfSavedProfile(replyOf(error));
    const waiting = await refusing(lxd, before, refusals, foreseen);
    return { waiting, refusals: refusals.map(({ text }) => text) };
  }
  return { waiting: foreseen.map((user) => waitingOf(user, before)), refusals: [] };
}

/** Returns the instances that still run as they did when they did not take a change. */
export async function stillWaiting(
  lxd: LxdClient,
  profile: Pick<Profile, "name" | "config" | "devices">,
  waiting: readonly Waiting[],
): Promise<Waiting[]> {
  const now = digestOf(profile);
  const open = waiting.filter(({ runsWith }) => runsWith !== now);
  const found = await Promise.all(open.map(({ project, name }) => lookAt(lxd, project, name)));
  return open.filter(({ startedAt }, index) => {
    const instance = found[index];
    if (instance === "not to be read") {
      return true; // assumed until it can be read
    }
    const isUser = instance?.profiles?.includes(profile.name) === true;
    return isUser && !isStopped(instance) && startedAt === instance.last_used_at;
  });
}

/** Returns the running instances that cannot take a change of a profile, each with its obstacles. */
export async function foreseeChange(
  lxd: LxdClient,
  before: Profile,
  body: ProfilePut,
): Promise<{ user: User; obstacles: Obstacle[] }[]> {
  const isTaken = obstacles("virtual-machine", before, body).length === 0 && obstacles("container", before, body).length === 0;
  if (isTaken || before.used_by.length === 0) {
    return [];
  }
  const users = await runningUsers(lxd, before.used_by);
  const projects = [...new Set(users.map(({ project }) => project))];
  const profiles = new Map(await Promise.all(projects.map(async (each) => [each, await listProfilesShared(lxd, each)] as const)));
  return users.flatMap((user) => {
    const { type, config, devices, profiles: names } = user.instance;
    const known = profiles.get(user.project) ?? [];
    const expandedWith = (changed: Pick<Profile, "config" | "devices">): Expanded =>
      expand(
        (names ?? []).flatMap((each) => {
          const profile = known.find((candidate) => candidate.name === each);
          return profile === undefined ? [] : [each === before.name ? { ...profile, ...changed } : profile];
        }),
        { config, devices },
      );
    const found = obstaclesToLiveUpdate(type as InstanceType, expandedWith(before), expandedWith(body), { cpuHotplug: true });
    return found.length === 0 ? [] : [{ user, obstacles: found }];
  });
}

/** Formats the result of {@link foreseeChange} for a preview. */
export function describeForeseen(profile: string, foreseen: Awaited<ReturnType<typeof foreseeChange>>): string[] {
  if (foreseen.length === 0) {
    return [];
  }
  const reasons = [...new Set(foreseen.flatMap(({ obstacles: each }) => each.map((obstacle) => describeObstacles([obstacle]))))];
  const names = namesOf(foreseen.map(({ user }) => user));
  return [
    `Profile "${profile}" will be changed under ${names}, which run, and will take it only when they are next started. ` +
      `${reasons.join("; ")}. ${HOW_THEY_GET_IT}`,
  ];
}

/** Formats the warning about instances that still wait. */
export function describeWaiting(profile: string, waiting: readonly Pick<Waiting, "project" | "name">[]): string {
  return (
    `Profile "${profile}" was changed, and ${namesOf(waiting)} did not take the change: they run with what it said before until they ` +
    `are next started. ${HOW_THEY_GET_IT}`
  );
}

const HOW_THEY_GET_IT =
  "An LxdVm with allowRestart is stopped and started for it: in the same pulumi up if that changes it too, otherwise in the next one. " +
  "Stop and start the others yourself, or undo the change";

function namesOf(instances: readonly Pick<Waiting, "project" | "name">[]): string {
  const names = instances.map(({ project, name }) => (project === "default" ? name : `${name} (project ${project})`)).sort();
  const some = names.slice(0, 20).join(", ");
  return `${names.length} instance${names.length === 1 ? "" : "s"} (${some}${names.length > 20 ? ", ..." : ""})`;
}

function sameContents(a: Pick<ProfilePut, "config" | "devices">, b: Pick<ProfilePut, "config" | "devices">): boolean {
  return sameConfig(a.config, b.config) && sameDevices(a.devices, b.devices);
}

/** Whether LXD saved the profile. The error does not show it: LXD also saves a profile that instances refuse. */
async function isSaved(lxd: LxdClient, project: string, name: string, body: ProfilePut): Promise<boolean> {
  const now = await findProfile(lxd, project, name);
  return now !== undefined && sameContents(now.value, body);
}

/** Returns a digest of contents without possible secrets, because no instance needs a start for those. */
function digestOf(contents: Pick<Profile, "config" | "devices">): string {
  const { config, devices } = withoutSecrets(contents);
  return createHash("sha256")
    .update(canonicalJson([config, devices]))
    .digest("hex");
}

function waitingOf({ project, name, instance }: User, before: Profile): Waiting {
  return { project, name, startedAt: instance.last_used_at, runsWith: digestOf(before) };
}

function obstacles(type: InstanceType, before: ProfilePut, after: ProfilePut): Obstacle[] {
  return obstaclesToLiveUpdate(type, before, after, { cpuHotplug: true });
}

/** Parses the instances in `used_by`, which holds paths of LXD's API. */
function instancesIn(usedBy: readonly string[]): { project: string; name: string }[] {
  return [...new Set(usedBy)].flatMap((path) => {
    const url = new URL(path, "http://lxd");
    const [, name] = /^\/1\.0\/instances\/([^/]+)$/.exec(url.pathname) ?? [];
    return name === undefined ? [] : [{ project: url.searchParams.get("project") ?? "default", name: decodeURIComponent(name) }];
  });
}

async function runningUsers(lxd: LxdClient, usedBy: readonly string[]): Promise<User[]> {
  const users = await Promise.all(
    instancesIn(usedBy).map(async ({ project, name }) => ({ project, name, instance: await lookAt(lxd, project, name) })),
  );
  return users.flatMap(({ project, name, instance }) =>
    instance === undefined || instance === "not to be read" || isStopped(instance) ? [] : [{ project, name, instance }],
  );
}

/**
 * Reads an instance. A member that does not answer does not block a profile change: its instances start again when it
 * returns.
 */
async function lookAt(lxd: LxdClient, project: string, name: string): Promise<Instance | "not to be read" | undefined> {
  try {
    return await findInstanceShared({ lxd, project, name });
  } catch (error) {
    if (!hasCode(error, "transport") && !hasCode(error, "api")) {
      throw error;
    }
    return "not to be read";
  }
}

/**
 * Returns the instances that run without a change that some refused. LXD names only the refusals of one member. When
 * that member is the one that was asked, LXD has not informed the others at all.
 */
async function refusing(
  lxd: LxdClient,
  before: Profile,
  refusals: readonly Refusal[],
  foreseen: readonly User[],
): Promise<Waiting[]> {
  await untilIdle(
    lxd,
    before.used_by,
    refusals.filter(({ text }) => isBusy(text)),
  );
  const { server_name, server_clustered } = (await getServer(lxd)).environment;
  const users = await runningUsers(lxd, before.used_by);
  const isNamed = ({ project, name }: User): boolean => refusals.some((each) => each.project === project && each.name === name);
  const refusedOn = new Set(users.filter(isNamed).map(({ instance }) => instance.location));
  // When LXD's text cannot be parsed, no instance is known to have taken the change.
  const isUnderstood = refusals.length > 0;
  const wasOffered = ({ instance }: User): boolean =>
    !server_clustered || instance.location === server_name || (refusedOn.has(instance.location) && !refusedOn.has(server_name));
  const took = (user: User): boolean =>
    isUnderstood &&
    !isNamed(user) &&
    wasOffered(user) &&
    !foreseen.some(({ project, name }) => project === user.project && name === user.name);
  return users.filter((user) => !took(user)).map((user) => waitingOf(user, before));
}

interface Refusal {
  readonly project: string;
  readonly name: string;
  readonly text: string;
}

/** Parses from LXD's answer which instances refused a profile that LXD nevertheless saved. */
export function refusalsOfSavedProfile(reply: string): Refusal[] {
  return reply.split("\n").flatMap((line) => {
    const [, text = "", project = "", name = ""] = /^\s*- (Project: ([^,]+), Instance: ([^:\s]+):.*)$/.exec(line) ?? [];
    return text === "" ? [] : [{ project, name, text }];
  });
}

/** Longest wait for other work on the instances that a change affects. */
const IDLE_SECONDS = 60;

const operationsSchema = z.record(
  z.string(),
  z.array(z.looseObject({ description: z.string().default(""), resources: z.record(z.string(), z.array(z.string())).nullish() })),
);

/**
 * Waits until nobody makes, starts, stops, changes or removes one of the instances, because LXD would refuse them the
 * change. Ignores commands that run in them. Stops waiting after {@link IDLE_SECONDS}.
 */
async function untilIdle(
  lxd: LxdClient,
  usedBy: readonly string[],
  only?: readonly Pick<Waiting, "project" | "name">[],
): Promise<void> {
  const users = (only ?? instancesIn(usedBy)).map(({ project, name }) => ({ project, name }));
  const deadline = lxd.deadline.atMost(IDLE_SECONDS, "waiting for other work on the profile's instances");
  for (const project of new Set(users.map((user) => user.project))) {
    const paths = new Set(users.flatMap((user) => (user.project === project ? [`/1.0/instances/${user.name}`] : [])));
    const isIdle = async (): Promise<true | undefined> => {
      const operations = await lxd.within(deadline).get("/1.0/operations", operationsSchema, { project, recursion: 1 });
      const working = (operations["running"] ?? []).filter(({ description }) => !/^(Executing|Showing)/.test(description));
      const urls = working.flatMap(({ resources }) => Object.values(resources ?? {}).flat());
      return urls.some((url) => paths.has((url.split("?")[0] ?? "").replace("/containers/", "/instances/"))) ? undefined : true;
    };
    await tryUntil(lxd.deadline, deadline, isIdle);
  }
}
