/**
 * An instance: a virtual machine or a container.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/instances/ (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, type Output, Resource } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs, whenKnown } from "../engine/resource";
import { differences, notCompared } from "../engine/state";
import type { LxdClient } from "../lxd/client/client";
import { listMembersShared } from "../lxd/cluster/cluster";
import { OWNER_KEY } from "../lxd/config";
import { inServersKeys } from "../lxd/instances/boot-keys";
import { changeInstance, stopForRemoval } from "../lxd/instances/change";
import { completed, startAndWait } from "../lxd/instances/completion";
import { createWanted, untilCreated } from "../lxd/instances/creation";
import { checkedDevicesSchema, sizeSchema } from "../lxd/instances/device-schema";
import { EVACUATED_FROM, isHeldByEvacuation, memberToMoveTo } from "../lxd/instances/evacuation";
import { DEFAULT_INSTANCE_TYPE, imageSourceSchema, instanceTypeSchema } from "../lxd/instances/image-source";
import {
  deleteInstance,
  findInstance,
  getInstanceWithState,
  type Instance,
  type InstanceWork,
  isRunning,
  isStopped,
  requireInstance,
  rootDiskOf,
  setInstanceConfig,
} from "../lxd/instances/instances";
import { isProtected, type Obstacle, refusalToDelete } from "../lxd/instances/obstacles";
import { type InstanceOutputs, outputsOf } from "../lxd/instances/outputs";
import { foreseenCreation, isToForesee, pendingWarning, warningsFromServer, warningsFromState } from "../lxd/instances/preview";
import { expandedIn, pendingChanges } from "../lxd/instances/running-config";
import { cloudInitSchema, cpuSchema, instanceConfigSchema, memorySchema } from "../lxd/instances/schemas";
import { findInstanceWithStateShared } from "../lxd/instances/shared-reads";
import { sameSpec, specFromApi } from "../lxd/instances/spec";
import { compareVolumes, partOfInstance } from "../lxd/instances/volumes-in-program";
import { waitConditionSchema } from "../lxd/instances/wait";
import { sameImage } from "../lxd/meaning";
import { instanceNameSchema, poolNameSchema, profileNameSchema, projectSchema, targetSchema } from "../lxd/names";
import { claim, isLeftToOthers, isUnfinishedWork, refuseTakenOver } from "../lxd/ownership";
import { forgetPlace } from "../lxd/placement/place";
import { faultsOfPlacement, placementSchema } from "../lxd/placement/schema";
import type { Deadline } from "../support/deadline";
import { sameJson } from "../support/equality";
import { havingChanged, RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs, DevicesArgs } from "./common-args";
import type { LxdImage } from "./lxd-image";
import type { CloudInitArgs, ImageSourceArgs, NicAddresses, PlacementArgs, RootDiskArgs, WaitConditionArgs } from "./lxd-vm-args";

/** Inputs of {@link LxdVm}. @internal */
export const vmSchema = z.strictObject({
  ...inCluster,
  name: instanceNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  instanceType: instanceTypeSchema.default(DEFAULT_INSTANCE_TYPE),
  image: imageSourceSchema,
  profiles: z.array(profileNameSchema).default(["default"]),
  cpu: cpuSchema.optional(),
  memory: memorySchema.optional(),
  rootDisk: z
    .strictObject({ size: sizeSchema.optional(), pool: poolNameSchema.optional() })
    .refine(({ size, pool }) => size !== undefined || pool !== undefined, "needs size or pool")
    .optional(),
  devices: checkedDevicesSchema.default({}),
  config: instanceConfigSchema.default({}),
  cloudInit: cloudInitSchema.optional(),
  target: z
    .union([z.literal("").transform(() => undefined), targetSchema], "is neither the name of a member nor @group")
    .optional(),
  placement: placementSchema.optional(),
  running: z.boolean().default(true),
  waitFor: z.array(waitConditionSchema).default([{ for: "running" }]),
  allowRestart: z.union([z.boolean(), z.literal("force")], 'must be true, false or "force"').default(false),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdVm}. */
export interface LxdVmArgs {
  /** The cluster, or standalone server, on which the instance runs. */
  cluster: ClusterInput;
  /**
   * Name of the instance, and host name of the guest. LXD 5.0.2 refuses one that begins with a digit. Another name replaces the
   * instance.
   */
  name: Input<string>;
  /** Project of the instance. Another project replaces the instance. @default "default" */
  project?: Input<string>;
  /** Purpose of the instance. @default "" */
  description?: Input<string>;
  /** Type of the instance. Another type replaces the instance. @default "virtual-machine" */
  instanceType?: Input<"virtual-machine" | "container">;
  /**
   * Image of the instance: an alias or fingerprint, or an {@link LxdImage}, for which the instance waits. Another image replaces
   * the instance; an alias that now points to a newer image does not, nor does a newer image of an LxdImage with `autoUpdate`.
   */
  image: Input<ImageSourceArgs> | LxdImage;
  /** Names of the profiles, in order: a later one overrides an earlier one. `[]` for none. @default ["default"] */
  profiles?: Input<Input<string>[]>;
  /**
   * Number of CPUs, or a set of the host's CPUs such as `"0-3"`.
   * @default the profiles' value, else LXD's 1 for a virtual machine
   */
  cpu?: Input<number | string>;
  /** Memory, such as `"4GiB"`. @default the profiles' value, else LXD's 1GiB for a virtual machine */
  memory?: Input<string>;
  /** Size or pool of the root disk; overrides the profiles. @default the profiles' root disk */
  rootDisk?: Input<RootDiskArgs>;
  /**
   * The instance's own devices. A device with the name of a profile's device replaces it as a whole; `{ type: "none" }` hides it.
   * @default {}
   */
  devices?: Input<DevicesArgs>;
  /**
   * The instance's own config, complete: keys that are not given are removed. Keys that have an argument here cannot be given.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /**
   * cloud-init's data for the guest. After a change cloud-init runs again at the next start; on Incus not if the image has templates of its
   * own that write the data only at creation. A preview says which. @default the profiles' data
   */
  cloudInit?: Input<CloudInitArgs>;
  /**
   * Name of the member on which the instance runs; another name moves it there. `@group` lets LXD choose a member of that cluster
   * group at creation. An instance that an evacuation moved stays where it is (see `evacuatedFrom`).
   * @default LXD chooses a member at creation
   */
  target?: Input<string>;
  /**
   * How a member is chosen when the instance is created, among all members, or those of the group in `target`. The instance stays there:
   * neither another load nor another `placement` moves it. Cannot be given with a member as `target`, nor for a standalone server.
   * @default LXD chooses the member with the fewest instances
   */
  placement?: Input<PlacementArgs>;
  /** Whether the instance runs. A stop or start by others is shown as drift. @default true */
  running?: Input<boolean>;
  /**
   * Conditions to wait for, in this order, after a create or update with `running: true`. The outputs of the same `pulumi up`
   * contain addresses only when a condition waits for them.
   * @default [{ for: "running" }]
   */
  waitFor?: Input<Input<WaitConditionArgs>[]>;
  /**
   * Whether the instance may be stopped and started for a change that it cannot take while it runs. With `false`, such a change
   * is refused. A clean stop gets half of the remaining time; with `"force"`, an instance that does not stop by then is stopped
   * by force.
   * @default false
   */
  allowRestart?: Input<boolean | "force">;
  /** Take over an existing instance of that name that others made, and change it to these arguments. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 900 for create and update, 300 for delete, 120 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof vmSchema>;

type Outputs = InstanceOutputs;

type State = Inputs & Outputs;

/** See {@link LxdVm}. @internal */
export const vmLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdVm",
  schemaVersion: 1,
  schema: vmSchema,
  configOf: "instance",
  immutable: ["name", "project", "instanceType", "image"],
  stableOutputs: {
    imageFingerprint: [],
    location: ["target"],
    macAddresses: ["devices", "profiles"],
    // A start, cloud-init or a config key may give the guest other addresses.
    addresses: ["devices", "profiles", "config", "cloudInit", "cpu", "memory", "rootDisk", "target", "running"],
  },
  timeouts: { create: 900, read: 120, update: 900, delete: 300 },

  checkTogether({ rootDisk, devices, placement, target }) {
    const root = rootDiskOf(devices)?.[0];
    const reason = `cannot be given together with devices.${root}`;
    const faults = faultsOfPlacement(placement, target);
    return rootDisk !== undefined && root !== undefined ? [{ property: "rootDisk", reason }, ...faults] : faults;
  },

  partOfProgram: partOfInstance,
  compareInProgram: compareVolumes,

  sameBy: {
    ...sameSpec,
    image: (_observed, wanted, state) => sameImage({ image: state.image, fingerprint: state.imageFingerprint }, wanted),
    // The instance lacks a change of its profiles, and a restart is allowed: an update restarts it.
    profiles: (observed, wanted, state, { running, allowRestart }) =>
      sameJson(observed, wanted) && !(running && allowRestart !== false && pendingIn(state).length > 0),
    target: (_observed, wanted, state) => memberToMoveTo(wanted, state.location, state.evacuatedFrom) === undefined,
    placement: notCompared,
    waitFor: notCompared,
    allowRestart: notCompared,
  },

  standingWarnings(state, inputs) {
    const pending = inputs.running ? pendingIn(state) : [];
    return pending.length === 0 ? [] : [pendingWarning(inputs.name, pending, inputs.allowRestart)];
  },

  previewWarnings(state, inputs) {
    if (differences(vmLifecycle, state, inputs).some((name) => vmLifecycle.immutable.includes(name))) {
      return isProtected(state.expandedConfig) ? [`pulumi up will refuse this. ${refusalToDelete(state.name)}`] : [];
    }
    return warningsFromState(state, inputs);
  },

  async previewCreation(context, given, isReplacement) {
    return isToForesee(given) ? foreseenCreation(await workOf(context, given), given, isReplacement) : [];
  },

  async previewEffects(context, given, former) {
    const work = await workOf(context, given);
    const warnings = await warningsFromServer(work, await withServersKeys(work, given));
    const isOnlyForNew = former !== undefined && !sameJson(former.placement, given.placement);
    return isOnlyForNew
      ? [...warnings, `${nameOf(given)} stays on its member: placement decides only where it is created`]
      : warnings;
  },

  replacementLoss: (state) =>
    `${nameOf(state)} will be removed with its disk, its snapshots and all their data, then created again. To keep it, restore the ` +
    "former value, or set the resource option protect or retainOnDelete",

  async create(context, given) {
    let work = await workOf(context, given);
    const inputs = await withServersKeys(work, given);
    const id = `${inputs.project}/${inputs.name}`;
    const reconnect = (within?: Deadline): Promise<LxdClient> => context.lxd(inputs.cluster, within);
    const found = (await findInstance(work))?.value;
    if (found === undefined) {
      work = await createWanted(work, inputs, context.mark, reconnect);
      return { id, outputs: await completed(work, undefined, reconnect, () => startAndWait(work, inputs, true)) };
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
        `${nameOf(inputs)} on ${work.lxd.host} is a ${found.type}, but instanceType is ${inputs.instanceType}. It cannot be converted. ` +
          "Change instanceType, or remove the instance first",
      );
    }
    const finish = async (): Promise<Instance | undefined> => {
      await untilCreated(work);
      await changeInstance(work, inputs, context.mark, await requireInstance(work), undefined);
      return havingChanged(() => startAndWait(work, inputs));
    };
    if (isUnfinishedWork(found.config[OWNER_KEY], context.urn)) {
      return { id, outputs: await completed(work, undefined, reconnect, finish) };
    }
    await finish();
    return { id, outputs: outputsOf(await getInstanceWithState(work), undefined) };
  },

  async read(context, _id, state) {
    const work = await workOf(context, state);
    const instance = await findInstanceWithStateShared(work);
    if (instance === undefined) {
      return undefined;
    }
    const isHeld = await isHeldByEvacuation(instance, () => listMembersShared(work.lxd));
    return {
      inputs: { ...fromApi(instance, state), ...(isHeld && { running: state.running }) },
      outputs: { ...outputsOf(instance, state), ...(isHeld && { evacuatedFrom: instance.location }) },
      mark: instance.config[OWNER_KEY],
    };
  },

  async update(context, _id, state, given) {
    const work = await workOf(context, given);
    const inputs = await withServersKeys(work, given);
    const found = await requireInstance(work);
    refuseTakenOver(nameOf(inputs), work.lxd.host, found.value.config[OWNER_KEY], context);
    await changeInstance(work, inputs, context.mark, found, state);
    const reconnect = (within: Deadline): Promise<LxdClient> => context.lxd(inputs.cluster, within);
    return completed(work, state, reconnect, () => startAndWait(work, inputs));
  },

  async mark(context, _id, state) {
    const work = await workOf(context, state);
    await setInstanceConfig(work, { [OWNER_KEY]: context.mark }, ({ config }) =>
      refuseTakenOver(nameOf(state), work.lxd.host, config[OWNER_KEY], context),
    );
  },

  async delete(context, _id, state) {
    const work = await workOf(context, state);
    const found = (await findInstance(work))?.value;
    if (found === undefined || isLeftToOthers(nameOf(state), work.lxd.host, found.config[OWNER_KEY], context)) {
      return;
    }
    if (isProtected(found.expanded_config)) {
      throw new RefusedError(refusalToDelete(state.name, work.lxd.host));
    }
    if (!isStopped(found)) {
      await stopForRemoval(work, found);
    }
    work.progress("deleting");
    await deleteInstance(work);
    await forgetPlace(work);
  },
};

