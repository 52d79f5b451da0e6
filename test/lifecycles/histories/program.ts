/** The program of the random histories: its resources, and the values that an edit may set for each property. */
import { type Declared, type Properties, Ref } from "../engine-model";

/** The members, starting with the one that forms the cluster. */
export const HOSTS = ["bcn2", "bcn1"] as const;

/** External inputs of a program. */
export interface Surroundings {
  readonly connections: Readonly<Record<string, Properties>>;
  /** Two contents of each type of image. */
  readonly images: Readonly<Record<"vm" | "container", readonly [Properties, Properties]>>;
  readonly keys: readonly [string, string];
  /** Certificates of clients. */
  readonly certificates: readonly [string, string];
}

/** Inputs by name of the resource. A missing resource is not in the program. */
export type Program = Readonly<Record<string, Properties>>;

const KINDS: Readonly<Record<string, string>> = {
  "node-bcn2": "LxdNode",
  "member-bcn2": "LxdClusterMember",
  "node-bcn1": "LxdNode",
  "member-bcn1": "LxdClusterMember",
  pool: "LxdStoragePool",
  bridge: "LxdNetwork",
  "spare-bridge": "LxdNetwork",
  acl: "LxdNetworkAcl",
  "shop-bridge": "LxdNetwork",
  forward: "LxdNetworkForward",
  group: "LxdClusterGroup",
  settings: "LxdServerConfig",
  shop: "LxdProject",
  data: "LxdStorageVolume",
  laptop: "LxdTrustCertificate",
  "vm-image": "LxdImage",
  "box-image": "LxdImage",
  web: "LxdProfile",
  spare: "LxdProfile",
  web1: "LxdVm",
  web2: "LxdVm",
  box1: "LxdVm",
  "web1-ops": "VmUser",
  "box1-dev": "VmUser",
  "box1-conf": "VmFile",
  "bcn2-ops": "HostUser",
  "bcn2-conf": "HostFile",
};

/** The instance in which a resource is. Removed with it. */
function instanceOf(name: string): string | undefined {
  return kindOf(name).startsWith("Vm") ? name.split("-")[0] : undefined;
}

/** Names of the resources, each after its dependencies. */
export const NAMES: readonly string[] = Object.keys(KINDS);

/** The kind of a resource. */
export function kindOf(name: string): string {
  return KINDS[name] ?? "?";
}

const ref = (resource: string, ...path: string[]): Ref => new Ref(resource, path);
const nic = { type: "nic", network: ref("bridge", "name"), name: "eth0" };
// An instance has one NIC on a managed bridge: two would have the same DNS name.
const secondNic = { ...nic, network: ref("spare-bridge", "name") };
const thirdNic = { ...nic, network: ref("shop-bridge", "name") };

