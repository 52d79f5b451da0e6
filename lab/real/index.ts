import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureMachinePackages } from "./apt";
import { hostLayers } from "./base";
import { clearLab, findLeftovers, makeCgroup } from "./cleanup";
import { DEFAULT_FLAVOUR, type Flavour, flavourOf } from "./flavours";
import { guestImage, idleImage } from "./guest-image";
import { bootHost, createHost, execInHost, hostArgv, hostPid, powerOffHost, publicHostKey, wipeHost } from "./host";
import { raiseKernelLimits } from "./kernel-limits";
import { type CommandResult, mustRun, runCommand, withFileLock } from "./process";
import { DEFAULT_SHAPE, type LabNetwork, parseHost, type Shape, shapeOf } from "./shapes";
import { cgroup2Mount, isOnOverlay, LabPlace, type LabRecord, labCacheDir, STATE_DIR_VARIABLE } from "./state";
import { connectToNetwork, createNetwork, createSwitch, NAMESPACE_FOLDER, removeNetwork } from "./switch";

export type { CommandResult } from "./process";

/** A host of the lab. */
export interface LabHost {
  readonly name: string;
  /** Address on the lab's network. */
  readonly address: string;
  /** Public SSH host key, in the format of authorized_keys and known_hosts: type and key. */
  readonly hostKey: string;
}

/** Options of {@link RealLab.start}. */
export interface StartOptions {
  /** Names, or `name=address`. Default: those of the shape, such as bcn2 and bcn1. */
  readonly hosts?: readonly string[] | undefined;
  /** The server that the hosts can install, and their Debian release: one of FLAVOUR_NAMES. Default: bookworm-lxd. */
  readonly flavour?: string | undefined;
  /** How the hosts are named, addressed and set up: one of SHAPE_NAMES. Default: lan. */
  readonly shape?: string | undefined;
  /** Receives one line for each step. Default: no output. */
  readonly log?: ((line: string) => void) | undefined;
  /** Labs of one checkout with different instance names run side by side. Default: "default". */
  readonly instance?: string | undefined;
}

/**
 * Real hosts for tests and demos: Debian systems with systemd in namespaces of this machine, joined by their own
 * switch, and a workstation. The lab has no route to any address outside it.
 */
export class RealLab {
  private constructor(
    /** The lab's place on this machine. */
    readonly place: LabPlace,
    private record: LabRecord,
  ) {}

  /** The reason why real hosts cannot run on this machine; undefined if they can. */
  static available(): string | undefined {
    if (process.platform !== "linux") return "real lab hosts need Linux";
    if (process.getuid?.() !== 0) return "real lab hosts need root";
    const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
    if (!/^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(release)) return "real lab hosts need Debian or Ubuntu";
    if (process.arch !== "x64" && process.arch !== "arm64") return `real lab hosts are not made for ${process.arch}`;
    if (isOnOverlay(labCacheDir()))
      return `${labCacheDir()} is on an overlay file system; set XDG_CACHE_HOME to a folder on ext4, xfs or btrfs`;
    try {
      accessSync(cgroup2Mount(), constants.W_OK);
    } catch (error) {
      return (error as Error).message;
    }
    const probe = spawnSync("unshare", ["--mount", "--net", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    return probe.status === 0 ? undefined : `root may not make namespaces and mounts here: ${probe.stderr.toString()}`.trimEnd();
  }

  /**
   * Starts a lab with bare hosts, after removing leftovers of an earlier lab of the same checkout and instance.
   * @throws Error if the machine cannot run it (see {@link RealLab.available}) or a host does not come up.
   */
  static async start(options: StartOptions = {}): Promise<RealLab> {
    const reason = RealLab.available();
    if (reason !== undefined) throw new Error(`The lab cannot start: ${reason}.`);
    const log = options.log ?? (() => undefined);
    const shape = shapeOf(options.shape ?? DEFAULT_SHAPE);
    const hosts = (options.hosts ?? shape.defaultHosts).map((text) => parseHost(text, shape));
    const place = LabPlace.ofCheckout(options.instance ?? "default");
    const flavour = flavourOf(options.flavour ?? DEFAULT_FLAVOUR);
    raiseKernelLimits(log);
    await ensureMachinePackages(log);
    const [lowerDirs, image, idle] = await Promise.all([hostLayers(flavour, shape, log), guestImage(log), idleImage(log)]);
    return withFileLock(place.lockFile, "wait", async () => {
      if ((await findLeftovers(place)).length > 0) {
        log("removing leftovers of an earlier lab");
        await clearLab(place);
      }
      const record: LabRecord = { flavour: flavour.name, shape: shape.name, hosts, networks: [], lowerDirs };
      try {
        await createWorkstation(place, { image, idle }, flavour);
        const lab = new RealLab(place, record);
        log(`booting ${hosts.map((host) => `${host.name} (${host.address})`).join(", ")}`);
        await createSwitch(place, shape);
        await Promise.all(hosts.map((host) => createHost(place, host)));
        lab.writeSshFiles();
        await Promise.all(hosts.map((host) => bootHost(place, record, host)));
        // Written last: a record means that the lab was up.
        place.writeRecord(record);
        return lab;
      } catch (error) {
        await clearLab(place);
        throw error;
      }
    });
  }

  /**
   * The running lab: the lab of this process, otherwise this checkout's. Waits while another process changes it.
   * @throws Error if none is up.
   */
  static attach(instance?: string): Promise<RealLab> {
    const place = instance === undefined ? LabPlace.current() : LabPlace.ofCheckout(instance);
    return withFileLock(place.lockFile, "wait", () => {
      const record = place.readRecord();
      // After a restart of the machine the record exists, but nothing runs.
      if (record === undefined || !existsSync(join(NAMESPACE_FOLDER, place.switchNamespace))) {
        throw new Error("No lab is up for this checkout. Start one: npx tsx lab/real/cli.ts up");
      }
      return new RealLab(place, record);
    });
  }

  /** Removes a lab of this checkout, running or partly removed, and all its leftovers. Caches stay. */
  static async clear(instance = "default"): Promise<void> {
    const place = LabPlace.ofCheckout(instance);
    await withFileLock(place.lockFile, "wait", () => clearLab(place));
  }

  /** Describes what the lab of this checkout has on this machine; empty after {@link RealLab.stop}. */
  static leftovers(instance = "default"): Promise<string[]> {
    return findLeftovers(LabPlace.ofCheckout(instance));
  }

  /** The lab's hosts. */
  get hosts(): LabHost[] {
    return this.record.hosts.map((host) => ({ ...host, hostKey: publicHostKey(this.place, host.name) }));
  }

  /** The server that the hosts can install, and their Debian release. */
  get flavour(): Flavour {
    return flavourOf(this.record.flavour);
  }

  /** How the hosts are named, addressed and set up. */
  get shape(): Shape {
    return shapeOf(this.record.shape);
  }

  /** Home folder of the workstation: SSH key, known_hosts, and in `lxd-images` the guest images `debian-12` and `idle`. */
  get home(): string {
    return this.place.home;
  }

  /** Folder with all files of this lab. */
  get stateDir(): string {
    return this.place.stateDir;
  }

  /** Environment of commands in the workstation. */
  get environment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      HOME: this.home,
      PATH: `${join(this.home, "bin")}:${process.env["PATH"] ?? ""}`,
      // HOME has changed, but the caches stay where they are.
      XDG_CACHE_HOME: join(labCacheDir(), "../.."),
      [STATE_DIR_VARIABLE]: this.stateDir,
    };
  }

