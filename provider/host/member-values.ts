/** Whether a host has what its values for the cluster's pools and networks name, before it joins. */
import * as z from "zod";
import { listOf } from "../lxd/client/answers";
import type { LxdClient } from "../lxd/client/client";
import type { MemberConfigKey } from "../lxd/cluster/cluster";
import type { JoinContext } from "../lxd/cluster/join-preflight";
import type { MemberConfig } from "../lxd/cluster/member-config";
import type { Deadline } from "../support/deadline";
import { RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

const poolSchema = z.looseObject({ name: z.string(), driver: z.string() });
const networkSchema = z.looseObject({ name: z.string(), managed: z.boolean() });

/**
 * LXD looks for disks and interfaces in the middle of a join, and leaves the host half joined when one is missing.
 * @param given - The values that the program gives; others follow from an existing member.
 * @throws RefusedError that names the pool or network.
 */
export async function refuseMissingOnHost(
  { host, cluster }: Pick<JoinContext, "host" | "cluster">,
  ssh: SshConnection,
  values: readonly MemberConfigKey[],
  given: MemberConfig,
  deadline: Deadline,
): Promise<void> {
  for (const { name, value } of values.filter(({ entity, key }) => entity === "storage-pool" && key === "source")) {
    if (value.startsWith("/") && !(await isThere(ssh, "-e", value, deadline))) {
      throw new RefusedError(
        `memberConfig.pools.${name}.source is ${value}, and ${host.host} has no such disk, file or directory. Give what storage pool "${name}" uses there`,
      );
    }
  }
  const wanted = values.filter(({ entity, key, value }) => entity === "network" && key in INTERFACES_IN && value !== "");
  if (wanted.length === 0) {
    return;
  }
  const [there, made] = await Promise.all([interfacesOf(host), interfacesOf(cluster)]);
  const known = new Set(
    [...there, ...made].filter(({ managed }, index) => index < there.length || managed).map(({ name }) => name),
  );
  for (const { name, key, value } of wanted) {
    const missing = INTERFACES_IN[key]?.(value).find((each) => !known.has(each));
    if (missing !== undefined) {
      const isGiven = given.networks?.[name]?.[key] !== undefined;
      throw new RefusedError(
        `${host.host} has no network interface "${missing}" for network "${name}" (${key}${isGiven ? "" : ", as on another member"}). Give the one ` +
          `that it has: memberConfig: { networks: { ${JSON.stringify(name)}: { ${JSON.stringify(key)}: "..." } } }`,
      );
    }
  }
}

/** Describes the storage drivers of the cluster's pools that a joining server does not name. Its list may be older than the programs on the host. */
export async function describeMissingDrivers({ host, joining, cluster }: JoinContext): Promise<string[]> {
  const drivers = joining.environment.storage_supported_drivers?.map(({ Name }) => Name);
  const pools = drivers === undefined ? [] : await cluster.get("/1.0/storage-pools", listOf(poolSchema), { recursion: 1 });
  return pools
    .filter(({ driver }) => drivers?.includes(driver) === false)
    .map(
      ({ name, driver }) =>
        `${host.title} did not have the storage driver ${driver} when it last looked, and storage pool "${name}" needs it. If the join fails, install ` +
        "what the driver needs there, for instance by install.packages of its LxdNode",
    );
}

/** The interfaces of the host in the values of a key. One with slashes is made by the server. */
const INTERFACES_IN: Readonly<Record<string, (value: string) => string[]>> = {
  parent: (value) => [value],
  "bridge.external_interfaces": (value) =>
    value
      .split(",")
      .map((each) => each.trim())
      .filter((each) => each !== "" && !each.includes("/")),
};

function interfacesOf(lxd: LxdClient): Promise<z.output<typeof networkSchema>[]> {
  return lxd.get("/1.0/networks", listOf(networkSchema), { recursion: 1 });
}
