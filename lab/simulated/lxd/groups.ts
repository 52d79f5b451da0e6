/** `/1.0/cluster/groups`. */
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, type LxdServer, urlOf } from "./database";
import { requireApiName } from "./instance-model";
import { created, LxdError, type Reply, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";

const putFields = {
  description: z.string().default(""),
  members: z.array(z.string()).nullish(),
  config: z.record(z.string(), z.string()).nullish(),
};
const groupPut = z.object(putFields).describe("ClusterGroupPut");
const groupPost = z.object({ ...putFields, name: z.string().default("") }).describe("ClusterGroupsPost");

/** Adds the endpoints of groups of members. */
export function addClusterGroups(router: Router): void {
  router.add("/1.0/cluster/groups", {
    GET: (request) => listed(request, [...ofCluster(request).groups.keys()], urlOfGroup, (name) => toApi(request.daemon, name)),
    POST: createGroup,
  });
  router.add("/1.0/cluster/groups/{name}", {
    GET: (request) => {
      ofCluster(request);
      const group = toApi(request.daemon, param(request, "name"));
      return sync(group, group);
    },
    PUT: changeGroup,
    POST: renameGroup,
    DELETE: deleteGroup,
  });
}

function urlOfGroup(name: string): string {
  return `/1.0/cluster/groups/${name}`;
}

function ofCluster({ daemon }: ApiRequest): Database {
  if (!daemon.database.clustered) {
    throw new LxdError(400, "This server is not clustered");
  }
  return daemon.database;
}

function createGroup(request: ApiRequest): Reply {
  const database = ofCluster(request);
  const { behaviour } = request.daemon;
  const { name, description, members, config } = decode(request, groupPost);
  if (behaviour.apiNames) {
    requireApiName(behaviour, name);
  } else {
    requireValidName(name);
  }
  const own = validConfig(request.daemon, config);
  if (database.groups.has(name)) {
    throw new LxdError(behaviour.duplicateGroup.status, behaviour.duplicateGroup.text);
  }
  const added = (members ?? []).map((each) => {
    const member = database.members.find((other) => other.name === each);
    if (member === undefined) {
      const text = "NOT NULL constraint failed: nodes_cluster_groups.node_id";
      throw new LxdError(500, `Failed to create "nodes_clusters_groups" entry: ${text}`);
    }
    return member;
  });
  database.groups.set(name, { description, config: own });
  for (const member of added) {
    member.groups = [...member.groups, name];
  }
  request.daemon.event("cluster-group-created", urlOfGroup(name));
  return created(urlOfGroup(name));
}

/** Compares no ETag. */
function changeGroup(request: ApiRequest): Reply {
  const database = ofCluster(request);
  const name = param(request, "name");
  const { description, members, config } = decode(request, groupPut);
  toApi(request.daemon, name);
  const own = validConfig(request.daemon, config);
  const wanted = (members ?? []).map((each) => database.member(each));
  const { lastGroup } = request.daemon.behaviour;
  const last = database.members.find((member) => !wanted.includes(member) && member.groups.join() === name);
  if (last !== undefined && lastGroup === "refused") {
    const why = "from group as member needs to belong to at least one group";
    throw new LxdError(500, `Cannot remove "${last.name}" ${why}`);
  }
  for (const member of database.members) {
    const others = member.groups.filter((each) => each !== name);
    if (wanted.includes(member)) {
      member.groups = [...others, name];
    } else if (member !== last || lastGroup === "lost") {
      member.groups = others;
    }
  }
  database.groups.set(name, { description, config: own });
  request.daemon.event("cluster-group-updated", urlOfGroup(name));
  return sync();
}

function renameGroup(request: ApiRequest): Reply {
  const database = ofCluster(request);
  const [name, { name: to }] = [param(request, "name"), decode(request, groupPost)];
  if (name === "default") {
    throw new LxdError(403, 'The "default" group cannot be renamed');
  }
  if (database.groups.has(to)) {
    throw new LxdError(500, `Name "${to}" already in use`);
  }
  const { description } = toApi(request.daemon, name);
  database.groups.set(to, { description, config: database.groups.get(name)?.config ?? {} });
  database.groups.delete(name);
  for (const member of database.members) {
    member.groups = member.groups.map((each) => (each === name ? to : each));
  }
  request.daemon.event("cluster-group-renamed", urlOfGroup(to));
  return created(urlOfGroup(to));
}

function deleteGroup(request: ApiRequest): Reply {
  const database = ofCluster(request);
  const name = param(request, "name");
  if (name === "default") {
    throw new LxdError(403, "The 'default' cluster group cannot be deleted");
  }
  if (membersOf(database, name).length > 0) {
    throw new LxdError(request.daemon.behaviour.nonEmptyGroupStatus, "Only empty cluster groups can be removed");
  }
  const { used_by: users = [] } = toApi(request.daemon, name);
  if (users.length > 0) {
    throw new LxdError(400, "Cluster group is currently in use");
  }
  database.groups.delete(name);
  request.daemon.event("cluster-group-deleted", urlOfGroup(name));
  return sync();
}

function requireValidName(name: string): void {
  if (name === "") {
    throw new LxdError(400, "No name provided");
  }
  const forbidden = (
    [
      [/\//, "slashes"],
      [/ /, "spaces"],
      [/_/, "underscores"],
      [/['"]/, "quotes"],
    ] as const
  ).find(([pattern]) => pattern.test(name));
  if (forbidden !== undefined) {
    throw new LxdError(400, `Cluster group names may not contain ${forbidden[1]}`);
  }
  if (name === "*") {
    throw new LxdError(400, "Reserved cluster group name");
  }
  if ([".", ".."].includes(name)) {
    throw new LxdError(400, `Invalid cluster group name "${name}"`);
  }
}

/** Ignores the field on a server whose groups have none. */
function validConfig({ behaviour }: LxdServer, config: Config | null | undefined): Config {
  if (!behaviour.apiExtensions.includes("clustering_groups_config")) {
    return {};
  }
  const unknown = Object.keys(config ?? {}).find((key) => !/^(user\.|instances\.vm\.cpu\.[^.]+\.(baseline|flags)$)/.test(key));
  if (unknown !== undefined) {
    throw new LxdError(400, `Invalid cluster group configuration key "${unknown}"`);
  }
  return config ?? {};
}

interface ApiGroup {
  name: string;
  description: string;
  members: string[];
  config?: Config;
  used_by?: string[];
}

function toApi({ database, behaviour: { apiExtensions } }: LxdServer, name: string): ApiGroup {
  const group = database.groups.get(name);
  if (group === undefined) {
    throw new LxdError(404, "Cluster group not found");
  }
  const { description, config } = group;
  return {
    name,
    description,
    members: membersOf(database, name),
    ...(apiExtensions.includes("clustering_groups_config") && { config }),
    ...(apiExtensions.includes("cluster_group_usedby") && { used_by: usersOf(database, name) }),
  };
}

function membersOf(database: Database, group: string): string[] {
  return database.members
    .filter(({ groups }) => groups.includes(group))
    .map(({ name }) => name)
    .sort();
}

function usersOf(database: Database, group: string): string[] {
  const restricted = [...database.projects.values()].filter(({ config }) =>
    (config["restricted.cluster.groups"] ?? "").split(",").some((each) => each.trim() === group),
  );
  const placed = [...database.instances.values()].filter(({ config }) => config["volatile.cluster.group"] === group);
  return [
    ...restricted.map(({ name }) => `/1.0/projects/${name}`),
    ...placed.map(({ name, project }) => urlOf(`/1.0/instances/${name}`, project)),
  ];
}