  /** Whether a host is running. */
  isRunning(name: string): boolean {
    return hostPid(this.place, this.find(name).name) !== undefined;
  }

  /** Runs a command as root inside a host, without SSH. A non-zero exit status is not an error. */
  hostExec(name: string, argv: readonly string[], options: { stdin?: string } = {}): Promise<CommandResult> {
    return execInHost(this.place, this.find(name).name, argv, options.stdin);
  }

  /** The argument array that runs a command as root inside a host. */
  hostArgv(name: string, argv: readonly string[]): string[] {
    return hostArgv(this.place, this.find(name).name, argv);
  }

  /** Runs a command in the workstation. A non-zero exit status is not an error. */
  workstationExec(argv: readonly string[], options: { stdin?: string; cwd?: string } = {}): Promise<CommandResult> {
    return runCommand(this.workstationArgv(argv), { ...options, env: this.environment });
  }

  /** The argument array that runs a command in the workstation; start it with {@link RealLab.environment}. */
  workstationArgv(argv: readonly string[]): string[] {
    // The control group ends everything started here together with the lab.
    const intoGroup = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"';
    const namespace = `--net=${join(NAMESPACE_FOLDER, this.place.workstationNamespace)}`;
    return ["sh", "-c", intoGroup, "sh", this.place.workstationCgroup, "nsenter", namespace, ...argv];
  }

  /** Cuts a host's power: kills all its processes at once. Its files stay. */
  async powerOff(name: string): Promise<void> {
    await this.change(() => powerOffHost(this.place, this.find(name).name));
  }

  /** Boots a host that is off with its former file system. Does nothing if it runs. */
  async boot(name: string): Promise<void> {
    await this.change(async () => {
      const host = this.find(name);
      if (this.isRunning(name)) return;
      // A host that switched itself off leaves its network and perhaps loop devices.
      await powerOffHost(this.place, name);
      await bootHost(this.place, this.record, host);
    });
  }

  /** Adds a bare host to the running lab. Takes a known name or `name=address`. */
  async addHost(text: string): Promise<LabHost> {
    const host = parseHost(text, this.shape);
    await this.change(async () => {
      if (this.record.hosts.some((known) => known.name === host.name || known.address === host.address)) {
        throw new Error(`The lab already has a host ${host.name} or one with the address ${host.address}.`);
      }
      const record = { ...this.record, hosts: [...this.record.hosts, host] };
      await createHost(this.place, host);
      await bootHost(this.place, record, host);
      this.record = record;
      this.place.writeRecord(record);
      this.writeSshFiles();
    });
    return { ...host, hostKey: publicHostKey(this.place, host.name) };
  }

