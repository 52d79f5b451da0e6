/** The server object, readiness, resources, the database behind `/internal/sql`, and operations. */
import { z } from "zod";
import { UNHEARD_MEMBERS } from "../../../provider/lxd/client/unheard";
import { type ConfigOwner, INCUS_KEYS, KNOWN_KEYS } from "../../../provider/lxd/config-keys";
import { IMAGES_BY_MEMBER } from "../../../provider/lxd/images/places";
import { LOCAL_CONFIG } from "../../../provider/lxd/server";
import type { Config, Database, LxdServer, Member } from "./database";
import type { Behaviour } from "./flavours";
import type { Operation } from "./operations";
import { LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router, recursionOf } from "./router";
import { isRemoteDriver } from "./storage-drivers";

const localKeys = [
  "core.https_address",
  "cluster.https_address",
  "core.debug_address",
  "core.metrics_address",
  "core.bgp_address",
  "core.bgp_routerid",
  "maas.machine",
  "storage.backups_volume",
  "storage.images_volume",
  "core.dns_address",
  "core.storage_buckets_address",
  "core.syslog_socket",
];
const globalKeys =
  /^(user\..+|core\.(https_allowed_.*|https_trusted_proxy|proxy_.*|remote_token_expiry|shutdown_timeout|trust_ca_certificates|trust_password|metrics_authentication|bgp_asn)|cluster\.(images_minimal_replica|join_token_expiry|max_standby|max_voters|offline_threshold|healing_threshold)|images\.(auto_update_cached|auto_update_interval|compression_algorithm|default_architecture|remote_cache_expiry)|backups\.compression_algorithm|instances\.nic\.host_name|candid\..*|rbac\..*|maas\.api\..*|loki\..*|network\.ovn\..*)$/;

/** Values that the server does not store, because they are its own. */
const DEFAULTS: Config = {
  "cluster.images_minimal_replica": "3",
  "cluster.max_standby": "2",
  "cluster.max_voters": "3",
  "cluster.offline_threshold": "20",
  "cluster.healing_threshold": "0",
  "cluster.join_token_expiry": "3H",
  "core.bgp_asn": "0",
  "core.shutdown_timeout": "5",
  "core.trust_ca_certificates": "false",
  "images.auto_update_cached": "true",
  "images.auto_update_interval": "6",
  "images.compression_algorithm": "gzip",
  "images.remote_cache_expiry": "10",
};

/** Why a value is invalid. */
const INVALID: Readonly<Record<string, (value: string) => string | undefined>> = {
  "cluster.max_voters": (value) =>
    Number(value) >= 3 && Number(value) % 2 === 1 ? undefined : "Value must be an odd number equal to or higher than 3",
  "cluster.max_standby": (value) => (Number(value) >= 0 && Number(value) <= 5 ? undefined : "Value must be between 0 and 5"),
  "cluster.offline_threshold": (value) => (Number(value) > 10 ? undefined : "Value must be greater than '10'"),
  "cluster.images_minimal_replica": (value) =>
    Number(value) >= 1 || value === "-1" ? undefined : "Invalid value for image replica count",
  "images.auto_update_interval": (value) => (/^-?\d+$/.test(value) ? undefined : "invalid integer"),
};

const configBody = z.object({ config: z.record(z.string(), z.union([z.string(), z.boolean(), z.number()])).nullish() });
const sqlBody = z.object({ database: z.string(), query: z.string() });

/** Adds the endpoints of the server itself. */
export function addServer(router: Router): void {
  router.add("/", { GET: () => sync(["/1.0"]) });
  router.add("/internal/ready", { GET: ready });
  router.add("/internal/shutdown", { PUT: shutdown });
  router.add("/internal/sql", { POST: sql });
  router.add("/internal/cluster/raft-node/{address}", { DELETE: removeReplica });
  router.add("/1.0", {
    GET: getServer,
    PUT: (request) => changeServer(request, true),
    PATCH: (request) => changeServer(request, false),
  });
  router.add("/1.0/metadata/configuration", { GET: getMetadata });
  router.add("/1.0/resources", { GET: (request) => sync(resourcesOf(targetDaemon(request))) });
  router.add("/1.0/operations", { GET: listOperations });
  router.add("/1.0/operations/{id}", { GET: getOperation, DELETE: cancelOperation });
  router.add("/1.0/operations/{id}/wait", { GET: waitOperation });
  router.add("/1.0/warnings", { GET: () => sync([]) });
}

