/**
 * The live objects in LXD's API and in the guests, and their comparison with a program. Independent of the library's
 * own comparison.
 */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import * as z from "zod";
import type { SimulatedLab } from "../../../lab/simulated";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { isManualRole } from "../../../provider/lxd/cluster/roles";
import { type Properties, Ref } from "../engine-model";
import { givenKeys, HOSTS, kindOf, type Program } from "./program";

type Texts = Record<string, string>;

const texts = z.record(z.string(), z.string());
const object = z.looseObject({
  name: z.string().default(""),
  description: z.string().default(""),
  config: texts.nullish(),
  devices: z.record(z.string(), texts).nullish(),
});
const instance = z.looseObject({
  ...object.shape,
  type: z.string(),
  status: z.string(),
  location: z.string(),
  profiles: z.array(z.string()).nullish(),
  created_at: z.string(),
  expanded_devices: z.record(z.string(), texts).nullish(),
});
const image = z.looseObject({
  fingerprint: z.string(),
  public: z.boolean(),
  properties: texts,
  aliases: z.array(z.looseObject({ name: z.string() })),
});
const member = z.looseObject({
  server_name: z.string(),
  failure_domain: z.string(),
  description: z.string().default(""),
  roles: z.array(z.string()),
  config: texts.nullish(),
  status: z.string(),
});
const pool = z.looseObject({ ...object.shape, driver: z.string(), status: z.string() });
const acl = z.looseObject({ ...object.shape, ingress: z.array(texts), egress: z.array(texts) });
const forward = z.looseObject({
  ...{ listen_address: z.string(), location: z.string(), description: z.string(), config: texts },
  ports: z.array(z.record(z.string(), z.unknown())),
});
const group = z.looseObject({ ...object.shape, members: z.array(z.string()).nullish() });
const volume = z.looseObject({ ...object.shape, pool: z.string(), location: z.string(), config: texts, type: z.string() });
const certificate = z.looseObject({
  ...{ name: z.string(), type: z.string(), restricted: z.boolean(), fingerprint: z.string(), certificate: z.string() },
  projects: z.array(z.string()).nullish(),
});
const server = z.looseObject({ config: z.record(z.string(), z.unknown()) });

/** A snapshot of everything. */
export interface Live {
  readonly profiles: Map<string, z.output<typeof object>>;
  readonly acls: Map<string, z.output<typeof acl>>;
  readonly forwards: readonly z.output<typeof forward>[];
  readonly groups: Map<string, z.output<typeof group>>;
  readonly projects: Map<string, z.output<typeof object>>;
  readonly volumes: Map<string, z.output<typeof volume>>;
  /** Of clients, by certificate. */
  readonly certificates: Map<string, z.output<typeof certificate>>;
  readonly networks: Map<string, z.output<typeof pool>>;
  readonly pools: Map<string, z.output<typeof pool>>;
  readonly images: Map<string, z.output<typeof image>>;
  readonly instances: Map<string, z.output<typeof instance>>;
  readonly members: Map<string, z.output<typeof member>>;
  /** Config of the server on each host. */
  readonly servers: Map<string, Texts>;
  /** Config of pools and networks on each member, by `member/name`. */
  readonly views: Map<string, Texts>;
  /** What is on a machine: an instance, or the first host. */
  readonly user: (machine: Machine, name: string) => LiveUser | undefined;
  readonly file: (machine: Machine, path: string) => LiveFile | undefined;
}

/** An instance by its name; without one, the first host. */
type Machine = string | undefined;

/** A file of a machine. */
type LiveFile = Readonly<Record<"owner" | "group" | "mode" | "content", string>>;

/** A user, read from the files of its machine. */
export interface LiveUser {
  readonly uid: number;
  readonly home: string;
  readonly shell: string;
  readonly groups: string[];
  readonly sudo: string;
  readonly keys: string[];
  readonly passwordHash: string;
}

