/**
 * Simulated hosts: SSH servers in this process, each with a simulated LXD, for tests that need neither root nor
 * packages. Their
 * answers and errors are LXD's; the contract suite in test/contract verifies that.
 * Layout: `ssh-server.ts` accepts connections; `host.ts` is one host; `host-commands.ts` runs its commands from
 * `programs/`;
 * `lxd/` is the API, one file per noun; `guest.ts` is the machine inside an instance; `faults.ts` injects faults.
 * Nothing here
 * sleeps unless a test sets a delay in `timings`.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Faults } from "./faults";
import { makeGuestFiles, softwareOf } from "./guest";
import type { GuestSoftware } from "./guest-software";
import { SimulatedHost, type SimulatedHostOptions } from "./host";
import { makeKeyPair } from "./keys";
import { addBackups } from "./lxd/backups";
import { addTrustStore } from "./lxd/certificates";
import { addCluster } from "./lxd/cluster";
import { type Config, type Devices, type InstanceType, keyOf, type Surroundings } from "./lxd/database";
import type { Flavour } from "./lxd/flavours";
import { addClusterGroups } from "./lxd/groups";
import { addGuestApi } from "./lxd/guest-api";
import { addImage } from "./lxd/image-servers";
import { addImages } from "./lxd/images";
import { bootInstance } from "./lxd/instance-state";
import { addInstance, addInstances } from "./lxd/instances";
import { addMembers } from "./lxd/members";
import { addNetworkAcls } from "./lxd/network-acls";
import { addNetworkForwards } from "./lxd/network-forwards";
import { addNetworks } from "./lxd/networks";
import { addPools } from "./lxd/pools";
import { addProfiles } from "./lxd/profiles";
import { addProjects } from "./lxd/projects";
import { Router } from "./lxd/router";
import { addServer } from "./lxd/server";
import { addSnapshots } from "./lxd/snapshots";
import type { LifecycleEvent, RemoteImage, RequestRecord, Timings } from "./lxd/surroundings";
import { addVolumeSnapshots } from "./lxd/volume-snapshots";
import { addVolumes } from "./lxd/volumes";

export { SimulatedHost, type SimulatedHostOptions } from "./host";
export type { Flavour } from "./lxd/flavours";
export type { LifecycleEvent, RemoteImage, RequestRecord, Timings } from "./lxd/surroundings";

/** Options of a lab. */
export interface SimulatedLabOptions {
  hosts: readonly (Omit<SimulatedHostOptions, "lanAddress"> & { lanAddress?: string })[];
  /** Server on hosts that do not specify one. @default "bookworm-lxd" */
  flavour?: Flavour;
  /** @default all zero, but `idleMs` */
  timings?: Partial<Timings>;
  /** Images of simplestreams servers. @default none: the lab has no internet */
  remoteImages?: readonly RemoteImage[];
}

/** Instances to insert into a lab's database directly. */
export interface SeededInstances {
  /** Host whose database they are inserted into; they are spread over its cluster's members. */
  host: string;
  /** Prefix of the names; a number from 1 on follows. @default "vm" */
  prefix?: string;
  type?: InstanceType;
  project?: string;
  profiles?: string[];
  config?: Config;
  devices?: Devices;
  /** @default true */
  running?: boolean;
}

/** A set of simulated hosts. */
export class SimulatedLab {
  readonly hosts: SimulatedHost[] = [];
  readonly faults = new Faults();
  /** Every request that reached a daemon, in order. */
  readonly requests: RequestRecord[] = [];
  /** Every lifecycle event, in order. */
  readonly lifecycle: LifecycleEvent[] = [];
  /** Commands that no simulated guest could run. A test expects none. */
  readonly unknownGuestCommands: string[][] = [];
  /** Errors of the simulator itself. A test expects none. */
  readonly defects: unknown[] = [];
  readonly timings: Timings;
  /** The user's private key, in OpenSSH's form. */
  readonly privateKey: string;
  /** The same key in a file. */
  readonly privateKeyPath: string;
  readonly publicKey: string;
  /** Host keys of all hosts, in the format of known_hosts. */
  readonly knownHostsPath: string;
  private readonly directory = mkdtempSync(join(tmpdir(), "simulated-lab-"));

