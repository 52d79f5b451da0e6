/** Forming, joining and leaving a cluster. */
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { certificateOf, makeCertificate } from "./certificate";
import type { ClusterObject, Config, Database, LxdServer, Member, Network } from "./database";
import { Operation } from "./operations";
import { async, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, type Router, recursionOf } from "./router";
import { makeOnMember, memberKeysOf, removeFromMember } from "./storage-and-networks";

const memberConfigEntry = z.object({
  entity: z.string().default(""),
  name: z.string().default(""),
  key: z.string().default(""),
  value: z.string().default(""),
});
const clusterPut = z.object({
  server_name: z.string().default(""),
  enabled: z.boolean().default(false),
  server_address: z.string().default(""),
  cluster_address: z.string().default(""),
  cluster_certificate: z.string().default(""),
  cluster_password: z.string().default(""),
  cluster_token: z.string().default(""),
  member_config: z.array(memberConfigEntry).nullish(),
});
const certificatePut = z.object({ cluster_certificate: z.string(), cluster_certificate_key: z.string() });

/** Content of a join token before its encoding. */
const tokenShape = z.object({
  server_name: z.string(),
  fingerprint: z.string(),
  addresses: z.array(z.string()),
  secret: z.string(),
});

/** Adds `/1.0/cluster` itself. */
export function addCluster(router: Router): void {
  router.add("/1.0/cluster", { GET: getCluster, PUT: putCluster });
  router.add("/1.0/cluster/certificate", { PUT: putCertificate });
}

/** Refuses on a standalone daemon. */
export function requireClustered(daemon: LxdServer): Database {
  if (!daemon.database.clustered) {
    throw new LxdError(500, "Server is not clustered");
  }
  return daemon.database;
}

function getCluster({ daemon }: ApiRequest): Reply {
  const { database } = daemon;
  const objects: [string, ClusterObject][] = [
    ...[...database.pools.values()].map((pool): [string, ClusterObject] => ["storage-pool", pool]),
    ...[...database.networks.values()].map((network): [string, ClusterObject] => ["network", network]),
  ];
  const memberConfig = !database.clustered
    ? []
    : objects.flatMap(([entity, object]) =>
        Object.entries(object.nodes.get(daemon.member)?.config ?? {})
          .filter(([key]) => !key.startsWith("volatile."))
          .map(([key, value]) => ({
            entity,
            name: object.name,
            key,
            value: daemon.behaviour.since521 ? value : "",
            description: `"${key}" property for ${entity === "network" ? "network" : "storage pool"} "${object.name}"`,
          })),
      );
  const state = {
    server_name: database.clustered ? daemon.member.name : "",
    enabled: database.clustered,
    member_config: memberConfig,
  };
  return sync(state, state);
}

function putCluster(request: ApiRequest): Reply {
  const { daemon } = request;
  const body = decode(request, clusterPut);
  if (body.server_name !== "" && !body.enabled) {
    throw new LxdError(400, "ServerName must be empty when disabling clustering");
  }
  if (!body.enabled) {
    throw new LxdError(400, "Disabling clustering is not simulated: remove the member instead");
  }
  if (body.server_name === "") {
    throw new LxdError(400, "ServerName is required when enabling clustering");
  }
  return body.cluster_address === "" ? bootstrap(daemon, body.server_name) : join(daemon, body);
}

function bootstrap(daemon: LxdServer, name: string): Reply {
  const address = daemon.localConfig["cluster.https_address"] ?? daemon.localConfig["core.https_address"] ?? "";
  if (address === "" || isWildcard(address)) {
    throw new LxdError(
      500,
      `Cannot use wildcard core.https_address "${address}" for cluster.https_address. Please specify a new cluster.https_address or core.https_address`,
    );
  }
  const operation = daemon.operate({ description: "Creating bootstrap node", resources: { cluster: [""] } }, () => {
    const { database, host } = daemon;
    if (host.files.exists(daemon.path("cluster.crt"))) {
      throw new LxdError(500, "Inconsistent state: found leftover cluster certificate");
    }
    if (database.clustered) {
      throw new LxdError(500, "The member is already part of a cluster");
    }
    daemon.localConfig["cluster.https_address"] = address;
    const { member } = daemon;
    member.name = name;
    member.address = address;
    database.clustered = true;
    database.certificate = makeCertificate(name);
    trust(database, daemon, name);
    host.files.writeFile(daemon.path("cluster.crt"), database.certificate.pem);
    host.files.writeFile(daemon.path("cluster.key"), "");
    daemon.event("cluster-enabled", "/1.0/cluster");
  });
  return async(operation);
}