/** Reads everything: through one member, and member-specific parts through each host's own client. */
export async function takeSnapshot(lab: SimulatedLab, through: string, clients: ReadonlyMap<string, LxdClient>): Promise<Live> {
  const first = clients.get(through) ?? assert.fail(`${through} does not answer`);
  const list = <Item>(path: string, schema: z.ZodType<Item>, recursion = 1): Promise<Item[]> =>
    first.get(path, z.array(schema), { recursion });
  const networkSchema = z.looseObject({ ...pool.shape, driver: z.string().default(""), managed: z.boolean() });
  const [profiles, acls, projects, certificates, networks, pools, images, instances, members, groups] = await Promise.all([
    list("/1.0/profiles", object),
    list("/1.0/network-acls", acl),
    list("/1.0/projects", object),
    list("/1.0/certificates", certificate),
    list("/1.0/networks", networkSchema),
    list("/1.0/storage-pools", pool),
    list("/1.0/images", image),
    list("/1.0/instances", instance, 2),
    list("/1.0/cluster/members", member).catch(() => []),
    list("/1.0/cluster/groups", group).catch(() => []),
  ]);
  const volumes = await Promise.all(
    pools.map(async ({ name }) => {
      const found = await list(
        `/1.0/storage-pools/${name}/volumes`,
        z.looseObject({ ...volume.shape, pool: z.string().default(name) }),
      );
      return found.filter(({ type }) => type === "custom");
    }),
  );
  const lists = await Promise.all(
    networks.flatMap(({ name, managed }) => (managed ? [list(`/1.0/networks/${name}/forwards`, forward)] : [])),
  );
  const views = new Map<string, Texts>();
  for (const { server_name: target } of members) {
    for (const path of [
      ...pools.map(({ name }) => `storage-pools/${name}`),
      ...networks.filter(({ managed }) => managed).map(({ name }) => `networks/${name}`),
    ]) {
      const view = await first.get(`/1.0/${path}`, object, { target }).catch(() => undefined);
      if (view !== undefined) {
        views.set(`${target}/${path}`, view.config ?? {}); // an offline member cannot be asked
      }
    }
  }
  const servers = new Map<string, Texts>();
  for (const [host, client] of clients) {
    const { config } = await client.get("/1.0", server);
    servers.set(host, Object.fromEntries(Object.entries(config).map(([key, value]) => [key, String(value)])));
  }
  const byName = <Item extends { name: string }>(items: Item[]): Map<string, Item> =>
    new Map(items.map((item) => [item.name, item]));
  return {
    profiles: byName(profiles),
    acls: byName(acls),
    forwards: lists.flat(),
    groups: byName(groups),
    projects: byName(projects),
    volumes: byName(volumes.flat()),
    certificates: new Map(certificates.filter(({ type }) => type === "client").map((each) => [each.certificate.trim(), each])),
    networks: byName(networks.filter(({ managed }) => managed)),
    pools: byName(pools),
    images: new Map(images.map((each) => [each.fingerprint, each])),
    instances: byName(instances),
    members: new Map(members.map((each) => [each.server_name, each])),
    servers,
    views,
    user: (machine, user) => onMachine(machine, (files) => userIn(files, user)),
    file: (machine, path) => onMachine(machine, (files) => fileIn(files, path)),
  };

  function onMachine<Found>(machine: Machine, look: (files: MemoryFiles) => Found): Found | undefined {
    if (machine === undefined) {
      return look(lab.host(FIRST_HOST).files);
    }
    return instances.some(({ name }) => name === machine) ? look(lab.guestFiles(through, machine)) : undefined;
  }
}

const [FIRST_HOST] = HOSTS;

function fileIn(files: MemoryFiles, path: string): LiveFile | undefined {
  const node = files.get(path, false);
  const nameOf = (table: string, id: number): string =>
    files.readText(table).match(new RegExp(`^([^:]*):[^:]*:${id}:`, "m"))?.[1] ?? String(id);
  return (
    node && {
      owner: nameOf("/etc/passwd", node.uid),
      group: nameOf("/etc/group", node.gid),
      mode: node.mode.toString(8).padStart(4, "0"),
      content: node.content.toString(),
    }
  );
}

