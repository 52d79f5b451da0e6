import * as z from "zod";
import type { LxdClient } from "./client/client";
import type { Config } from "./config";

/** `/1.0`: https://documentation.ubuntu.com/lxd/latest/api/#/server/server_get */
const serverSchema = z.looseObject({
  api_extensions: z.array(z.string()),
  // Values may be numbers or booleans: a set trust password reads back as `true`.
  config: z.record(z.string(), z.unknown()).default({}),
  environment: z.looseObject({
    addresses: z.array(z.string()).nullish(),
    architectures: z.array(z.string()).default([]),
    certificate: z.string().default(""),
    certificate_fingerprint: z.string().default(""),
    driver: z.string().default(""),
    kernel_version: z.string().default(""),
    server: z.string().default("lxd"),
    server_clustered: z.boolean().default(false),
    server_name: z.string().default(""),
    server_version: z.string(),
    storage_supported_drivers: z.array(z.looseObject({ Name: z.string(), Remote: z.boolean().default(false) })).nullish(),
  }),
});

export type Server = z.output<typeof serverSchema>;

const resourcesSchema = z.looseObject({
  cpu: z.looseObject({ total: z.number() }),
  memory: z.looseObject({ total: z.number() }),
});

/** Keys of the server's config that are local to each cluster member, in LXD or Incus. */
export const LOCAL_CONFIG =
  /^(core\.(https_address|debug_address|metrics_address|storage_buckets_address|dns_address|bgp_(address|routerid)|syslog_socket)|storage\.(.+_volume|linstor\.satellite\.name)|network\.ovs\.connection|maas\.machine)$/;

/** Local too, but set by the cluster alone. */
export const CLUSTER_ADDRESS = "cluster.https_address";

/** Reads the server. In a cluster, reads the member that answers. */
export function getServer(lxd: LxdClient, target?: string): Promise<Server> {
  return lxd.get("/1.0", serverSchema, { target });
}

export function getServerShared(lxd: LxdClient, target?: string): Promise<Server> {
  return lxd.getShared("/1.0", serverSchema, { target });
}

export async function getHardware(lxd: LxdClient, target?: string): Promise<{ cpus: number; memoryBytes: number }> {
  const { cpu, memory } = await lxd.get("/1.0/resources", resourcesSchema, { target });
  return { cpus: cpu.total, memoryBytes: memory.total };
}

const disksSchema = z.looseObject({
  storage: z.looseObject({ disks: z.array(z.looseObject({ size: z.number().default(0) })).nullish() }).nullish(),
});

/** Returns the size of all disks of a server together; 0 when it tells none. */
export async function getDiskBytes(lxd: LxdClient, target?: string): Promise<number> {
  const { storage } = await lxd.getShared("/1.0/resources", disksSchema, { target });
  return (storage?.disks ?? []).reduce((sum, { size }) => sum + size, 0);
}

/**
 * Sets the given keys of the server's config and keeps the others. An empty string unsets a key.
 *
 * Sends the member's other local keys as they are: LXD 5.0.2 of Debian 13, Incus 6.0, and by their source LXD 5.21 and 6 take a change back, when they refuse it or it fails,
 * by replacing the member's local config with the local keys of the request. Without them, the member loses `cluster.https_address`: it no longer
 * tells other members of changes, and does not come up in the cluster again.
 * @param target - The member whose own keys are set. @default the member that answers
 */
export async function setServerConfig(lxd: LxdClient, config: Config, target?: string): Promise<void> {
  const change = (live: Server): object => ({ config: { ...localConfig(live), ...config } });
  await lxd.modify("/1.0", serverSchema, change, { query: { target }, method: "PATCH" });
}

/** The keys of the server's config that are its own, and are not those of the cluster. */
function localConfig(server: Server): Config {
  const entries = Object.entries(serverConfig(server));
  return Object.fromEntries(entries.filter(([key]) => LOCAL_CONFIG.test(key) || key === CLUSTER_ADDRESS));
}

/** Returns the server's config as the strings that LXD stores. */
export function serverConfig(server: Server): Config {
  return Object.fromEntries(Object.entries(server.config).map(([key, value]) => [key, String(value)]));
}

/** Returns the address at which the server is a member, or was one; empty when it has none. */
export function clusterAddress(server: Server): string {
  return serverConfig(server)[CLUSTER_ADDRESS] ?? "";
}
