/** Which keys and values of the server config a program may give, as far as that is known without a server. */
import { isIPv4 } from "node:net";
import { configSchema, isServerMade } from "../config";
import { INCUS_KEYS, KNOWN_KEYS, matches } from "../config-keys";
import { isListener } from "../names";
import { CLUSTER_ADDRESS, LOCAL_CONFIG } from "../server";

/** What is wrong with a value; a server refuses each of these too. */
const FAULTS: Readonly<Record<string, (value: string) => string | undefined>> = {
  "cluster.max_voters": (value) =>
    wholeNumber(value, 3) && Number(value) % 2 === 1 ? undefined : "must be an odd number of at least 3",
  "cluster.max_standby": (value) => (wholeNumber(value, 0, 5) ? undefined : "must be a whole number from 0 to 5"),
  "cluster.offline_threshold": (value) =>
    wholeNumber(value, 11) ? undefined : "must be a whole number of seconds of more than 10",
  "cluster.images_minimal_replica": (value) =>
    value === "-1" || wholeNumber(value, 1) ? undefined : "must be a whole number of at least 1, or -1 for all members",
  "cluster.healing_threshold": atLeastZero("seconds"),
  "images.auto_update_interval": atLeastZero("hours"),
  "images.remote_cache_expiry": atLeastZero("days"),
  "core.shutdown_timeout": atLeastZero("minutes"),
  "core.https_address": (value) =>
    isListener(value) ? undefined : 'must be an address to listen on, such as "192.168.1.102:8443", or ":8443" for every address',
  "core.bgp_asn": (value) => (wholeNumber(value, 0, 2 ** 32 - 1) ? undefined : "must be a whole number from 0 to 4294967295"),
  "core.bgp_routerid": (value) => (isIPv4(value) ? undefined : "must be an IPv4 address"),
  "storage.backups_volume": volume,
  "storage.images_volume": volume,
  "storage.logs_volume": volume,
};

/** The schema of keys with one value for the cluster, or with one for each member. */
export function serverConfigSchema(place: "config" | "memberConfig") {
  return configSchema.superRefine((config, context) => {
    for (const [key, value] of Object.entries(config)) {
      const message = faultOfKey(key, place) ?? faultOfValue(key, value);
      if (message !== undefined) {
        context.addIssue({ code: "custom", path: [key], message });
      }
    }
  });
}

/** What is wrong with a value, as far as that is known; an empty one unsets the key. */
export function faultOfValue(key: string, value: string): string | undefined {
  return value === "" ? undefined : FAULTS[key]?.(value);
}

/** Why no config sets the address of a member. */
export const CLUSTER_ADDRESS_FAULT =
  "is the address of a member for the others: address of its LxdClusterMember. It cannot change while the cluster runs; for the commands that " +
  'change it, see "A member with a new address" in docs/guide/recovery.md of pulumi-lxd-cluster';

function faultOfKey(key: string, place: "config" | "memberConfig"): string | undefined {
  if (key === CLUSTER_ADDRESS) {
    return CLUSTER_ADDRESS_FAULT;
  }
  if (isServerMade(key)) {
    return "is written by the server or by this package, and cannot be set";
  }
  const isLocal = LOCAL_CONFIG.test(key);
  if (place === "config" && isLocal) {
    return "has a value for each member; set it in memberConfig";
  }
  const isKnown = matches(KNOWN_KEYS.server, key) || matches(INCUS_KEYS.server, key);
  return place === "memberConfig" && isKnown && !isLocal ? "has one value for all members; set it in config" : undefined;
}

function wholeNumber(value: string, least: number, most = Number.MAX_SAFE_INTEGER): boolean {
  return /^-?\d+$/.test(value) && Number(value) >= least && Number(value) <= most;
}

function atLeastZero(unit: string): (value: string) => string | undefined {
  return (value) => (wholeNumber(value, 0) ? undefined : `must be a whole number of ${unit} of at least 0`);
}

function volume(value: string): string | undefined {
  return /^[^/\s]+\/[^/\s]+$/.test(value) ? undefined : "must name a pool and a volume, such as default/backups";
}