function userIn(files: MemoryFiles, name: string): LiveUser | undefined {
  const fields = (path: string): string[] | undefined =>
    files
      .readText(path)
      .split("\n")
      .map((line) => line.split(":"))
      .find(([each]) => each === name);
  const [, , uid, , , home = "", shell = ""] = fields("/etc/passwd") ?? [];
  if (uid === undefined) {
    return undefined;
  }
  const read = (path: string): string[] =>
    files.exists(path)
      ? files
          .readText(path)
          .split("\n")
          .filter((line) => line !== "" && !line.startsWith("#"))
      : [];
  const groups = read("/etc/group").flatMap((line) => {
    const [group = "", , , members = ""] = line.split(":");
    return members.split(",").includes(name) ? [group] : [];
  });
  return {
    uid: Number(uid),
    home,
    shell,
    groups: groups.sort(),
    sudo: read(`/etc/sudoers.d/${name}`).join("\n"),
    keys: read(`${home}/.ssh/authorized_keys`),
    passwordHash: fields("/etc/shadow")?.[1] ?? "",
  };
}

/** Keys of a cluster that an edit may set. */
const CLUSTER_KEYS = ["images.auto_update_interval", "user.note", "cluster.offline_threshold"];

const BOOLEAN = /^(features\.images|boot\.autostart|ipv[46]\.nat|rsync\.compression|security\.(mac_filtering|secureboot))$/;
const UNITS: Readonly<Record<string, number>> = { "": 1, kB: 1e3, MB: 1e6, GB: 1e9, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** A value in normal form. */
function meaning(key: string, value: unknown): string {
  const text = String(value);
  if (BOOLEAN.test(key)) {
    return ["1", "true", "yes", "on"].includes(text.toLowerCase()) ? "true" : "false";
  }
  if (key === "size" || key === "limits.memory") {
    const [, amount, unit = ""] = /^(\d+)\s*([A-Za-z]*)$/.exec(text) ?? [];
    return amount === undefined ? text : String(Number(amount) * (UNITS[unit] ?? Number.NaN));
  }
  return key.startsWith("cloud-init.") ? text.trimEnd() : text;
}

function meanings(config: Properties): Texts {
  return Object.fromEntries(
    Object.entries(config)
      .filter(([key]) => !/^(volatile|image|user\.pulumi)\./.test(key))
      .map(([key, value]): [string, string] => [key, meaning(key, value)])
      .filter(([, value]) => value !== "")
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function deviceMeanings(devices: Properties): Properties {
  return Object.fromEntries(
    Object.entries(devices)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, device]) => [name, meanings(device as Properties)]),
  );
}

/** Rules of an ACL, or ports of a forward, in normal form: LXD's names, lists in alphabetical order, and neither order nor spaces. */
function ruleMeanings(rules: unknown): string[] {
  const list = (value: unknown): string =>
    String(value)
      .split(",")
      .map((item) => item.trim())
      .sort()
      .join();
  return ((rules ?? []) as Properties[])
    .map((rule) =>
      Object.entries(rule)
        .filter(([key, value]) => value !== "" && key !== "snat")
        .map(([key, value]) => `${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}=${list(value)}`)
        .sort()
        .join(" "),
    )
    .sort();
}

/**
 * The parts of a resource's object by the property that defines them; `undefined` if it does not exist. Values are in
 * normal form, so that the same meaning is the same text.
 */
