import type { Config, Devices } from "../config";
import { EVACUATED_FROM } from "./evacuation";
import { addressesOf, expandedOf, type Instance, macAddressesOf } from "./instances";
import { type LastStart, lastStartOf, withoutSecrets } from "./running-config";

/** Outputs of an instance. */
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

export function outputsIn(state: InstanceOutputs): InstanceOutputs {
  const names = [...Object.keys(UNKNOWN_OUTPUTS), "evacuatedFrom"];
  return Object.fromEntries(Object.entries(state).filter(([name]) => names.includes(name))) as unknown as InstanceOutputs;
}

/** @param instance - Read with its state. */
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
