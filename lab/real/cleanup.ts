import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { mustRun, runCommand, waitFor } from "./process";
import { removeFolder } from "./remove-folder";
import { isInCgroup, type LabPlace } from "./state";
import { NAMESPACE_FOLDER, removeNamespace } from "./switch";

/** Timeout for killed processes to end, including the unmounting of what they held. */
const KILL_TIMEOUT_SECONDS = 120;

/**
 * Removes everything that a lab left, running or killed: processes, network namespaces, loop devices, control groups
 * and its folder. Finds processes by the lab's control group, so processes that the lab did not start are safe. Caches
 * stay.
 */
export async function clearLab(place: LabPlace): Promise<void> {
  if (isInCgroup(place.cgroup)) throw new Error("A process inside the lab cannot stop the lab; run the command outside it.");
  await killCgroup(place.cgroup);
  await removeCgroup(place.cgroup);
  removeIfEmpty(dirname(place.cgroup));
  const namespaces = existsSync(NAMESPACE_FOLDER) ? readdirSync(NAMESPACE_FOLDER) : [];
  for (const name of namespaces.filter((candidate) => candidate.startsWith(place.namespacePrefix))) await removeNamespace(name);
  for (const hostDir of hostDirs(place)) await releaseLoopDevices(hostDir);
  removeFolder(place.stateDir);
}

/** Describes everything that a lab left behind; empty if nothing. */
export async function findLeftovers(place: LabPlace): Promise<string[]> {
  const leftovers: string[] = [];
  for (const pid of cgroupProcesses(place.cgroup)) leftovers.push(`process ${pid}`);
  if (existsSync(place.cgroup)) leftovers.push(`control group ${place.cgroup}`);
  const namespaces = existsSync(NAMESPACE_FOLDER) ? readdirSync(NAMESPACE_FOLDER) : [];
  for (const name of namespaces) if (name.startsWith(place.namespacePrefix)) leftovers.push(`network namespace ${name}`);
  for (const hostDir of hostDirs(place))
    for (const device of await loopDevicesOf(hostDir)) leftovers.push(`loop device ${device}`);
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n"))
    if (line.includes(place.id)) leftovers.push(`mount ${line}`);
  if (existsSync(place.stateDir)) leftovers.push(`folder ${place.stateDir}`);
  return leftovers;
}

function hostDirs(place: LabPlace): string[] {
  const folder = join(place.stateDir, "hosts");
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

/** Removes the parent folder of all labs' control groups, unless another lab is up. */
function removeIfEmpty(cgroup: string): void {
  try {
    rmdirSync(cgroup);
  } catch (error) {
    if (!["ENOENT", "EBUSY", "ENOTEMPTY"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** Makes a control group. */
export function makeCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** Kills every process in a control group and below it. Waits until they are gone. */
export async function killCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  writeFileSync(join(path, "cgroup.kill"), "1");
  await waitFor(`the processes of ${path} to end`, KILL_TIMEOUT_SECONDS, () => {
    return readFileSync(join(path, "cgroup.events"), "utf8").includes("populated 0") ? true : undefined;
  });
}

/** Removes a control group without processes, and those below it. */
export async function removeCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  }
  // The kernel keeps a control group busy briefly after its last process ends.
  await waitFor(`control group ${path} to be free`, KILL_TIMEOUT_SECONDS, () => {
    try {
      rmdirSync(path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EBUSY") return undefined;
      throw error;
    }
  });
}

/** Records the device of a running host's file system, which later identifies its loop devices. */
export function recordDevice(hostDir: string, pid: number): void {
  writeFileSync(join(hostDir, "device"), String(statSync(`/proc/${pid}/root`).dev));
}

/**
 * Detaches the loop devices that are still attached to a host's files. The kernel detaches only mounted ones by itself.
 */
export async function releaseLoopDevices(hostDir: string): Promise<void> {
  await waitFor(`the loop devices of ${hostDir} to be free`, KILL_TIMEOUT_SECONDS, async () => {
    const devices = await loopDevicesOf(hostDir);
    // Detaching fails if the kernel has just done it while it unmounted the host's file systems.
    for (const device of devices) await runCommand(["losetup", "--detach", device]);
    return devices.length === 0 ? true : undefined;
  });
}

/**
 * The loop devices attached to files of a host. They belong to the machine and outlive the host's namespaces, where
 * their paths were valid. They are identified by file system and inode, which is the same in the host's upper layer.
 */
async function loopDevicesOf(hostDir: string): Promise<string[]> {
  const deviceFile = join(hostDir, "device");
  if (!existsSync(deviceFile)) return [];
  const device = Number(readFileSync(deviceFile, "utf8"));
  // The encoding of dev_t: the low 8 bits of the minor, 12 bits of the major, the rest of the minor.
  const numbers = `${(device >> 8) & 0xfff}:${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
  const listed = await mustRun(["losetup", "--list", "--json", "--output", "NAME,BACK-INO,BACK-MAJ:MIN"]);
  if (listed.trim() === "") return [];
  const { loopdevices } = JSON.parse(listed) as { loopdevices: { name: string; "back-ino": number; "back-maj:min": string }[] };
  const own: string[] = [];
  for (const loop of loopdevices.filter((each) => each["back-maj:min"].trim() === numbers)) {
    // The number of an anonymous device is reused once it is free, so the number alone does not identify it.
    const found = await mustRun(["find", join(hostDir, "upper"), "-xdev", "-inum", String(loop["back-ino"]), "-print", "-quit"]);
    if (found !== "") own.push(loop.name);
  }
  return own;
}

/** The ids of the processes in a control group and below it. */
function cgroupProcesses(path: string): number[] {
  if (!existsSync(path)) return [];
  const own = readFileSync(join(path, "cgroup.procs"), "utf8")
    .split("\n")
    .filter((line) => line !== "");
  const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...own.map(Number), ...below.flatMap((entry) => cgroupProcesses(join(path, entry.name)))];
}
