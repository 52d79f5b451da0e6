/** An instance as a program wants it, and its conversion to and from LXD's config and devices. Pure. */
import {
  type Config,
  type Devices,
  devicesForState,
  forState,
  isServerMade,
  keepSpelling,
  keepSpellingOfDevices,
  ownerKey,
  sameConfig,
  sameConfigValue,
  sameDevices,
} from "../config";
import type { Placement } from "../placement/schema";
import type { Profile } from "../profiles";
import { inProgramsKeys } from "./boot-keys";
import { type Expanded, expand, type Instance, type InstancePut, type InstanceType, rootDiskOf } from "./instances";
import type { WaitCondition } from "./wait";

/** Contents of an instance. */
export interface InstanceSpec {
  readonly description: string;
  readonly profiles: string[];
  readonly cpu?: string | undefined;
  readonly memory?: string | undefined;
  readonly rootDisk?: RootDisk | undefined;
  readonly devices: Devices;
  readonly config: Config;
  readonly cloudInit?: CloudInit | undefined;
}

interface RootDisk {
  size?: string | undefined;
  pool?: string | undefined;
}

interface CloudInit {
  userData?: string | undefined;
  vendorData?: string | undefined;
  networkConfig?: string | undefined;
}

/**
 * Whether an instance may be stopped and started for a change. `"force"` also allows a forced stop when it does not stop cleanly.
 */
export type AllowRestart = boolean | "force";

/** An instance as a program wants it. */
export interface WantedInstance extends InstanceSpec {
  readonly name: string;
  readonly instanceType: InstanceType;
  readonly target?: string | undefined;
  readonly placement?: Placement | undefined;
  readonly running: boolean;
  readonly waitFor: readonly WaitCondition[];
  readonly allowRestart: AllowRestart;
}

/** Returns the contents to send to LXD. Keeps server-made values of `live`, and its spelling of values that mean the same. */
export function toApi(spec: InstanceSpec, profiles: readonly Profile[], mark: string, live?: Instance): InstancePut {
  const kept = Object.fromEntries(Object.entries(live?.config ?? {}).filter(([key]) => isServerMade(key)));
  return {
    architecture: live?.architecture ?? "",
    ephemeral: live?.ephemeral ?? false,
    description: spec.description,
    profiles: spec.profiles,
    config: { ...kept, ...keepSpelling(live?.config, localConfig(spec)), ...ownerKey(mark) },
    devices: keepSpellingOfDevices(live?.devices, localDevices(spec, profiles)),
  };
}

/** Returns LXD's contents, in the known spelling where both mean the same. */
export function specFromApi(instance: Instance, known: InstanceSpec): InstanceSpec {
  const {
    "limits.cpu": cpu,
    "limits.memory": memory,
    "cloud-init.user-data": userData,
    "cloud-init.vendor-data": vendorData,
    "cloud-init.network-config": networkConfig,
    ...config
  } = forState(localConfig(known), inProgramsKeys(known.config, instance.config));
  const cloudInit = { userData, vendorData, networkConfig };
  const [root = "", rootDisk] = rootDiskOf(instance.devices) ?? [];
  const { [root]: _, ...others } = instance.devices;
  const isArgument = known.devices[root] === undefined; // rather than one of `devices`
  return {
    description: instance.description,
    profiles: [...(instance.profiles ?? [])],
    cpu,
    memory,
    rootDisk: observedRootDisk(known.rootDisk, isArgument ? rootDisk : undefined, instance.expanded_devices),
    devices: devicesForState(known.devices, isArgument ? others : instance.devices),
    config,
    cloudInit: Object.values(cloudInit).some((text) => text !== undefined) ? cloudInit : undefined,
  };
}

/** Equality of properties that are not compared as plain JSON. */
export const sameSpec = {
  memory: (observed?: string, wanted?: string): boolean => sameConfigValue("limits.memory", observed, wanted),
  rootDisk: sameRootDisk,
  devices: sameDevices,
  config: sameConfig,
  cloudInit: (observed?: CloudInit, wanted?: CloudInit): boolean =>
    sameConfig(cloudInitConfig(observed), cloudInitConfig(wanted)),
};

/**
 * Returns an instance as it would be after a change, as far as the program decides this. Only LXD knows what profiles say in
 * place of a value that is given up, and what other profiles say. Both are assumed unchanged.
 */
export function expected(expanded: Expanded, wanted: InstanceSpec): Expanded {
  const [name, root] = rootDiskOf(expanded.devices) ?? ["root", {}];
  const { size, pool } = wanted.rootDisk ?? {};
  return {
    config: { ...expanded.config, ...localConfig(wanted) },
    devices: {
      ...expanded.devices,
      [name]: { ...root, ...given("size", size), ...given("pool", pool) },
      ...wanted.devices,
    },
  };
}

/** Returns all arguments that LXD keeps as config of the instance. */
function localConfig({ config, cpu, memory, cloudInit }: InstanceSpec): Config {
  return { ...config, ...given("limits.cpu", cpu), ...given("limits.memory", memory), ...cloudInitConfig(cloudInit) };
}

function cloudInitConfig({ userData, vendorData, networkConfig }: CloudInit = {}): Config {
  return {
    ...given("cloud-init.user-data", userData),
    ...given("cloud-init.vendor-data", vendorData),
    ...given("cloud-init.network-config", networkConfig),
  };
}

/**
 * Returns all arguments that LXD keeps as devices of the instance. To differ from an inherited device, the instance needs a whole
 * copy of it.
 */
function localDevices({ devices, rootDisk }: InstanceSpec, profiles: readonly Profile[]): Devices {
  const inherited = expand(profiles, { config: {}, devices: {} }).devices;
  const [name, root] = rootDiskOf(inherited) ?? ["root", { type: "disk", path: "/" }];
  if (rootDisk === undefined || (rootDisk.size === undefined && rootDisk.pool === root["pool"])) {
    return devices;
  }
  return { ...devices, [name]: { ...root, ...given("pool", rootDisk.pool), ...given("size", rootDisk.size) } };
}

/** Returns the requested properties of the instance's own root disk; all of them when none was requested. */
function observedRootDisk(rootDisk: RootDisk | undefined, own: Config | undefined, expanded: Devices): RootDisk | undefined {
  if (own === undefined) {
    const inheritedPool = rootDiskOf(expanded)?.[1]["pool"];
    return rootDisk?.size === undefined && rootDisk?.pool === inheritedPool ? rootDisk : undefined;
  }
  const { size, pool } = keepSpelling(given("size", rootDisk?.size), own);
  return {
    ...(rootDisk === undefined || rootDisk.size !== undefined ? given("size", size) : {}),
    ...(rootDisk === undefined || rootDisk.pool !== undefined ? given("pool", pool) : {}),
  };
}

function sameRootDisk(
  observed: RootDisk | undefined,
  wanted: RootDisk | undefined,
  { expandedDevices }: { expandedDevices: Devices },
): boolean {
  if (wanted === undefined || observed === undefined) {
    return wanted === observed;
  }
  const pool = rootDiskOf(expandedDevices)?.[1]["pool"];
  return sameConfigValue("size", observed.size, wanted.size) && (wanted.pool === undefined || wanted.pool === pool);
}

function given(key: string, value: string | undefined): Config {
  return value === undefined ? {} : { [key]: value };
}