  /** Switches a host off and removes it from the lab, with its file system. */
  async removeHost(name: string): Promise<void> {
    await this.change(async () => {
      const host = this.find(name);
      await powerOffHost(this.place, host.name);
      wipeHost(this.place, host.name);
      this.record = { ...this.record, hosts: this.record.hosts.filter((other) => other.name !== name) };
      this.place.writeRecord(this.record);
      this.writeSshFiles();
    });
  }

  /** Gives all hosts, or the named ones, bare file systems and boots them. Addresses and SSH host keys stay. */
  async resetHosts(names: readonly string[] = this.record.hosts.map((host) => host.name)): Promise<void> {
    await this.change(async () => {
      await Promise.all(
        names.map(async (name) => {
          const host = this.find(name);
          await powerOffHost(this.place, name);
          wipeHost(this.place, name);
          await bootHost(this.place, this.record, host);
        }),
      );
    });
  }

  /** Adds a network between the hosts alone. They keep it when they boot again. */
  async addNetwork(network: LabNetwork): Promise<void> {
    await this.change(async () => {
      await createNetwork(this.place, network);
      for (const host of this.record.hosts) {
        if (this.isRunning(host.name)) await connectToNetwork(this.place, network, host);
      }
      this.record = { ...this.record, networks: [...this.record.networks, network] };
      this.place.writeRecord(this.record);
    });
  }

  /** Takes a network away, if there is one of that name. */
  async removeNetwork(name: string): Promise<void> {
    await this.change(async () => {
      const networks = this.record.networks.filter((network) => network.name === name);
      for (const network of networks) await removeNetwork(this.place, network, this.record.hosts);
      this.record = { ...this.record, networks: this.record.networks.filter((network) => network.name !== name) };
      this.place.writeRecord(this.record);
    });
  }

  /** Removes the lab: processes, namespaces, mounts, loop devices, control groups, files. Caches stay. */
  async stop(): Promise<void> {
    await withFileLock(this.place.lockFile, "wait", () => clearLab(this.place));
  }

  private find(name: string) {
    const host = this.record.hosts.find((candidate) => candidate.name === name);
    if (host === undefined)
      throw new Error(`The lab has no host ${name}. It has: ${this.record.hosts.map((each) => each.name).join(", ")}.`);
    return host;
  }

  /** Reads the lab's record again under the lock, because another process may have changed the lab. */
  private change(action: () => Promise<void>): Promise<void> {
    return withFileLock(this.place.lockFile, "wait", async () => {
      const record = this.place.readRecord();
      if (record === undefined) throw new Error("The lab is down.");
      this.record = record;
      await action();
    });
  }

  private writeSshFiles(): void {
    const lines = this.hosts.map((host) => `${host.name},${host.address} ${host.hostKey}\n`);
    writeFileSync(join(this.home, ".ssh/known_hosts"), lines.join(""), { mode: 0o600 });
    // OpenSSH takes its folder from the password file, not from HOME; the workstation's ssh command uses this config.
    const config = [
      // ssh compares the alias with names in lower case.
      ...this.hosts.map(
        ({ name, address }) =>
          `Host ${name}\n  HostName ${address}\n  HostKeyAlias ${name.toLowerCase()}\n  User ${this.shape.user}`,
      ),
      `Host *\n  IdentityFile ${this.home}/.ssh/id_ed25519\n  UserKnownHostsFile ${this.home}/.ssh/known_hosts\n  BatchMode yes\n  LogLevel ERROR`,
    ];
    writeFileSync(join(this.home, ".ssh/config"), `${config.join("\n")}\n`);
  }
}

/** Creates the workstation's home folder: an SSH key, OpenSSH commands that use it, and the guest images in several forms. */
async function createWorkstation(
  place: LabPlace,
  { image, idle }: { readonly image: string; readonly idle: string },
  { server }: Flavour,
): Promise<void> {
  const ssh = join(place.home, ".ssh");
  mkdirSync(ssh, { recursive: true, mode: 0o700 });
  mkdirSync(join(place.home, "bin"));
  await mustRun(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", join(ssh, "id_ed25519")]);
  for (const command of ["ssh", "scp", "sftp"]) {
    writeFileSync(join(place.home, "bin", command), `#!/bin/sh\nexec /usr/bin/${command} -F ${ssh}/config "$@"\n`, {
      mode: 0o755,
    });
  }
  const [own, other] = server === "incus" ? ["metadata-nocloud", "metadata"] : ["metadata", "metadata-nocloud"];
  const images = [
    ["debian-12", image, own],
    ["debian-12-newer", image, other],
    ["debian-12-without-seed", image, "metadata"],
    ["idle", idle, "metadata"],
    ["idle-newer", idle, "metadata-newer"],
  ] as const;
  for (const [name, from, metadata] of images) {
    const folder = join(place.home, "lxd-images", name);
    mkdirSync(folder, { recursive: true });
    symlinkSync(join(from, `${metadata}.tar.xz`), join(folder, "metadata.tar.xz"));
    symlinkSync(join(from, "rootfs.squashfs"), join(folder, "rootfs.squashfs"));
  }
  makeCgroup(place.workstationCgroup);
}