  private constructor(options: SimulatedLabOptions) {
    const key = makeKeyPair();
    this.privateKey = key.privateKey;
    this.publicKey = key.publicKey;
    this.privateKeyPath = join(this.directory, "id_ed25519");
    writeFileSync(this.privateKeyPath, this.privateKey, { mode: 0o600 });
    this.knownHostsPath = join(this.directory, "known_hosts");
    this.timings = {
      operationMs: 0,
      daemonStartMs: 0,
      addressMs: 0,
      agentMs: 0,
      heartbeatMs: 0,
      missedMs: 0,
      installMs: 0,
      idleMs: 30_000,
      ...options.timings,
    };
    const surroundings: Surroundings = {
      faults: this.faults,
      requests: this.requests,
      lifecycle: this.lifecycle,
      timings: this.timings,
      remoteImages: [...(options.remoteImages ?? [])],
      defects: this.defects,
      unknownGuestCommands: this.unknownGuestCommands,
      operationFailure: undefined,
      operationLost: false,
      daemonAt: (address) => this.daemonAt(address),
    };
    const router = makeRouter();
    for (const [index, host] of options.hosts.entries()) {
      const lanAddress = host.lanAddress ?? `192.168.1.${101 + index}`;
      const flavour = host.flavour ?? options.flavour;
      const own = { ...host, lanAddress, ...(flavour === undefined ? {} : { flavour }) };
      this.hosts.push(new SimulatedHost(own, surroundings, router, key));
    }
  }

  /** Labs of this process. */
  static readonly running = new Set<SimulatedLab>();

  /** Starts the hosts; resolves when all of them accept connections. */
  static async start(options: SimulatedLabOptions): Promise<SimulatedLab> {
    const lab = new SimulatedLab(options);
    await Promise.all(lab.hosts.map((host) => host.listen()));
    SimulatedLab.running.add(lab);
    const lines = lab.hosts.map((host) => `[${host.address}]:${host.port} ${host.hostKey}\n`);
    writeFileSync(lab.knownHostsPath, lines.join(""));
    return lab;
  }

  /** The host with a name. Throws if there is none. */
  host(name: string): SimulatedHost {
    const host = this.hosts.find((each) => each.name === name);
    if (host === undefined) {
      throw new Error(`the lab has no host "${name}"`);
    }
    return host;
  }

  /** Sends a request to the LXD of a host as if from the host itself: without SSH, faults and recording. */
  async byHand(host: string, method: string, path: string, body?: unknown): Promise<unknown> {
    return this.daemonOf(host).ask(method, path, body);
  }

  /** Requests that changed something since an index in {@link requests}. */
  mutations(since = 0): RequestRecord[] {
    return this.requests.slice(since).filter((request) => request.mutating);
  }

  /** Inserts an image into the database of a host's daemon or cluster, without an upload. */
  seedImage(host: string, image: { alias: string; type?: InstanceType; agent?: boolean; fingerprint?: string }): string {
    const daemon = this.daemonOf(host);
    const fingerprint = image.fingerprint ?? Buffer.from(image.alias.padEnd(32, ".")).toString("hex").slice(0, 64);
    addImage(daemon, {
      fingerprint,
      project: "default",
      type: image.type ?? "container",
      properties: { architecture: "amd64", description: image.alias, os: "Debian", release: "bookworm" },
      aliases: [{ name: image.alias, description: "" }],
      agent: image.agent ?? true,
    });
    return fingerprint;
  }