export function facets(live: Live, name: string, args: Properties): Properties | undefined {
  const own = String(args["name"]);
  switch (kindOf(name)) {
    case "LxdNode": {
      const host = name.slice(5);
      const config = live.servers.get(host);
      return config && { config: named(config, ["core.https_address", "core.debug_address"]) };
    }
    case "LxdClusterMember": {
      const found = live.members.get(own);
      const { failure_domain: failureDomain, description, config, roles = [] } = found ?? {};
      const manualRoles = roles.filter(isManualRole);
      return (
        found && { failureDomain, description, manualRoles, config: meanings(config ?? {}), evacuated: isEvacuated(live, own) }
      );
    }
    case "LxdStoragePool": {
      const found = live.pools.get(own);
      const member = ([key, config]: [string, Texts]): [string, string] => [key, meaning("size", config["size"] ?? "")];
      const sizes = [...live.views].filter(([key]) => key.endsWith(`/storage-pools/${own}`)).map(member);
      return (
        found && {
          description: found.description,
          driver: found.driver,
          config: meanings(found.config ?? {}),
          memberConfig: Object.fromEntries(sizes),
        }
      );
    }
    case "LxdNetwork": {
      const found = live.networks.get(own);
      const hop = ([key, config]: [string, Texts]): [string, string] => [key, config["bgp.ipv4.nexthop"] ?? ""];
      const hops = [...live.views].filter(([key]) => key.endsWith(`/networks/${own}`)).map(hop);
      return (
        found && { description: found.description, config: meanings(found.config ?? {}), memberConfig: Object.fromEntries(hops) }
      );
    }
    case "LxdNetworkAcl": {
      const found = live.acls.get(own);
      return (
        found && {
          description: found.description,
          config: meanings(found.config ?? {}),
          ingress: ruleMeanings(found.ingress),
          egress: ruleMeanings(found.egress),
        }
      );
    }
    case "LxdNetworkForward": {
      const found = live.forwards.find(({ listen_address }) => listen_address === args["listenAddress"]);
      return (
        found && {
          target: found.location,
          description: found.description,
          config: meanings(found.config),
          ports: ruleMeanings(found.ports),
        }
      );
    }
    case "LxdClusterGroup": {
      const found = live.groups.get(own);
      return found && { description: found.description, members: [...(found.members ?? [])].sort() };
    }
    case "LxdServerConfig": {
      const [config] = live.servers.values();
      const routers = [...live.servers].map(([host, each]): [string, Texts] => [host, named(each, ["core.bgp_routerid"])]);
      const ofMembers = routers.filter(([, each]) => Object.keys(each).length > 0);
      return config && { config: named(config, CLUSTER_KEYS), memberConfig: Object.fromEntries(ofMembers) };
    }
    case "LxdProject": {
      const found = live.projects.get(own);
      return found && { description: found.description, config: meanings(found.config ?? {}) };
    }
    case "LxdStorageVolume": {
      const found = live.volumes.get(own);
      return found && { description: found.description, target: found.location, config: meanings(found.config) };
    }
    case "LxdTrustCertificate": {
      const found = live.certificates.get(String(args["certificate"]).trim());
      return found && { name: found.name, restricted: found.restricted, projects: [...(found.projects ?? [])].sort() };
    }
    case "LxdImage": {
      const found = live.images.get(String(args["sourceFingerprint"]));
      return (
        found && {
          // Others may point here after a repair.
          aliases: found.aliases
            .map((alias) => alias.name)
            .filter((alias) => (name === "vm-image") === alias.startsWith("vm"))
            .sort(),
          properties: meanings(found.properties),
          public: found.public,
        }
      );
    }
    case "LxdProfile": {
      const found = live.profiles.get(own);
      return (
        found && {
          description: found.description,
          config: meanings(found.config ?? {}),
          devices: deviceMeanings(found.devices ?? {}),
        }
      );
    }
    case "LxdVm":
      return vmFacets(live, own);
    case "VmFile":
    case "HostFile":
      return live.file(machineIn(args), String(args["path"]));
    default:
      return live.user(machineIn(args), own) as Properties | undefined;
  }
}

function machineIn({ instance }: Properties): Machine {
  return instance as Machine;
}

function vmFacets(live: Live, name: string): Properties | undefined {
  const found = live.instances.get(name);
  if (found === undefined) {
    return undefined;
  }
  const { "limits.cpu": cpu, "limits.memory": memory, ...others } = meanings(found.config ?? {});
  const isText = ([key]: [string, unknown]): boolean => key.startsWith("cloud-init.");
  const { root, ...devices } = deviceMeanings(found.devices ?? {});
  return {
    description: found.description,
    instanceType: found.type,
    profiles: found.profiles ?? [],
    cpu,
    memory,
    config: Object.fromEntries(Object.entries(others).filter((entry) => !isText(entry))),
    cloudInit: Object.fromEntries(Object.entries(others).filter(isText)),
    devices,
    rootDisk: (root as Texts | undefined)?.["size"],
    target: found.location,
    running: found.status === "Running",
  };
}

