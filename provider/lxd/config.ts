import * as z from "zod";
import { mayBeSecret } from "../support/secrets";
import { parseSize, sameSize } from "../support/units";
import { sameAddresses, sameListener, sameMac, sameNames, samePath, samePci, sameTruth } from "./meaning";
import { configKeySchema, deviceNameSchema } from "./names";
import { faultOfSnapshotKey } from "./snapshot-keys";

/** LXD's config maps hold strings. Numbers and booleans are converted to strings. An empty string means "not set". */
export const configValueSchema = z
  .union([z.string(), z.number(), z.boolean()], "must be a string, a number or a boolean")
  .transform(String);

/** A config map, such as `{"limits.cpu": "2"}`. */
export const configSchema = z
  .record(configKeySchema, configValueSchema)
  .refine(({ "limits.memory": memory = "" }) => memory === "" || /^\d+%$/.test(memory) || parseSize(memory) !== undefined, {
    path: ["limits.memory"],
    error: 'is neither a size such as "4GiB" nor a share such as "50%"',
  })
  .superRefine((config, context) => {
    for (const [key, value] of Object.entries(config)) {
      const message = faultOfSnapshotKey(key, value);
      if (message !== undefined) {
        context.addIssue({ code: "custom", path: [key], message });
      }
    }
  });

/** Returns the schema of the config of an object that has only some keys besides the user's. */
export function userConfigSchema(...own: readonly string[]) {
  const possible = [...own, 'keys that begin with "user.", except "user.pulumi."'].join(" and ");
  return z.record(configKeySchema, configValueSchema).superRefine((config, context) => {
    for (const key of Object.keys(config)) {
      if (!own.includes(key) && (!key.startsWith("user.") || isServerMade(key))) {
        context.addIssue({ code: "custom", path: [key], message: `cannot be set here. Possible are ${possible}` });
      }
    }
  });
}

/** Devices by name, each a map of its options. */
export const devicesSchema = z.record(
  deviceNameSchema,
  z
    .record(configKeySchema, configValueSchema)
    .refine((device) => device["type"] !== undefined, "needs a type, such as nic or disk"),
);

export type Config = Record<string, string>;

export type Devices = Record<string, Config>;

/** Marks an object with the URN of the resource that owns it. */
export const OWNER_KEY = "user.pulumi.urn";

/** Whether LXD, or another resource of this package, writes the key. Such a key is not drift and must be preserved. */
export function isServerMade(key: string): boolean {
  return key.startsWith("volatile.") || key.startsWith("image.") || key.startsWith("user.pulumi.");
}

/** Returns the keys that a change of an object keeps. */
export function serverMadeIn(config: Config | null | undefined): Config {
  return Object.fromEntries(Object.entries(config ?? {}).filter(([key]) => isServerMade(key)));
}

/** Keys whose value is a text for cloud-init. */
export const CLOUD_INIT_TEXT = /^(cloud-init|user)\.(user-data|vendor-data|network-config)$/;

export function ownerKey(mark: string): Config {
  return mark === "" ? {} : { [OWNER_KEY]: mark };
}

export function withoutEmpty(config: Config): Config {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== ""));
}

/** Returns the config to send to LXD: without unset keys, and with the owner's mark. */
export function marked(config: Config, mark: string): Config {
  return { ...withoutEmpty(config), ...ownerKey(mark) };
}

/** Whether two values of a config or device key mean the same to LXD. */
export function sameConfigValue(key: string, a: string | undefined, b: string | undefined): boolean {
  const [left, right] = [a ?? "", b ?? ""];
  if (left === right) {
    return true;
  }
  if (CLOUD_INIT_TEXT.test(key)) {
    return left.trimEnd() === right.trimEnd();
  }
  if (isFreeText(key)) {
    return false;
  }
  const same = MEANINGS.find(([pattern]) => pattern.test(key))?.[1] ?? sameTruth;
  return same(left, right);
}

/** How to compare the values of config and device keys. All others are texts, or booleans in any of LXD's spellings. */
const MEANINGS: readonly [RegExp, (a: string, b: string) => boolean][] = [
  [/^limits\.(memory|disk(\.pool\..+)?|read|write|max|hugepages\..+)$|(^|\.)size(\.|$)/, sameSize],
  [/(^|\.)hwaddr$/, sameMac],
  [/^(core|cluster)\.[a-z_]*address$/, sameListener],
  [/^(pci|address)$/, samePci],
  [
    /^(ipv[46]\.(address|gateway|routes(\.external|\.anycast)?|nat\.address|dhcp\.(gateway|ranges)|ovn\.ranges)|dns\.nameservers|bgp\.ipv[46]\.nexthop|target_address|fan\.(under|over)lay_subnet)$/,
    sameAddresses,
  ],
  [/^(path|source)$/, samePath],
  [/^security\.acls$/, sameNames],
];

/** Whether two config maps mean the same. Ignores server-made keys. */
export function sameConfig(a: Config = {}, b: Config = {}): boolean {
  return Object.keys({ ...a, ...b }).every((key) => isServerMade(key) || sameConfigValue(key, a[key], b[key]));
}

export function sameDevices(a: Devices = {}, b: Devices = {}): boolean {
  return Object.keys({ ...a, ...b }).every(
    (name) => a[name] !== undefined && b[name] !== undefined && sameConfig(a[name], b[name]),
  );
}

/** Returns the live config in the known spelling where both mean the same, without server-made keys. */
export function keepSpelling(known: Config | undefined, live: Config): Config {
  return Object.fromEntries(
    Object.entries(live)
      .filter(([key, value]) => !isServerMade(key) && value !== "")
      .map(([key, value]) => {
        const wording = known?.[key];
        return [key, wording !== undefined && sameConfigValue(key, wording, value) ? wording : value];
      }),
  );
}

/**
 * Placeholder in state for a value that others have set and that may be a secret, which state must not hold. A comment, because a network
 * config must be YAML.
 */
const FOREIGN_SECRET = "# set by others, not shown";

/** {@link keepSpelling} for state: without possible secrets that others have added, which state does not yet mark as secret. */
export function forState(known: Config | undefined, live: Config): Config {
  const isForeign = ([key, value]: [string, string]): boolean => value !== known?.[key] && mayBeSecret(key, value);
  const entries = Object.entries(keepSpelling(known, live));
  return Object.fromEntries(entries.map((entry) => (isForeign(entry) ? [entry[0], FOREIGN_SECRET] : entry)));
}

/** {@link forState} for devices. */
export function devicesForState(known: Devices | undefined, live: Devices): Devices {
  return Object.fromEntries(Object.entries(live).map(([name, device]) => [name, forState(known?.[name], device)]));
}

/** {@link keepSpelling} for devices. */
export function keepSpellingOfDevices(known: Devices | undefined, live: Devices): Devices {
  return Object.fromEntries(Object.entries(live).map(([name, device]) => [name, keepSpelling(known?.[name], device)]));
}

/** Whether LXD passes the key's value on verbatim, so that every letter counts: `environment.DEBUG` may be "1" or "true". */
function isFreeText(key: string): boolean {
  return /^(user|environment|raw)\./.test(key);
}
