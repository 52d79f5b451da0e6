/**
 * Reads of instances that many callers make at about the same time: a refresh. Few are read one by one; when they are a good part of all
 * there are, one list is quicker. LXD needs about six times as long for the state of an instance as for all else of it, so state is read
 * only of those that are asked for and run.
 */
import * as z from "zod";
import { hasCode, isNotFound, TransportError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import type { Endpoint } from "../client/endpoint";
import { listMembersShared } from "../cluster/cluster";
import { answers } from "../cluster/heartbeats";
import { getServerShared } from "../server";
import type { InstanceRef } from "./instance-lock";
import { type Instance, instanceSchema, isStopped, stateSchema } from "./instances";

/** So many are read one by one, whatever else there is. */
const FEW = 8;
/** From then on the list is read as soon as those asked for are this part of it: a list takes LXD about 2 ms for each instance. */
const PART_OF_ALL = 1 / 8;

/** The instance, read once for all who ask for it in this process until something is changed. */
export function findInstanceShared(which: InstanceRef): Promise<Instance | undefined> {
  return find(which, false);
}

/** {@link findInstanceShared} with its state when it is not off: addresses and processes. */
export function findInstanceWithStateShared(which: InstanceRef): Promise<Instance | undefined> {
  return find(which, true);
}

/**
 * @throws TransportError when its member does not answer: LXD then lists it without any contents.
 */
async function find(which: InstanceRef, withState: boolean): Promise<Instance | undefined> {
  if (!(await isListWorthIt(which))) {
    return readOne(which);
  }
  const instance = (await listOnce(which)).get(which.name);
  if (instance === undefined) {
    return readOne(which); // that it is not there is told only at its own address
  }
  if (isWithoutContents(instance) && (await answers(which.lxd, instance.location, getServerShared))) {
    return readOne(which); // LXD has not heard of its member lately, and does not ask it for a list
  }
  await requireContents(which.lxd, instance);
  if (!withState || isStopped(instance)) {
    return instance;
  }
  try {
    const state = await which.lxd.getShared(api`/1.0/instances/${which.name}/state`, stateSchema, { project: which.project });
    return { ...instance, state };
  } catch (error) {
    if (isNotFound(error)) {
      return readOne(which);
    }
    throw error;
  }
}

const asked = new WeakMap<Endpoint, Map<string, Set<string>>>();

function askedOf({ endpoint }: LxdClient, project: string): Set<string> {
  const projects = asked.get(endpoint) ?? new Map<string, Set<string>>();
  asked.set(endpoint, projects);
  const names = projects.get(project) ?? new Set<string>();
  projects.set(project, names);
  return names;
}

/** Judged by how many have been asked for by now, among all that there are. */
async function isListWorthIt({ lxd, project, name }: InstanceRef): Promise<boolean> {
  const names = askedOf(lxd, project);
  names.add(name);
  if (names.size <= FEW) {
    return false;
  }
  const all = await lxd.getShared("/1.0/instances", z.array(z.string()), { project });
  return names.size >= all.length * PART_OF_ALL;
}

async function readOne(which: InstanceRef): Promise<Instance | undefined> {
  const { lxd, project, name } = which;
  try {
    return await lxd.getShared(api`/1.0/instances/${name}`, instanceSchema, { project, recursion: 1 });
  } catch (error) {
    if (isNotFound(error)) {
      return undefined;
    }
    if (hasCode(error, "api")) {
      const instance = (await listOnce(which)).get(name); // tells which cluster member does not answer, when that is why
      await (instance === undefined ? undefined : requireContents(lxd, instance));
    }
    throw error;
  }
}

/** All instances of a project, without their state. */
async function listOnce({ lxd, project }: InstanceRef): Promise<ReadonlyMap<string, Instance>> {
  const texts = new Map<string, string>();
  const instances = await lxd.getListShared("/1.0/instances", instanceSchema, (instance) => slim(instance, texts), {
    project,
    recursion: 1,
  });
  return new Map(instances.map((instance) => [instance.name, instance]));
}

/** Shorter texts are not worth looking for. */
const LONG_TEXT = 256;

/** LXD sends user data twice for each instance, and that of a profile for each that has it. Each text is kept once. */
function slim(instance: Instance, texts: Map<string, string>): Instance {
  const kept = (config: Record<string, string>): Record<string, string> =>
    Object.fromEntries(
      Object.entries(config).map(([key, value]) => {
        if (value.length < LONG_TEXT) {
          return [key, value];
        }
        const same = texts.get(value) ?? value;
        texts.set(same, same);
        return [key, same];
      }),
    );
  return { ...instance, config: kept(instance.config), expanded_config: kept(instance.expanded_config) };
}

/** LXD lists an instance so whose member it takes for offline. */
function isWithoutContents({ status, config }: Instance): boolean {
  return status === "Error" && Object.keys(config).length === 0;
}

async function requireContents(lxd: LxdClient, instance: Instance): Promise<void> {
  if (!isWithoutContents(instance)) {
    return;
  }
  const members = await listMembersShared(lxd).catch(() => []);
  const status = members.find(({ server_name }) => server_name === instance.location)?.status ?? "not answering";
  throw new TransportError(
    instance.location,
    `Instance "${instance.name}" cannot be read: it is on cluster member "${instance.location}", which is ${status} (asked: ${lxd.host}). ` +
      `Nothing is known of its present state. Bring the member back, then try again; or, when it was reinstalled or is lost, remove it with what it ` +
      `held: lxc cluster remove --force ${instance.location}`,
  );
}