function isEvacuated(live: Live, member: string): boolean {
  return live.members.get(member)?.status === "Evacuated";
}

function named(config: Texts, keys: readonly string[]): Texts {
  return Object.fromEntries(keys.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]])));
}

/** The inputs of a resource with resolved references, computed from the program alone. */
export function resolved(program: Program, name: string): Properties {
  const resolve = (value: unknown): unknown => {
    if (value instanceof Ref) {
      const args = program[value.resource] ?? {};
      const [property = ""] = value.path;
      return resolve(args[property]);
    }
    if (Array.isArray(value)) {
      return value.map(resolve);
    }
    return value !== null && typeof value === "object"
      ? Object.fromEntries(Object.entries(value).map(([key, member]) => [key, resolve(member)]))
      : value;
  };
  const { cluster: _, ...args } = program[name] ?? {};
  return resolve(args) as Properties;
}

/** Differences between the live objects and the program; empty if there are none. */
export function faults(live: Live, program: Program): string[] {
  return Object.keys(program).flatMap((name) => {
    const args = resolved(program, name);
    const found = facets(live, name, args);
    if (found === undefined) {
      return [`${name} does not exist`];
    }
    return Object.entries(wanted(live, name, args, found)).flatMap(([property, value]) => {
      return isDeepStrictEqual(found[property], value)
        ? []
        : [`${name}: ${property} is ${JSON.stringify(found[property])} and not ${JSON.stringify(value)}`];
    });
  });
}

/** Keys that the program no longer sets, but that still exist. LXD may choose other addresses. */
export function notDropped(live: Live, program: Program, given: ReadonlyMap<string, readonly string[]>): string[] {
  const now = givenKeys(program);
  return [...now].flatMap(([name, keys]) => {
    const found = facets(live, name, resolved(program, name)) ?? {};
    const texts = (found["properties"] ?? found["config"] ?? {}) as Texts;
    const wasEvacuated = given.get(name)?.includes("evacuated") === true && program[name]?.["evacuated"] === undefined;
    if (wasEvacuated && found["evacuated"] === true) {
      return [`${name}: evacuated is no longer set, and it is still evacuated`];
    }
    return (given.get(name) ?? [])
      .filter((key) => !keys.includes(key) && texts[key] !== undefined && !/^ipv[46]\.address$/.test(key))
      .map((key) => `${name}: ${key} is no longer set, and still ${texts[key]}`);
  });
}