/** The metadata of the server's config: the names of the keys, and more for those that differ between versions. */
function getMetadata({ daemon: { behaviour } }: ApiRequest): Reply {
  if (!behaviour.apiExtensions.includes("metadata_configuration")) {
    throw new LxdError(404, "not found");
  }
  const key = (name: string, type: string, defaultdesc: string) => ({
    [name]: { condition: "virtual machine", defaultdesc, liveupdate: "no", shortdesc: "How it boots", type },
  });
  const group = (owner: ConfigOwner, isLeftOut = (_name: string): boolean => false) => {
    const known = [...KNOWN_KEYS[owner], ...(behaviour.server === "incus" ? INCUS_KEYS[owner] : [])];
    const names = known.filter((name) => !isLeftOut(name));
    return { keys: names.map((name) => ({ [name]: { shortdesc: "", type: "string" } })) };
  };
  const groups =
    behaviour.server === "incus"
      ? {
          devices: { disk: group("device"), ...(behaviour.describesAll ? { nic_bridged: group("device") } : {}) },
          ...(behaviour.describesAll
            ? {
                network_bridge: { common: group("network") },
                storage_dir: { common: group("pool") },
                storage_volume_dir: { common: group("volume") },
              }
            : {}),
          network_integration: { common: { keys: [key("user.*", "string", "")] } },
        }
      : {
          "device-disk": { "device-conf": group("device") },
          "device-nic-bridged": { "device-conf": group("device") },
          "network-bridge": { "network-conf": group("network") },
          "storage-dir": { "pool-conf": group("pool"), "volume-conf": group("volume") },
        };
  const boot = behaviour.bootMode ? [key("boot.mode", "string", "`uefi-secureboot`")] : [];
  const security = behaviour.bootMode
    ? []
    : [key("security.secureboot", "bool", "`true`"), key("security.csm", "bool", "`false`")];
  return sync({
    configs: {
      instance: {
        boot: { keys: [key("boot.autostart", "bool", ""), ...boot] },
        security: { keys: [key("security.nesting", "bool", "`false`"), ...security] },
        miscellaneous: group("instance", (name) => /^(boot\.mode|security\.(secureboot|csm))$/.test(name)),
      },
      ...groups,
      project: { specific: group("project") },
      server: { core: serverGroup(behaviour) },
      cluster: { cluster: group("member") },
    },
  });
}

/** The keys of the server's own config, with their scopes. */
function serverGroup({ server, trustPassword }: Behaviour) {
  const names = [...KNOWN_KEYS.server, ...(server === "incus" ? INCUS_KEYS.server : [])].filter(
    (name) => name !== "core.trust_password" || trustPassword,
  );
  const scopeOf = (name: string): string => (LOCAL_CONFIG.test(name) || name === "cluster.https_address" ? "local" : "global");
  return { keys: names.map((name) => ({ [name]: { scope: scopeOf(name), shortdesc: "", type: "string" } })) };
}

/** The daemon that `?target` names, otherwise the one that received the request. */
export function targetDaemon(request: ApiRequest): LxdServer {
  const target = request.query.get("target");
  if (target === null || target === "") {
    return request.daemon;
  }
  const { database } = request.daemon;
  const member = database.member(target);
  if (member.daemon === request.daemon) {
    return member.daemon;
  }
  if (request.daemon.behaviour.refusesOfflineMember && !database.isOnline(member)) {
    throw new LxdError(503, `Cluster member "${target}" is offline`);
  }
  return reach(member.daemon, database);
}