/** The program before any edit. */
export function baseProgram({ connections, images, certificates }: Surroundings): Program {
  const cluster = clusterOf(HOSTS);
  const address: Readonly<Record<string, string>> = { bcn2: "192.168.1.102:8443", bcn1: "192.168.1.101:8443" };
  const node = (host: string): Properties => ({
    connection: connections[host],
    install: { method: "deb" },
    config: { "core.https_address": address[host] },
  });
  const member = (host: string): Properties => ({
    connection: ref(`node-${host}`, "connection"),
    name: host,
    address: address[host],
  });
  const devices = { root: { type: "disk", path: "/", pool: ref("pool", "name") }, eth0: nic };
  // For an image from files, the class sets this input to its fingerprint.
  const vm = { cluster, instanceType: "virtual-machine", image: { fingerprint: ref("vm-image", "sourceFingerprint") } };
  return {
    "node-bcn2": node("bcn2"),
    "member-bcn2": member("bcn2"),
    "node-bcn1": node("bcn1"),
    "member-bcn1": { ...member("bcn1"), cluster: clusterOf(["bcn2"]) },
    pool: { cluster, name: "local", driver: "btrfs", memberConfig: { bcn2: { size: "10GiB" } } },
    bridge: { cluster, name: "lxdbr0", config: { "ipv4.address": "10.10.10.1/24", "ipv4.nat": true, "ipv6.address": "none" } },
    "spare-bridge": { cluster, name: "spare0" },
    acl: { cluster, name: "acl", ingress: [{ action: "allow", protocol: "tcp", destinationPort: "80,443" }] },
    "shop-bridge": { cluster, name: "shop0", config: { "ipv4.address": "10.31.0.1/24", "ipv6.address": "none" } },
    forward: { cluster, network: ref("shop-bridge", "name"), target: "bcn2", listenAddress: "192.0.2.1" },
    group: { cluster, name: "front", members: ["bcn2"] },
    settings: {
      cluster,
      config: { "images.auto_update_interval": 12 },
      memberConfig: { bcn2: { "core.bgp_routerid": "192.0.2.2" } },
    },
    shop: { cluster, name: "shop", config: { "limits.instances": 20 } },
    data: { cluster, name: "data", pool: ref("pool", "name"), target: "bcn2", config: { size: "1GiB" }, deleteData: true },
    laptop: { cluster, name: "laptop", certificate: certificates[0], projects: ["default"] },
    "vm-image": { cluster, ...images.vm[0], aliases: ["vm"] },
    "box-image": { cluster, ...images.container[0], aliases: ["box", "debian"] },
    web: { cluster, name: "web", config: { "limits.memory": "2GiB" }, devices },
    spare: { cluster, name: "spare", description: "spare" },
    web1: { ...vm, name: "web1", profiles: [ref("web", "name")] },
    web2: { ...vm, name: "web2", profiles: [ref("web", "name")], target: "bcn1", allowRestart: true, memory: "1GiB" },
    box1: {
      cluster,
      name: "box1",
      instanceType: "container",
      image: { fingerprint: ref("box-image", "sourceFingerprint") },
      profiles: [ref("web", "name"), ref("spare", "name")],
    },
    "web1-ops": { cluster, instance: ref("web1", "name"), name: "ops", groups: ["adm"], sudo: "passwordless" },
    "box1-dev": { cluster, instance: ref("box1", "name"), name: "dev", shell: "/bin/sh" },
    "box1-conf": { cluster, instance: ref("box1", "name"), path: "/srv/app/app.conf", content: "a = 1\n" },
    "bcn2-ops": { connection: ref("node-bcn2", "connection"), name: "ops", groups: ["adm"] },
    "bcn2-conf": { connection: ref("node-bcn2", "connection"), path: "/srv/app/app.conf", content: "a = 1\n" },
  };
}

/** The cluster through the members of these hosts. */
function clusterOf(hosts: readonly string[]): Properties {
  return { endpoints: hosts.map((host) => ref(`member-${host}`, "connection")) };
}

/**
 * The program as the engine gets it.
 * @param confirmed - The cluster identity that it confirms: the fingerprint of a renewed certificate.
 */
export function declare(program: Program, confirmed?: string): Declared[] {
  const hosts = HOSTS.filter((host) => program[`member-${host}`] !== undefined);
  return NAMES.flatMap((name): Declared[] => {
    const args = program[name];
    if (args === undefined) {
      return [];
    }
    const kind = kindOf(name);
    const inCluster = args["cluster"] !== undefined && kind !== "LxdClusterMember";
    const said = confirmed === undefined ? {} : { certificateFingerprint: confirmed };
    const first = name === "member-bcn2" ? { peers: peersOf(program), ...said } : {};
    const joined = name === "member-bcn1" ? { cluster: { ...(args["cluster"] as Properties), ...said } } : {};
    const instance = instanceOf(name);
    const inside = instance === undefined ? {} : { deletedWith: instance };
    return [
      {
        name,
        kind,
        args: inCluster ? { ...args, cluster: { ...clusterOf(hosts), ...said } } : { ...args, ...first, ...joined },
        ...inside,
      },
    ];
  });
}

/** Hosts through which the first member finds its cluster after it was removed. */
function peersOf(program: Program): unknown[] {
  return HOSTS.slice(1)
    .filter((host) => program[`member-${host}`] !== undefined)
    .map((host) => program[`node-${host}`]?.["connection"]);
}

/** The program without a resource and its dependents. */
export function without(program: Program, name: string): Program {
  const gone = new Set([name]);
  for (const { name: each, args, deletedWith } of declare(program)) {
    const needs = kindOf(each) === "LxdClusterMember" || name === "member-bcn2" ? args : { ...args, cluster: undefined };
    if ((deletedWith !== undefined && gone.has(deletedWith)) || refsOf(needs).some((other) => gone.has(other))) {
      gone.add(each);
    }
  }
  return Object.fromEntries(Object.entries(program).filter(([each]) => !gone.has(each)));
}

