import * as z from "zod";
import type { Lifecycle } from "../provider/engine/lifecycle";
import { installedDebPackages } from "../provider/host/apt";
import { DAEMON_PACKAGES } from "../provider/host/installed";
import { findSnap } from "../provider/host/snapd";
import { listClientCertificates } from "../provider/lxd/certificates";
import { listOf } from "../provider/lxd/client/answers";
import { api } from "../provider/lxd/client/client";
import type { ServerNames } from "../provider/lxd/client/endpoint";
import { DEFAULT_GROUP } from "../provider/lxd/cluster/cluster";
import { findClusterGroup } from "../provider/lxd/cluster/cluster-groups";
import { type Config, isServerMade, OWNER_KEY } from "../provider/lxd/config";
import { serverImageSchema } from "../provider/lxd/instances/image-source";
import { describeOwner } from "../provider/lxd/ownership";
import { isFeature } from "../provider/lxd/projects";
import { LOCAL_CONFIG, serverConfig } from "../provider/lxd/server";
import { asFormer, recordsIn, UNRECORDED } from "../provider/lxd/server-config/server-config";
import { findObject, type MemberObject, type ObjectRef, viewsOf } from "../provider/lxd/storage-and-networks/member-objects";
import { inOrderOfUse, listNetworkAclsShared } from "../provider/lxd/storage-and-networks/network-acls";
import { listNetworkForwardsShared } from "../provider/lxd/storage-and-networks/network-forwards";
import { network } from "../provider/lxd/storage-and-networks/networks";
import { POOLS, pool, sourcesOf } from "../provider/lxd/storage-and-networks/storage-pools";
import { clusterGroupLifecycle } from "../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../provider/resources/lxd-cluster-member";
import { imageLifecycle } from "../provider/resources/lxd-image";
import { networkLifecycle } from "../provider/resources/lxd-network";
import { networkAclLifecycle } from "../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../provider/resources/lxd-network-forward";
import { nodeLifecycle } from "../provider/resources/lxd-node";
import { profileLifecycle } from "../provider/resources/lxd-profile";
import { projectLifecycle } from "../provider/resources/lxd-project";
import { serverConfigLifecycle } from "../provider/resources/lxd-server-config";
import { storagePoolLifecycle } from "../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../provider/resources/lxd-storage-volume";
import { trustCertificateLifecycle } from "../provider/resources/lxd-trust-certificate";
import { vmLifecycle } from "../provider/resources/lxd-vm";
import type { Asked, HostArgs } from "./arguments";
import { type Host, type Hosts, openHosts } from "./hosts";
import { takeOver } from "./take";

/** Kinds of resources, in the order in which a program has them. */
export const KINDS = [
  "LxdNode",
  "LxdClusterMember",
  "LxdClusterGroup",
  "LxdServerConfig",
  "LxdStoragePool",
  "LxdProject",
  "LxdTrustCertificate",
  "LxdStorageVolume",
  "LxdNetworkAcl",
  "LxdNetwork",
  "LxdNetworkForward",
  "LxdImage",
  "LxdProfile",
  "LxdVm",
] as const;

/** See {@link KINDS}. */
export type Kind = (typeof KINDS)[number];

/** An object and the arguments that describe its current state. */
export interface Taken {
  readonly kind: Kind;
  /** Name of the object in LXD; for an image, an alias. */
  readonly name: string;
  /** Project of the object; "default" for an object without one. */
  readonly project: string;
  /** Arguments without `cluster` and `connection`. */
  readonly args: Readonly<Record<string, unknown>>;
}

/** The contents of a cluster. */
export interface ClusterContents {
  readonly hosts: readonly { readonly name: string; readonly args: HostArgs }[];
  /** Names of the server, LXD or Incus. */
  readonly names: ServerNames;
  readonly taken: readonly Taken[];
  /** Objects that are not adopted, one sentence each. */
  readonly leftOut: readonly string[];
  /** Returns the project whose profiles, networks or images a project uses. */
  holderOf(project: string, feature: Feature): string;
}

type Feature = "profiles" | "networks" | "images" | "storage.volumes";

