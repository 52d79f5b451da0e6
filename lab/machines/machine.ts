import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { killCgroup, makeCgroup, removeCgroup } from "../real/cleanup";
import { type CommandResult, lastLines, mustRun, runCommand, waitFor } from "../real/process";
import { removeFolder } from "../real/remove-folder";
import { isInCgroup, type LabPlace, labCacheDir } from "../real/state";
import { NAMESPACE_FOLDER } from "../real/switch";
import { type Identity, identityArchive } from "./identity";
import { askAgent, askHumanMonitor, askMonitor } from "./monitor";
import { connectMachine, disconnectMachine, type Link } from "./network";
import type { System } from "./system";

/** Timeout for a boot under emulation on a busy machine. */
const BOOT_TIMEOUT_SECONDS = 600;

/** Timeout for QEMU's sockets and for one answer of the agent. */
const ANSWER_TIMEOUT_SECONDS = 120;

/** Nice value of an emulator. */
const PRIORITY = -10;

/** Timeout of a command in a machine. */
const COMMAND_TIMEOUT_SECONDS = 900;

/**
 * The emulated hardware, which a saved state depends on: AMD's virtualisation with nested paging. Without 57-bit addresses
 * the page walks are shorter.
 */
export const HARDWARE = ["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,+svm,+npt,la57=off"];

/** What a machine is made of. */
export interface MachineSpec {
  readonly name: string;
  /** IPv4 address on the lab's network, which its switch and its namespace hosts are on too. */
  readonly address: string;
  /** Addresses with prefix length on further networks, by the network's name: `{ storage: "10.9.0.1/24" }`. */
  readonly networks?: Readonly<Record<string, string>> | undefined;
  /** Sizes of further disks, in MiB; they are /dev/vdb, /dev/vdc and so on. */
  readonly diskMebibytes?: readonly number[] | undefined;
  /** Default: 1024. */
  readonly memoryMebibytes?: number | undefined;
  /** Default: 2. */
  readonly cpus?: number | undefined;
}

/** A saved state of a machine: its disks, with its memory and devices inside of the first one. */
export interface SavedState {
  /** Folder with the disks. */
  readonly folder: string;
  /** Name of the snapshot in the disks. */
  readonly snapshot: string;
}

/** A machine of the lab, running or off. All of its files are in one folder of the lab. */
export class Machine {
  constructor(
    private readonly place: LabPlace,
    readonly spec: MachineSpec,
    private readonly system: System,
    /** Layers of the file system that QEMU runs from, topmost first. */
    private readonly qemuLayers: readonly string[],
  ) {}

  get name(): string {
    return this.spec.name;
  }

  get folder(): string {
    return join(this.place.stateDir, "machines", this.name);
  }

  /** Public SSH host key, in the format of authorized_keys and known_hosts: type and key. */
  get hostKey(): string {
    const [type = "", key = ""] = readFileSync(`${this.hostKeyFile}.pub`, "utf8").split(" ");
    return `${type} ${key}`;
  }

  get isRunning(): boolean {
    const pidFile = join(this.folder, "pid");
    try {
      return isInCgroup(this.cgroup, Number(readFileSync(pidFile, "utf8")));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false; // QEMU removes it when it ends
      throw error;
    }
  }