/** The program with a resource of the base program, and its dependencies. */
export function withResource(program: Program, base: Program, name: string): Program {
  const args = program[name] ?? base[name] ?? {};
  const needs = refsOf({ ...args, cluster: kindOf(name) === "LxdClusterMember" ? args["cluster"] : undefined });
  const owner = instanceOf(name) ?? [];
  let result: Program = { ...program, [name]: args };
  for (const other of needs.concat(owner)) {
    result = result[other] === undefined ? withResource(result, base, other) : result;
  }
  return result;
}

function refsOf(value: unknown): string[] {
  if (value instanceof Ref) {
    return [value.resource];
  }
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(refsOf) : [];
}

/** Keys that are managed only if they are set, by resource: of a server, pool, volume, network or image; and the evacuation of a member. */
export function givenKeys(program: Program): Map<string, readonly string[]> {
  return new Map(
    Object.entries(program).flatMap(([name, args]) => {
      if (kindOf(name) === "LxdClusterMember") {
        return [[name, args["evacuated"] === true ? ["evacuated"] : []] as const];
      }
      const property = kindOf(name) === "LxdImage" ? "properties" : "config";
      const managed = ["LxdNode", "LxdServerConfig", "LxdStoragePool", "LxdStorageVolume", "LxdNetwork", "LxdImage"].includes(
        kindOf(name),
      );
      return managed ? [[name, Object.keys(args[property] ?? {})] as const] : [];
    }),
  );
}

/** Place of `evacuated` among the edits of a member. */
export const EVACUATION = 0;

/** Values for a property; `undefined` omits it. Values with the same meaning are adjacent. */
export type Values = readonly unknown[];