const config = z.record(z.string(), z.string()).nullish();
const devices = z.record(z.string(), z.record(z.string(), z.string())).nullish();
const namedSchema = z.looseObject({ name: z.string() });
const networkSchema = z.looseObject({ name: z.string(), managed: z.boolean(), type: z.string() });
const configuredSchema = z.looseObject({ name: z.string(), config });
const volumeSchema = z.looseObject({
  name: z.string(),
  content_type: z.string(),
  location: z.string().default(""),
  config,
});
const imageSchema = z.looseObject({
  fingerprint: z.string(),
  type: z.string().default("container"),
  cached: z.boolean().default(false),
  auto_update: z.boolean().default(false),
  aliases: z.array(namedSchema).nullish(),
  properties: config,
  update_source: z.looseObject({ server: z.string(), protocol: z.string() }).nullish(),
});
const instanceSchema = z.looseObject({
  name: z.string(),
  type: z.string(),
  status: z.string(),
  location: z.string().default(""),
  ephemeral: z.boolean().default(false),
  config,
  devices,
});

/** Reads everything that the library manages. */
export async function readCluster(asked: Pick<Asked, "hosts" | "owned">, tell: (text: string) => void): Promise<ClusterContents> {
  const hosts = await openHosts(asked.hosts);
  return new Reading(hosts, asked.owned, tell).all();
}

/** One pass over a cluster. */
class Reading {
  private readonly taken: Taken[] = [];
  private readonly leftOut: string[] = [];
  private readonly projects = new Map<string, Config>();
  private readonly cluster;

  constructor(
    private readonly hosts: Hosts,
    private readonly owned: boolean,
    private readonly tell: (text: string) => void,
  ) {
    this.cluster = { endpoints: hosts.all.map(({ connection }) => connection) };
  }

  async all(): Promise<ClusterContents> {
    const { lxd } = this.hosts.first;
    for (const project of await lxd.get("/1.0/projects", listOf(configuredSchema), { recursion: 1 })) {
      this.projects.set(project.name, project.config ?? {});
    }
    await this.nodesAndMembers();
    await this.clusterGroups();
    await this.serverConfig();
    await this.pools();
    await this.trustCertificates();
    for (const project of [...this.projects.keys()].sort()) {
      await this.project(project);
      await this.ofProject(project);
    }
    const holderOf = (project: string, feature: Feature): string => this.holderOf(project, feature);
    const hosts = this.hosts.all.map(({ name, args }) => ({ name, args }));
    return { hosts, names: lxd.names, taken: this.taken, leftOut: this.leftOut, holderOf };
  }

  /** Adds an object to `taken`, or the reason against it to `leftOut`. */
  private async take<Inputs extends object, Outputs extends object>(
    lifecycle: Lifecycle<Inputs, Outputs>,
    object: { what: string; name: string; project?: string; mark?: string | undefined },
    args: Record<string, unknown>,
  ): Promise<void> {
    const { what, name, project = "default", mark = "" } = object;
    this.tell(`reading ${what}`);
    if (mark !== "" && !this.owned) {
      this.leaveOut(what, `it belongs to ${describeOwner(mark)}; adopt it with --owned`);
      return;
    }
    const place = "connection" in args ? {} : { cluster: this.cluster };
    const answer = await takeOver(lifecycle, { ...place, ...args, adopt: true });
    if ("why" in answer) {
      this.leaveOut(what, answer.why);
      return;
    }
    const { cluster: _, connection: _connection, ...own } = answer.args;
    this.taken.push({ kind: lifecycle.kind as Kind, name, project, args: own });
  }

  private leaveOut(what: string, why: string): void {
    this.leftOut.push(`${what}: ${why}`);
  }