/**
 * A member's daemon, or the error of forwarding a request to it. LXD holds a connection to each member for its events,
 * and forwards nothing without it (`EventListenerWait` in `Connect`, lxd/cluster/connect.go). A server that is in
 * another cluster by now, or in none, does not have its certificate.
 */
export function reach(daemon: LxdServer, database: Database = daemon.database): LxdServer {
  if (!daemon.answers || daemon.waits || daemon.database !== database) {
    throw new LxdError(500, "Missing event connection with target cluster member");
  }
  return daemon;
}

function ready({ daemon }: ApiRequest): Reply {
  if (!daemon.ready) {
    throw new LxdError(503, "LXD daemon not ready yet");
  }
  return sync({});
}

function shutdown({ daemon }: ApiRequest): Reply {
  for (const instance of daemon.database.instances.values()) {
    if (instance.member.daemon === daemon) {
      instance.status = "Stopped";
    }
  }
  setImmediate(() => daemon.stop());
  return sync({});
}

function sql(request: ApiRequest): Reply {
  const { database, query } = decode(request, sqlBody);
  const table = /\bFROM\s+(\w+)/i.exec(query)?.[1];
  const { members, pendingMembers, clustered } = request.daemon.database;
  if (database === "global" && query === UNHEARD_MEMBERS) {
    const rows = members.filter(({ daemon }) => !daemon.heard).map(({ name }) => [name]);
    return sync({ Results: [{ type: "select", columns: ["name"], rows, rows_affected: 0 }] });
  }
  if (database === "global" && table === "nodes") {
    const rows = members.map((member, index) => [
      index + 1,
      member.name,
      clustered ? member.address : "0.0.0.0",
      member.evacuated ? 2 : 0,
    ]);
    const pending = pendingMembers.map(({ id, name, address }) => [id, name, address, 1]);
    return sync({
      Results: [{ type: "select", columns: ["id", "name", "address", "state"], rows: [...rows, ...pending], rows_affected: 0 }],
    });
  }
  if (database === "local" && table === "raft_nodes") {
    const role = (member: Member) => (request.daemon.database.voters.includes(member) ? 0 : 1);
    const rows = clustered ? members.map((member, index) => [index + 1, member.address, role(member), member.name]) : [];
    return sync({ Results: [{ type: "select", columns: ["id", "address", "role", "name"], rows, rows_affected: 0 }] });
  }
  if (database === "global" && query === IMAGES_BY_MEMBER) {
    const rows = [...request.daemon.database.images.values()].flatMap(({ fingerprint, project, members: holders, aliases }) =>
      [...holders].flatMap((member) =>
        (aliases.length === 0 ? [null] : aliases.map(({ name }) => name)).map((alias) => [
          fingerprint,
          project,
          member.name,
          alias,
        ]),
      ),
    );
    return sync({ Results: [{ type: "select", columns: ["fingerprint", "name", "name", "name"], rows, rows_affected: 0 }] });
  }
  throw new LxdError(500, `no such table: ${table ?? ""}`);
}

/** LXD's `RemoveRaftNode`: removes the leftovers of a join that was aborted late. */
function removeReplica(request: ApiRequest): Reply {
  const { strayReplicas } = request.daemon.database;
  const address = param(request, "address");
  if (!strayReplicas.delete(address)) {
    throw new LxdError(500, `No raft node with address "${address}"`);
  }
  return sync();
}

