import { dirname } from "node:path";
import type { SimulatedHost, SimulatedLab } from "../../lab/simulated";
import { guestOf, softwareOf } from "../../lab/simulated/guest";
import type { GuestSoftware } from "../../lab/simulated/guest-software";
import type { Daemon } from "../../lab/simulated/lxd/daemon";
import type { Database, Instance, Member } from "../../lab/simulated/lxd/database";
import type { MemoryFiles } from "../../lab/simulated/memory-files";

type Plain = Record<string, unknown>;

/**
 * The complete state of a lab as plain data: hosts with their files and packages, daemons with their settings and open
 * join tokens, and every object of their databases down to the files of the guests. Random values (names, dates, key
 * pairs) are replaced by fixed texts, so that the states of two labs with the same history are equal. A leftover of any
 * type is a difference.
 */
export function liveState(lab: SimulatedLab): Plain {
  const databases = [...new Set(lab.hosts.flatMap(({ daemon }) => (daemon === undefined ? [] : [daemon.database])))];
  const state = {
    hosts: Object.fromEntries(lab.hosts.map((host) => [host.name, stateOfHost(host, databases)])),
    databases: databases.map(stateOfDatabase),
  };
  return JSON.parse(withoutRandomParts(JSON.stringify(state), lab)) as Plain;
}

function stateOfHost(host: SimulatedHost, databases: readonly Database[]): Plain {
  const { daemon } = host;
  return {
    packages: [...host.packages.keys()].sort(),
    heldPackages: [...host.heldPackages].sort(),
    snaps: Object.fromEntries(host.snaps),
    mounts: host.mounts,
    interfaces: sorted(Object.fromEntries(host.interfaces)),
    files: stateOfFiles(host.files),
    units: host.units.state(),
    ...(daemon === undefined ? {} : { lxd: { ...stateOfDaemon(daemon), database: databases.indexOf(daemon.database) } }),
  };
}

function stateOfDaemon(daemon: Daemon): Plain {
  return {
    version: daemon.behaviour.version,
    answers: daemon.answers,
    config: sorted(daemon.localConfig),
    // Ended operations disappear after seconds. One that runs without a client runs until it expires: a token. One that offers a volume
    // changes nothing.
    openOperations: daemon.operations
      .list()
      .filter((operation) => operation.running && operation.class !== "websocket")
      .map(({ class: kind, metadata }) => ({ kind, for: metadata?.["serverName"] })),
  };
}

function stateOfDatabase(database: Database): Plain {
  const { config, clustered, members, pendingMembers, lost } = database;
  const byMember = <Value>(nodes: ReadonlyMap<Member, Value>): Plain =>
    sorted(Object.fromEntries([...nodes].map(([member, value]) => [member.name, value])));
  return {
    config: sorted(config),
    clustered,
    lost,
    members: members.map(({ daemon, ...member }) => ({ ...member, host: daemon.host.name })),
    pendingMembers,
    groups: Object.fromEntries(database.groups),
    projects: Object.fromEntries(database.projects),
    pools: each(database.pools, ({ nodes, customVolumes, ...pool }) => ({
      ...pool,
      nodes: byMember(nodes),
      customVolumes: customVolumes.map(({ member, ...volume }) => ({ ...volume, on: member?.name })),
    })),
    networks: each(database.networks, ({ nodes, forwards, ...network }) => ({
      ...network,
      nodes: byMember(nodes),
      forwards: forwards.map(({ member, ...forward }) => ({ ...forward, on: member.name })),
    })),
    acls: each(database.acls, (acl) => acl),
    profiles: each(database.profiles, (profile) => profile),
    images: each(database.images, ({ createdAt: _, uploadedAt: __, ...image }) => image),
    instances: each(database.instances, stateOfInstance),
    certificates: [...database.certificates.values()].map(({ name, type }) => `${type} ${name}`).sort(),
  };
}

