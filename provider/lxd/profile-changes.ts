/**
 * Effect of a profile change on the instances that use the profile. LXD saves the profile first, then offers the change to each running
 * instance once. An instance that does not take it runs on unchanged until its next start, while LXD shows it with the new contents.
 */
import { createHash } from "node:crypto";
import { tryUntil } from "../support/deadline";
import { canonicalJson } from "../support/equality";
import { hasCode, replyOf } from "../support/errors";
import type { LxdClient } from "./client/client";
import { operationsSchema } from "./client/operations";
import { sameConfig, sameDevices } from "./config";
import { isBusy } from "./instances/instance-lock";
import { type Expanded, expand, type Instance, isStopped } from "./instances/instances";
import { describeObstacles, type Obstacle, obstaclesToLiveUpdate } from "./instances/obstacles";
import { withoutSecrets } from "./instances/running-config";
import { findInstanceShared } from "./instances/shared-reads";
import { type FoundProfile, findProfile, listProfilesShared, type Profile, type ProfilePut, replaceProfile } from "./profiles";
import { getServer } from "./server";

interface InstanceName {
  readonly project: string;
  readonly name: string;
}

/** A running instance that has not taken a change of its profile. */
export interface Waiting extends InstanceName {
  /** When LXD started it, by LXD's clock. Another time means that it was started again and has the change. */
  readonly startedAt: string;
  /** Digest of the profile's contents. */
  readonly runsWith: string;
}

interface Changed {
  readonly waiting: readonly Waiting[];
  /** LXD's text for each instance that refused the change, or for all of them; empty when none did. */
  readonly refusals: readonly string[];
  /** Why it is unknown whether LXD made the change. `waiting` then holds the instances that could not take it. */
  readonly lost?: Error;
}

interface User extends InstanceName {
  readonly instance: Instance;
}

interface Blocked extends User {
  readonly obstacles: readonly Obstacle[];
}

/** Replaces the contents of a profile, and checks which of its instances took the change. */
export async function changeProfile(
  lxd: LxdClient,
  project: string,
  name: string,
  body: ProfilePut,
  found: FoundProfile,
): Promise<Changed> {
  const before = found.value;
  const changes = !sameContents(before, body);
  const foreseen = changes ? await foreseeChange(lxd, before, body) : [];
  const waiting = foreseen.map((user) => waitingOf(user, before));
  if (changes) {
    await untilIdle(lxd, instancesIn(before.used_by));
  }
  try {
    await replaceProfile(lxd, project, name, () => body, found);
    return { waiting, refusals: [] };
  } catch (error) {
    const isSaved = hasCode(error, "failed");
    const answer = isSaved ? error.cause : error;
    const isAnswer = hasCode(answer, "api") || hasCode(answer, "operation");
    if (!isAnswer && foreseen.length > 0 && error instanceof Error) {
      return { waiting, refusals: [], lost: error };
    }
    // The error does not show whether LXD saved the profile: it also saves one that instances refuse.
    const now = changes && isAnswer ? await findProfile(lxd, project, name) : undefined;
    if (now === undefined || !sameContents(now.value, body)) {
      throw error;
    }
    const refusals = refusalsOfSavedProfile(replyOf(answer));
    const texts = refusals.length === 0 ? [replyOf(answer)] : refusals.map(({ text }) => text);
    return { waiting: await refusing(lxd, before, refusals, foreseen), refusals: texts };
  }
}

/** Returns the instances that still run as they did when they did not take a change. */
export async function stillWaiting(
  lxd: LxdClient,
  profile: Expanded & { readonly name: string },
  waiting: readonly Waiting[],
): Promise<Waiting[]> {
  const now = digestOf(profile);
  const open = waiting.filter(({ runsWith }) => runsWith !== now);
  const found = await Promise.all(open.map((each) => lookAt(lxd, each)));
  return open.filter(({ startedAt }, index) => {
    const instance = found[index];
    if (instance === "unreadable") {
      return true; // assumed until it can be read
    }
    const isUser = instance?.profiles?.includes(profile.name) === true;
    return isUser && !isStopped(instance) && startedAt === instance.last_used_at;
  });
}

/** Returns the running instances that cannot take a change of a profile. */
export async function foreseeChange(lxd: LxdClient, before: Profile, body: ProfilePut): Promise<Blocked[]> {
  if (["virtual-machine", "container"].every((type) => obstaclesOf(type, before, body).length === 0)) {
    return [];
  }
  const users = await runningUsers(lxd, before.used_by);
  const judge = async (user: (typeof users)[number]): Promise<Blocked> => {
    const { type, config, devices, profiles: names } = user.instance;
    const known = await listProfilesShared(lxd, user.project);
    const profiles = (names ?? []).flatMap((name) => known.filter((profile) => profile.name === name));
    const expandedWith = (changed: Expanded): Expanded =>
      expand(
        profiles.map((profile) => (profile.name === before.name ? { ...profile, ...changed } : profile)),
        { config, devices },
      );
    return { ...user, obstacles: obstaclesOf(type, expandedWith(before), expandedWith(body)) };
  };
  return (await Promise.all(users.map(judge))).filter(({ obstacles }) => obstacles.length > 0);
}

function obstaclesOf(type: string, before: Expanded, after: Expanded): Obstacle[] {
  return obstaclesToLiveUpdate(type, before, after, { cpuHotplug: true });
}

/** Formats the result of {@link foreseeChange} for a preview. */
export function describeForeseen(profile: string, foreseen: readonly Blocked[]): string[] {
  if (foreseen.length === 0) {
    return [];
  }
  const reasons = new Set(foreseen.flatMap(({ obstacles }) => obstacles.map((obstacle) => describeObstacles([obstacle]))));
  return [
    `The change of profile "${profile}" reaches ${namesOf(foreseen)} only at the next start. ${[...reasons].join("; ")}. ${HOW_THEY_GET_IT}`,
  ];
}

