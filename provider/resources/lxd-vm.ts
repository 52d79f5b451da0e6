/**
 * An instance: a virtual machine or a container.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/instances/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/bookkeeping";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { type Config, type Devices, isServerMade, OWNER_KEY, sameConfigValue } from "../lxd/config";
import { cloudInitSchema, cpuSchema, instanceConfigSchema, memorySchema } from "../lxd/instances/args";
import {
  changeInstance,
  EVACUATED_FROM,
  forewarning,
  memberToMoveTo,
  obstacleToMove,
  stopForGood,
} from "../lxd/instances/change";
import { differences, expected, specFromApi, toApi } from "../lxd/instances/contents";
import { checkedDevicesSchema, sizeSchema } from "../lxd/instances/device-values";
import { imageSourceSchema } from "../lxd/instances/image-source";
import {
  addressesOf,
  createInstanceOnce,
  deleteInstance,
  findInstance,
  findInstanceShared,
  getInstanceWithState,
  type Instance,
  type InstanceWork,
  isRunning,
  isStopped,
  macAddressesOf,
  type NicAddresses,
  requireInstance,
  rootDiskOf,
  startInstance,
  untilCreated,
} from "../lxd/instances/instances";
import { obstaclesToLiveUpdate } from "../lxd/instances/live-update";
import { prepare, requireImage, requirePlace } from "../lxd/instances/preflight";
import { waitConditionSchema, waitFor } from "../lxd/instances/wait";
import { instanceNameSchema, objectNameSchema, projectSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import { Deadline } from "../support/deadline";
import { sameJson } from "../support/equality";
import { IncompleteError, messageOf, RefusedError } from "../support/errors";
import type { ClusterConnectionArgs, ConfigArgs, DevicesArgs } from "./common-args";
import type { CloudInitArgs, ImageSourceArgs, RootDiskArgs, WaitConditionArgs } from "./lxd-vm-args";

export type { NicAddresses };

/** Inputs of {@link LxdVm}. */
export const vmSchema = z.strictObject({
  ...inCluster,
  name: instanceNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  instanceType: z.enum(["virtual-machine", "container"], 'must be "virtual-machine" or "container"').default("virtual-machine"),
  image: imageSourceSchema,
  profiles: z.array(objectNameSchema).default(["default"]),
  cpu: cpuSchema.optional(),
  memory: memorySchema.optional(),
  rootDisk: z
    .strictObject({ size: sizeSchema.optional(), pool: objectNameSchema.optional() })
    .refine(({ size, pool }) => size !== undefined || pool !== undefined, "needs size or pool")
    .optional(),
  devices: checkedDevicesSchema.default({}),
  config: instanceConfigSchema.default({}),
  cloudInit: cloudInitSchema.optional(),
  target: z
    .string()
    .regex(/^(@?[A-Za-z0-9][A-Za-z0-9._-]*)?$/, "is neither the name of a member nor @group")
    .transform((target) => (target === "" ? undefined : target))
    .optional(),
  running: z.boolean().default(true),
  waitFor: z.array(waitConditionSchema).default([{ for: "running" }]),
  allowRestart: z.union([z.boolean(), z.literal("force")], 'must be true, false or "force"').default(false),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdVm}. */
export interface LxdVmArgs {
  /** The cluster, or standalone server, on which it runs. */
  cluster: Input<ClusterConnectionArgs>;
  /** Name of the instance, and host name of the guest. */
  name: Input<string>;
  /** Project of the instance. @default "default" */
  project?: Input<string>;
  /** What it is for. @default "" */
  description?: Input<string>;
  /** Another kind replaces the instance. @default "virtual-machine" */
  instanceType?: Input<"virtual-machine" | "container">;
  /**
   * What it is made from. Another image replaces the instance; an alias that has come to stand for a newer image does not.
   */
  image: Input<ImageSourceArgs>;
  /** Profiles in their order, a later one winning; `[]` for none. @default ["default"] */
  profiles?: Input<Input<string>[]>;
  /** Number of CPUs, or which of the host's, such as `"0-3"`. @default what the profiles say, else LXD's 1 for a virtual machine */
  cpu?: Input<number | string>;
  /** Memory such as `"4GiB"`. @default what the profiles say, else LXD's 1GiB for a virtual machine */
  memory?: Input<string>;
  /** Size or pool of the root disk, in place of what the profiles say. @default what the profiles say */
  rootDisk?: Input<RootDiskArgs>;
  /** Devices of its own. One of the same name as in a profile takes its place as a whole; `{ type: "none" }` hides it. @default {} */
  devices?: Input<DevicesArgs>;
  /** Config of its own, all of it, but for keys that have an argument here. @default {} */
  config?: Input<ConfigArgs>;
  /** What cloud-init finds in the guest. A later change makes LXD run cloud-init again at the next start. */
  cloudInit?: Input<CloudInitArgs>;
  /**
   * Member on which it is to be; another one moves it there. `@group` chooses a member of the group when it is made. An
   * instance that an evacuation has moved stays where it is (see `evacuatedFrom`). @default LXD chooses once
   */
  target?: Input<string>;
  /** Whether it is to run; one that was stopped or started by others is shown as drift. @default true */
  running?: Input<boolean>;
  /**
   * What is waited for, in this order, when it is made or changed and `running`. Addresses are in the outputs of the same
   * `pulumi up` only when they are waited for. @default [{ for: "running" }]
   */
  waitFor?: Input<Input<WaitConditionArgs>[]>;
  /**
   * Whether it may be stopped and started for a change that it does not take while it runs. Without, such a change is refused. It is
   * stopped cleanly, for which it gets half of the time that is left; `"force"` pulls the plug when that is over. @default false
   */
  allowRestart?: Input<boolean | "force">;
  /**
   * Take over an instance of that name that others made, instead of making it. It is then changed to what is given here.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Seconds for each call. @default 900 for create and update, 300 for delete, 120 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof vmSchema>;

interface Outputs {
  status: string;
  location: string;
  addresses: Record<string, NicAddresses>;
  macAddresses: Record<string, string>;
  expandedConfig: Config;
  expandedDevices: Devices;
  imageFingerprint: string;
  evacuatedFrom?: string;
}

type State = Inputs & Outputs;

/** See {@link LxdVm}. */
export const vmLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdVm",
  schemaVersion: 1,
  schema: vmSchema,
  immutable: ["name", "project", "instanceType", "image"],
  lasting: {
    imageFingerprint: [],
    location: ["target"],
    macAddresses: ["devices", "profiles"],
    // A guest may get other addresses when it is started, or told something else by cloud-init or a key of its config.
    addresses: ["devices", "profiles", "config", "cloudInit", "cpu", "memory", "rootDisk", "target", "running"],
  },
  timeouts: { create: 900, read: 120, update: 900, delete: 300 },

  checkTogether({ rootDisk, devices }) {
    const root = rootDiskOf(devices)?.[0];
    const reason = `is also described by devices.${root}; give one of them`;
    return rootDisk !== undefined && root !== undefined ? [{ property: "rootDisk", reason }] : [];
  },

  diff(state, inputs) {
    const immutable = vmLifecycle.immutable.filter((property) => !sameJson(state[property], inputs[property]));
    const moved = memberToMoveTo(inputs.target, state.location, state.evacuatedFrom) !== undefined;
    return [
      ...immutable,
      ...differences(state, inputs),
      ...(moved ? (["target"] as const) : []),
      ...(state.running === inputs.running ? [] : (["running"] as const)),
    ];
  },

  forewarn(state, inputs) {
    if (
      state.status === "Stopped" ||
      !inputs.running ||
      vmLifecycle.immutable.some((key) => !sameJson(state[key], inputs[key]))
    ) {
      return [];
    }
    const live = { config: state.expandedConfig, devices: state.expandedDevices };
    const obstacles = obstaclesToLiveUpdate(inputs.instanceType, live, expected(state, live, inputs), { cpuHotplug: true });
    const member = memberToMoveTo(inputs.target, state.location, state.evacuatedFrom);
    const all = member === undefined ? obstacles : [...obstacles, obstacleToMove(state.location, member)];
    return all.length === 0 ? [] : [forewarning(inputs.name, all, inputs.allowRestart)];
  },

  async create(context, inputs) {
    const id = `${inputs.project}/${inputs.name}`;
    let work = workOf(context, await context.lxd(inputs.cluster), inputs);
    const found = (await findInstance(work))?.value;
    if (found === undefined) {
      work = await make(context, work, inputs);
      return { id, outputs: await orUnfinished(work, id, () => startAndWait(work, inputs)) };
    }
    claim({
      what: nameOf(inputs),
      host: work.lxd.host,
      description: `a ${found.type} on ${found.location}, ${found.status}`,
      config: found.config,
      urn: context.urn,
      adopt: inputs.adopt,
    });
    if (found.type !== inputs.instanceType) {
      throw new RefusedError(
        `instanceType: instance "${inputs.name}" on ${work.lxd.host} is a ${found.type}, not a ${inputs.instanceType}; LXD cannot make one of ` +
          "the other. Set instanceType to what it is, or remove it first",
      );
    }
    const finish = async (): Promise<void> => {
      await untilCreated(work);
      await change(context, work, inputs);
      await startAndWait(work, inputs);
    };
    if (found.config[OWNER_KEY] === context.urn && context.urn !== "") {
      return { id, outputs: await orUnfinished(work, id, finish) };
    }
    await finish();
    return { id, outputs: outputsOf(await getInstanceWithState(work)) };
  },

  async read(context, _id, state) {
    const work = workOf(context, await context.lxd(state.cluster), state);
    const instance = await findInstanceShared(work);
    return instance === undefined
      ? undefined
      : { inputs: fromApi(instance, state), outputs: outputsOf(instance), mark: instance.config[OWNER_KEY] };
  },

  sought: () => ({}),

  async update(context, id, _state, inputs) {
    const work = workOf(context, await context.lxd(inputs.cluster), inputs);
    const { value: found } = await requireInstance(work);
    refuseTakenOver(nameOf(inputs), work.lxd.host, found.config[OWNER_KEY], context);
    await change(context, work, inputs);
    return orUnfinished(work, id, () => startAndWait(work, inputs));
  },

  async delete(context, _id, state) {
    const work = workOf(context, await context.lxd(state.cluster), state);
    const found = (await findInstance(work))?.value;
    if (found === undefined || isLeftToOthers(nameOf(state), work.lxd.host, found.config[OWNER_KEY], context)) {
      return;
    }
    if (sameConfigValue("", found.expanded_config["security.protection.delete"], "true")) {
      throw new RefusedError(
        `Instance "${state.name}" on ${work.lxd.host} is protected from being deleted (security.protection.delete), and nothing was ` +
          "touched. Take that key out of config, or out of the profile, run pulumi up, then remove it",
      );
    }
    if (!isStopped(found)) {
      await stopForGood(work, found);
    }
    work.progress("deleting");
    await deleteInstance(work);
  },
};

function nameOf({ project, name }: Pick<Inputs, "project" | "name">): string {
  return `Instance "${name}" of project "${project}"`;
}

function workOf(context: Context, lxd: InstanceWork["lxd"], { project, name }: Pick<Inputs, "project" | "name">): InstanceWork {
  return {
    ...{ lxd, project, name, deadline: context.deadline },
    progress: (text) => context.progress(text),
    warn: (text) => context.warn(text),
  };
}

/** Makes the instance, stopped, after a look at all that it needs. Answers with the API to go on with. */
async function make(context: Context, work: InstanceWork, inputs: Inputs): Promise<InstanceWork> {
  const { image, instanceType: type, target } = inputs;
  const { profiles } = await prepare(work, inputs);
  await requirePlace(work.lxd, target, type);
  await requireImage(work.lxd, work.project, image, type);
  work.progress(image.server === undefined ? "creating" : `creating; LXD gets the image from ${image.server}`);
  const { architecture: _, ...contents } = toApi(inputs, profiles, context.urn);
  return createInstanceOnce(work, { ...contents, type, image }, target, () => context.lxd(inputs.cluster));
}

async function change(context: Context, work: InstanceWork, inputs: Inputs): Promise<void> {
  const { profiles, expanded } = await prepare(work, inputs);
  const { value: live } = await requireInstance(work);
  await changeInstance(work, {
    contents: (current) => toApi(inputs, profiles, context.urn, current),
    expanded,
    running: inputs.running,
    member: memberToMoveTo(inputs.target, live.location, live.config[EVACUATED_FROM]),
    allowRestart: inputs.allowRestart,
  });
}

async function startAndWait(work: InstanceWork, inputs: Inputs): Promise<void> {
  if (!inputs.running) {
    return;
  }
  const { value: live } = await requireInstance(work);
  if (!isRunning(live)) {
    await startInstance(work, live);
  }
  await waitFor(work, inputs.waitFor);
}

/** Seconds for looking at what there is after the time for the work is over. */
const LAST_LOOK_SECONDS = 15;

/** Does what is left to do for an instance that exists. When that fails, the instance is kept in state as unfinished. */
async function orUnfinished(work: InstanceWork, id: string, finish: () => Promise<void>): Promise<Outputs> {
  try {
    await finish();
  } catch (error) {
    const late = work.lxd.within(new Deadline(LAST_LOOK_SECONDS, `Reading instance "${work.name}"`));
    const outputs = await getInstanceWithState({ ...work, lxd: late }).then(outputsOf, () => NOT_SEEN);
    throw new IncompleteError(
      id,
      outputs,
      `Instance "${work.name}" exists (${outputs.status}), but is not finished: ${messageOf(error)}. The next pulumi up goes on from here`,
      { cause: error },
    );
  }
  return outputsOf(await getInstanceWithState(work));
}

const NOT_SEEN: Outputs = {
  status: "Unknown",
  location: "",
  addresses: {},
  macAddresses: {},
  expandedConfig: {},
  expandedDevices: {},
  imageFingerprint: "",
};

/** What LXD tells, in the words of the state where they mean the same. */
export function fromApi(instance: Instance, state: State): Inputs {
  const { cluster, name, project, image, waitFor: conditions, allowRestart, adopt, timeouts } = state;
  const member = memberToMoveTo(state.target, instance.location, instance.config[EVACUATED_FROM]);
  return {
    ...{ cluster, name, project, image, waitFor: conditions, allowRestart, adopt, timeouts },
    ...specFromApi(instance, state),
    instanceType: instance.type === "container" ? "container" : "virtual-machine",
    target: member === undefined ? state.target : instance.location,
    running: isRunning(instance),
  };
}

function outputsOf(instance: Instance): Outputs {
  const evacuatedFrom = instance.config[EVACUATED_FROM];
  return {
    status: instance.status,
    location: instance.location,
    addresses: addressesOf(instance),
    macAddresses: macAddressesOf(instance),
    expandedConfig: Object.fromEntries(
      Object.entries(instance.expanded_config).filter(([key]) => !isServerMade(key) && !MAY_BE_SECRET.test(key)),
    ),
    expandedDevices: instance.expanded_devices,
    imageFingerprint: instance.config["volatile.base_image"] ?? "",
    ...(evacuatedFrom === undefined || evacuatedFrom === "" ? {} : { evacuatedFrom }),
  };
}

/** Free text of the user; it is a secret when he says so where he gives it, which nobody would know of a copy. */
const MAY_BE_SECRET = /^(cloud-init|environment|user)\./;

/**
 * A virtual machine, or a container, of a cluster.
 *
 * It is made stopped, then started, then waited for. When a wait fails it stays in state as unfinished, and the next `pulumi up`
 * goes on. Changes are made in place; one that it does not take while it runs is refused unless `allowRestart`.
 *
 * @example
 * ```typescript
 * const web = new LxdVm("web", {
 *   cluster,
 *   name: "web",
 *   image: { alias: "24.04", server: "https://cloud-images.ubuntu.com/releases/" },
 *   cpu: 2,
 *   memory: "4GiB",
 *   rootDisk: { size: "20GiB" },
 *   waitFor: [{ for: "ipv4", nic: "eth0" }],
 * });
 * export const address = web.addresses.apply(({ eth0 }) => eth0?.ipv4[0]);
 * ```
 */
export class LxdVm extends LxdResource {
  /** Name of the instance, and host name of the guest. */
  declare readonly name: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;
  /** Which kind of guest. */
  declare readonly instanceType: Output<"virtual-machine" | "container">;
  /** Profiles in their order. */
  declare readonly profiles: Output<string[]>;
  /** Whether it runs. */
  declare readonly running: Output<boolean>;
  /** LXD's word for what it does: Running, Ready, Stopped, Frozen, Error. */
  declare readonly status: Output<string>;
  /** Member on which it is; `"none"` on a standalone server. */
  declare readonly location: Output<string>;
  /** Addresses by name of the network device, without link-local ones; those there were when it was last looked at. */
  declare readonly addresses: Output<Record<string, NicAddresses>>;
  /** MAC addresses by name of the network device. */
  declare readonly macAddresses: Output<Record<string, string>>;
  /** Its config together with that of its profiles, without LXD's own keys, and without `cloud-init.`, `environment.` and `user.` keys. */
  declare readonly expandedConfig: Output<Record<string, string>>;
  /** Its devices together with those of its profiles. */
  declare readonly expandedDevices: Output<Record<string, Record<string, string>>>;
  /** SHA-256 fingerprint of the image that it was made from. */
  declare readonly imageFingerprint: Output<string>;
  /** Member from which an evacuation has moved it; LXD moves it back when that member is restored. */
  declare readonly evacuatedFrom: Output<string | undefined>;

  constructor(name: string, args: LxdVmArgs, opts?: CustomResourceOptions) {
    super("LxdVm", name, { ...args }, OUTPUTS, opts);
  }
}

const OUTPUTS = [
  "status",
  "location",
  "addresses",
  "macAddresses",
  "expandedConfig",
  "expandedDevices",
  "imageFingerprint",
  "evacuatedFrom",
];