function getServer(request: ApiRequest): Reply {
  const daemon = targetDaemon(request);
  const { behaviour, database, host } = daemon;
  const certificate = database.certificate ?? daemon.certificate;
  const config = mergedConfig(daemon);
  const address = daemon.localConfig["core.https_address"] ?? "";
  const metadata = {
    config,
    api_extensions: behaviour.apiExtensions,
    api_status: "stable",
    api_version: "1.0",
    auth: "trusted",
    public: false,
    auth_methods: ["tls"],
    environment: {
      addresses:
        address === "" ? [] : [address.startsWith(":") || address.startsWith("[::]") ? `${host.lanAddress}:8443` : address],
      architectures: ["x86_64", "i686"],
      certificate: certificate.pem,
      certificate_fingerprint: certificate.fingerprint,
      driver: host.virtualMachines ? "lxc | qemu" : "lxc",
      driver_version: host.virtualMachines ? "5.0.2 | 7.2.22" : "5.0.2",
      firewall: "nftables",
      kernel: "Linux",
      kernel_architecture: "x86_64",
      kernel_features: {
        idmapped_mounts: "true",
        netnsid_getifaddrs: "true",
        seccomp_listener: "true",
        uevent_injection: "true",
      },
      kernel_version: host.kernelVersion,
      lxc_features: { cgroup2: "true", devpts_fd: "true", pidfd: "true", seccomp_notify: "true" },
      os_name: "Debian GNU/Linux",
      os_version: "12",
      project: projectOf(request),
      server: behaviour.server,
      server_clustered: database.clustered,
      server_event_mode: "full-mesh",
      server_name: database.clustered ? daemon.member.name : host.name,
      server_pid: daemon.pid,
      server_version: behaviour.version,
      storage: [...new Set([...database.pools.values()].map((pool) => pool.driver))].join(" | "),
      storage_version: "",
      storage_supported_drivers: daemon.drivers.map((Name) => ({
        Name,
        Version: "1",
        Remote: isRemoteDriver(Name),
      })),
    },
  };
  return sync(metadata, config);
}

function mergedConfig(daemon: LxdServer): Record<string, string | boolean> {
  const merged: Record<string, string | boolean> = { ...daemon.database.config, ...daemon.localConfig };
  if (merged["core.trust_password"] !== undefined) {
    merged["core.trust_password"] = true;
  }
  return merged;
}

function changeServer(request: ApiRequest, replace: boolean): Reply {
  const daemon = targetDaemon(request);
  requireEtag(request.headers["if-match"], mergedConfig(daemon));
  const wanted = decode(request, configBody).config ?? {};
  try {
    return applyConfig(daemon, wanted, replace);
  } catch (error) {
    if (daemon.behaviour.refusalReplacesLocalConfig) {
      const { localConfig } = daemon;
      daemon.localConfig = Object.fromEntries(Object.entries(localConfig).filter(([key]) => wanted[key] !== undefined));
    }
    throw error;
  }
}

function applyConfig(daemon: LxdServer, wanted: Record<string, unknown>, replace: boolean): Reply {
  const isKnown = (key: string): boolean =>
    key === "core.trust_password" ? daemon.behaviour.trustPassword : globalKeys.test(key);
  const unknown = Object.keys(wanted).find((key) => !localKeys.includes(key) && !isKnown(key));
  if (unknown !== undefined) {
    throw new LxdError(400, `cannot set '${unknown}' to '${String(wanted[unknown])}': unknown key`);
  }
  for (const [key, value] of Object.entries(wanted)) {
    const why = value === "" ? undefined : INVALID[key]?.(String(value));
    if (why !== undefined) {
      throw new LxdError(400, `cannot set '${key}' to '${String(value)}': ${why}`);
    }
  }
  const current = daemon.localConfig["cluster.https_address"] ?? "";
  const next = wanted["cluster.https_address"] ?? (replace ? "" : current);
  if (daemon.database.clustered && next !== current) {
    throw new LxdError(500, "Changing cluster.https_address is currently not supported");
  }
  const local: Config = replace ? {} : daemon.localConfig;
  const global: Config = replace ? {} : daemon.database.config;
  for (const [key, value] of Object.entries(wanted)) {
    const target = localKeys.includes(key) ? local : global;
    if (value === "" || (DEFAULTS[key] === value && !daemon.behaviour.showsDefaults)) {
      delete target[key];
    } else if (value !== true) {
      // The trust password reads back as `true`, and writing `true` keeps it.
      target[key] = String(value);
    } else if (daemon.database.config[key] !== undefined) {
      target[key] = daemon.database.config[key];
    }
  }
  daemon.localConfig = local;
  daemon.database.config = global;
  daemon.database.distributeImages();
  daemon.event("config-updated", "/1.0");
  return sync();
}