export function describeWaiting(profile: string, waiting: readonly InstanceName[]): string {
  return (
    `Profile "${profile}" was changed, and ${namesOf(waiting)} did not take the change. The former contents apply there until the next ` +
    `start. ${HOW_THEY_GET_IT}`
  );
}

const HOW_THEY_GET_IT =
  "An LxdVm with allowRestart is stopped and started for it: in the same pulumi up if that changes it too, otherwise in the next one. " +
  "Stop and start the others yourself, or undo the change";

function namesOf(instances: readonly InstanceName[]): string {
  const names = instances.map(({ project, name }) => (project === "default" ? name : `${name} (project ${project})`)).sort();
  const some = names.slice(0, 20).join(", ");
  return `${names.length} instance${names.length === 1 ? "" : "s"} (${some}${names.length > 20 ? ", ..." : ""})`;
}

function sameContents(a: Expanded, b: Expanded): boolean {
  return sameConfig(a.config, b.config) && sameDevices(a.devices, b.devices);
}

/** Returns a digest of contents without possible secrets, because no instance needs a start for those. */
function digestOf(contents: Expanded): string {
  const { config, devices } = withoutSecrets(contents);
  return createHash("sha256")
    .update(canonicalJson([config, devices]))
    .digest("hex");
}

function waitingOf({ project, name, instance }: User, before: Profile): Waiting {
  return { project, name, startedAt: instance.last_used_at, runsWith: digestOf(before) };
}

/** Parses the instances in `used_by`, which holds paths of LXD's API. */
function instancesIn(usedBy: readonly string[]): InstanceName[] {
  return [...new Set(usedBy)].flatMap((path) => {
    const url = new URL(path, "http://lxd");
    const [, name] = /^\/1\.0\/instances\/([^/]+)$/.exec(url.pathname) ?? [];
    return name === undefined ? [] : [{ project: url.searchParams.get("project") ?? "default", name: decodeURIComponent(name) }];
  });
}

async function runningUsers(lxd: LxdClient, usedBy: readonly string[]): Promise<User[]> {
  const users = await Promise.all(instancesIn(usedBy).map(async (user) => ({ ...user, instance: await lookAt(lxd, user) })));
  return users.flatMap(({ instance, ...user }) =>
    instance === undefined || instance === "unreadable" || isStopped(instance) ? [] : [{ ...user, instance }],
  );
}

/** Reads an instance. A member that does not answer does not block a profile change: its instances start again when it returns. */
async function lookAt(lxd: LxdClient, { project, name }: InstanceName): Promise<Instance | "unreadable" | undefined> {
  try {
    return await findInstanceShared({ lxd, project, name });
  } catch (error) {
    if (!hasCode(error, "transport") && !hasCode(error, "api")) {
      throw error;
    }
    return "unreadable";
  }
}

/**
 * Returns the instances that run without a change that some refused. LXD names only the refusals of one member. When that member is the
 * one that was asked, LXD has not informed the others at all.
 */
async function refusing(
  lxd: LxdClient,
  before: Profile,
  refusals: readonly Refusal[],
  foreseen: readonly User[],
): Promise<Waiting[]> {
  await untilIdle(
    lxd,
    refusals.filter(({ text }) => isBusy(text)),
  );
  const { server_name, server_clustered } = (await getServer(lxd)).environment;
  const users = await runningUsers(lxd, before.used_by);
  const isAmong = (list: readonly InstanceName[], { project, name }: User): boolean =>
    list.some((each) => each.project === project && each.name === name);
  const refusedOn = new Set(users.filter((user) => isAmong(refusals, user)).map(({ instance }) => instance.location));
  const wasOffered = ({ instance }: User): boolean =>
    !server_clustered || instance.location === server_name || (refusedOn.has(instance.location) && !refusedOn.has(server_name));
  // When LXD's text cannot be parsed, no instance is known to have taken the change.
  const took = (user: User): boolean =>
    refusals.length > 0 && !isAmong(refusals, user) && wasOffered(user) && !isAmong(foreseen, user);
  return users.filter((user) => !took(user)).map((user) => waitingOf(user, before));
}

interface Refusal extends InstanceName {
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

/**
 * Waits until nobody makes, starts, stops, changes or removes one of the instances, because LXD would refuse them the change. Ignores
 * commands that run in them. Stops waiting after {@link IDLE_SECONDS}.
 */
async function untilIdle(lxd: LxdClient, instances: readonly InstanceName[]): Promise<void> {
  const deadline = lxd.deadline.atMost(IDLE_SECONDS, "waiting for other work on the profile's instances");
  for (const project of new Set(instances.map((instance) => instance.project))) {
    const paths = instances.flatMap((instance) => (instance.project === project ? [`/1.0/instances/${instance.name}`] : []));
    const isIdle = async (): Promise<true | undefined> => {
      const operations = await lxd.within(deadline).get("/1.0/operations", operationsSchema, { project, recursion: 1 });
      const urls = operations
        .filter(({ status, description }) => status === "Running" && !/^(Executing|Showing)/.test(description))
        .flatMap(({ resources }) => Object.values(resources ?? {}).flatMap((each) => each ?? []));
      return urls.some((url) => paths.includes((url.split("?")[0] ?? "").replace("/containers/", "/instances/")))
        ? undefined
        : true;
    };
    await tryUntil(lxd.deadline, deadline, isIdle);
  }
}
