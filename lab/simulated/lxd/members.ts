/** The members of a cluster: reading, changing, removing, evacuating. */
import { z } from "zod";
import { listed, makeToken, memberOf, requireClustered } from "./cluster";
import { Database, type Instance, keyOf, type Member, STUCK } from "./database";
import { bootInstance, haltInstance, migratable } from "./instance-state";
import { poolResources } from "./pools";
import { async, created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, type Router } from "./router";
import { reach } from "./server";
import { removeFromMember } from "./storage-and-networks";

const memberPost = z.object({ server_name: z.string().default("") });
const memberPut = z.object({
  roles: z.array(z.string()).nullish(),
  failure_domain: z.string().default(""),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  groups: z.array(z.string()).nullish(),
});
const statePost = z.object({ action: z.string().default(""), mode: z.string().default("") });
/** Adds `/1.0/cluster/members`. */
export function addMembers(router: Router): void {
  router.add("/1.0/cluster/members", {
    GET: (request) => {
      const database = requireClustered(request.daemon);
      return listed(
        request,
        database.members,
        (member) => `/1.0/cluster/members/${member.name}`,
        (member) => toApi(database, member),
      );
    },
    POST: (request) => makeToken(request, decode(request, memberPost).server_name),
  });
  router.add("/1.0/cluster/members/{name}", {
    GET: (request) => {
      const member = memberOf(request);
      return sync(toApi(request.daemon.database, member), writable(request.daemon.database, member));
    },
    PUT: (request) => changeMember(request, true),
    PATCH: (request) => changeMember(request, false),
    POST: renameMember,
    DELETE: deleteMember,
  });
  router.add("/1.0/cluster/members/{name}/state", { GET: getState, POST: changeState });
}

function rolesOf(database: Database, member: Member): string[] {
  const { manualRoles } = member;
  if (database.leader() === member) {
    return [...manualRoles, "database-leader", "database"];
  }
  return [...manualRoles, database.voters.includes(member) ? "database" : "database-standby"];
}

function toApi(database: Database, member: Member): Record<string, unknown> {
  const heard = database.isOnline(member) ? (member.daemon.isBehind ? "Blocked" : "Online") : "Offline";
  const status = member.evacuated ? "Evacuated" : heard;
  const message = {
    Online: "Fully operational",
    Blocked: "Needs updating to newer version",
    Evacuated: "Unavailable due to maintenance",
    Offline: "No heartbeat for 21.5s (2026-01-01 00:00:00 +0000 UTC)",
  };
  return {
    ...writable(database, member),
    server_name: member.name,
    url: `https://${member.address}`,
    database: true,
    status,
    message: message[status],
    architecture: "x86_64",
  };
}

function writable(database: Database, member: Member) {
  return {
    roles: rolesOf(database, member),
    failure_domain: member.failureDomain,
    description: member.description,
    config: member.config,
    groups: member.groups,
  };
}

function changeMember(request: ApiRequest, replace: boolean): Reply {
  const { database } = request.daemon;
  const member = memberOf(request);
  requireEtag(request.headers["if-match"], writable(database, member));
  const body = decode(request, memberPut);
  const config = { ...(replace ? {} : member.config), ...body.config };
  for (const [key, value] of Object.entries(config)) {
    if (key === "scheduler.instance" ? !["all", "group", "manual"].includes(value) : !key.startsWith("user.")) {
      throw new LxdError(500, `Invalid cluster configuration key "${key}"${key === "scheduler.instance" ? " value" : ""}`);
    }
  }
  if (body.failure_domain === "") {
    throw new LxdError(500, "Update failure domain: Failure domain name can't be empty");
  }
  if ((body.groups ?? []).length === 0) {
    throw new LxdError(400, "Cluster members need to belong to at least one group");
  }
  // LXD assigns this role itself; it ignores the other automatic ones.
  const isVoter = database.voters.includes(member);
  if (isVoter !== (body.roles ?? []).includes("database")) {
    throw new LxdError(400, `The "database" role cannot be ${isVoter ? "dropped" : "added"} at this time`);
  }
  const manual = (body.roles ?? []).filter((role) => !/^database(-leader|-standby)?$/.test(role));
  const unknown = manual.find((role) => !request.daemon.behaviour.manualRoles.includes(role));
  if (unknown !== undefined) {
    throw new LxdError(500, `Update roles: Invalid cluster role "${unknown}"`);
  }
  member.manualRoles = manual;
  member.config = config;
  member.description = body.description;
  member.failureDomain = body.failure_domain;
  member.groups = body.groups ?? [];
  request.daemon.event("cluster-member-updated", `/1.0/cluster/members/${member.name}`);
  return sync();
}

