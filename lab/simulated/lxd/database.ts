/**
 * The database of an LXD daemon. A standalone daemon has its own; the members of a cluster share one, as with dqlite. A
 * standalone daemon is its own only member, called "none".
 */

import type { Faults } from "../faults";
import type { GuestSoftware } from "../guest-software";
import type { MemoryFiles } from "../memory-files";
import type { SimulatedUnits } from "../programs/systemd";
import type { Certificate } from "./certificate";
import type { Config, Devices } from "./config";
import { LxdError } from "./errors";
import type { Behaviour } from "./flavours";
import type { Operation, OperationOptions, Operations } from "./operations";
import type { DaemonHost, LifecycleEvent, RemoteImage, RequestRecord, Timings } from "./surroundings";

export type { Config, Devices } from "./config";

/** State that the daemons of one lab share. */
export interface Surroundings {
  faults: Faults;
  requests: RequestRecord[];
  lifecycle: LifecycleEvent[];
  timings: Timings;
  remoteImages: RemoteImage[];
  /** Errors of the simulator itself. A test expects none. */
  defects: unknown[];
  /** Commands that no program of a guest could run. A test expects none. */
  unknownGuestCommands: string[][];
  /** Set while a request is handled whose operation must fail. */
  operationFailure: string | undefined;
  /** Set while a request is handled whose operation is never carried out. */
  operationLost: boolean;
  /** The daemon that listens at an address of the lab's network. */
  daemonAt(address: string): LxdServer | undefined;
}

/** A daemon as the endpoints see it, including those of other members, because members work for each other. */
export interface LxdServer {
  readonly host: DaemonHost;
  readonly surroundings: Surroundings;
  readonly behaviour: Behaviour;
  readonly operations: Operations;
  readonly dataDirectory: string;
  readonly pid: number;
  /** The storage drivers that it names. It looks for them when it starts, and when it makes or removes a pool. */
  drivers: string[];
  localConfig: Config;
  certificate: Certificate;
  database: Database;
  /** Whether it accepts requests from other members. */
  readonly answers: boolean;
  /** Whether the other members have received a recent heartbeat. */
  readonly heard: boolean;
  readonly ready: boolean;
  /** Whether it waits, after an upgrade, until the other members have the same API extensions. */
  readonly waits: boolean;
  /** Whether another member has more API extensions, where the server shows that. */
  readonly isBehind: boolean;
  /** Its own row among the members. */
  readonly member: Member;
  /** A path in its data directory. */
  path(...parts: string[]): string;
  /** Starts it with the content of the data directory. An empty directory makes a new server. */
  start(): void;
  stop(): void;
  /** A member of its cluster is gone. */
  losePeer(): void;
  /** Resets it to a pristine standalone server, as leaving a cluster does too. */
  reset(keepLocalConfig?: boolean): void;
  /** Starts an operation on this daemon. */
  operate(options: OperationOptions, work: (operation: Operation) => Promise<void> | void): Operation;
  /** Records a lifecycle event. */
  event(action: string, source: string, project?: string): void;
}

/** File that stands for LXD's local database: the replicas of a cluster that has removed it. */
export const STUCK = "database/stuck";

/** One server of a cluster. */
export interface Member {
  name: string;
  /** Address and port of its API; empty for a standalone daemon. */
  address: string;
  description: string;
  config: Config;
  groups: string[];
  failureDomain: string;
  /** Roles that a person has assigned. */
  manualRoles: string[];
  evacuated: boolean;
  daemon: LxdServer;
}

/** State of an object that is created member by member. */
export type NodeStatus = "Pending" | "Created" | "Errored";

/** A storage pool or a network, with each member's part of it. */
export interface ClusterObject {
  name: string;
  description: string;
  /** Keys that are the same on every member. */
  config: Config;
  status: NodeStatus;
  nodes: Map<Member, { config: Config; status: NodeStatus }>;
}

export interface StoragePool extends ClusterObject {
  driver: string;
  customVolumes: CustomVolume[];
}

/** A custom volume of a storage pool. */
export interface CustomVolume {
  name: string;
  /** Absent in a pool that all members share. */
  member: Member | undefined;
  project: string;
  config: Config;
  description: string;
  contentType: string;
  snapshots: VolumeSnapshot[];
}

/** A snapshot of a custom volume. */
export interface VolumeSnapshot {
  name: string;
  description: string;
  createdAt: Date;
  /** Zero time of Go for one that does not expire. */
  expiresAt: string;
  config: Config;
}

export interface Network extends ClusterObject {
  type: string;
  project: string;
  /** LXD removes them with the network. */
  forwards: NetworkForward[];
}

