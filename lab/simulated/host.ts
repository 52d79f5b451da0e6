/**
 * One simulated host: what is installed on it, its files and interfaces, its power, and the LXD daemon that runs when all of that
 * allows it. Commands arrive by SSH as one line and are looked up in a table of programs.
 */
import { isIPv6 } from "node:net";
import type { ServerChannel } from "ssh2";
import { DEBIAN_SERVERS, type DebianServer } from "../debian-servers";
import { ApiServer } from "./api-server";
import { archiveOf, osReleaseOf, STORAGE_TOOLS } from "./debian-archive";
import { type CommandHost, HostCommands } from "./host-commands";
import { type KeyPair, makeKeyPair } from "./keys";
import type { LoginShell } from "./login-shell";
import { Daemon } from "./lxd/daemon";
import type { Instance, Surroundings } from "./lxd/database";
import { behaviourOf, type Flavour } from "./lxd/flavours";
import { bootInstance, haltInstance } from "./lxd/instance-state";
import type { Router } from "./lxd/router";
import type { DaemonHost } from "./lxd/surroundings";
import type { SimulatedMount } from "./machine";
import { MemoryFiles } from "./memory-files";
import { filePrograms } from "./programs/files";
import { hostPrograms } from "./programs/host";
import { noTrouble, type PackageTrouble } from "./programs/packages";
import { SimulatedUnits } from "./programs/systemd";
import { SnapStore, type StoredSnap } from "./snap-store";
import { SimulatedSnapd, SNAPD_SOCKET } from "./snapd";
import type { InstalledSnap } from "./snapd-model";
import { type AcceptedLogin, SimulatedSshServer, type SshCounters, type SshdSettings } from "./ssh-server";
import { makeSystemFiles } from "./system-files";

/** How a host is made. */
export interface SimulatedHostOptions {
  name: string;
  /** LXD that is there from the beginning. @default undefined: a bare host */
  lxd?: "deb" | "snap";
  /** The server, and with Debian's the release. @default "bookworm-lxd" */
  flavour?: Flavour;
  /** Address on the lab's network, for cluster addresses; nothing is ever sent there. @default 192.168.1.101 and up */
  lanAddress?: string;
  /** User that may log in. Another one than root needs `sudo`. @default root */
  user?: string;
  password?: string;
  /** Whether `sudo -n` works for a user that is not root. @default true */
  sudo?: boolean;
  /** Whether snapd is there. @default true when `lxd` is "snap" */
  snapd?: boolean;
  /** @default "2.63" */
  snapdVersion?: string;
  /** Debian packages that can be installed, with their version. @default what the flavour's Debian release has: its server, and the tools of the storage drivers */
  archive?: Record<string, string>;
  /** Debian packages that are there from the beginning, besides LXD. @default the tools of its storage drivers */
  packages?: string[];
  /** Whether `/dev/kvm` is there. @default true */
  virtualMachines?: boolean;
  /** @default 4 */
  cpus?: number;
  /** @default 16 GiB */
  memoryBytes?: number;
  /** Block devices such as `/dev/sdb`. */
  disks?: string[];
}

/** What `connection` takes, as `@pulumi/command` and this library name it. */
export interface SimulatedConnection {
  host: string;
  port: number;
  user: string;
  privateKey: string;
  hostKey: string;
}

const snapDirectory = "/var/snap/lxd/common/lxd";