function renameMember(request: ApiRequest): Reply {
  const member = memberOf(request);
  const { server_name: name } = decode(request, memberPost);
  if (request.daemon.database.members.some((each) => each.name === name)) {
    throw new LxdError(409, `Cluster member name "${name}" already exists`);
  }
  member.name = name;
  return created(`/1.0/cluster/members/${name}`);
}

function deleteMember(request: ApiRequest): Reply {
  const { database } = request.daemon;
  // Only "1": "true" is not a number, and LXD 5.0 parses the value as one.
  const force = request.query.get("force") === "1";
  const member = memberOf(request);
  if (database.members.length === 1) {
    throw new LxdError(500, "Member is the only member in the cluster");
  }
  const instances = [...database.instances.values()].filter((instance) => instance.member === member);
  if (!force) {
    copyLastImages(database, member);
    requireEmpty(database, member, instances);
    reach(member.daemon);
  }
  for (const instance of instances) {
    database.instances.delete(keyOf(instance.project, instance.name));
  }
  for (const [key, { members: holders }] of database.images) {
    holders.delete(member);
    if (holders.size === 0) {
      database.images.delete(key);
    }
  }
  for (const pool of database.pools.values()) {
    pool.customVolumes = pool.customVolumes.filter((volume) => volume.member !== member);
  }
  for (const objects of [database.pools, database.networks]) {
    for (const object of objects.values()) {
      if (force) {
        object.nodes.delete(member);
      } else {
        removeFromMember(object, member);
      }
    }
  }
  request.daemon.event("cluster-member-removed", `/1.0/cluster/members/${member.name}`);
  const { daemon } = member;
  database.members.splice(database.members.indexOf(member), 1);
  database.certificates.delete(daemon.certificate.fingerprint);
  database.rebalance();
  if (force) {
    // The removed machine is not notified: it continues to believe it is a member of its former cluster. A host that
    // was reinstalled since has no certificate, or that of another cluster.
    const [{ files }, certificate] = [daemon.host, daemon.path("cluster.crt")];
    const isThere = files.exists(certificate) && files.readText(certificate) === database.certificate?.pem;
    if (!daemon.answers && isThere) {
      files.writeFile(daemon.path(STUCK), ""); // its start hangs
    }
    daemon.database = strandedCopy(database, member);
  } else {
    daemon.stop();
    daemon.reset(true);
    daemon.start();
  }
  return sync();
}

/** Where LXD keeps several copies of an image, a member that leaves passes its own on. */
function copyLastImages(database: Database, member: Member): void {
  const [other] = database.online().filter((each) => each !== member);
  for (const { members: holders } of database.images.values()) {
    if (database.config["cluster.images_minimal_replica"] !== "1" && other !== undefined && holders.size === 1) {
      holders.add(other);
    }
  }
}

function requireEmpty(database: Database, member: Member, instances: Instance[]): void {
  const used: [string, string[]][] = [
    [member.daemon.behaviour.wordForInstances, instances.map((instance) => instance.name)],
    [
      "images",
      [...database.images.values()]
        .filter(({ members: holders }) => holders.size === 1 && holders.has(member))
        .map(({ fingerprint }) => fingerprint),
    ],
    [
      "custom volumes",
      [...database.pools.values()].flatMap((pool) =>
        pool.customVolumes.filter((volume) => volume.member === member).map((volume) => volume.name),
      ),
    ],
  ];
  for (const [what, names] of used) {
    if (names.length > 0) {
      throw new LxdError(500, `Node still has the following ${what}: ${names.join(", ")}`);
    }
  }
}

