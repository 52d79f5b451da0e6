/** Reads what a cluster has, for people. Members that are down are shown as such, and fail nothing. */
import * as z from "zod";
import { listOf } from "../../provider/lxd/client/answers";
import { LxdClient } from "../../provider/lxd/client/client";
import { clusterEndpoint } from "../../provider/lxd/client/cluster-endpoint";
import { operationsSchema } from "../../provider/lxd/client/operations";
import { EVACUATED, listMembersShared, type Member } from "../../provider/lxd/cluster/cluster";
import { describeQuorum } from "../../provider/lxd/cluster/quorum";
import { getServersShared, type Servers } from "../../provider/lxd/cluster/servers";
import { OWNER_KEY } from "../../provider/lxd/config";
import { EVACUATED_FROM } from "../../provider/lxd/instances/evacuation";
import { addressesOf, type Instance, instanceSchema, isStopped, nicsOf } from "../../provider/lxd/instances/instances";
import { readMark } from "../../provider/lxd/ownership";
import { getServer } from "../../provider/lxd/server";
import { type ObjectRef, readOnMembers, statusesOf } from "../../provider/lxd/storage-and-networks/member-objects";
import { network } from "../../provider/lxd/storage-and-networks/networks";
import { pool } from "../../provider/lxd/storage-and-networks/storage-pools";
import { ownedUsersIn } from "../../provider/machine/marks";
import { Deadline } from "../../provider/support/deadline";
import { hasCode, messageOf } from "../../provider/support/errors";
import type { HostArgs } from "../arguments";
import { connectionOf } from "../hosts";
import type { ClusterStatus, InstanceStatus, MemberStatus, ObjectStatus } from "./contents";
import { unfinishedIn } from "./unfinished";

/** Time limit for reading a cluster, in seconds. */
const READ_SECONDS = 120;

const projectSchema = z.looseObject({ name: z.string(), config: z.record(z.string(), z.string()).nullish() });
const listedNetworkSchema = z.looseObject({ name: z.string(), managed: z.boolean() });

/** What was read for a status. */
export interface Reading {
  readonly lxd: LxdClient;
  readonly servers: Servers;
  readonly projects: readonly z.output<typeof projectSchema>[];
  /** In the order of the status; `state` is absent when it did not come in time. */
  readonly instances: readonly Instance[];
  readonly status: ClusterStatus;
}

/** {@link readCluster} for its status alone. */
export async function readStatus(...what: Parameters<typeof readCluster>): Promise<ClusterStatus> {
  return (await readCluster(...what)).status;
}

/**
 * Reads a cluster through the first of the hosts that answers for it.
 * @param tell - Receives the hosts that were skipped, and what could not be read.
 * @param seconds - Time limit.
 */
export async function readCluster(
  hosts: readonly HostArgs[],
  tell: (text: string) => void,
  seconds = READ_SECONDS,
): Promise<Reading> {
  const deadline = new Deadline(seconds, "Reading the cluster");
  const { endpoint } = await clusterEndpoint({ endpoints: hosts.map(connectionOf) }, { deadline, patient: false, warn: tell });
  const lxd = new LxdClient(endpoint, deadline);
  const { environment } = await getServer(lxd);
  const servers = await getServersShared(lxd);
  const projects = await lxd.get("/1.0/projects", listOf(projectSchema), { recursion: 1 });
  const members = servers.clustered ? await listMembersShared(lxd) : [];
  const evacuated = new Set(members.flatMap(({ server_name, status }) => (status === EVACUATED ? [server_name] : [])));
  const instances = await instancesOf(lxd, projects, tell);
  const found = {
    title: `${lxd.names.name} ${environment.server_version}`,
    host: endpoint.host,
    client: lxd.names.client,
    clustered: servers.clustered,
    members: servers.clustered ? members.map(memberStatus) : [standalone(environment.server_name)],
    quorum: describeQuorum(members),
    pools: await poolsOf(lxd, servers),
    networks: await networksOf(lxd, servers, projects),
    instances: instances.map(({ project, instance }) => instanceStatus(project, instance, environment.server_name, evacuated)),
    operations: await operationsOf(lxd),
  };
  const status = { ...found, unfinished: unfinishedIn(found) };
  return { lxd, servers, projects, instances: instances.map(({ instance }) => instance), status };
}