/** A host of the lab. */
export class SimulatedHost implements DaemonHost, CommandHost {
  readonly address = "127.0.0.1";
  readonly lanAddress: string;
  readonly files = new MemoryFiles();
  readonly units: SimulatedUnits;
  readonly interfaces: DaemonHost["interfaces"] = new Map();
  readonly listeners: DaemonHost["listeners"] = [];
  readonly packages = new Map<string, string>();
  readonly heldPackages = new Set<string>();
  readonly archive: Map<string, string>;
  /** Older versions of packages that the sources have besides, the newest first. */
  private readonly olderVersions = new Map<string, string[]>();
  /** API extensions that a version of the server's package adds. */
  private readonly extensionsOf = new Map<string, readonly string[]>();
  readonly snaps = new Map<string, InstalledSnap>();
  readonly mounts: SimulatedMount[] = [{ target: "/" }];
  readonly packageTrouble: PackageTrouble = noTrouble();
  readonly snapd: boolean;
  /** The daemon of that name; nothing reaches it where there is none. */
  readonly snapDaemon: SimulatedSnapd;
  /** What the store has for this host. */
  readonly store: SnapStore;
  readonly virtualMachines: boolean;
  kernelVersion = "6.1.0-48-amd64";
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly usage: { memoryBytes: number; load: number; diskBytes: number };
  /** The host's public key, in the form of known_hosts and authorized_keys. */
  hostKey: string;
  daemon: Daemon | undefined;
  powered = true;
  /** Who may log in; a test may change it. */
  login: AcceptedLogin;
  readonly sshd: SshdSettings = { maxSessions: 10, forwarding: true };
  readonly shell: LoginShell = { sudoWarns: false };
  private readonly ssh: SimulatedSshServer;
  private readonly api: ApiServer;
  private readonly commandRunner: HostCommands;
  private readonly flavour: Flavour;
  private readonly debian: DebianServer;
  private socketUnitActive = false;
  private containersUnitActive = false;

  constructor(
    private readonly options: SimulatedHostOptions & { lanAddress: string },
    private readonly surroundings: Surroundings,
    private readonly router: Router,
    private readonly key: KeyPair,
  ) {
    this.lanAddress = options.lanAddress;
    this.flavour = options.flavour ?? "bookworm-lxd";
    // A host of the snap can have the package of Debian 12 besides.
    this.debian = DEBIAN_SERVERS[behaviourOf(this.flavour).server];
    this.snapd = options.snapd ?? options.lxd === "snap";
    this.store = new SnapStore(options.flavour);
    this.snapDaemon = new SimulatedSnapd(this, surroundings, options.snapdVersion ?? "2.63");
    this.virtualMachines = options.virtualMachines ?? true;
    this.cpus = options.cpus ?? 4;
    this.memoryBytes = options.memoryBytes ?? 16 * 2 ** 30;
    this.usage = { memoryBytes: Math.floor(this.memoryBytes / 8), load: 0.5, diskBytes: 2 ** 30 };
    this.archive = new Map(Object.entries(options.archive ?? archiveOf(this.flavour)));
    for (const name of options.packages ?? Object.values(STORAGE_TOOLS)) {
      this.packages.set(name, this.archive.get(name) ?? "1");
    }
    this.login = {
      users: [options.user ?? "root"],
      publicKeys: [key.publicKey],
      ...(options.password === undefined ? {} : { password: options.password }),
    };
    const hostKey = makeKeyPair();
    this.hostKey = hostKey.publicKey;
    this.makeFiles();
    this.units = new SimulatedUnits(this.files, {
      names: () => this.unitNames(),
      isActive: (unit) => this.unitActive(unit),
      control: (action, unit) => this.controlUnit(action, unit),
      properties: (unit) => ({
        RequiredBy: this.requiredBy(unit).join(" "),
        ...(unit === "lxd.service" && this.unitNames().includes(unit) && { UnitFileState: "indirect" }),
      }),
    });
    this.units.boot();
    this.api = new ApiServer(surroundings, () => this.daemon);
    this.commandRunner = new HostCommands(this, surroundings);
    this.ssh = new SimulatedSshServer(hostKey.privateKey, {
      login: () => this.login,
      settings: () => this.sshd,
      fault: (step) => this.surroundings.faults.forSsh(this.name, step),
      run: (line, user, channel) => this.commandRunner.run(line, user, channel),
      connect: (path, user, open, connection) => this.connect(path, user, open, connection.drop),
    });
    if (options.lxd === "deb") {
      this.installPackage(this.serverPackage);
    } else if (options.lxd === "snap") {
      this.installSnap("5.21/stable");
    }
  }