/** The parts that a program defines, without those that it leaves to LXD. */
function wanted(live: Live, name: string, args: Properties, found: Properties): Properties {
  const config = meanings((args["config"] ?? {}) as Properties);
  const description = args["description"] ?? "";
  const present = found["config"] as Texts;
  switch (kindOf(name)) {
    case "LxdNode":
      return { config: { ...present, ...config } };
    case "LxdClusterMember":
      return {
        failureDomain: args["failureDomain"] ?? "default",
        description: args["description"] ?? found["description"], // left as it is, unless the program gives one
        manualRoles: args["manualRoles"] ?? found["manualRoles"],
        config,
        evacuated: args["evacuated"] ?? found["evacuated"],
      };
    case "LxdClusterGroup":
      return { description, members: [...((args["members"] ?? []) as string[])].sort() };
    case "LxdServerConfig":
      return {
        config: { ...present, ...config },
        memberConfig: { ...(found["memberConfig"] as Properties), ...(args["memberConfig"] as Properties | undefined) },
      };
    case "LxdProject": {
      const features = Object.entries(present).filter(([key]) => key.startsWith("features."));
      return { description, config: sortedTexts({ ...Object.fromEntries(features), ...config }) };
    }
    case "LxdStorageVolume":
      return { description, target: args["target"], config: sortedTexts({ ...present, ...config }) };
    case "LxdTrustCertificate":
      return {
        name: args["name"],
        restricted: args["restricted"] ?? true,
        projects: [...((args["projects"] ?? []) as string[])].sort(),
      };
    case "LxdStoragePool":
    case "LxdNetwork": {
      const chosen = Object.keys(config).filter(
        (key) => config[key] === "auto" && present[key] !== undefined && present[key] !== "none",
      );
      const said = Object.fromEntries(
        Object.keys(config).map((key) => [key, chosen.includes(key) ? (present[key] ?? "") : config[key]]),
      );
      return { description, config: { ...sortedTexts({ ...present, ...said }) } };
    }
    case "LxdNetworkAcl": {
      const rules = (direction: string): string[] =>
        ruleMeanings(((args[direction] ?? []) as Properties[]).map((rule) => ({ state: "enabled", ...rule })));
      return { description, config, ingress: rules("ingress"), egress: rules("egress") };
    }
    case "LxdNetworkForward":
      return { target: args["target"], description, config, ports: ruleMeanings(args["ports"]) };
    case "LxdImage": {
      const aliases = [...new Set([...(found["aliases"] as string[]), ...((args["aliases"] ?? []) as string[])])].sort();
      const properties = sortedTexts({
        ...(found["properties"] as Texts),
        ...meanings((args["properties"] ?? {}) as Properties),
      });
      return { aliases, properties, public: args["public"] ?? false };
    }
    case "LxdProfile":
      return { description, config, devices: deviceMeanings((args["devices"] ?? {}) as Properties) };
    case "LxdVm": {
      const { userData, vendorData } = (args["cloudInit"] ?? {}) as Properties;
      const size = (args["rootDisk"] as Properties | undefined)?.["size"];
      return {
        description,
        instanceType: args["instanceType"],
        profiles: args["profiles"],
        cpu: args["cpu"] === undefined ? undefined : `${args["cpu"] as string | number}`,
        memory: args["memory"] === undefined ? undefined : meaning("limits.memory", args["memory"]),
        config,
        cloudInit: meanings({
          ...(userData === undefined ? {} : { "cloud-init.user-data": userData }),
          ...(vendorData === undefined ? {} : { "cloud-init.vendor-data": vendorData }),
        }),
        devices: deviceMeanings((args["devices"] ?? {}) as Properties),
        rootDisk: size === undefined ? undefined : meaning("size", size),
        ...(args["target"] === undefined || evacuatedFrom(live, args) === args["target"] ? {} : { target: args["target"] }),
        ...(isEvacuated(live, String(found["target"])) ? {} : { running: args["running"] ?? true }),
      };
    }
    case "VmFile":
    case "HostFile": {
      const { owner = "root", group = "root", mode = "0644" } = args;
      const padded = String(mode).padStart(4, "0");
      return { owner: owner === 1 ? "daemon" : owner, group, mode: padded, content: args["content"] };
    }
    default:
      return wantedOfUser(args, found as unknown as LiveUser);
  }
}

/** The member from which an evacuation has moved an instance, which comes back when that member is restored. */
function evacuatedFrom(live: Live, { name }: Properties): string | undefined {
  return live.instances.get(String(name))?.config?.["volatile.evacuate.origin"];
}

function wantedOfUser(args: Properties, found: LiveUser): Properties {
  const { uid, home, groups, authorizedKeys, passwordHash } = args;
  const rights: Readonly<Record<string, string>> = {
    none: "",
    password: `${String(args["name"])} ALL=(ALL:ALL) ALL`,
    passwordless: `${String(args["name"])} ALL=(ALL:ALL) NOPASSWD: ALL`,
  };
  const keys = (authorizedKeys ?? []) as string[];
  const missing = keys.filter((key) => !found.keys.includes(key));
  const exclusive = (args["authorizedKeysMode"] ?? "exclusive") === "exclusive";
  return {
    ...(uid === undefined ? {} : { uid }),
    ...(home === undefined ? {} : { home }),
    shell: args["shell"] ?? "/bin/bash",
    ...(groups === undefined ? {} : { groups: [...(groups as string[])].sort() }),
    sudo: rights[(args["sudo"] ?? "none") as string],
    ...(authorizedKeys === undefined || (missing.length === 0 && (!exclusive || found.keys.length === keys.length))
      ? {}
      : { keys }),
    ...(passwordHash === undefined ? {} : { passwordHash }),
  };
}

function sortedTexts(map: Properties): Properties {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