function join(daemon: LxdServer, body: z.output<typeof clusterPut>): Reply {
  if (body.cluster_certificate === "") {
    throw new LxdError(400, "No target cluster member certificate provided");
  }
  if (daemon.database.clustered) {
    throw new LxdError(400, "This server is already clustered");
  }
  if (body.server_address === "") {
    throw new LxdError(400, "No server address provided for this member");
  }
  const { cluster_token: token, cluster_password: password } = body;
  const operation = daemon.operate({ description: "Joining cluster", resources: { cluster: [""] } }, () => {
    // Kept after a failure, as in LXD: a later attempt finds them.
    daemon.localConfig["core.https_address"] ??= body.server_address;
    if (!daemon.behaviour.since521 && isWildcard(daemon.localConfig["core.https_address"])) {
      throw new LxdError(500, "Failed to join cluster: Wildcard addresses aren't allowed");
    }
    daemon.localConfig["cluster.https_address"] = body.server_address;
    const target = daemon.surroundings.daemonAt(body.cluster_address);
    if (target === undefined) {
      throw new LxdError(
        500,
        `Failed to setup cluster trust: Get "https://${body.cluster_address}": Unable to connect to: ${body.cluster_address} ([dial tcp ${body.cluster_address}: connect: no route to host])`,
      );
    }
    const { database } = target;
    if (database.certificate?.pem.trim() !== body.cluster_certificate.trim()) {
      throw new LxdError(500, "Failed to setup cluster trust: x509: certificate signed by unknown authority");
    }
    if (daemon.behaviour.trustPassword && token === "" && parseBase64Json(password) === undefined) {
      requirePassword(database, password);
    } else {
      redeemToken(database, daemon.behaviour.since521 ? token : password);
    }
    trust(database, daemon, body.server_name);
    copyCertificates(database, daemon);
    replicate(database, daemon, body.server_name, body.server_address, body.member_config ?? []);
  });
  return async(operation);
}

function requirePassword({ config }: Database, password: string): void {
  if (password === "" || config["core.trust_password"] !== password) {
    throw new LxdError(500, "Failed to setup cluster trust: Failed to add server cert to cluster: not authorized");
  }
}

/** Consumes a token, whether or not the join succeeds. */
function redeemToken(database: Database, secret: string): void {
  const decoded = tokenShape.safeParse(parseBase64Json(secret));
  const operation = database.members
    .filter(({ daemon }) => daemon.answers)
    .flatMap(({ daemon }) => daemon.operations.list())
    .find(
      (each) => each.class === "token" && each.running && decoded.success && each.metadata?.["secret"] === decoded.data.secret,
    );
  if (operation === undefined) {
    throw new LxdError(
      500,
      "Failed to setup cluster trust: Failed to add server cert to cluster: No matching cluster join operation found",
    );
  }
  const expiresAt = operation.metadata?.["expiresAt"];
  operation.end(401);
  if (typeof expiresAt === "string" && Date.parse(expiresAt) < Date.now()) {
    throw new LxdError(
      500,
      "Failed to setup cluster trust: Failed to add server cert to cluster: Failed during search for join token operation: Token has expired",
    );
  }
}

function parseBase64Json(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, "base64").toString());
  } catch {
    return undefined;
  }
}

function trust(database: Database, daemon: LxdServer, name: string): void {
  const existing = database.certificates.get(daemon.certificate.fingerprint);
  if (existing !== undefined && existing.name !== name) {
    throw new LxdError(
      500,
      `Failed to setup cluster trust: Existing server certificate with different name "${existing.name}" already in trust store`,
    );
  }
  database.certificates.set(daemon.certificate.fingerprint, {
    ...daemon.certificate,
    name,
    type: "server",
    restricted: false,
    projects: [],
  });
}

/** LXD 5.0 does not recognize the error for a certificate that it has already, which an interrupted join left. */
function copyCertificates(database: Database, daemon: LxdServer): void {
  for (const { fingerprint, type, name } of database.certificates.values()) {
    if (type === "server" && daemon.database.certificates.has(fingerprint) && !daemon.behaviour.since521) {
      throw new LxdError(
        500,
        `Failed adding local trusted certificate "${name}" (${fingerprint}): This "certificates" entry already exists`,
      );
    }
  }
}