function resourcesOf({ host }: LxdServer): unknown {
  const { memoryBytes: used } = host.usage;
  return {
    cpu: {
      architecture: "x86_64",
      sockets: [
        {
          name: "Simulated CPU",
          vendor: "GenuineIntel",
          socket: 0,
          cache: [],
          cores: Array.from({ length: host.cpus }, (_, core) => ({
            core,
            die: 0,
            threads: [{ id: core, numa_node: 0, thread: 0, online: true, isolated: false }],
            frequency: 2400,
          })),
          frequency: 2400,
          frequency_minimum: 800,
          frequency_turbo: 3600,
        },
      ],
      total: host.cpus,
    },
    memory: { nodes: [], hugepages_total: 0, hugepages_used: 0, hugepages_size: 2097152, used, total: host.memoryBytes },
    gpu: { cards: [], total: 0 },
    network: { cards: [], total: 0 },
    storage: { disks: [{ id: "vda", device: "254:0", size: 2 * 2 ** 40, type: "virtio", removable: false }], total: 1 },
    usb: { devices: [], total: 0 },
    pci: { devices: [], total: 0 },
    system: {
      uuid: "",
      vendor: "",
      product: "",
      family: "",
      version: "",
      sku: "",
      serial: "",
      type: "physical",
      firmware: null,
      chassis: null,
      motherboard: null,
    },
  };
}

function findOperation(request: ApiRequest): { operation: Operation; owner: LxdServer } {
  const id = param(request, "id");
  for (const { daemon } of request.daemon.database.members) {
    const operation = daemon.operations.get(id);
    if (operation !== undefined) {
      return { operation, owner: reach(daemon) };
    }
  }
  throw new LxdError(404, "Operation not found");
}

function listOperations(request: ApiRequest): Reply {
  const wanted = projectOf(request);
  const all = request.query.get("all-projects") === "true";
  const byStatus: Record<string, unknown[]> = {};
  for (const { daemon } of request.daemon.database.members) {
    for (const operation of daemon.operations.list()) {
      if (all || operation.project === wanted) {
        const shown = operation.toApi();
        const status = String(shown["status"]).toLowerCase();
        (byStatus[status] ??= []).push(recursionOf(request) > 0 ? shown : `/1.0/operations/${operation.id}`);
      }
    }
  }
  return sync(byStatus);
}

function getOperation(request: ApiRequest): Reply {
  return sync(findOperation(request).operation.toApi());
}

function cancelOperation(request: ApiRequest): Reply {
  const { operation } = findOperation(request);
  if (!operation.running) {
    throw new LxdError(400, "Only running operations can be cancelled");
  }
  if (operation.class !== "token") {
    throw new LxdError(400, "This operation can't be cancelled");
  }
  operation.end(401);
  return sync();
}

async function waitOperation(request: ApiRequest): Promise<Reply> {
  const { operation } = findOperation(request);
  const seconds = Number.parseInt(request.query.get("timeout") ?? "-1", 10);
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    if (seconds >= 0) {
      timer = setTimeout(resolve, seconds * 1000);
    }
  });
  await Promise.race([operation.ended, deadline]);
  clearTimeout(timer);
  const { failedWait } = request.daemon.behaviour;
  if (failedWait === "operation" || operation.status === 200) {
    return sync(operation.toApi());
  }
  const error = operation.running
    ? { code: 500, error: "context deadline exceeded" }
    : { code: operation.errorCode || 500, error: operation.error };
  return { kind: "error", ...error, ...(failedWait === "error under 200" && { httpStatus: 200 }) };
}