/** Returns the changes that the instance takes only at its next start. */
function pendingIn(state: State): Obstacle[] {
  return pendingChanges(state.instanceType, state, expandedIn(state));
}

function nameOf({ project, name }: Pick<Inputs, "project" | "name">): string {
  return `Instance "${name}" of project "${project}"`;
}

async function workOf(context: Context, { cluster, project, name }: Inputs): Promise<InstanceWork> {
  const { deadline, progress, warn } = context;
  return { lxd: await context.lxd(cluster), project, name, deadline, progress, warn };
}

/** The inputs with the config keys that the server has. */
async function withServersKeys({ lxd }: Pick<InstanceWork, "lxd">, inputs: Inputs): Promise<Inputs> {
  return { ...inputs, config: await inServersKeys(lxd, inputs.config) };
}

/** The inputs that LXD reports, spelled as in state where the meaning is the same. @internal */
export function fromApi(instance: Instance, state: State): Partial<Inputs> {
  const member = memberToMoveTo(state.target, instance.location, instance.config[EVACUATED_FROM]);
  return {
    ...specFromApi(instance, state),
    instanceType: instance.type === "container" ? "container" : "virtual-machine",
    target: member === undefined ? state.target : instance.location,
    running: isRunning(instance),
  };
}

/**
 * A virtual machine or a container of a cluster.
 *
 * LXD makes the instance stopped; then it is started, and the conditions of `waitFor` are awaited. When a wait fails, state keeps
 * the instance as unfinished and the next `pulumi up` continues. Changes are made in place. A change that the instance cannot
 * take while it runs is refused unless `allowRestart` is set.
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
  /** Type of the instance. */
  declare readonly instanceType: Output<"virtual-machine" | "container">;
  /** Names of the profiles, in order. */
  declare readonly profiles: Output<string[]>;
  /** Whether the instance runs. */
  declare readonly running: Output<boolean>;
  /** LXD's status of the instance: Running, Ready, Stopped, Frozen or Error. */
  declare readonly status: Output<string>;
  /** Name of the member on which the instance is; `"none"` on a standalone server. */
  declare readonly location: Output<string>;
  /** Whether LXD deletes the instance with its disk as soon as it stops. This resource never stops such an instance. */
  declare readonly ephemeral: Output<boolean>;
  /** Addresses by name of the network device, without link-local ones, as of the last read. */
  declare readonly addresses: Output<Record<string, NicAddresses>>;
  /** MAC addresses by name of the network device. */
  declare readonly macAddresses: Output<Record<string, string>>;
  /** Config of the instance and its profiles, without LXD's own keys and without possible secrets. */
  declare readonly expandedConfig: Output<Record<string, string>>;
  /** Devices of the instance and its profiles. */
  declare readonly expandedDevices: Output<Record<string, Record<string, string>>>;
  /** Time of the last start, in LXD's format. */
  declare readonly startedAt: Output<string>;
  /** `limits.memory` at the last start; empty for LXD's default. */
  declare readonly bootMemory: Output<string>;
  /**
   * Config and devices with which the instance runs, while they differ from `expandedConfig` and `expandedDevices`: its profiles
   * changed, and it takes the change only at its next start.
   */
  declare readonly runsWith: Output<
    { config: Record<string, string>; devices: Record<string, Record<string, string>> } | undefined
  >;
  /** SHA-256 fingerprint of the image from which the instance was made. */
  declare readonly imageFingerprint: Output<string>;
  /**
   * Member from which an evacuation moved the instance, or on which it stopped the instance. LXD moves it back, or starts it,
   * when that member is restored.
   */
  declare readonly evacuatedFrom: Output<string | undefined>;

  constructor(name: string, args: LxdVmArgs, opts?: CustomResourceOptions) {
    const image = Resource.isInstance(args.image) ? referenceTo(args.image) : args.image;
    super("LxdVm", name, { ...args, image }, OUTPUTS, opts);
  }
}

/** The image as it is now, and as it was when the instance may have been made from it. */
function referenceTo({ fingerprint, formerFingerprints }: LxdImage): object {
  const former = whenKnown(formerFingerprints).apply((all) => (all === undefined || all.length === 0 ? undefined : all));
  return { fingerprint, formerFingerprints: former };
}

const OUTPUTS = [
  "status",
  "location",
  "ephemeral",
  "addresses",
  "macAddresses",
  "expandedConfig",
  "expandedDevices",
  "imageFingerprint",
  "startedAt",
  "bootMemory",
  "runsWith",
  "evacuatedFrom",
];