/** The view of a machine that was removed by force: a cluster without the majority that is needed to answer. */
function strandedCopy(database: Database, member: Member): Database {
  const stranded = new Database();
  stranded.clustered = true;
  stranded.certificate = database.certificate;
  stranded.members = [member];
  stranded.lost = true;
  return stranded;
}

function getState(request: ApiRequest): Reply {
  if (!request.daemon.behaviour.apiExtensions.includes("cluster_member_state")) {
    throw new LxdError(501, "not implemented");
  }
  const { daemon } = memberOf(request);
  const { host, database } = reach(daemon);
  const { memoryBytes, load } = host.usage;
  const sysinfo = {
    uptime: 1000,
    load_averages: [load, load, load],
    total_ram: host.memoryBytes,
    free_ram: host.memoryBytes - memoryBytes,
    shared_ram: 0,
    buffered_ram: 0,
    total_swap: 0,
    free_swap: 0,
    processes: 200,
  };
  const whole = [...database.pools.values()].filter(({ status }) => status === "Created");
  return sync({ sysinfo, storage_pools: Object.fromEntries(whole.map(({ name }) => [name, poolResources(daemon)])) });
}

function changeState(request: ApiRequest): Reply {
  const member = memberOf(request);
  const { action, mode } = decode(request, statePost);
  const { daemon } = member;
  reach(daemon);
  if (action !== "evacuate" && action !== "restore") {
    throw new LxdError(400, `Unknown action "${action}"`);
  }
  const { database } = request.daemon;
  const hasModes = daemon.behaviour.apiExtensions.includes("clustering_evacuation_mode");
  const description = action === "evacuate" ? "Evacuating cluster member" : "Restoring cluster member";
  const operation = daemon.operate({ description }, () => {
    if (member.evacuated === (action === "evacuate")) {
      throw new LxdError(500, `Cluster member is already ${action}d`);
    }
    if (action === "evacuate") {
      if (hasModes && !["", "stop", "migrate", "live-migrate"].includes(mode)) {
        throw new LxdError(400, `Invalid evacuation mode: "${mode}"`);
      }
      member.evacuated = true;
      evacuate(database, member, hasModes ? mode : "");
    } else {
      member.evacuated = false;
      if (mode !== "skip" || !daemon.behaviour.apiExtensions.includes("clustering_restore_skip_mode")) {
        restore(database, member);
      }
    }
    daemon.event(`cluster-member-${action}d`, `/1.0/cluster/members/${member.name}`);
  });
  return async(operation);
}

function evacuate(database: Database, member: Member, mode: string): void {
  for (const instance of [...database.instances.values()].filter((each) => each.member === member)) {
    const running = instance.status === "Running";
    if (running) {
      haltInstance(instance);
      if (instance.ephemeral) {
        continue; // its stop has removed it
      }
      instance.config["volatile.last_state.power"] = "RUNNING";
    }
    const group = instance.config["volatile.cluster.group"] ?? "";
    const candidate = database
      .online()
      .filter((each) => !each.evacuated && (group === "" || each.groups.includes(group)))
      .filter(
        ({ config }) => config["scheduler.instance"] !== "manual" && (group !== "" || config["scheduler.instance"] !== "group"),
      )
      .map((each) => ({ each, load: [...database.instances.values()].filter((other) => other.member === each).length }))
      .sort((a, b) => a.load - b.load)[0]?.each;
    if (candidate === undefined || !migratable(database, instance, mode)) {
      continue;
    }
    instance.config["volatile.evacuate.origin"] ??= member.name;
    instance.member = candidate;
    if (running) {
      bootInstance(instance);
    }
  }
}

function restore(database: Database, member: Member): void {
  for (const instance of database.instances.values()) {
    const running = instance.status === "Running" || instance.config["volatile.last_state.power"] === "RUNNING";
    if (instance.config["volatile.evacuate.origin"] === member.name) {
      haltInstance(instance);
      delete instance.config["volatile.evacuate.origin"];
      instance.member = member;
    } else if (instance.member !== member) {
      continue;
    }
    if (running && instance.status !== "Running") {
      bootInstance(instance);
    }
  }
}
