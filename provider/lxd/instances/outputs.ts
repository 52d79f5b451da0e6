import type { Config, Devices } from "../config";
import { EVACUATED_FROM } from "./evacuation";
import { addressesOf, expandedOf, type Instance, macAddressesOf } from "./instances";
import { type LastStart, lastStartOf, withoutSecrets } from "./running-config";

/** Facts of an instance that state keeps. */
export interface InstanceOutputs extends LastStart {
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

/** Outputs of an instance that exists and could not be read. */
export const UNKNOWN_OUTPUTS: InstanceOutputs = {
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

/** Selects the outputs from a state. */
export function outputsIn(state: InstanceOutputs): InstanceOutputs {
  const names = [...Object.keys(UNKNOWN_OUTPUTS), "evacuatedFrom"];
  return Object.fromEntries(Object.entries(state).filter(([name]) => names.includes(name))) as unknown as InstanceOutputs;
}

/**
 * Returns the outputs of an instance that was read with its state.
 * @param known - The outputs known before.
 */
export function outputsOf(instance: Instance, known: InstanceOutputs | undefined): InstanceOutputs {
  const evacuatedFrom = instance.config[EVACUATED_FROM];
  const { config, devices } = withoutSecrets(expandedOf(instance));
  return {
    status: instance.status,
    location: instance.location,
    ephemeral: instance.ephemeral,
    addresses: addressesOf(instance),
    macAddresses: macAddressesOf(instance),
    expandedConfig: config,
    expandedDevices: devices,
    imageFingerprint: instance.config["volatile.base_image"] ?? "",
    ...lastStartOf(instance, known),
    ...(evacuatedFrom === undefined || evacuatedFrom === "" ? {} : { evacuatedFrom }),
  };
}
