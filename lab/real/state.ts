import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, statfsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { cacheDir, checkoutId, checkoutRoot } from "../../tools/paths";
import type { FlavourName } from "../debian-servers";
import type { HostAddress, LabNetwork, ShapeName } from "./shapes";

/** The environment variable that holds the lab's folder for processes in the workstation. */
export const STATE_DIR_VARIABLE = "LAB_STATE_DIR";

/** Content of a lab's state file. */
export interface LabRecord {
  readonly flavour: FlavourName;
  readonly shape: ShapeName;
  readonly hosts: readonly HostAddress[];
  /** Networks besides that of the shape. The workstation is on none of them. */
  readonly networks: readonly LabNetwork[];
  /** The file systems below each host's own layer, topmost first. */
  readonly lowerDirs: readonly string[];
}

/** Folder where labs keep file systems and state. */
export function labCacheDir(): string {
  return join(cacheDir(), "lab");
}

/**
 * The place of one lab: folders, names of control groups and namespaces. All contain the lab's id, so labs of two
 * checkouts, or of two instances in one checkout, stay separate.
 */
export class LabPlace {
  /** Short hash of the checkout's real path and the instance name. */
  readonly id: string;

  constructor(readonly stateDir: string) {
    this.id = stateDir.slice(stateDir.lastIndexOf("/") + 1);
  }

  /**
   * The place of an instance of this checkout. `default` is the one of `up`; `run` has another, so that tests do not
   * touch a running demo.
   */
  static ofCheckout(instance: string): LabPlace {
    const other = () => createHash("sha256").update(`${checkoutRoot}\0${instance}`).digest("hex").slice(0, 8);
    const id = instance === "default" ? checkoutId() : other();
    return new LabPlace(join(labCacheDir(), "checkouts", id));
  }

  /** The lab that this process runs in, otherwise the default lab of this checkout. */
  static current(): LabPlace {
    const stateDir = process.env[STATE_DIR_VARIABLE];
    return stateDir ? new LabPlace(stateDir) : LabPlace.ofCheckout("default");
  }

  /** Home folder of the workstation. */
  get home(): string {
    return join(this.stateDir, "home");
  }

  /** Lock held while a lab changes. */
  get lockFile(): string {
    return `${this.stateDir}.lock`;
  }

  /** Lock held during a `run`. */
  get runLockFile(): string {
    return `${this.stateDir}.run.lock`;
  }

  /** Folder with a host's file system, boot log and process id. */
  hostDir(name: string): string {
    return join(this.stateDir, "hosts", name);
  }

  /** Name of the network namespace that holds the lab's switch. */
  get switchNamespace(): string {
    return `${this.namespacePrefix}switch`;
  }

  /** Name of the workstation's network namespace. */
  get workstationNamespace(): string {
    return `${this.namespacePrefix}workstation`;
  }

  /** Name of a host's network namespace. */
  hostNamespace(name: string): string {
    return `${this.namespacePrefix}host-${name}`;
  }

  /** Common prefix of the names of all the lab's network namespaces. */
  get namespacePrefix(): string {
    return `pulumi-lxd-lab-${this.id}-`;
  }

  /** The lab's control group; all processes that the lab starts are below it. */
  get cgroup(): string {
    return join(cgroup2Mount(), "pulumi-lxd-lab", this.id);
  }

  /** Control group of a host. */
  hostCgroup(name: string): string {
    return join(this.cgroup, `host-${name}`);
  }

  /** Control group of the processes in the workstation. */
  get workstationCgroup(): string {
    return join(this.cgroup, "workstation");
  }

  /** Control group of the processes that start the hosts and wait for their end. */
  get launchCgroup(): string {
    return join(this.cgroup, "launch");
  }

  /** The lab's record; undefined if no lab is up. */
  readRecord(): LabRecord | undefined {
    const path = this.recordFile;
    if (!existsSync(path)) return undefined;
    return JSON.parse(readFileSync(path, "utf8")) as LabRecord;
  }

  /** Writes the lab's record. */
  writeRecord(record: LabRecord): void {
    mkdirSync(this.stateDir, { recursive: true });
    writeFileSync(`${this.recordFile}.new`, `${JSON.stringify(record, undefined, 2)}\n`);
    renameSync(`${this.recordFile}.new`, this.recordFile);
  }

  private get recordFile(): string {
    return join(this.stateDir, "lab.json");
  }
}

/**
 * Mount point of the unified control group hierarchy on this machine.
 * @throws Error if it is not mounted.
 */
export function cgroup2Mount(): string {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, mountPoint, type] = line.split(" ");
    if (type === "cgroup2" && mountPoint !== undefined) return mountPoint;
  }
  throw new Error("This machine has no cgroup2 hierarchy mounted: mount -t cgroup2 none /sys/fs/cgroup/unified");
}

/**
 * Whether the folder, or its nearest existing parent, is on an overlay file system, which cannot hold the upper layer
 * of another overlay.
 */
export function isOnOverlay(path: string): boolean {
  let existing = path;
  while (!existsSync(existing)) existing = resolve(existing, "..");
  const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
  return statfsSync(existing).type === OVERLAYFS_SUPER_MAGIC;
}

/**
 * Whether a process, by default this one, is in the control group at `path` or below it. False for a process that has
 * ended.
 */
export function isInCgroup(path: string, pid: number | "self" = "self"): boolean {
  const group = path.slice(cgroup2Mount().length);
  try {
    const own = readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n");
    return own.some((line) => line.startsWith("0::") && `${line.slice(3)}/`.startsWith(`${group}/`));
  } catch {
    return false;
  }
}