  private async nodesAndMembers(): Promise<void> {
    const { all, first, members } = this.hosts;
    const membershipOf = ({ name }: Host) => members.find(({ server_name }) => server_name === name);
    for (const host of all) {
      const own = Object.entries(serverConfig(host.server)).filter(([key, value]) => LOCAL_CONFIG.test(key) && value !== "");
      const object = { what: `host ${host.name}`, name: host.name, mark: membershipOf(host)?.config?.[OWNER_KEY] };
      const args = { connection: host.connection, install: await this.installOf(host), config: Object.fromEntries(own) };
      await this.take(nodeLifecycle, object, args);
    }
    for (const host of all) {
      const member = membershipOf(host);
      if (member !== undefined) {
        const object = { what: `member ${host.name}`, name: host.name, mark: member.config?.[OWNER_KEY] };
        const through = host === first ? {} : { cluster: { endpoints: [first.connection] } };
        const address = member.url.replace(/^https:\/\//, "").replace(/:8443$/, "");
        await this.take(clusterMemberLifecycle, object, { connection: host.connection, ...through, name: host.name, address });
      }
    }
  }

  private async clusterGroups(): Promise<void> {
    const { first, members } = this.hosts;
    const groups = members.length === 0 ? [] : await first.lxd.get("/1.0/cluster/groups", listOf(namedSchema), { recursion: 1 });
    for (const { name } of groups) {
      const found = name === DEFAULT_GROUP ? undefined : await findClusterGroup(first.lxd, name);
      if (found !== undefined) {
        const object = { what: `cluster group ${name}`, name, mark: found.value.config[OWNER_KEY] };
        await this.take(clusterGroupLifecycle, object, { name });
      }
    }
  }

  /** Takes the keys of the whole cluster. Those of one host are in its node. */
  private async serverConfig(): Promise<void> {
    const all = serverConfig(this.hosts.first.server);
    const records = recordsIn(new Map([["", all]]));
    const own: Config = {};
    for (const [key, value] of Object.entries(all)) {
      const mark = this.owned ? undefined : records.find(({ former }) => key in former.config)?.mark;
      if (value === "" || LOCAL_CONFIG.test(key) || key === "cluster.https_address" || isServerMade(key)) {
        continue;
      }
      if (mark !== undefined) {
        this.leaveOut(`config key ${key}`, `it belongs to ${describeOwner(mark)}; adopt it with --owned`);
      } else if (asFormer(key, value) === UNRECORDED) {
        this.leaveOut(`config key ${key}`, "the server does not tell its value");
      } else {
        own[key] = value;
      }
    }
    if (Object.keys(own).length > 0) {
      await this.take(serverConfigLifecycle, { what: "server config", name: "server-config" }, { config: own });
    }
  }

  private async installOf({ lxd, ssh }: Host): Promise<unknown> {
    const { packaging } = lxd.endpoint.socket;
    if (packaging === "incus") {
      const packages = await installedDebPackages(ssh, DAEMON_PACKAGES.incus, this.hosts.deadline);
      const isBaseOnly = packages.length > 0 && !packages.includes("incus");
      return packages.length > 0 && { method: "deb", server: "incus", ...(isBaseOnly && { serverPackage: "incus-base" }) };
    }
    if (packaging === "deb") {
      return { method: "deb" };
    }
    const snap = await findSnap(ssh, this.hosts.deadline);
    return snap === undefined ? false : { method: "snap", channel: snap.channel, ...(snap.held ? {} : { hold: false }) };
  }

  private async pools(): Promise<void> {
    const { lxd } = this.hosts.first;
    for (const { name } of await lxd.get("/1.0/storage-pools", listOf(namedSchema), { recursion: 1 })) {
      const found = await findObject(lxd, pool(name));
      if (found !== undefined) {
        const object = { what: `storage pool ${name}`, name, mark: found.value.config?.[OWNER_KEY] };
        const args = { name, driver: found.value.driver, ...(await this.configsOf(pool(name), found.value)) };
        await this.take(storagePoolLifecycle, object, args);
      }
    }
  }

  /** Returns the config of a pool or network, with each member's own values unless LXD chose them. */
  private async configsOf(
    ref: ObjectRef,
    { config }: MemberObject,
  ): Promise<{ config: Config; memberConfig: Record<string, Config> }> {
    const { all, members, first } = this.hosts;
    const { type, name } = ref;
    const common = Object.entries(config ?? {}).filter(
      ([key, value]) => value !== "" && !isServerMade(key) && !type.memberKeys.includes(key),
    );
    const servers = {
      clustered: members.length > 0,
      members: members.length > 0 ? members : [{ server_name: first.name, status: "Online" }],
    };
    const views = await viewsOf(first.lxd, ref, servers);
    const sources = type === POOLS ? sourcesOf(views) : {};
    const ofMembers = all.map(({ name: member }): [string, Config] => {
      const live: Config = {
        ...views.get(member)?.value.config,
        ...(sources[member] === undefined ? {} : { source: sources[member] }),
      };
      const own = type.memberKeys.filter((key) => (live[key] ?? "") !== "" && !isChosenByLxd(name, key, live[key] ?? ""));
      return [member, Object.fromEntries(own.map((key) => [key, live[key] ?? ""]))];
    });
    return {
      config: Object.fromEntries(common),
      memberConfig: Object.fromEntries(ofMembers.filter(([, own]) => Object.keys(own).length > 0)),
    };
  }

  private async project(name: string): Promise<void> {
    const config = this.projects.get(name) ?? {};
    const features = Object.entries(config).filter(([key]) => isFeature(key)); // a new project would get LXD's defaults
    if (name !== "default") {
      const object = { what: `project ${name}`, name, mark: config[OWNER_KEY] };
      await this.take(projectLifecycle, object, { name, config: Object.fromEntries(features) });
    }
  }

  /** Takes the certificates of clients. Those of members belong to their memberships. */
  private async trustCertificates(): Promise<void> {
    for (const { name, certificate, type, restricted, fingerprint, config } of await listClientCertificates(
      this.hosts.first.lxd,
    )) {
      const object = { what: `trusted certificate ${fingerprint.slice(0, 12)} (${name})`, name, mark: config[OWNER_KEY] };
      await this.take(trustCertificateLifecycle, object, { name, certificate, type, restricted });
    }
  }

  private async ofProject(project: string): Promise<void> {
    if (this.holderOf(project, "storage.volumes") === project) {
      await this.volumes(project);
    }
    if (this.holderOf(project, "networks") === project) {
      await this.networkAcls(project);
      await this.networks(project);
    }
    if (this.holderOf(project, "images") === project) {
      await this.images(project);
    }
    if (this.holderOf(project, "profiles") === project) {
      await this.profiles(project);
    }
    await this.instances(project);
  }

  private async volumes(project: string): Promise<void> {
    const { lxd } = this.hosts.first;
    for (const pool of await lxd.get("/1.0/storage-pools", listOf(namedSchema), { recursion: 1 })) {
      const path = api`/1.0/storage-pools/${pool.name}/volumes/custom`;
      const volumes = await lxd.get(path, listOf(volumeSchema), { recursion: 1, project });
      for (const { name, content_type, location, config } of volumes.filter((each) => !isSnapshot(each))) {
        const target = location === "none" ? "" : location;
        const what = `volume ${named(project, name)} of pool ${pool.name}${target === "" ? "" : ` on ${target}`}`;
        if (content_type !== "filesystem" && content_type !== "block") {
          this.leaveOut(what, `its content is ${content_type}, and LxdStorageVolume manages only filesystem and block`);
          continue;
        }
        const own = Object.entries(config ?? {}).filter(([key, value]) => value !== "" && !isServerMade(key));
        await this.take(
          storageVolumeLifecycle,
          { what, name, project, mark: config?.[OWNER_KEY] },
          {
            ...{ name, pool: pool.name, project, ...(target !== "" && { target }) },
            ...{ contentType: content_type, config: Object.fromEntries(own) },
          },
        );
      }
    }
  }

  private async networkAcls(project: string): Promise<void> {
    const { lxd } = this.hosts.first;
    for (const { name, config } of inOrderOfUse(await listNetworkAclsShared(lxd, project))) {
      const object = { what: `network ACL ${named(project, name)}`, name, project, mark: config?.[OWNER_KEY] };
      await this.take(networkAclLifecycle, object, { name, project });
    }
  }

  private async networks(project: string): Promise<void> {
    const { lxd } = this.hosts.first;
    const networks = await lxd.get("/1.0/networks", listOf(networkSchema), { recursion: 1, project });
    for (const { name, type } of networks.filter(({ managed }) => managed)) {
      const found = await findObject(lxd, network(project, name));
      if (found !== undefined) {
        const object = { what: `network ${named(project, name)}`, name, project, mark: found.value.config?.[OWNER_KEY] };
        const args = { name, project, type, ...(await this.configsOf(network(project, name), found.value)) };
        await this.take(networkLifecycle, object, args);
      }
      if (type === "bridge" || type === "ovn") {
        await this.forwards(project, name); // the others have none
      }
    }
  }

  private async forwards(project: string, of: string): Promise<void> {
    for (const { listen_address, location, config } of await listNetworkForwardsShared(this.hosts.first.lxd, {
      project,
      network: of,
    })) {
      const target = this.hosts.members.length === 0 ? {} : { target: location };
      const name = `${of}-${listen_address}${this.hosts.members.length === 0 ? "" : `-${location}`}`;
      const what = `forward ${listen_address} of network ${named(project, of)}`;
      const object = { what, name, project, mark: config?.[OWNER_KEY] };
      await this.take(networkForwardLifecycle, object, { network: of, project, listenAddress: listen_address, ...target });
    }
  }

  /** Only an image copied from a server can be copied again. The files of other images are not available. */
  private async images(project: string): Promise<void> {
    const images = await this.hosts.first.lxd.get("/1.0/images", listOf(imageSchema), { recursion: 1, project });
    for (const { fingerprint, type, aliases, properties, auto_update, update_source: source } of images.filter(
      ({ cached }) => !cached,
    )) {
      const names = (aliases ?? []).map(({ name }) => name);
      const name = names[0] ?? fingerprint.slice(0, 12);
      const what = `image ${named(project, name)}`;
      const from = serverImageSchema.safeParse({ server: source?.server, protocol: source?.protocol, fingerprint });
      if (!from.success || auto_update) {
        const unknown = source
          ? `LxdImage does not copy from ${source.server} by the protocol ${source.protocol}`
          : "it was uploaded, and its files are not available here";
        const why = auto_update ? "it is replaced by newer images" : unknown;
        this.leaveOut(what, `${why}. Add an LxdImage to the program to manage it`);
        continue;
      }
      await this.take(
        imageLifecycle,
        { what, name, project, mark: properties?.[OWNER_KEY] },
        { project, source: from.data, instanceType: type, aliases: names },
      );
    }
  }

  private async profiles(project: string): Promise<void> {
    const profiles = await this.hosts.first.lxd.get("/1.0/profiles", listOf(configuredSchema), { recursion: 1, project });
    for (const { name, config } of profiles) {
      const object = { what: `profile ${named(project, name)}`, name, project, mark: config?.[OWNER_KEY] };
      await this.take(profileLifecycle, object, { name, project });
    }
  }

  private async instances(project: string): Promise<void> {
    const instances = await this.hosts.first.lxd.get("/1.0/instances", listOf(instanceSchema), { recursion: 1, project });
    for (const { name, type, status, location, ephemeral, config, devices } of instances) {
      const what = `instance ${named(project, name)}`;
      if (ephemeral) {
        this.leaveOut(what, "it is ephemeral: it is deleted when it stops");
        continue;
      }
      if (!["Running", "Ready", "Stopped"].includes(status)) {
        this.leaveOut(what, `it is ${status}, neither running nor stopped. Start or stop it, and run this again`);
        continue;
      }
      const fingerprint = config?.["volatile.base_image"] ?? "";
      const target = config?.["volatile.evacuate.origin"] ?? location;
      await this.take(
        vmLifecycle,
        { what, name, project, mark: config?.[OWNER_KEY] },
        {
          name,
          project,
          instanceType: type,
          // Only a replacement uses the image.
          image: fingerprint === "" ? { alias: "unknown" } : { fingerprint },
          // All devices, so that the root disk has all its keys.
          devices: devices ?? {},
          ...(this.hosts.members.length === 0 ? {} : { target }),
        },
      );
    }
  }

  private holderOf(project: string, feature: Feature): string {
    return this.projects.get(project)?.[`features.${feature}`] === "true" ? project : "default";
  }
}

function named(project: string, name: string): string {
  return project === "default" ? name : `${name} of project ${project}`;
}

/** Whether an element of the list of volumes is a snapshot, which has its volume's name before a slash. */
function isSnapshot({ name }: { readonly name: string }): boolean {
  return name.includes("/");
}

/** Whether a member's value is LXD's default. The size of a loop file is always written. */
function isChosenByLxd(name: string, key: string, value: string): boolean {
  return (
    (key === "source" && (value === name || value.endsWith(`/disks/${name}.img`) || value.endsWith(`/storage-pools/${name}`))) ||
    (key === "zfs.pool_name" && value === name) ||
    (key === "lvm.vg_name" && value === name) ||
    (key === "lvm.thinpool_name" && ["LXDThinPool", "IncusThinPool"].includes(value)) ||
    key === "source.wipe" ||
    key === "source.recover"
  );
}