/** Without recorded output of commands: LXD itself removes the rest of an interrupted reader after two days. */
function stateOfInstance(instance: Instance): Plain {
  const { name, type, architecture, description, ephemeral, profiles, config, devices, status, member, snapshots } = instance;
  return {
    ...{ name, type, architecture, description, ephemeral, profiles, status, snapshots },
    config: sorted(config),
    devices,
    on: member.name,
    ...(instance.files === undefined ? {} : { files: stateOfFiles(instance.files), units: guestOf(instance).units.state() }),
    packages: stateOfPackages(softwareOf(instance)),
  };
}

function stateOfPackages({ packages, heldPackages }: GuestSoftware): Plain {
  return { installed: sorted(Object.fromEntries(packages)), held: [...heldPackages].sort() };
}

/** All files but those of /run, which end with the next boot: an interruption may leave drop-ins of units there. */
function stateOfFiles(files: MemoryFiles): Plain {
  const paths = files
    .tree("/")
    .filter((path) => !path.startsWith("/run/"))
    .filter((path) => !(path === "/var/lib/pulumi-lxd-cluster" && files.list(path).length === 0)) // nothing is kept
    .sort();
  return Object.fromEntries(
    paths.map((path) => {
      const node = files.get(path, false);
      const content = node?.content.toString("latin1").replace(CLAIM, "[<claim>$1]") ?? "";
      const encoded = Buffer.from(content, "latin1").toString("base64");
      return [path, node && [node.type, node.mode.toString(8), node.uid, node.gid, encoded].join(" ")];
    }),
  );
}

/** In a mark that a host keeps in a file. */
const CLAIM = /\[[0-9a-f]{16}( creating)?\]$/m;

function each<Value>(items: ReadonlyMap<string, Value>, show: (item: Value) => unknown): Plain {
  return sorted(Object.fromEntries([...items].map(([key, item]) => [key, show(item)])));
}

function sorted(record: Plain): Plain {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const RANDOM: readonly (readonly [RegExp, string])[] = [
  [/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<uuid>"],
  [/00:16:3e(:[0-9a-f]{2}){3}/g, "<mac>"],
  [/\b(veth|tap)[0-9a-f]+/g, "<interface>"],
  [/\b10\.10\.10\.\d+(?!\d*\/)/g, "<address>"],
  [/ \[[0-9a-f]{16}(?=( creating)?\])/g, " [<claim>"],
  [/(?<="user\.pulumi\.config\.)[0-9a-f]{16}(?=":)/g, "<claim>"],
  [/"__claim":"[0-9a-f]{16}"/g, '"__claim":"<claim>"'],
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "<date>"],
];

/** A text of one lab without random parts. */
export function withoutRandomParts(text: string, lab: SimulatedLab): string {
  let result = text;
  for (const { name, daemon, hostKey, port } of lab.hosts) {
    const { pem = "", fingerprint = "" } = daemon?.certificate ?? {};
    const cluster = daemon?.database.certificate ?? { pem: "", fingerprint: "" };
    for (const [own, word] of [
      [JSON.stringify(pem).slice(1, -1), `<certificate of ${name}>`],
      [Buffer.from(pem).toString("base64"), `<certificate of ${name}>`],
      [fingerprint, `<fingerprint of ${name}>`],
      [Buffer.from(cluster.pem).toString("base64"), "<certificate of the cluster>"],
      [cluster.fingerprint, "<fingerprint of the cluster>"],
      [hostKey, `<host key of ${name}>`],
    ] as const) {
      result = own === "" ? result : result.replaceAll(own, word);
    }
    // Longer numbers may begin with that of the port.
    result = result.replace(new RegExp(`("port":|:)${port}(?!\\d)`, "g"), (_, before: string) =>
      before === ":" ? `:<port of ${name}>` : `"port":"<port of ${name}>"`,
    );
  }
  result = result.replaceAll(JSON.stringify(lab.privateKey).slice(1, -1), "<private key>");
  result = result.replaceAll(dirname(lab.knownHostsPath), "<directory>");
  return RANDOM.reduce((known, [pattern, word]) => known.replace(pattern, word), result);
}