  get name(): string {
    return this.options.name;
  }

  /** The package that brings the server of the host's flavour. */
  get serverPackage(): string {
    return this.debian.package;
  }

  /** Whether the server is there as Debian's package. */
  private get hasServerPackage(): boolean {
    return this.debian.packages.some((name) => this.packages.has(name));
  }

  get maySudo(): boolean {
    return this.options.sudo !== false;
  }

  /** Commands in order of arrival, as argument arrays. */
  get commands(): string[][] {
    return this.commandRunner.executed;
  }

  /** Lines that no program of the simulation could run. A test expects none. */
  get unknownCommands(): string[] {
    return this.commandRunner.unknown;
  }

  get port(): number {
    return this.ssh.port;
  }

  /** What the SSH server has seen. */
  get counters(): SshCounters {
    return this.ssh.counters;
  }

  /** How to reach this host, for a resource's `connection`. */
  get connection(): SimulatedConnection {
    const [user = "root"] = this.login.users;
    return { host: this.address, port: this.port, user, privateKey: this.key.privateKey, hostKey: this.hostKey };
  }

  /** Starts listening for SSH. */
  async listen(): Promise<void> {
    await this.ssh.listen();
  }

  /** Cuts the power: SSH and LXD are gone at once, instances with them. */
  async powerOff(): Promise<void> {
    this.powered = false;
    this.units.halt();
    for (const instance of this.instances()) {
      if (instance.status !== "Stopped") {
        haltInstance(instance);
        instance.config["volatile.last_state.power"] = "RUNNING";
      }
    }
    this.daemon?.stop();
    for (const { daemon } of this.daemon?.database.members ?? []) {
      daemon.losePeer();
    }
    this.socketUnitActive = false;
    await this.ssh.close();
  }

  /** Boots again from the same files, on the same port; instances that ran are started. */
  async powerOn(): Promise<void> {
    this.powered = true;
    this.units.boot();
    if (this.daemon !== undefined) {
      this.socketUnitActive = this.hasServerPackage;
      this.containersUnitActive = this.hasServerPackage;
      this.daemon.start();
      for (const instance of this.instances()) {
        if (instance.config["volatile.last_state.power"] === "RUNNING") {
          bootInstance(instance);
        }
      }
    }
    await this.ssh.listen();
  }

  /** Installs the operating system anew, with the same SSH key, and the server from Debian's package: nothing on it knows of a cluster. */
  reinstall(): void {
    this.debian.packages.forEach((name) => this.removePackage(name, true));
    this.interfaces.clear(); // a bridge of the former LXD went with the former kernel
    for (const entry of this.files.list("/")) {
      this.files.remove(`/${entry}`, true);
    }
    this.makeFiles();
    this.units.boot();
    this.installPackage(this.serverPackage);
  }

  /** Gives the host another SSH key, as after a reinstallation. */
  changeHostKey(): void {
    const { publicKey, privateKey } = makeKeyPair();
    this.hostKey = publicKey;
    this.ssh.changeHostKey(privateKey);
  }

  /** Cuts every SSH connection to this host; new ones are taken. */
  dropConnections(): void {
    this.ssh.dropConnections();
  }

  /** Ends everything for good. */
  async close(): Promise<void> {
    this.daemon?.stop();
    await this.ssh.close();
    this.api.close();
    this.snapDaemon.close();
  }

  closeApiConnections(): void {
    this.api.closeConnections();
  }

  isSocket(path: string): boolean {
    if (path === SNAPD_SOCKET) {
      return this.snapd;
    }
    return (
      this.daemon !== undefined && path === this.daemon.path("unix.socket") && (this.daemon.answers || this.socketUnitActive)
    );
  }

  /** A connection to the socket of Debian's package starts the service. */
  attachSocket(path: string, stream: ServerChannel, drop: () => void): void {
    if (path === SNAPD_SOCKET) {
      this.snapDaemon.attach(stream, drop);
      return;
    }
    if (this.daemon?.answers === false) {
      this.daemon.start();
    }
    this.api.attach(stream, drop);
  }

