/** Reads LXD's files on a host when the daemon cannot be asked or does not know. */
import { X509Certificate } from "node:crypto";
import type { Packaging } from "../lxd/client/endpoint";
import type { Inventory } from "../lxd/inventory";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { dataDirectory, isThere } from "./paths";

export interface OnDisk {
  /** SHA-256 of the certificate of LXD's cluster, or of the one to join; empty when the file is not a certificate. */
  readonly clusterCertificate: string | undefined;
  /** Names of this and the following as {@link takeInventory} gives them. */
  readonly instances: readonly string[];
  readonly volumes: readonly string[];
  readonly pools: readonly string[];
  /** Pools that are not mounted, so that their contents are unknown. */
  readonly closedPools: readonly string[];
}

const OF_VALUE = ["containers", "virtual-machines", "storage-pools", "disks"];

export async function lookAtDisk(ssh: SshConnection, packaging: Packaging, deadline: Deadline): Promise<OnDisk> {
  const data = dataDirectory(packaging);
  const top = (await isThere(ssh, "-d", data, deadline)) ? await list(ssh, [data], 1, deadline) : [];
  const certificate = `${data}/cluster.crt`;
  const directories = OF_VALUE.map((name) => `${data}/${name}`).filter((path) => top.includes(path));
  const paths = directories.length === 0 ? [] : await list(ssh, directories, 3, deadline);
  const pem = top.includes(certificate) ? (await ssh.run(["cat", certificate], { deadline })).stdout : undefined;
  return {
    clusterCertificate: pem === undefined ? undefined : fingerprintOf(pem),
    ...sortOut(paths.map((path) => path.slice(data.length + 1).split("/"))),
  };
}

/**
 * Lists the paths below directories, each of which may be a link, because somebody moved it.
 * @throws CommandError when it does not see everything: the rest may be of value.
 */
async function list(ssh: SshConnection, directories: readonly string[], depth: number, deadline: Deadline): Promise<string[]> {
  const { stdout } = await ssh.run(["find", "-H", ...directories, "-mindepth", "1", "-maxdepth", String(depth)], { deadline });
  return stdout.split("\n").filter((path) => path !== "");
}

/** The objects that are on the disk and not in `known`. A pool that LXD knows is open, so its contents are known too. */
export function unknownTo(known: Inventory, { instances, volumes, pools, closedPools }: OnDisk): Inventory {
  const beyond = (names: readonly string[], kind: keyof Inventory): string[] =>
    names.filter((name) => known[kind]?.includes(name) !== true);
  const closed = beyond(closedPools, "storage-pools").map((pool) => `${pool}/* (the pool is not mounted)`);
  const found = {
    instances: beyond(instances, "instances"),
    "custom-volumes": [...beyond(volumes, "custom-volumes"), ...closed],
    "storage-pools": beyond(pools, "storage-pools"),
  };
  return Object.fromEntries(Object.entries(found).filter(([, names]) => names.length > 0));
}

export function together(a: Inventory, b: Inventory): Inventory {
  const kinds = [...new Set([...Object.keys(a), ...Object.keys(b)])] as (keyof Inventory)[];
  return Object.fromEntries(kinds.map((kind) => [kind, [...new Set([...(a[kind] ?? []), ...(b[kind] ?? [])])]]));
}

/** @param paths - Relative to the data directory, such as `storage-pools/default/custom/default_data`. */
function sortOut(paths: readonly string[][]): Omit<OnDisk, "clusterCertificate"> {
  const [instances, volumes, pools, open] = [new Set<string>(), new Set<string>(), new Set<string>(), new Set<string>()];
  for (const [top = "", first, second, third] of paths) {
    if (first === undefined || first === "lxc-monitord.log") {
      continue;
    }
    if (top === "containers" || top === "virtual-machines") {
      instances.add(withProject(first));
    } else if (top === "disks") {
      pools.add(first.replace(/\.img$/, ""));
    } else if (top === "storage-pools") {
      pools.add(first);
      if (second !== undefined) {
        open.add(first); // LXD creates a directory for each kind of volume when it mounts the pool
      }
      if (third !== undefined && (second === "containers" || second === "virtual-machines")) {
        instances.add(withProject(third));
      } else if (third !== undefined && (second === "custom" || second === "buckets")) {
        volumes.add(volumeName(first, third));
      }
    }
  }
  const closedPools = [...pools].filter((pool) => !open.has(pool));
  return { instances: [...instances].sort(), volumes: [...volumes].sort(), pools: [...pools].sort(), closedPools };
}

/** Adds the project: `c1` is in the default project, `web_c1` in `web`. Neither name can contain an underscore. */
function withProject(file: string): string {
  return file.replace("_", "/");
}

/** The name of a volume. The name of its file always contains the project. */
function volumeName(pool: string, file: string): string {
  const [project = "", ...rest] = file.split("_");
  const name = `${pool}/${rest.join("_")}`;
  return project === "default" ? name : `${project}/${name}`;
}

function fingerprintOf(pem: string): string {
  try {
    return new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase();
  } catch {
    return "";
  }
}