  /** Makes the machine's disks. Its first boot gives it its identity. */
  async create(): Promise<void> {
    mkdirSync(this.folder, { recursive: true });
    await mustRun(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", this.name, "-f", this.hostKeyFile]);
    await this.inQemuLayers(["qemu-img", "create", "-q", "-f", "qcow2", "-b", this.system.disk, "-F", "raw", this.disk(0)]);
    for (const [index, size] of (this.spec.diskMebibytes ?? []).entries()) {
      await this.inQemuLayers(["qemu-img", "create", "-q", "-f", "qcow2", this.disk(index + 1), `${size}M`]);
    }
    const boot = Buffer.concat([readFileSync(this.system.initrd), identityArchive(this.identity)]);
    writeFileSync(join(this.folder, "initrd"), boot, { mode: 0o600 });
  }

  /** Makes the machine's disks as they are in a saved state. It then starts by {@link Machine.restore}. */
  createFrom({ folder }: SavedState): void {
    mkdirSync(this.folder, { recursive: true });
    for (const name of this.fileNames) copyFileSync(join(folder, name), join(this.folder, name));
  }

  /** Boots the machine and waits for its agent and its SSH server. Does nothing if it runs. */
  async boot(): Promise<void> {
    if (this.isRunning) return;
    await this.startQemu([]);
    await this.untilUp();
  }

  /** Starts QEMU with the machine as it was saved. */
  async restore(snapshot: string): Promise<void> {
    if (this.isRunning) {
      await askHumanMonitor(this.monitor, `loadvm ${snapshot}`);
    } else {
      await this.startQemu(["-loadvm", snapshot]);
    }
    await this.untilUp();
  }

  /** Saves memory, devices and disks of the running machine under a name. No virtual machine may run in it: QEMU could not load the state. */
  async save(snapshot: string): Promise<void> {
    await askHumanMonitor(this.monitor, `savevm ${snapshot}`);
  }

  /** Moves the disks of the machine, with the states saved in them, into a folder, and ends the machine. */
  async moveTo(folder: string): Promise<void> {
    await this.quit();
    for (const name of this.fileNames) renameSync(join(this.folder, name), join(folder, name));
  }

  /** Cuts the power: what the machine has not written to its disks is lost. */
  async powerOff(): Promise<void> {
    await killCgroup(this.cgroup);
    await removeCgroup(this.cgroup);
    await disconnectMachine(this.place, this.links);
    rmSync(join(this.folder, "pid"), { force: true });
  }

  /** Cuts the power and removes the machine's disks. */
  async remove(): Promise<void> {
    await this.powerOff();
    removeFolder(this.folder);
  }

  /** Runs a command in the machine as root, without SSH. A non-zero exit status is not an error. */
  async exec(argv: readonly string[], options: { stdin?: string; timeoutSeconds?: number } = {}): Promise<CommandResult> {
    const [path, ...arg] = argv;
    const { stdin, timeoutSeconds = COMMAND_TIMEOUT_SECONDS } = options;
    const input = stdin === undefined ? {} : { "input-data": Buffer.from(stdin).toString("base64") };
    const env = ["HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    const { pid } = (await this.askAgent("guest-exec", { path, arg, env, ...input, "capture-output": true })) as { pid: number };
    const status = await this.untilEnded(pid, argv, timeoutSeconds);
    const text = (data = ""): string => Buffer.from(data, "base64").toString();
    return { stdout: text(status["out-data"]), stderr: text(status["err-data"]), exitCode: status.exitcode ?? 255 };
  }

  /** Asks ever more rarely how a command ended: each question takes emulated CPU time from it. */
  private async untilEnded(pid: number, argv: readonly string[], timeoutSeconds: number): Promise<ExecStatus> {
    const deadline = Date.now() + timeoutSeconds * 1000;
    for (let pauseMs = 20; ; pauseMs = Math.min(2000, pauseMs * 1.5)) {
      const status = (await this.askAgent("guest-exec-status", { pid })) as ExecStatus;
      if (status.exited) return status;
      if (Date.now() > deadline) throw new Error(`${argv.join(" ")} in ${this.name} did not end within ${timeoutSeconds} s.`);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** Runs a shell script in the machine as root and returns its output. */
  async run(script: string, options: { stdin?: string; timeoutSeconds?: number } = {}): Promise<string> {
    const result = await this.exec(["sh", "-euc", script], options);
    if (result.exitCode !== 0) {
      const said = lastLines(`${result.stdout}\n${result.stderr}`, 15);
      throw new Error(`A command in machine ${this.name} ended with ${result.exitCode}:\n${script}\n${said}`);
    }
    return result.stdout;
  }

  private async quit(): Promise<void> {
    await askMonitor(this.monitor, [["stop"], ["quit"]]);
    await waitFor(`QEMU of ${this.name} to end`, ANSWER_TIMEOUT_SECONDS, () => (this.isRunning ? undefined : true));
    await this.powerOff();
  }

  private async startQemu(more: readonly string[]): Promise<void> {
    // Namespace, taps and control group may be left from a machine that switched itself off.
    await this.powerOff();
    makeCgroup(this.cgroup);
    await connectMachine(this.place, this.links);
    const logFile = join(this.folder, "qemu.log");
    const log = openSync(logFile, "w");
    const child = spawn(
      "unshare",
      [
        ...["--mount", "--propagation", "private", "nsenter", `--net=${join(NAMESPACE_FOLDER, this.place.switchNamespace)}`],
        ...["/bin/sh", join(__dirname, "run-qemu.sh"), this.cgroup, this.qemuLayers.join(":"), labCacheDir()],
        ...this.qemuArgv,
        ...more,
      ],
      // A new session: the machine outlives the command that booted it, and Ctrl-C in that command's terminal.
      { detached: true, stdio: ["ignore", log, log] },
    );
    closeSync(log);
    child.on("error", () => undefined);
    child.unref();
    if (child.pid !== undefined) putFirst(child.pid);
    await waitFor(`QEMU of ${this.name}`, ANSWER_TIMEOUT_SECONDS, async () => {
      if (child.exitCode !== null) {
        throw new Error(`QEMU of ${this.name} ended with ${child.exitCode}:\n${lastLines(readFileSync(logFile, "utf8"), 15)}`);
      }
      if (!this.isRunning || !existsSync(this.monitor)) return undefined;
      return askMonitor(this.monitor, [["query-status"]]).catch(() => undefined);
    });
  }

  private async untilUp(): Promise<void> {
    try {
      await waitFor(`the agent in ${this.name}`, BOOT_TIMEOUT_SECONDS, async () => {
        if (!this.isRunning) throw new Error("QEMU ended.");
        const isThere = askAgent(this.agent, "guest-ping", {}, 5);
        return isThere.then(
          () => true,
          () => undefined,
        );
      });
      // The clock of a restored machine is where it was when it was saved.
      await this.run(`date --set=@${(Date.now() / 1000).toFixed(3)}`);
      const key = readFileSync(join(this.place.home, ".ssh/id_ed25519.pub"), "utf8");
      await this.run(
        "cat >/root/.ssh/authorized_keys; install -o operator -g operator -m 600 /root/.ssh/authorized_keys /home/operator/.ssh/",
        { stdin: key },
      );
      await waitFor(`the SSH server of ${this.name}`, BOOT_TIMEOUT_SECONDS, () => this.servesSsh());
    } catch (error) {
      throw new Error(`Machine ${this.name} did not come up: ${(error as Error).message}\n${this.lastWords}`, { cause: error });
    }
  }

  /** Whether the workstation gets the greeting of the machine's SSH server. */
  private async servesSsh(): Promise<true | undefined> {
    const namespace = `--net=${join(NAMESPACE_FOLDER, this.place.workstationNamespace)}`;
    const read = `exec 3<>/dev/tcp/${this.spec.address}/22 && head -c 4 <&3`;
    const { stdout } = await runCommand(["nsenter", namespace, "timeout", "10", "bash", "-c", read]);
    return stdout === "SSH-" ? true : undefined;
  }

  private askAgent(execute: string, args: object): Promise<unknown> {
    return askAgent(this.agent, execute, args, ANSWER_TIMEOUT_SECONDS).catch((error: unknown) => {
      throw this.isRunning ? error : new Error(`Machine ${this.name} is off. ${this.lastWords}`, { cause: error });
    });
  }

  /** What QEMU, and the machine on its console, wrote before they ended: after a panic of its kernel, QEMU ends without a word. */
  private get lastWords(): string {
    const wrote = (name: string, lines: number): string => {
      const file = join(this.folder, name);
      return existsSync(file) ? lastLines(readFileSync(file, "utf8"), lines) : "nothing";
    };
    return `QEMU wrote: ${wrote("qemu.log", 15)}\nIts console: ${wrote("console.log", 30)}`;
  }

  /** Runs a program of the file system that QEMU runs from. */
  private async inQemuLayers(argv: readonly string[]): Promise<void> {
    makeCgroup(this.cgroup);
    const script = join(__dirname, "run-qemu.sh");
    const place = [this.cgroup, this.qemuLayers.join(":"), labCacheDir()];
    await mustRun(["unshare", "--mount", "--propagation", "private", "/bin/sh", script, ...place, ...argv]);
  }

  private get qemuArgv(): string[] {
    const { memoryMebibytes = 1024, cpus = 2 } = this.spec;
    const option = (name: string) => `console=ttyS0 quiet net.ifnames=0 mitigations=off nokaslr audit=0 panic=5 ${name}`;
    return [
      "qemu-system-x86_64",
      ...HARDWARE,
      ...["-smp", String(cpus), "-m", `${memoryMebibytes}M`, "-nodefaults", "-no-reboot", "-display", "none"],
      ...["-kernel", this.system.kernel, "-initrd", join(this.folder, "initrd")],
      ...["-append", option("apparmor=0 tsc=reliable systemd.show_status=0 rcupdate.rcu_expedited=1")],
      ...["-serial", `file:${join(this.folder, "console.log")}`, "-device", "virtio-rng-pci"],
      // The host keeps what QEMU has written when QEMU is killed, so nothing needs to be flushed to its disk.
      ...this.disks.flatMap((path) => ["-drive", `file=${path},format=qcow2,if=virtio,cache=unsafe`]),
      ...this.links.flatMap(({ tap, mac }) => [
        ...["-netdev", `tap,id=${tap},ifname=${tap},script=no,downscript=no`],
        ...["-device", `virtio-net-pci,netdev=${tap},mac=${mac}`],
      ]),
      ...["-device", "virtio-serial-pci", "-chardev", `socket,id=agent,path=${this.agent},server=on,wait=off`],
      ...["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"],
      ...["-qmp", `unix:${this.monitor},server=on,wait=off`, "-pidfile", join(this.folder, "pid")],
    ];
  }

  private get identity(): Identity {
    const { name, address, networks = {} } = this.spec;
    return {
      ...{ name, address: `${address}/24`, links: this.links, networks },
      hostKey: { secret: readFileSync(this.hostKeyFile), public: readFileSync(`${this.hostKeyFile}.pub`) },
      // systemd's own would be the same in all machines that are restored from one state.
      machineId: randomBytes(16).toString("hex"),
    };
  }

  /** The machine's ends of its networks; the first is on the lab's switch. */
  private get links(): Link[] {
    return ["lan", ...Object.keys(this.spec.networks ?? {})].map((network, index) => {
      const number = this.spec.address.split(".").map((part) => Number(part).toString(16).padStart(2, "0"));
      return { network, tap: `${this.name}-${index}`, mac: ["52", index.toString(16).padStart(2, "0"), ...number].join(":") };
    });
  }

  private get disks(): string[] {
    return [...Array(1 + (this.spec.diskMebibytes ?? []).length).keys()].map((index) => this.disk(index));
  }

  private disk(index: number): string {
    return join(this.folder, `disk${index}.qcow2`);
  }

  /** What a saved state consists of. */
  private get fileNames(): string[] {
    return ["initrd", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", ...this.disks.map((_, index) => `disk${index}.qcow2`)];
  }

  private get hostKeyFile(): string {
    return join(this.folder, "ssh_host_ed25519_key");
  }

  private get monitor(): string {
    return join(this.folder, "monitor");
  }

  private get agent(): string {
    return join(this.folder, "agent");
  }

  private get cgroup(): string {
    return join(this.place.cgroup, `machine-${this.name}`);
  }
}

/**
 * Gives a process that was just started the processor before others. A real host does not share its processor with the
 * tests either, and an emulated one that waits for it misses the time limits of the programs in it, as LXD's for QEMU.
 */
function putFirst(pid: number): void {
  setPriority(pid, PRIORITY);
  // Where the kernel groups processes by session, a priority counts within the group only.
  const group = `/proc/${pid}/autogroup`;
  if (existsSync(group)) writeFileSync(group, String(PRIORITY));
}

interface ExecStatus {
  readonly exited: boolean;
  readonly exitcode?: number;
  readonly "out-data"?: string;
  readonly "err-data"?: string;
}