/** Possible edits: for each resource the values of its properties, or of several at once. */
export function edits(
  { connections, images, keys, certificates }: Surroundings,
  base: Program,
): Readonly<Record<string, readonly Values[]>> {
  const of = (property: string, ...values: unknown[]): Values => values.map((value) => ({ [property]: value }));
  const text = ["", "one", "two"];
  const timeouts = of("timeouts", undefined, { read: 50 }, { update: 800 });
  const node = (name: string): Values[] => [
    of("config", base[name]?.["config"], { ...(base[name]?.["config"] as Properties), "core.debug_address": "127.0.0.1:8444" }),
    of("connection", connections[name.slice(5)], { ...connections[name.slice(5)], perDialTimeout: 14 }),
    of(
      "install",
      { method: "deb" },
      { method: "deb", packages: ["btrfs-progs"] },
      { method: "deb", packages: ["btrfs-progs", "lvm2"] },
    ),
    of("resetPolicy", undefined, [], ["networks"]),
    timeouts,
  ];
  const member: Values[] = [
    of("evacuated", undefined, true, false), // first: see EVACUATION
    of("failureDomain", undefined, "default", "rack1", "rack2"),
    of("description", ...text),
    of("config", undefined, { "user.place": "cellar" }, { "user.place": "attic", "scheduler.instance": "all" }),
    of("manualRoles", undefined, [], ["event-hub"]),
    of("memberConfig", undefined, { pools: { local: { size: "10GiB" } } }),
    timeouts,
  ];
  /** Config of a bridge in subnets of its own: those of two bridges must not overlap. */
  const bridgeIn = (first: string, second: string): Values =>
    of(
      "config",
      { "ipv4.address": first, "ipv4.nat": true, "ipv6.address": "none" },
      { "ipv4.address": first, "ipv4.nat": "true", "ipv6.address": "none" },
      { "ipv4.address": first, "ipv4.nat": "1", "ipv6.address": "none", "dns.domain": "lab" },
      { "ipv4.address": first, "dns.domain": "lan", "user.note": "x" },
      { "ipv4.address": second, "ipv4.nat": false, "ipv6.address": "none" },
      { "ipv4.address": "auto" },
      {},
    );
  const bridge: Values[] = [
    of("description", ...text),
    bridgeIn("10.10.10.1/24", "10.10.11.1/24"),
    of("memberConfig", undefined, {}, { bcn2: { "bgp.ipv4.nexthop": "10.0.0.1" } }),
    of("name", "lxdbr0", "lxdbr9"),
    timeouts,
  ];
  const image = (files: readonly [Properties, Properties], alias: string): Values[] => [
    files,
    of("aliases", [alias], [alias, `${alias}-12`], [`${alias}-12`], []),
    of("properties", undefined, { os: "debian12" }, { os: "debian12", "user.tag": "a" }, { serial: 1 }),
    of("public", undefined, true, false),
    timeouts,
  ];
  const root = (base["web"]?.["devices"] as Properties | undefined)?.["root"] as Properties;
  const vm = (profiles: Values): Values[] => [
    of("description", ...text),
    of("cpu", undefined, 1, "1", 2, "2", "0-1"),
    of("memory", undefined, "1GiB", "1024MiB", "512MiB", "2GiB", "1073741824"),
    of(
      "config",
      undefined,
      { "user.a": "1" },
      { "user.a": "2", "boot.autostart": true },
      { "boot.autostart": "1" },
      { "boot.autostart": "true" },
    ),
    of(
      "devices",
      undefined,
      { eth1: { ...secondNic, name: "eth1" } },
      { eth1: { ...secondNic, name: "eth1", "security.mac_filtering": true } },
    ),
    of("devices", undefined, { tpm0: { type: "tpm", path: "/dev/tpm0" } }),
    of(
      "cloudInit",
      undefined,
      { userData: "#cloud-config\n{}\n" },
      { userData: "#cloud-config\n{}" },
      { vendorData: "#cloud-config\na: 1\n" },
    ),
    of("rootDisk", undefined, { size: "20GiB" }, { size: "20480MiB" }, { size: "30GiB" }),
    of("target", undefined, "bcn1", "bcn2"),
    of("running", undefined, true, false),
    of("waitFor", undefined, [{ for: "agent" }], [{ for: "ipv4", nic: "eth0" }], [{ for: "command", command: ["true"] }]),
    of("allowRestart", undefined, true, "force"),
    of("profiles", ...profiles),
    timeouts,
  ];
  const alone = [[ref("web", "name")], [ref("web", "name"), ref("spare", "name")], [ref("spare", "name"), ref("web", "name")]];
  const user: Values[] = [
    of("uid", undefined, 1500, 1501),
    of("home", undefined, "/home/other", "/home/third"),
    of("shell", undefined, "/bin/bash", "/bin/sh"),
    of("groups", undefined, [], ["adm"], ["staff", "adm"], ["adm", "staff"]),
    of("sudo", undefined, "none", "password", "passwordless"),
    of("authorizedKeys", undefined, [], [keys[0]], [keys[0], keys[1]], [keys[1], keys[0]]),
    of("authorizedKeysMode", undefined, "exclusive", "additive"),
    of("passwordHash", undefined, `$6$salt$${"h".repeat(40)}`, `$6$salt$${"i".repeat(40)}`),
    of("homeOnDelete", undefined, "keep", "remove"),
    of("name", "ops", "op2"),
    timeouts,
  ];
  const file: Values[] = [
    of("content", "a = 1\n", "a = 2\n", "a = 1\nb = 2\n"),
    of("owner", undefined, "root", "daemon", 1),
    of("group", undefined, "adm"),
    of("mode", undefined, "0644", "644", "0600"),
    of("onDelete", undefined, "restore", "remove"),
    of("path", "/srv/app/app.conf", "/srv/app/etc/other.conf"),
    timeouts,
  ];
  return {
    "node-bcn2": node("node-bcn2"),
    "member-bcn2": member,
    "node-bcn1": node("node-bcn1"),
    "member-bcn1": member,
    pool: [
      of("description", ...text),
      of("config", undefined, { "rsync.bwlimit": "1MB" }, { "rsync.compression": false }, { "rsync.compression": "no" }),
      of("memberConfig", undefined, { bcn2: { size: "10GiB" } }, { bcn2: { size: "10240MiB" } }, { bcn2: { size: "20GiB" } }),
      of("driver", "btrfs", "zfs"),
      timeouts,
    ],
    bridge,
    "spare-bridge": [
      of("description", ...text),
      bridgeIn("10.10.20.1/24", "10.10.21.1/24"),
      of("name", "spare0", "spare9", "spare8"),
      timeouts,
    ],
    acl: [
      of("description", ...text),
      of(
        "ingress",
        base["acl"]?.["ingress"],
        [{ action: "allow", protocol: "tcp", destinationPort: "443, 80", state: "enabled" }],
        [
          { action: "drop", source: "10.0.0.1" },
          { action: "allow", protocol: "tcp", destinationPort: 80 },
        ],
        [
          { action: "allow", protocol: "tcp", destinationPort: "80" },
          { action: "drop", source: " 10.0.0.1" },
        ],
        [],
      ),
      of("egress", undefined, [], [{ action: "allow" }], [{ action: "reject", state: "disabled" }]),
      of("config", undefined, { "user.note": "x" }, { "user.note": "y", "user.a": 1 }),
      of("name", "acl", "acl9"),
      timeouts,
    ],
    forward: [
      of("description", ...text),
      of(
        "ports",
        undefined,
        [],
        [{ protocol: "tcp", listenPort: 80, targetAddress: "10.31.0.9" }],
        [{ protocol: "tcp", listenPort: " 80", targetAddress: "10.31.0.9" }],
        [{ protocol: "tcp", listenPort: "80,443", targetAddress: "10.31.0.9", description: "web" }],
      ),
      of("config", undefined, { "user.note": "x" }, { "user.note": "y", "user.a": 1 }),
      of("listenAddress", "192.0.2.1", "192.0.2.2"),
      timeouts,
    ],
    group: [
      of("description", ...text),
      of("members", ["bcn2"], ["bcn1"], ["bcn1", "bcn2"], ["bcn2", "bcn1"], []),
      of("name", "front", "back"),
      timeouts,
    ],
    settings: [
      of(
        "config",
        base["settings"]?.["config"],
        { "images.auto_update_interval": "12" },
        { "images.auto_update_interval": 24, "user.note": "x" },
        { "user.note": "y", "cluster.offline_threshold": 30 },
        {},
      ),
      of(
        "memberConfig",
        base["settings"]?.["memberConfig"],
        { bcn2: { "core.bgp_routerid": "192.0.2.3" } },
        { bcn1: { "core.bgp_routerid": "192.0.2.1" }, bcn2: { "core.bgp_routerid": "192.0.2.3" } },
        {},
      ),
      timeouts,
    ],
    shop: [
      of("description", ...text),
      of(
        "config",
        base["shop"]?.["config"],
        { "limits.instances": "20" },
        { "limits.instances": 10, "user.note": "x" },
        { "features.images": false },
        { "features.images": "0" },
        {},
      ),
      of("name", "shop", "shop9"),
      timeouts,
    ],
    data: [
      of("description", ...text),
      of(
        "config",
        { size: "1GiB" },
        { size: "1024MiB" },
        { size: "2GiB" },
        { size: "2GiB", "snapshots.expiry": "2w", "user.note": "x" },
        {},
      ),
      of("target", "bcn2", "bcn1"),
      of("deleteData", true, false),
      of("name", "data", "data9"),
      timeouts,
    ],
    laptop: [
      of("certificate", certificates[0], `${certificates[0]}\n`, certificates[1]),
      [
        { restricted: undefined, projects: ["default"] },
        { restricted: true, projects: ["default"] },
        { restricted: true, projects: [] },
        { restricted: false, projects: undefined },
      ],
      of("name", "laptop", "desktop"),
      timeouts,
    ],
    "vm-image": image(images.vm, "vm"),
    "box-image": image(images.container, "box"),
    web: [
      of("description", ...text),
      of(
        "config",
        { "limits.memory": "2GiB" },
        { "limits.memory": "2048MiB" },
        { "limits.memory": "1GiB", "limits.cpu": 2 },
        { "limits.memory": "4GiB", "user.note": "x" },
        {},
      ),
      of(
        "devices",
        base["web"]?.["devices"],
        { root: { ...root, size: "10GiB" }, eth0: nic },
        { root: { ...root, size: "10240MiB" }, eth0: nic },
        { root, eth0: { ...nic, "security.mac_filtering": true } },
        { root, eth0: nic, eth2: { ...thirdNic, name: "eth2" } },
      ),
      of("name", "web", "web9"),
      timeouts,
    ],
    spare: [
      of("description", ...text),
      of(
        "config",
        undefined,
        { "user.spare": "1" },
        { "user.spare": "01" },
        { "boot.autostart": false },
        { "boot.autostart": "off" },
      ),
      of("devices", undefined, { eth3: { type: "nic", nictype: "p2p", name: "eth3" } }),
      of("name", "spare", "spare9"),
      timeouts,
    ],
    web1: [...vm(alone), of("name", "web1", "web1x")],
    web2: vm(alone),
    box1: vm([...alone, [ref("web", "name")]]),
    "web1-ops": user,
    "box1-dev": [...user.slice(0, 9), of("name", "dev", "dev2")],
    "box1-conf": file,
    "bcn2-ops": user,
    "bcn2-conf": file,
  };
}