/** Ports of a forward; a field that is not set is empty. */
export type ForwardPort = Record<"protocol" | "listen_port" | "target_port" | "target_address" | "description", string>;

export interface NetworkForward {
  listenAddress: string;
  member: Member;
  description: string;
  config: Config;
  ports: ForwardPort[];
}

/** A rule of an ACL; a field that is not set is empty. */
export type NetworkAclRule = Record<
  | "action"
  | "source"
  | "destination"
  | "protocol"
  | "source_port"
  | "destination_port"
  | "icmp_type"
  | "icmp_code"
  | "description"
  | "state",
  string
>;

export interface NetworkAcl {
  name: string;
  project: string;
  description: string;
  ingress: NetworkAclRule[];
  egress: NetworkAclRule[];
  config: Config;
}

export interface Profile {
  name: string;
  project: string;
  description: string;
  config: Config;
  devices: Devices;
}

export interface Project {
  name: string;
  description: string;
  config: Config;
}

export interface Image {
  fingerprint: string;
  project: string;
  type: "container" | "virtual-machine";
  filename: string;
  size: number;
  architecture: string;
  public: boolean;
  cached: boolean;
  autoUpdate: boolean;
  expiresAt: string;
  properties: Config;
  profiles: string[];
  createdAt: Date;
  uploadedAt: Date;
  aliases: { name: string; description: string }[];
  /** Members that have its files. */
  readonly members: Set<Member>;
  /** Whether the refresh of another project's image has removed its files. */
  lostFiles?: boolean;
  updateSource?: { alias: string; certificate: string; image_type: string; protocol: string; server: string };
  /** Features of a guest made from it. */
  agent: boolean;
}

export type InstanceType = "container" | "virtual-machine";
export type InstanceStatus = "Stopped" | "Running" | "Frozen";

export interface Snapshot {
  name: string;
  createdAt: Date;
  expiresAt: string;
  stateful: boolean;
  config: Config;
  devices: Devices;
  profiles: string[];
}

export interface Instance {
  name: string;
  project: string;
  type: InstanceType;
  architecture: string;
  description: string;
  ephemeral: boolean;
  stateful: boolean;
  profiles: string[];
  config: Config;
  devices: Devices;
  status: InstanceStatus;
  member: Member;
  createdAt: Date;
  lastUsedAt: Date;
  snapshots: Snapshot[];
  /** Names of its backups. */
  backups?: string[];
  /** Whether the image has the agent; relevant only for virtual machines. */
  agent: boolean;
  /** When the agent of a started virtual machine answers. */
  agentReadyAt: number;
  /** Memory at the last boot of a running virtual machine. */
  bootMemory: string;
  /** Whether cloud-init found its data at the boot of the instance. */
  foundByCloudInit: boolean;
  /** Templates that it has besides those of its image: metadata by the file that a template writes, and the texts by name. */
  templates?: { files: Record<string, unknown>; texts: Map<string, string> };
  /** Addresses assigned to NICs, by device name. */
  leases: Map<string, { ipv4?: string; ipv6?: string }>;
  /** Recorded output of commands, by file name. */
  execOutput: Map<string, Buffer>;
  /** Created at the first access. */
  files?: MemoryFiles;
  /** Created at the first access. */
  units?: SimulatedUnits;
  /** Created at the first access. */
  software?: GuestSoftware;
  /** The action that locks the instance, if any. */
  busy?: string;
}

/** An entry of the trust store. */
export interface TrustedCertificate extends Certificate {
  name: string;
  type: "client" | "server" | "metrics";
  restricted: boolean;
  projects: string[];
  description?: string;
}

/** The database of a standalone daemon or of a cluster. */
export class Database {
  config: Config = {};
  clustered = false;
  certificate: Certificate | undefined;
  members: Member[] = [];
  voters: Member[] = [];
  /** Set on the leftovers of a member that was removed by force while it was offline. */
  lost = false;
  /** Rows of members that began to join and did not finish. */
  readonly pendingMembers: { id: number; name: string; address: string }[] = [];
  /** Addresses of replicas that are not members: a join was aborted after it had added its own. */
  readonly strayReplicas = new Set<string>();
  readonly groups = new Map<string, { description: string; config: Config }>([
    ["default", { description: "Default cluster group", config: {} }],
  ]);
  readonly projects = new Map<string, Project>();
  readonly pools = new Map<string, StoragePool>();
  readonly networks = new Map<string, Network>();
  readonly acls = new Map<string, NetworkAcl>();
  readonly profiles = new Map<string, Profile>();
  readonly images = new Map<string, Image>();
  readonly instances = new Map<string, Instance>();
  readonly certificates = new Map<string, TrustedCertificate>();