function replicate(
  database: Database,
  daemon: LxdServer,
  name: string,
  address: string,
  memberConfig: z.output<typeof memberConfigEntry>[],
): void {
  const joining: Member = {
    name,
    address,
    description: "",
    config: {},
    groups: ["default"],
    failureDomain: "default",
    manualRoles: [],
    evacuated: false,
    daemon,
  };
  const made: ClusterObject[] = [];
  try {
    for (const [entity, objects] of [
      ["storage-pool", database.pools],
      ["network", database.networks],
    ] as const) {
      const leftovers = entity === "storage-pool" ? daemon.database.pools : daemon.database.networks;
      for (const object of objects.values()) {
        if (object.status !== "Created") {
          continue;
        }
        if (entity === "network" && (object as Network).type === "bridge" && daemon.host.interfaces.has(object.name)) {
          throw new LxdError(
            500,
            `Failed to initialize member: Failed to initialize storage pools and networks: Failed to update local member network "${object.name}" in project "${(object as Network).project}": Failed loading network: Network not found`,
          );
        }
        if (leftovers.has(object.name)) {
          const reason = daemon.behaviour.since521
            ? 'Config key "source" is cluster member specific'
            : "Pool source cannot be changed when not in pending state";
          throw new LxdError(
            500,
            `Failed to initialize member: Failed to initialize storage pools and networks: Failed to update ${entity === "network" ? "network" : "storage pool"} "${object.name}": ${reason}`,
          );
        }
        const config: Config = {};
        for (const entry of memberConfig) {
          if (
            entry.entity === entity &&
            entry.name === object.name &&
            memberKeysOf(object).includes(entry.key) &&
            entry.value !== ""
          ) {
            config[entry.key] = entry.value;
          }
        }
        makeOnMember(object, joining, config);
        made.push(object);
      }
    }
    accept(database, daemon, name, address);
    if (database.strayReplicas.has(address)) {
      // dqlite waits for the earlier replica under this address.
      throw new LxdError(500, "Failed to join cluster: context deadline exceeded");
    }
  } catch (error) {
    for (const object of made) {
      removeFromMember(object, joining);
    }
    throw error;
  }
  const pending = database.pendingMembers.findIndex((row) => row.name === name || row.address === address);
  if (pending >= 0) {
    database.pendingMembers.splice(pending, 1);
  }
  database.members.push(joining);
  daemon.database = database;
  const { files } = daemon.host;
  files.writeFile(daemon.path("cluster.crt"), database.certificate?.pem ?? "");
  files.writeFile(daemon.path("cluster.key"), "");
  database.rebalance();
  database.distributeImages();
  daemon.event("cluster-member-added", `/1.0/cluster/members/${name}`);
}

/** Checks of the leader before it accepts a member. */
function accept(database: Database, daemon: LxdServer, name: string, address: string): void {
  const refuse = (reason: string) => new LxdError(500, `Failed request to add member: ${reason}`);
  for (const member of database.members) {
    if (member.name === name) {
      throw refuse(`The cluster already has a member with name: ${name}`);
    }
    if (member.address === address) {
      throw refuse(`The cluster already has a member with address: ${address}`);
    }
    const { behaviour } = member.daemon;
    if (behaviour.flavour !== daemon.behaviour.flavour) {
      throw refuse(
        `The joining server version doesn't match (expected ${daemon.behaviour.version} with API count ${daemon.behaviour.apiExtensions.length})`,
      );
    }
  }
}

/**
 * `POST /1.0/cluster/members`: a join token, which is an operation that runs until the token is used, cancelled or
 * expired.
 */
export function makeToken(request: ApiRequest, name: string): Reply {
  const { daemon } = request;
  const { database } = daemon;
  if (!database.clustered) {
    throw new LxdError(400, "This server is not clustered");
  }
  if (name === "") {
    throw new LxdError(400, "ServerName is required");
  }
  const addresses = database.online().filter((member) => !member.evacuated);
  if (addresses.length === 0) {
    throw new LxdError(500, "There are no online cluster members");
  }
  for (const member of database.online()) {
    for (const older of member.daemon.operations.list()) {
      if (older.class === "token" && older.running && older.metadata?.["serverName"] === name) {
        older.end(401);
      }
    }
  }
  const lifetime = /^(\d+)([SMHd])$/.exec(database.config["cluster.join_token_expiry"] ?? "3H");
  const seconds = Number(lifetime?.[1] ?? 3) * ({ S: 1, M: 60, H: 3600, d: 86400 }[lifetime?.[2] ?? "H"] ?? 3600);
  const operation = new Operation(
    {
      description: "Executing operation",
      class: "token",
      resources: { cluster: [""] },
      metadata: {
        serverName: name,
        secret: randomBytes(32).toString("hex"),
        fingerprint: database.certificate?.fingerprint ?? "",
        addresses: addresses.map((member) => member.address),
        expiresAt: new Date(Date.now() + seconds * 1000).toISOString(),
      },
    },
    daemon.member.name,
  );
  daemon.operations.register(operation);
  daemon.event("cluster-token-created", "/1.0/cluster/members");
  return async(operation);
}

function putCertificate(request: ApiRequest): Reply {
  const database = requireClustered(request.daemon);
  database.requireAllOnline();
  const { cluster_certificate: pem } = decode(request, certificatePut);
  requireEtag(request.headers["if-match"], database.certificate?.pem);
  database.certificate = certificateOf(pem);
  for (const { daemon } of database.members) {
    daemon.host.files.writeFile(daemon.path("cluster.crt"), pem);
  }
  return sync();
}

function isWildcard(address: string): boolean {
  return /^(:|\[::\]|0\.0\.0\.0)/.test(address);
}

/** URLs or objects, as the request asks. */
export function listed<Item>(
  request: ApiRequest,
  items: Item[],
  url: (item: Item) => string,
  shown: (item: Item) => unknown,
): Reply {
  return sync(recursionOf(request) > 0 ? items.map(shown) : items.map(url));
}

/** The member that a path names. */
export function memberOf(request: ApiRequest): Member {
  return requireClustered(request.daemon).member(param(request, "name"));
}
