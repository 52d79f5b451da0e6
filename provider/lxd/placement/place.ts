/** The place of a new instance: asks the cluster, decides, and keeps the decision for the instances that are made at the same time. */
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { parseSize } from "../../support/units";
import { api, type LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import type { ImageSource } from "../instances/image-source";
import { type Expanded, type InstanceType, type InstanceWork, rootDiskOf } from "../instances/instances";
import { membersFor } from "../instances/preflight";
import { findProject } from "../projects";
import { type Decision, decide, describeLeftOut, type PlacementRequest, type Takes } from "./decide";
import { labelsOf, type Placement } from "./schema";
import { MEMBER_STATE, type Survey, surveyOf } from "./survey";

/** What an instance without limits is taken for: LXD's defaults for a virtual machine. */
const DEFAULT_MEMORY_BYTES = 2 ** 30;
const DEFAULT_CPUS = 1;

const imageSchema = z.looseObject({ architecture: z.string().default(""), target: z.string().default("") });

/** A new instance, as far as its place depends on it. */
export interface ToPlace {
  readonly instanceType: InstanceType;
  readonly image: ImageSource;
  /** Cluster group `@group` to choose from. */
  readonly target?: string | undefined;
  readonly placement: Placement;
  readonly expanded: Expanded;
}

export interface Place {
  readonly member: string;
  /** The decision and its reasons, for messages. */
  readonly explanation: string;
  /** Takes the decision back, when the instance was not made. */
  readonly release: () => void;
}

/**
 * Chooses the member for a new instance. Instances that are placed by this process afterwards take it into account.
 * @param isPreview - Whether only to announce the place. Creations do not take it into account.
 * @throws RefusedError when no member can take the instance, with the reason of each.
 */
export async function choosePlace(work: InstanceWork, wanted: ToPlace, isPreview = false): Promise<Place> {
  const { lxd, project, name } = work;
  const { placement, expanded, target } = wanted;
  if (!(await presentedBy(lxd.endpoint, lxd.deadline)).clustered) {
    throw new RefusedError(
      `placement: ${lxd.host} is not in a cluster, so there are no members to choose from. Leave out placement, or form the cluster first ` +
        "(LxdClusterMember)",
    );
  }
  const survey = await surveyFor(lxd);
  const hasState = (await survey.server(lxd)).api_extensions.includes(MEMBER_STATE);
  if (!hasState && (placement.policy === "leastMemory" || placement.policy === "leastCpu")) {
    throw new RefusedError(
      `placement.policy: "${placement.policy}" needs the API extension ${MEMBER_STATE}, which ${lxd.title} does not have, so it does not ` +
        'tell how busy its members are. Use "leastInstances" or "roundRobin", or name the member: target',
    );
  }
  const members = await membersFor(lxd, target);
  const { policy } = placement;
  const [instances, architecture, allowedGroups, ...candidates] = await Promise.all([
    survey.listInstances(lxd),
    architectureOf(lxd, project, wanted.image),
    survey.once(lxd, `project ${project}`, () => groupsAllowedIn(lxd, project)),
    ...members.map((member) => survey.candidate(lxd, project, member, { devices: expanded.devices, policy, hasState })),
  ]);
  const request: PlacementRequest = {
    project,
    name,
    type: wanted.instanceType,
    placement,
    labels: labelsOf(expanded.config),
    takes: takesOf(expanded),
    group: target?.replace(/^@/, ""),
    allowedGroups,
    architecture,
  };
  // No await from here to the reservation: instances that are placed at the same time must see it.
  const decision = decide(request, candidates, survey.placed(instances, isPreview));
  const { member } = decision;
  if (member === undefined) {
    throw new RefusedError(
      `placement: no member of the cluster at ${lxd.host} can take instance "${name}": ${describeLeftOut(decision.leftOut)}. ` +
        "Change placement, make room on a member, or name one: target",
    );
  }
  const { labels, takes } = request;
  const release = survey.reserve({ project, name, member, labels, takes }, isPreview);
  return { member, explanation: explain(member, decision), release };
}

/** Keeps the place of an instance that was not chosen here, for the instances that are placed afterwards. */
export async function notePlace(work: InstanceWork, member: string, expanded: Expanded): Promise<() => void> {
  const { project, name } = work;
  const survey = await surveyFor(work.lxd);
  return survey.reserve({ project, name, member, labels: labelsOf(expanded.config), takes: takesOf(expanded) });
}

/** Forgets the place of an instance that was removed. */
export async function forgetPlace({ lxd, project, name }: InstanceWork): Promise<void> {
  (await surveyFor(lxd)).forget({ project, name });
}

async function surveyFor(lxd: LxdClient): Promise<Survey> {
  const { fingerprint } = await presentedBy(lxd.endpoint, lxd.deadline);
  return surveyOf(fingerprint);
}

function explain(member: string, { because, leftOut }: Decision): string {
  return `${member} (${because})${leftOut.length === 0 ? "" : `; left out: ${describeLeftOut(leftOut)}`}`;
}

/** Architecture of an image of the cluster. An image server may have the image for several. */
async function architectureOf(lxd: LxdClient, project: string, image: ImageSource): Promise<string | undefined> {
  if (image.server !== undefined) {
    return undefined;
  }
  const { alias } = image;
  const aliased =
    alias === undefined ? undefined : await lxd.findShared(api`/1.0/images/aliases/${alias}`, imageSchema, { project });
  const fingerprint = image.fingerprint ?? aliased?.target ?? "";
  const found = fingerprint === "" ? undefined : await lxd.findShared(api`/1.0/images/${fingerprint}`, imageSchema, { project });
  return found?.architecture || undefined;
}

/** Cluster groups to which a project is restricted; `undefined` for all. */
async function groupsAllowedIn(lxd: LxdClient, project: string): Promise<string[] | undefined> {
  const config = (await findProject(lxd, project))?.value.config ?? {};
  const groups = config["restricted.cluster.groups"] ?? "";
  return config["restricted"] !== "true" || groups === "" ? undefined : groups.split(",").map((group) => group.trim());
}

/** What an instance will take of its member. */
function takesOf({ config, devices }: Expanded): Takes {
  const memory = config["limits.memory"] ?? "";
  const percent = /^(\d+)%$/.exec(memory)?.[1];
  const { pool = "", size = "" } = rootDiskOf(devices)?.[1] ?? {};
  const diskBytes = parseSize(size);
  return {
    memory:
      percent === undefined ? { bytes: Number(parseSize(memory) ?? DEFAULT_MEMORY_BYTES) } : { part: Number(percent) / 100 },
    cpus: cpusIn(config["limits.cpu"] ?? ""),
    disk: diskBytes === undefined ? undefined : { pool, bytes: Number(diskBytes) },
  };
}

/** Counts the CPUs of a limit: a number, or a set such as "0-3,8". */
function cpusIn(limit: string): number {
  if (/^\d+$/.test(limit)) {
    return Number(limit);
  }
  const ranges = [...limit.matchAll(/(\d+)(?:-(\d+))?/g)];
  return ranges.reduce((total, [, first, last]) => total + Number(last ?? first) - Number(first) + 1, 0) || DEFAULT_CPUS;
}