  constructor() {
    this.projects.set("default", {
      name: "default",
      description: "Default LXD project",
      config: {
        "features.images": "true",
        "features.networks": "true",
        "features.profiles": "true",
        "features.storage.buckets": "true",
        "features.storage.volumes": "true",
      },
    });
    this.profiles.set(keyOf("default", "default"), {
      name: "default",
      project: "default",
      description: "Default LXD profile",
      config: {},
      devices: {},
    });
  }

  member(name: string): Member {
    const member = this.members.find((each) => each.name === name);
    if (member === undefined) {
      throw new LxdError(404, "Cluster member not found");
    }
    return member;
  }

  /** Members that LXD considers online. */
  online(): Member[] {
    return this.members.filter((member) => this.isOnline(member));
  }

  /** Copies images until `cluster.images_minimal_replica` members have them, as LXD does after an upload, a join, and a change of the key. */
  distributeImages(): void {
    const wanted = Number(this.config["cluster.images_minimal_replica"] ?? 3);
    for (const { members } of this.images.values()) {
      const others = this.online().filter((member) => !members.has(member));
      for (const member of others.slice(0, wanted === -1 ? others.length : Math.max(0, wanted - members.size))) {
        members.add(member);
      }
    }
  }

  /**
   * Whether LXD considers a member online. LXD decides by heartbeats, which come every 10 s and count as late after 20
   * s, also for a member that has just booted and answers (`NodeInfo.IsOffline`, lxd/db/node.go).
   */
  isOnline(member: Member): boolean {
    return member.daemon.database === this && member.daemon.heard;
  }

  /** Whether a member's daemon runs, and is still that member: a wiped or reinstalled host has another database. */
  isUp({ daemon }: Member): boolean {
    return daemon.answers && daemon.database === this;
  }

  /** The leader; undefined if the voters that answer are not a majority. */
  leader(): Member | undefined {
    if (this.lost) {
      return undefined;
    }
    const online = this.voters.filter((member) => this.isUp(member));
    return online.length * 2 > this.voters.length ? online[0] : undefined;
  }

  /**
   * Reassigns the database roles, as LXD does after a join and a leave: one voter below three members, otherwise three.
   */
  rebalance(): void {
    const wanted = this.members.length < 3 ? 1 : 3;
    const leader = this.leader();
    const candidates = [...this.voters.filter((voter) => this.members.includes(voter)), ...this.online()];
    const ordered = leader !== undefined && this.members.includes(leader) ? [leader, ...candidates] : candidates;
    this.voters = [...new Set(ordered)].slice(0, wanted);
  }

  /**
   * Refuses if a member is offline, as LXD does before it changes something on all of them (`NotifyAll`,
   * lxd/cluster/notify.go).
   */
  requireAllOnline(): void {
    const down = this.members.find((member) => !this.isOnline(member));
    if (down !== undefined) {
      throw new LxdError(500, `peer node ${down.address} is down`);
    }
  }

  /** @param prefix - Start of the error text for a project that does not exist. */
  project(name: string, prefix: (name: string) => string = () => ""): Project {
    const project = this.projects.get(name);
    if (project === undefined) {
      throw new LxdError(404, `${prefix(name)}Project not found`);
    }
    return project;
  }

  /** The project that holds a project's objects of a type: "default" if the feature is off. */
  holder(project: string, feature: "images" | "networks" | "profiles" | "storage.volumes"): string {
    return this.project(project).config[`features.${feature}`] === "true" ? project : "default";
  }

  profile(project: string, name: string): Profile {
    const profile = this.profiles.get(keyOf(this.holder(project, "profiles"), name));
    if (profile === undefined) {
      throw new LxdError(404, "Profile not found");
    }
    return profile;
  }

  instance(project: string, name: string): Instance {
    const instance = this.instances.get(keyOf(project, name));
    if (instance === undefined) {
      throw new LxdError(404, "Instance not found");
    }
    return instance;
  }

  pool(name: string): StoragePool {
    const pool = this.pools.get(name);
    if (pool === undefined) {
      throw new LxdError(404, "Storage pool not found");
    }
    return pool;
  }
}

/** The key of an object that belongs to a project. */
export function keyOf(project: string, name: string): string {
  return `${project}/${name}`;
}

/** A URL of the API, with the project unless it is the default one. */
export function urlOf(path: string, project = "default"): string {
  return project === "default" ? path : `${path}?project=${encodeURIComponent(project)}`;
}