  hasProgram(name: string): boolean {
    const needed = Object.entries(STORAGE_TOOLS).find(([tool]) => tool === name)?.[1];
    if (needed !== undefined) {
      return this.packages.has(needed);
    }
    return name in filePrograms || (name === "snap" ? this.snapd : name in hostPrograms);
  }

  /** Waits as long as installing something takes in this lab; a test may change that meanwhile. */
  async takeInstallTime(): Promise<void> {
    const since = performance.now();
    while (performance.now() - since < this.surroundings.timings.installMs) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(50, this.surroundings.timings.installMs)));
    }
  }

  versionsOf(name: string): string[] {
    const newest = this.archive.get(name);
    return newest === undefined ? [] : [newest, ...(this.olderVersions.get(name) ?? [])];
  }

  /**
   * Adds a newer version of the server's packages to the host's sources.
   * @param extensions - API extensions that it has more than the first one.
   */
  releasePackage(version: string, extensions: readonly string[] = []): void {
    for (const name of this.debian.packages) {
      this.olderVersions.set(name, this.versionsOf(name));
      this.archive.set(name, version);
    }
    this.extensionsOf.set(version, extensions);
  }

  /** Installs a Debian package at once, or brings it to a version; the server's starts its daemon. */
  installPackage(name: string, version = this.archive.get(name) ?? "1"): void {
    const former = this.packages.get(name);
    this.packages.set(name, version);
    if (name === this.serverPackage && former !== undefined && former !== version) {
      this.daemon?.becomeVersion(this.extensionsOf.get(version) ?? []);
      return;
    }
    if (this.debian.packages.includes(name) && this.daemon === undefined) {
      this.socketUnitActive = true;
      this.containersUnitActive = true;
      this.startNewDaemon(this.debian.dataDirectory, this.flavour);
    }
  }

  removePackage(name: string, purge: boolean): void {
    this.heldPackages.delete(name);
    if (this.packages.delete(name) && this.debian.packages.includes(name) && !this.hasServerPackage) {
      this.removeDaemon(purge);
    }
  }

  /** Installs LXD's snap at once, or brings it to a channel. */
  installSnap(channel: string): void {
    const found = this.store.in(channel);
    if (found === undefined) {
      throw new Error(`the store has no channel ${channel}`);
    }
    this.putSnap("lxd", channel, found);
  }

  /** Installs LXD's snap from a file, as `snap install --dangerous` does. */
  installSnapFromFile(version: string, refusedOptions: readonly string[] = []): void {
    this.putSnap("lxd", "", { version, revision: 0, lxd: "lxd-5.21" });
    Object.assign(this.snaps.get("lxd") ?? {}, { revision: "x1", refusedOptions });
  }

  putSnap(name: string, channel: string, { version, revision, lxd }: StoredSnap): void {
    const { held = false, config, connections } = this.snaps.get(name) ?? {};
    const isSet = { ...(config && { config }), ...(connections && { connections }) };
    this.snaps.set(name, { channel, held, version, revision: String(revision), ...isSet });
    if (this.daemon === undefined) {
      this.startNewDaemon(snapDirectory, lxd);
    } else if (this.daemon.behaviour.flavour !== lxd) {
      this.daemon.becomeFlavour(lxd);
    }
  }

  removeSnap(name: string): void {
    if (this.snaps.delete(name)) {
      this.removeDaemon(true);
    }
  }

  unitNames(): string[] {
    return [
      ...(this.hasServerPackage ? [this.debian.units[1], this.debian.units[0], this.debian.startupUnit] : []),
      ...(this.snaps.has("lxd") ? ["snap.lxd.daemon.service", "snap.lxd.daemon.unix.socket"] : []),
    ];
  }

  unitActive(unit: string): boolean {
    if (!this.unitNames().includes(unit)) {
      return false;
    }
    if (unit.endsWith("socket")) {
      return this.socketUnitActive || (this.daemon?.answers ?? false);
    }
    return unit === this.debian.startupUnit ? this.containersUnitActive : (this.daemon?.answers ?? false);
  }

  /** As the units of Debian's package have it. */
  private requiredBy(unit: string): string[] {
    return unit === this.debian.units[0] && this.hasServerPackage ? [this.debian.units[1], this.debian.startupUnit] : [];
  }

  endContainers(dataDirectory: string): number {
    const running =
      this.daemon?.dataDirectory === dataDirectory ? this.instances().filter(({ status }) => status !== "Stopped") : [];
    running.forEach(haltInstance);
    return running.length;
  }

  controlUnit(action: "start" | "stop" | "restart", unit: string): void {
    const isLast = action === "stop" && [this.debian.units[0], this.debian.startupUnit].includes(unit);
    if (isLast && this.containersUnitActive) {
      this.containersUnitActive = false;
      if (this.daemon?.answers === true) {
        this.endContainers(this.daemon.dataDirectory); // its stop is `lxd shutdown`
      }
    }
    if (unit === this.debian.startupUnit) {
      this.containersUnitActive = action !== "stop";
    } else if (unit.endsWith(".socket")) {
      this.socketUnitActive = action !== "stop";
    } else if (unit === this.debian.units[1] || unit === "snap.lxd.daemon.service") {
      if (action !== "start") {
        this.daemon?.stop();
      }
      if (action !== "stop") {
        this.daemon?.start();
      }
    }
  }

  private startNewDaemon(directory: string, flavour: Flavour): void {
    this.files.makeDirectory(directory, { parents: true, mode: 0o711 });
    this.daemon = new Daemon(this, this.surroundings, this.router, flavour, directory);
    this.daemon.start();
  }

  private removeDaemon(purge: boolean): void {
    const { daemon } = this;
    daemon?.stop();
    if (daemon !== undefined && purge) {
      this.files.remove(daemon.dataDirectory, true);
    }
    this.daemon = undefined;
    this.socketUnitActive = false;
    this.containersUnitActive = false;
  }

  private instances(): Instance[] {
    const { daemon } = this;
    return daemon === undefined ? [] : [...daemon.database.instances.values()].filter((each) => each.member.daemon === daemon);
  }

  private makeFiles(): void {
    makeSystemFiles(this.files);
    for (const directory of ["/etc/apt/sources.list.d", "/dev", "/var/log", "/var/cache"]) {
      this.files.makeDirectory(directory, { parents: true });
    }
    this.files.writeFile("/etc/hostname", `${this.name}\n`);
    this.files.writeFile("/etc/os-release", osReleaseOf(this.flavour));
    if (this.snapd) {
      this.files.makeDirectory("/usr/lib/snapd", { parents: true });
      this.files.writeFile("/usr/lib/snapd/snapd", "");
    }
    for (const disk of this.options.disks ?? []) {
      this.files.writeFile(disk, "");
    }
    this.interfaces.set("lo", { type: "loopback", hwaddr: "00:00:00:00:00:00", addresses: ["127.0.0.1/8"] });
    const isV6 = isIPv6(this.lanAddress);
    const number = Number.parseInt(this.lanAddress.split(/[.:]/).at(-1) ?? "", isV6 ? 16 : 10) & 0xff;
    const mac = `52:54:00:00:01:${number.toString(16).padStart(2, "0")}`;
    this.interfaces.set("eth0", { type: "physical", hwaddr: mac, addresses: [] });
    this.interfaces.set("br0", { type: "bridge", hwaddr: mac, addresses: [`${this.lanAddress}/${isV6 ? 64 : 24}`] });
  }

  /** Connects a channel to a unix socket; only root may. */
  private connect(path: string, user: string, open: () => ServerChannel, drop: () => void): boolean {
    if (user !== "root" || !this.isSocket(path)) {
      return false;
    }
    this.attachSocket(path, open(), drop);
    return true;
  }
}
