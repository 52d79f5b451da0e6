import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { killCgroup, makeCgroup, recordDevice, releaseLoopDevices, removeCgroup } from "./cleanup";
import { type CommandResult, lastLines, mustRun, runCommand, waitFor } from "./process";
import { removeFolder } from "./remove-folder";
import { type HostAddress, shapeOf } from "./shapes";
import { isInCgroup, type LabPlace, type LabRecord } from "./state";
import { connectHost, connectToNetwork, disconnectHost, NAMESPACE_FOLDER } from "./switch";

/** Timeout for a host's boot. */
const BOOT_TIMEOUT_SECONDS = 180;

/** Timeout for the start of its services on a busy machine. */
const SERVICES_TIMEOUT_SECONDS = 180;

/**
 * Interval after which pending jobs are checked. If LXD alone is pending at two checks, it may wait for its cluster,
 * and is not waited for.
 */
const LOOK_SECONDS = 15;

/** Environment of commands inside a host. */
const HOST_ENVIRONMENT = [
  "HOME=/root",
  "LANG=C.UTF-8",
  "TERM=dumb",
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/**
 * Creates a host's folder with its SSH host key. The key stays the same for the life of the lab, also after a reset.
 */
export async function createHost(place: LabPlace, host: HostAddress): Promise<void> {
  const folder = place.hostDir(host.name);
  mkdirSync(join(folder, "root"), { recursive: true });
  if (existsSync(hostKeyFile(place, host.name))) return;
  await mustRun(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", hostKeyFile(place, host.name)]);
}

/** A host's public key in the format of known_hosts and authorized_keys. */
export function publicHostKey(place: LabPlace, name: string): string {
  const [type = "", key = ""] = readFileSync(`${hostKeyFile(place, name)}.pub`, "utf8").split(" ");
  return `${type} ${key}`;
}

/** Prints the number of a new mount namespace: ioctl NS_GET_MNTNS_ID. */
const NAMESPACE_NUMBER =
  'open(my $own, "<", "/proc/self/ns/mnt"); my $number = "\\0" x 8; ioctl($own, 0x8008b705, $number) or die; print unpack("Q", $number)';

/**
 * The processor whose next mount namespace gets the lowest number. Linux 6.18 numbers namespaces on each processor from a range of its own, and
 * keeps a mount namespace by a file only in a namespace with a lower number. snap-confine does that for each snap, so a host needs a lower
 * number than all namespaces that are made in it later, on whatever processor. Returns `undefined` for kernels that do not tell the number:
 * they count all namespaces together.
 */
function processorOfOldestNamespaces(): number | undefined {
  const numbers = cpus().map((_, processor) => {
    const argv = [...onProcessor(processor), "unshare", "--mount", "perl", "-e", NAMESPACE_NUMBER];
    const { status, stdout } = spawnSync(argv[0] ?? "", argv.slice(1), { encoding: "utf8" });
    return status === 0 ? Number(stdout) : Number.NaN;
  });
  const oldest = numbers.indexOf(Math.min(...numbers));
  return oldest < 0 ? undefined : oldest;
}

function onProcessor(processor: number | undefined): string[] {
  return processor === undefined ? [] : ["taskset", "--cpu-list", String(processor)];
}

/**
 * Boots a host and waits until its SSH server listens. A host without a file system gets a bare one.
 * @throws Error with the end of the host's boot log if it does not come up within a minute.
 */
export async function bootHost(place: LabPlace, record: LabRecord, host: HostAddress): Promise<void> {
  const folder = place.hostDir(host.name);
  const upper = join(folder, "upper");
  if (!existsSync(upper)) writeIdentity(place, record, host, upper);
  mkdirSync(join(folder, "work"), { recursive: true });
  rmSync(join(folder, "pid"), { force: true });
  await connectHost(place, shapeOf(record.shape), host);
  for (const network of record.networks) await connectToNetwork(place, network, host);
  makeCgroup(place.launchCgroup);
  makeCgroup(place.hostCgroup(host.name));

  const log = openSync(join(folder, "boot.log"), "w");
  const intoLaunchGroup = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"';
  const child = spawn(
    "sh",
    [
      ...["-c", intoLaunchGroup, "sh", place.launchCgroup],
      ...["nsenter", `--net=${join(NAMESPACE_FOLDER, place.hostNamespace(host.name))}`],
      ...onProcessor(processorOfOldestNamespaces()),
      ...["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"],
      ...["/bin/sh", join(__dirname, "boot-host.sh")],
    ],
    {
      // A new session: the host outlives the command that booted it, and Ctrl-C in that command's terminal.
      detached: true,
      stdio: ["ignore", log, log],
      env: {
        PATH: process.env["PATH"],
        LAB_HOST: host.name,
        LAB_DIR: folder,
        LAB_CGROUP: place.hostCgroup(host.name),
        LAB_LOWER: record.lowerDirs.join(":"),
        LAB_PROCESSORS: `0-${cpus().length - 1}`,
      },
    },
  );
  closeSync(log);
  child.on("error", () => undefined);
  child.unref();
  try {
    const pid = await waitFor("its first process", BOOT_TIMEOUT_SECONDS, () => {
      if (child.exitCode !== null) throw new Error(`Its first process ended with status ${child.exitCode}.`);
      return hostPid(place, host.name);
    });
    recordDevice(folder, pid);
    await waitFor("its SSH server", BOOT_TIMEOUT_SECONDS, () => (listensForSsh(place, host.name) ? true : undefined));
    await untilServicesRun(place, host.name);
  } catch (error) {
    const said = lastLines(readFileSync(join(folder, "boot.log"), "utf8"), 15);
    throw new Error(`Lab host ${host.name} did not boot: ${(error as Error).message}\n${said}`, { cause: error });
  }
}

/**
 * Waits until systemd has started all units except an LXD whose start can hang.
 * @throws Error if a unit failed or is not up in time.
 */
async function untilServicesRun(place: LabPlace, name: string): Promise<void> {
  const systemctl = async (...argv: string[]): Promise<string> =>
    (await execInHost(place, name, ["timeout", String(LOOK_SECONDS), "systemctl", ...argv])).stdout.trim();
  let looksAtLxdAlone = 0;
  let seen = "";
  await waitFor("its services", SERVICES_TIMEOUT_SECONDS, async () => {
    const state = await systemctl("is-system-running", "--wait"); // ends with no output at its deadline
    if (state === "running") return true;
    const jobs = await systemctl("list-jobs", "--no-legend", "--plain");
    if (/^(degraded|maintenance)$/.test(state)) {
      throw new Error(
        `systemd says "${state}". Failed units:\n${await systemctl("--failed", "--no-legend", "--plain")}\nJobs:\n${jobs}`,
      );
    }
    looksAtLxdAlone = waitForLxdAlone(jobs) ? looksAtLxdAlone + 1 : 0;
    seen = jobs;
    return looksAtLxdAlone > 1 ? true : undefined;
  }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message} Jobs at the last check:\n${seen}`, { cause: error });
  });
}

/** Whether all pending jobs of a host wait for LXD or Incus. Its start hangs if its cluster has removed it. */
function waitForLxdAlone(jobs: string): boolean {
  const running = jobs.split("\n").filter((job) => job.trim().endsWith(" running"));
  return running.length > 0 && running.every((job) => / (lxd|incus)[.-]/.test(` ${job}`));
}

/**
 * Cuts a host's power: sends SIGKILL to its first process, which ends all others, and removes its network. Its file
 * system stays.
 */
export async function powerOffHost(place: LabPlace, name: string): Promise<void> {
  await killCgroup(place.hostCgroup(name));
  await removeCgroup(place.hostCgroup(name));
  await disconnectHost(place, name);
  await releaseLoopDevices(place.hostDir(name));
  rmSync(join(place.hostDir(name), "pid"), { force: true });
}

/** Removes the file system that a powered-off host wrote; the next boot starts from a bare one. */
export function wipeHost(place: LabPlace, name: string): void {
  for (const part of ["upper", "work"]) removeFolder(join(place.hostDir(name), part));
}

/** The machine's process id of a host's first process; undefined if the host is off. */
export function hostPid(place: LabPlace, name: string): number | undefined {
  const file = join(place.hostDir(name), "pid");
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, "utf8"));
  // The id may have been reused by another process: the host's process is in the host's control group.
  return isInCgroup(place.hostCgroup(name), pid) ? pid : undefined;
}

/** The argument array that runs a command inside a host, as root. */
export function hostArgv(place: LabPlace, name: string, argv: readonly string[]): string[] {
  const pid = hostPid(place, name);
  if (pid === undefined) throw new Error(`Lab host ${name} is off.`);
  const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"];
  return ["nsenter", `--target=${pid}`, ...namespaces, "--root", "--wd", "env", "-i", ...HOST_ENVIRONMENT, ...argv];
}

/** Runs a command inside a host, as root. */
export function execInHost(place: LabPlace, name: string, argv: readonly string[], stdin?: string): Promise<CommandResult> {
  return runCommand(hostArgv(place, name, argv), { stdin });
}

function listensForSsh(place: LabPlace, name: string): boolean {
  // Local port 22 (0016) in state LISTEN (0A).
  return /:0016 00000000:0000 0A /.test(readFileSync(`/proc/${hostPid(place, name)}/net/tcp`, "utf8"));
}

/** Writes the files that differ between bare hosts: names, SSH host key, authorized keys. */
function writeIdentity(place: LabPlace, record: LabRecord, host: HostAddress, upper: string): void {
  const authorizedKey = readFileSync(join(place.home, ".ssh/id_ed25519.pub"), "utf8");
  const { knownHosts, workstation } = shapeOf(record.shape);
  const others = new Map([...knownHosts, ...record.hosts, host].map((each) => [each.name, each.address]));
  const hosts = [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    ...[...others].map(([name, address]) => `${address} ${name}`),
    `${workstation} workstation`,
    "",
  ].join("\n");
  const put = (path: string, content: string, mode: number) => {
    makeLike(record.lowerDirs, upper, dirname(path));
    const file = join(upper, path);
    writeFileSync(file, content);
    chmodSync(file, mode);
    const owner = statSync(dirname(file));
    chownSync(file, owner.uid, owner.gid);
  };
  mkdirSync(upper, { recursive: true });
  put("etc/hostname", `${host.name}\n`, 0o644);
  put("etc/hosts", hosts, 0o644);
  put("etc/ssh/ssh_host_ed25519_key", readFileSync(hostKeyFile(place, host.name), "utf8"), 0o600);
  put("etc/ssh/ssh_host_ed25519_key.pub", readFileSync(`${hostKeyFile(place, host.name)}.pub`, "utf8"), 0o644);
  for (const home of ["root", "home/operator", "home/nosudo"]) put(`${home}/.ssh/authorized_keys`, authorizedKey, 0o600);
}

/**
 * Creates a folder in an upper layer with the owner and mode of the lower layer, because those of the upper layer
 * apply.
 */
function makeLike(lowerDirs: readonly string[], upper: string, path: string): void {
  if (path === "." || existsSync(join(upper, path))) return;
  makeLike(lowerDirs, upper, dirname(path));
  const below = lowerDirs.map((lower) => join(lower, path)).find((candidate) => existsSync(candidate));
  if (below === undefined) throw new Error(`The host's file system has no folder /${path}.`);
  const model = lstatSync(below);
  mkdirSync(join(upper, path));
  chmodSync(join(upper, path), model.mode & 0o7777);
  chownSync(join(upper, path), model.uid, model.gid);
}

function hostKeyFile(place: LabPlace, name: string): string {
  return join(place.hostDir(name), "ssh_host_ed25519_key");
}
