/** Known facts of an instance, besides what a program wants of it. Pure. */
import type { Config, Devices } from "../config";
import { EVACUATED_FROM } from "./change";
import { addressesOf, type Expanded, type Instance, type InstanceType, macAddressesOf } from "./instances";
import type { Obstacle } from "./live-update";
import { lackingOf, type Started, startedOf, tellable } from "./running-with";

/** Facts of an instance that state keeps. */
export interface InstanceFacts extends Started {
  readonly status: string;
  readonly location: string;
  /** Absent in states of earlier versions. */
  readonly ephemeral?: boolean;
  readonly addresses: ReturnType<typeof addressesOf>;
  readonly macAddresses: Record<string, string>;
  readonly expandedConfig: Config;
  readonly expandedDevices: Devices;
  readonly imageFingerprint: string;
  readonly evacuatedFrom?: string;
}

/** Facts of an instance that exists and could not be read. */
export const NO_FACTS: InstanceFacts = {
  status: "Unknown",
  location: "",
  addresses: {},
  macAddresses: {},
  expandedConfig: {},
  expandedDevices: {},
  imageFingerprint: "",
  startedAt: "",
  bootMemory: "",
};

/** Selects the facts from a state. */
export function factsIn(state: InstanceFacts): InstanceFacts {
  const names = [...Object.keys(NO_FACTS), "evacuatedFrom"];
  return Object.fromEntries(Object.entries(state).filter(([name]) => names.includes(name))) as unknown as InstanceFacts;
}

/**
 * Returns the facts of an instance that was read with its state.
 * @param known - The facts known before.
 */
export function factsOf(instance: Instance, known: InstanceFacts | undefined): InstanceFacts {
  const evacuatedFrom = instance.config[EVACUATED_FROM];
  const expanded = expandedOf(instance);
  return {
    status: instance.status,
    location: instance.location,
    ephemeral: instance.ephemeral,
    addresses: addressesOf(instance),
    macAddresses: macAddressesOf(instance),
    expandedConfig: expanded.config,
    expandedDevices: expanded.devices,
    imageFingerprint: instance.config["volatile.base_image"] ?? "",
    ...startedOf(instance, known, expanded),
    ...(evacuatedFrom === undefined || evacuatedFrom === "" ? {} : { evacuatedFrom }),
  };
}

/** Returns the instance's config and devices with those of its profiles, in a form that may be shown. */
export function expandedOf({ expanded_config: config, expanded_devices: devices }: Instance): Expanded {
  return tellable({ config, devices });
}

/** Returns what the instance lacks of its profiles' current contents until its next start. */
export function lackingIn(
  type: InstanceType,
  { runsWith, expandedConfig, expandedDevices, bootMemory }: InstanceFacts,
): Obstacle[] {
  const expanded = { config: expandedConfig, devices: expandedDevices };
  return runsWith === undefined ? [] : lackingOf({ type }, runsWith, expanded, bootMemory);
}
