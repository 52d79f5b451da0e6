/**
 * Reads of instances that many callers make at about the same time, as in a refresh. Reads a few instances one by one. When they
 * are a large part of all instances, one list is faster. LXD needs about six times as long for an instance's state as for the
 * rest of it, so state is read only for requested instances that run.
 */
import * as z from "zod";
import { hasCode, TransportError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient } from "../client/client";
import type { Endpoint } from "../client/endpoint";
import { listMembersShared } from "../cluster/cluster";
import { answers } from "../cluster/heartbeats";
import type { Config } from "../config";
import { getServerShared } from "../server";
import type { InstanceRef } from "./instance-lock";
import { type Instance, instanceSchema, isStopped, stateSchema } from "./instances";

/** Number of instances that are always read one by one. */
const FEW = 8;
/**
 * Above that number, the list is read once this part of all instances is requested: LXD needs about 2 ms for each instance in a
 * list.
 */
const PART_OF_ALL = 1 / 8;

/** Finds an instance, with one read for all callers in this process until a change. */
export function findInstanceShared(which: InstanceRef): Promise<Instance | undefined> {
  return find(which, false);
}

/** {@link findInstanceShared} with the state of an instance that is not stopped: addresses and processes. */
export function findInstanceWithStateShared(which: InstanceRef): Promise<Instance | undefined> {
  return find(which, true);
}

/** @throws TransportError when its member does not answer: LXD then lists it without any contents. */
async function find(which: InstanceRef, withState: boolean): Promise<Instance | undefined> {
  if (!(await isListWorthIt(which))) {
    return readOne(which);
  }
  const instance = (await listOnce(which)).get(which.name);
  if (instance === undefined) {
    return readOne(which); // only its own address shows that it does not exist
  }
  if (isWithoutContents(instance) && (await answers(which.lxd, instance.location, getServerShared))) {
    return readOne(which); // LXD has missed its member's heartbeats, and does not ask it for a list
  }
  await requireContents(which.lxd, instance);
  if (!withState || isStopped(instance)) {
    return instance;
  }
  const { lxd, project, name } = which;
  const state = await lxd.findShared(api`/1.0/instances/${name}/state`, stateSchema, { project });
  return state === undefined ? readOne(which) : { ...instance, state };
}

const asked = new WeakMap<Endpoint, Map<string, Set<string>>>();

function askedOf({ endpoint }: LxdClient, project: string): Set<string> {
  const projects = asked.get(endpoint) ?? new Map<string, Set<string>>();
  asked.set(endpoint, projects);
  const names = projects.get(project) ?? new Set<string>();
  projects.set(project, names);
  return names;
}

/** Compares the number of instances requested so far with that of all instances. */
async function isListWorthIt({ lxd, project, name }: InstanceRef): Promise<boolean> {
  const names = askedOf(lxd, project);
  names.add(name);
  if (names.size <= FEW) {
    return false;
  }
  const all = await lxd.getShared("/1.0/instances", listOf(z.string()), { project });
  return names.size >= all.length * PART_OF_ALL;
}

async function readOne(which: InstanceRef): Promise<Instance | undefined> {
  const { lxd, project, name } = which;
  try {
    return await lxd.findShared(api`/1.0/instances/${name}`, instanceSchema, { project, recursion: 1 });
  } catch (error) {
    if (hasCode(error, "api")) {
      // The list shows which cluster member does not answer, if that is the cause.
      const instance = (await listOnce(which)).get(name);
      await (instance === undefined ? undefined : requireContents(lxd, instance));
    }
    throw error;
  }
}

/** Lists all instances of a project, without their state. */
async function listOnce({ lxd, project }: InstanceRef): Promise<ReadonlyMap<string, Instance>> {
  const texts = new Map<string, string>();
  const instances = await lxd.getListShared("/1.0/instances", instanceSchema, (instance) => slim(instance, texts), {
    project,
    recursion: 1,
  });
  return new Map(instances.map((instance) => [instance.name, instance]));
}

/** Shorter texts are not worth sharing. */
const LONG_TEXT = 256;

/**
 * Keeps each text once. LXD sends user data twice for each instance, and a profile's user data for each instance that has the
 * profile.
 */
function slim(instance: Instance, texts: Map<string, string>): Instance {
  const shared = (text: string): string => {
    const same = texts.get(text) ?? text;
    texts.set(same, same);
    return same;
  };
  const kept = (config: Config): Config =>
    Object.fromEntries(Object.entries(config).map(([key, value]) => [key, value.length < LONG_TEXT ? value : shared(value)]));
  return { ...instance, config: kept(instance.config), expanded_config: kept(instance.expanded_config) };
}

/** Whether LXD lists the instance without contents, as it does when it considers its member offline. */
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
      "Bring the member back, then try again. If it was reinstalled or is lost, remove it with everything it held: " +
      `${lxd.names.client} cluster remove --force ${instance.location}`,
  );
}