  /** Inserts instances into the database of a host's daemon or cluster, spread over the members. */
  seedInstances(count: number, options: SeededInstances): string[] {
    const { database } = this.daemonOf(options.host);
    const names: string[] = [];
    for (let index = 1; index <= count; index += 1) {
      const member = database.members[index % database.members.length];
      if (member === undefined) {
        throw new Error(`${options.host} has no member`);
      }
      const name = `${options.prefix ?? "vm"}${index}`;
      const project = options.project ?? "default";
      const created = new Date();
      addInstance(database, {
        name,
        project,
        member,
        type: options.type ?? "virtual-machine",
        architecture: "x86_64",
        description: "",
        ephemeral: false,
        stateful: false,
        profiles: options.profiles ?? ["default"],
        config: { ...options.config },
        devices: structuredClone(options.devices ?? {}),
        status: "Stopped",
        createdAt: created,
        lastUsedAt: created,
        snapshots: [],
        agent: true,
        agentReadyAt: 0,
        bootMemory: "",
        foundByCloudInit: false,
        leases: new Map(),
        execOutput: new Map(),
      });
      if (options.running !== false) {
        bootInstance(database.instance(project, name));
      }
      names.push(name);
    }
    return names;
  }

  /** The files of an instance, to inspect or to change outside the library. */
  guestFiles(host: string, instance: string, project = "default") {
    const found = this.daemonOf(host).database.instances.get(keyOf(project, instance));
    if (found === undefined) {
      throw new Error(`${host} has no instance "${instance}"`);
    }
    found.files ??= makeGuestFiles(found);
    return found.files;
  }

  /** The packages of an instance. */
  guestSoftware(host: string, instance: string, project = "default"): GuestSoftware {
    const found = this.daemonOf(host).database.instances.get(keyOf(project, instance));
    if (found === undefined) {
      throw new Error(`${host} has no instance "${instance}"`);
    }
    return softwareOf(found);
  }

  /** Makes an instance one of Alpine Linux, with apk. */
  makeAlpine(host: string, instance: string): void {
    const [files, software] = [this.guestFiles(host, instance), this.guestSoftware(host, instance)];
    files.writeFile("/etc/os-release", 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n');
    files.remove("/usr/bin/apt-get");
    for (const directory of ["/sbin", "/var/cache/apk"]) {
      files.makeDirectory(directory, { parents: true });
    }
    files.writeFile("/sbin/apk", "", { mode: 0o755 });
    software.packageManager = "apk";
    software.packages.clear();
    software.packages.set("busybox", "1.36.1-r29");
    software.archive.clear();
    software.archive.set("jq", "1.7.1-r0");
    software.archive.set("curl", "8.9.1-r2");
  }

  /** Stops the agent in a virtual machine, or starts it again. */
  setAgent(host: string, instance: string, answers: boolean, project = "default"): void {
    const found = this.daemonOf(host).database.instances.get(keyOf(project, instance));
    if (found === undefined) {
      throw new Error(`${host} has no instance "${instance}"`);
    }
    found.agent = answers;
  }

  /** Stops everything and removes the key files. */
  async stop(): Promise<void> {
    SimulatedLab.running.delete(this);
    await Promise.all(this.hosts.map((host) => host.close()));
    rmSync(this.directory, { recursive: true, force: true });
  }

  private daemonOf(host: string) {
    const { daemon } = this.host(host);
    if (daemon === undefined) {
      throw new Error(`no server is installed on ${host}`);
    }
    return daemon;
  }

  private daemonAt(address: string) {
    const daemons = this.hosts.map((host) => host.daemon);
    return daemons.find(
      (daemon) =>
        daemon?.answers === true && daemon.localConfig["cluster.https_address"] === address && daemon.database.clustered,
    );
  }
}

function makeRouter(): Router {
  const router = new Router();
  for (const add of [
    addServer,
    addTrustStore,
    addCluster,
    addMembers,
    addClusterGroups,
    addPools,
    addVolumes,
    addVolumeSnapshots,
    addNetworks,
    addNetworkAcls,
    addNetworkForwards,
    addProfiles,
    addProjects,
    addImages,
    addInstances,
    addBackups,
    addSnapshots,
    addGuestApi,
  ]) {
    add(router);
  }
  return router;
}
