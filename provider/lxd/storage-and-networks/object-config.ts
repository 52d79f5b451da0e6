/** The config of an object of the cluster: keys for the whole object, and keys with a value for each member. Pure. */
import { nearest } from "../../support/spelling";
import { parseSize } from "../../support/units";
import { type Config, configSchema, isServerMade, sameConfig, sameConfigValue } from "../config";

/** What the keys of a config mean, for pools, networks and volumes. */
export interface KeyRules {
  /** Keys that are specific to each member. */
  readonly memberKeys: readonly string[];
  /** Keys that say how a member makes the object, and have no meaning afterwards. LXD replaces their values with the result. */
  readonly creationKeys: readonly string[];
  /** Whether a live value fulfils the wanted one, which for some keys is more than equality. */
  satisfies(key: string, wanted: string, live: string | undefined): boolean;
  /** Returns what is wrong with a value, as far as this is visible without LXD. */
  valueFault(key: string, value: string): string | undefined;
}

export interface WantedConfig {
  /** Values for the whole object, and values of member-specific keys for every member. */
  readonly config: Config;
  /** Values that differ on a member. */
  readonly memberConfig: Record<string, Config>;
}

/** A fault of an input, as `check` reports it. */
export interface KeyFault {
  readonly property: string;
  readonly reason: string;
}

/** Finds the keys that are wrong, wherever they are given. */
export function faultsOfKeys({ config, memberConfig }: WantedConfig, reasonOf: (key: string) => string | undefined): KeyFault[] {
  const members = Object.entries(memberConfig).map(([member, own]) => [`memberConfig.${member}`, own] as const);
  return [["config", config] as const, ...members].flatMap(([place, keys]) =>
    Object.keys(keys).flatMap((key) => {
      const reason = reasonOf(key);
      return reason === undefined ? [] : [{ property: `${place}.${key}`, reason }];
    }),
  );
}

/** Returns what is wrong with the size of a pool or volume. */
export function faultOfSize(key: string, value: string): string | undefined {
  return key === "size" && value !== "" && parseSize(value) === undefined ? 'is not a size such as "20GiB"' : undefined;
}

/** What is read of an object on one member. */
interface View {
  readonly value: { readonly config?: Config | null | undefined };
}

/** Returns the keys of `config` that hold for the whole object. */
export function commonConfig({ memberKeys }: KeyRules, config: Config): Config {
  return filtered(config, (key) => !memberKeys.includes(key));
}

/** Returns the wanted values of a member's own keys. A member's own `source` does not take the common `size`. */
export function configOfMember({ memberKeys }: KeyRules, { config, memberConfig }: WantedConfig, member: string): Config {
  const own = memberConfig[member] ?? {};
  const shared = filtered(config, (key) => memberKeys.includes(key) && !(key === "size" && (own["source"] ?? "") !== ""));
  return { ...shared, ...own };
}

/** Returns config in which every wanted key has a value that satisfies it. Keeps values that already do, and all other keys. */
export function merged(type: KeyRules, live: Config, wanted: Config): Config {
  const result: Config = { ...live };
  for (const [key, value] of Object.entries(wanted)) {
    if (value === "") {
      delete result[key];
    } else if (!type.satisfies(key, value, live[key])) {
      result[key] = value;
    }
  }
  return result;
}

/**
 * Returns the live values of the known keys, in the known spelling where that is satisfied. Omits all other keys, which are
 * LXD's.
 */
function keepSpelling(type: KeyRules, known: Config, live: Config): Config {
  return Object.fromEntries(
    Object.entries(known).map(([key, text]) => {
      const value = live[key] ?? "";
      return [key, type.creationKeys.includes(key) || type.satisfies(key, text, value) ? text : value];
    }),
  );
}

/**
 * Returns the live config in the program's shape: `memberConfig` shows where a member's value differs from `config`. Assumes that
 * members that could not be asked are unchanged.
 */
export function observedConfig(
  type: KeyRules,
  known: WantedConfig,
  live: Config,
  views: ReadonlyMap<string, View>,
): WantedConfig {
  const memberConfig = { ...known.memberConfig };
  for (const [member, { value }] of views) {
    const own = known.memberConfig[member];
    if (value.config) {
      const seen = keepSpelling(type, configOfMember(type, known, member), value.config);
      const differing = filtered(seen, (key) =>
        own?.[key] === undefined ? seen[key] !== known.config[key] : !isUnset(seen, own, key),
      );
      if (own !== undefined || Object.keys(differing).length > 0) {
        memberConfig[member] = differing;
      }
    }
  }
  const config = { ...known.config, ...keepSpelling(type, commonConfig(type, known.config), live) };
  return { config: filtered(config, (key) => !isUnset(config, known.config, key)), memberConfig };
}

/** Whether a key that the program gave a value has none in LXD. */
function isUnset(live: Config, known: Config, key: string): boolean {
  return live[key] === "" && known[key] !== "";
}

/**
 * Returns where the known config differs in meaning from the wanted one. A member's key that is no longer wanted is left to LXD.
 * @param members - Members that are known to have the object.
 */
export function changedConfig(
  type: KeyRules,
  known: WantedConfig,
  wanted: WantedConfig,
  members: readonly string[],
): ("config" | "memberConfig")[] {
  const changed = new Set<"config" | "memberConfig">();
  if (!sameConfig(commonConfig(type, known.config), commonConfig(type, wanted.config))) {
    changed.add("config");
  }
  for (const member of new Set([...members, ...Object.keys(wanted.memberConfig)])) {
    const live = configOfMember(type, known, member);
    for (const [key, value] of Object.entries(configOfMember(type, wanted, member))) {
      if (!sameConfigValue(key, live[key], value)) {
        const isOwn = [known, wanted].some(({ memberConfig }) => memberConfig[member]?.[key] !== undefined);
        changed.add(isOwn ? "memberConfig" : "config");
      }
    }
  }
  return [...changed];
}

export function filtered(config: Config, keep: (key: string) => boolean): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => keep(key)));
}

/** Returns the schema of an object's config: for all members, or for one. */
export function configSchemaOf(type: KeyRules, place: "config" | "memberConfig") {
  return configSchema.superRefine((config, context) => {
    for (const [key, value] of Object.entries(config)) {
      const message = faultOf(type, place, key, value);
      if (message !== undefined) {
        context.addIssue({ code: "custom", path: [key], message });
      }
    }
  });
}

function faultOf(type: KeyRules, place: "config" | "memberConfig", key: string, value: string): string | undefined {
  if (isServerMade(key)) {
    return "is written by the server or by this package, and cannot be set";
  }
  return (place === "memberConfig" ? faultOfMemberKey(type, key, "config") : undefined) ?? type.valueFault(key, value);
}

/**
 * Returns what is wrong with a key that is given for one member.
 * @param common - Where the keys of all members are given.
 */
export function faultOfMemberKey({ memberKeys }: KeyRules, key: string, common: string): string | undefined {
  if (memberKeys.includes(key)) {
    return undefined;
  }
  const meant = nearest(key, memberKeys);
  return meant === undefined
    ? `has one value for all members; set it in ${common}. Keys with a value for each member: ${memberKeys.join(", ")}`
    : `is no key with a value for each member. Did you mean ${meant}?`;
}