function standalone(name: string): MemberStatus {
  return { name, status: "Online", isDown: false, message: "", address: "", roles: [] };
}

function memberStatus({ server_name: name, status, isDown, message, url, roles }: Member): MemberStatus {
  const shown = isDown && status === EVACUATED ? `${EVACUATED}, down` : status;
  return { name, status: shown, isDown, message, address: url.replace(/^https:\/\//, ""), roles: roles ?? [] };
}

/** Lists by name only: a server that cannot read one of its pools lists none with their contents. */
async function poolsOf(lxd: LxdClient, servers: Servers): Promise<ObjectStatus[]> {
  const urls = await lxd.get("/1.0/storage-pools", listOf(z.string()));
  const names = urls.map((url) => decodeURIComponent(url.split("/").at(-1) ?? "")).sort();
  return Promise.all(names.map((name) => objectStatus(lxd, servers, pool(name))));
}

async function networksOf(
  lxd: LxdClient,
  servers: Servers,
  projects: readonly z.output<typeof projectSchema>[],
): Promise<ObjectStatus[]> {
  const own = projects.filter(({ name, config }) => name === "default" || config?.["features.networks"] === "true");
  const lists = await Promise.all(
    own.map(async ({ name: project }) => {
      const networks = await lxd.get("/1.0/networks", listOf(listedNetworkSchema), { project, recursion: 1 });
      return networks.flatMap(({ name, managed }) => (managed ? [network(project, name)] : []));
    }),
  );
  return Promise.all(lists.flat().map((ref) => objectStatus(lxd, servers, ref)));
}

async function objectStatus(lxd: LxdClient, servers: Servers, ref: ObjectRef): Promise<ObjectStatus> {
  const views = await readOnMembers(lxd, ref, servers);
  const [seen] = views.views.values();
  return {
    project: ref.project ?? "default",
    name: ref.name,
    type: seen?.value.driver || seen?.value.type || "",
    statuses: statusesOf(servers, views),
    mark: readMark(seen?.value.config?.[OWNER_KEY]),
  };
}

async function instancesOf(
  lxd: LxdClient,
  projects: readonly z.output<typeof projectSchema>[],
  tell: (text: string) => void,
): Promise<{ project: string; instance: Instance }[]> {
  const listOfAll = async (at: LxdClient, recursion: 1 | 2) => {
    const lists = await Promise.all(
      projects.map(async ({ name: project }) => {
        const instances = await at.get("/1.0/instances", listOf(instanceSchema), { project, recursion });
        return instances.map((instance) => ({ project, instance }));
      }),
    );
    return lists.flat();
  };
  const part = lxd.deadline.atMostHalf(Number.POSITIVE_INFINITY, "reading the state of the instances");
  try {
    return await listOfAll(lxd.within(part), 2);
  } catch (error) {
    if (!hasCode(error, "timeout")) {
      throw error;
    }
    tell(`Addresses are not shown: ${messageOf(error)}. The agent of a virtual machine may hang`);
    return listOfAll(lxd, 1);
  }
}

/** @param evacuated - Names of the evacuated members. */
function instanceStatus(project: string, instance: Instance, server: string, evacuated: ReadonlySet<string>): InstanceStatus {
  const { name, type, status, location, config } = instance;
  const member = location === "" || location === "none" ? server : location;
  const isStoppedByEvacuation = evacuated.has(member) && isStopped(instance) && config["volatile.last_state.power"] === "RUNNING";
  return {
    ...{ project, name, type, status, member },
    origin: isStoppedByEvacuation ? member : config[EVACUATED_FROM],
    addresses: Object.values(addressesOf(instance)).flatMap(({ ipv4, ipv6 }) => [...ipv4, ...ipv6]),
    nics: nicsOf(instance).flatMap(([, { network: on = "", parent = "" }]) => ((on || parent) === "" ? [] : [on || parent])),
    users: ownedUsersIn(config).sort(),
    mark: readMark(config[OWNER_KEY]),
  };
}

/** Lists what runs in the background. A command in an instance is its user's. */
async function operationsOf(lxd: LxdClient): Promise<ClusterStatus["operations"]> {
  const operations = await lxd.get("/1.0/operations", operationsSchema, { recursion: 1, "all-projects": "true" });
  return operations.flatMap(({ class: kind, status, description, created_at: since }) =>
    kind === "task" && status === "Running" ? [{ description, since }] : [],
  );
}
