/**
 * A profile: config and devices that instances share.
 * @see https://documentation.ubuntu.com/lxd/latest/profiles/ (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, mergeOptions, type Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { configSchema, devicesForState, forState, OWNER_KEY, sameConfig, sameDevices } from "../lxd/config";
import { inProgramsKeys, inServersKeys } from "../lxd/instances/boot-keys";
import { checkedDevicesSchema } from "../lxd/instances/device-values";
import { profileNameSchema, projectSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import {
  changeProfile,
  describeForeseen,
  describeWaiting,
  foreseeChange,
  stillWaiting,
  type Waiting,
} from "../lxd/profile-changes";
import {
  createProfile,
  deleteProfile,
  type FoundProfile,
  findProfile,
  findProfileShared,
  type Profile,
  type ProfilePut,
  replaceProfile,
} from "../lxd/profiles";
import { hasCode, IncompleteError, messageOf, RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs, DevicesArgs } from "./common-args";

/** Inputs of {@link LxdProfile}. */
const profileSchema = z.strictObject({
  ...inCluster,
  name: profileNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  config: configSchema.default({}),
  devices: checkedDevicesSchema.default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdProfile}. */
export interface LxdProfileArgs {
  /** The cluster, or standalone server, that the profile belongs to. */
  cluster: ClusterInput;
  /** Name of the profile. `default` is taken over as it is and restored on delete. */
  name: Input<string>;
  /** Project of the profile. @default "default" */
  project?: Input<string>;
  /** What the profile is for. @default "" */
  description?: Input<string>;
  /** Config, all of it: keys that are not given here are removed from the profile. @default {} */
  config?: Input<ConfigArgs>;
  /** Devices, all of them. @default {} */
  devices?: Input<DevicesArgs>;
  /** Take over a profile of that name that others made. @default false */
  adopt?: Input<boolean>;
  /** Seconds for each call. */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof profileSchema>;

interface Outputs {
  /** Contents that an adopted `default` profile had before, restored on delete. */
  original?: ProfilePut;
  /** Instances that run on without a change of it, until they are next started. */
  waiting?: readonly Waiting[];
}

type State = Inputs & Outputs;

/**
 * See {@link LxdProfile}.
 * @internal
 */
export const profileLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdProfile",
  schemaVersion: 1,
  schema: profileSchema,
  immutable: ["name", "project"],
  timeouts: { create: 120, read: 60, update: 300, delete: 120 },

  sameBy: { config: sameConfig, devices: sameDevices },

  replacementLoss: ({ name }) =>
    `Profile "${name}" will be removed, then made again. LXD refuses that as long as an instance uses it`,

  standingWarnings: ({ waiting = [] }, { name }) => (waiting.length === 0 ? [] : [describeWaiting(name, waiting)]),

  async previewEffects(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const profile = await findProfileShared(lxd, inputs.project, inputs.name);
    return profile === undefined
      ? []
      : describeForeseen(inputs.name, await foreseeChange(lxd, profile, await toServer(lxd, inputs, context.mark)));
  },

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const found = await findProfile(lxd, inputs.project, inputs.name);
    const id = `${inputs.project}/${inputs.name}`;
    if (found === undefined) {
      await createProfile(lxd, inputs.project, inputs.name, await toServer(lxd, inputs, context.mark));
      return { id, outputs: {} };
    }
    const isDefault = inputs.name === "default";
    claim({
      what: nameOf(inputs),
      host: lxd.host,
      description: describe(found.value),
      config: found.value.config,
      urn: context.urn,
      adopt: inputs.adopt || (isDefault && found.value.config[OWNER_KEY] === undefined),
    });
    const outputs: Outputs = isDefault ? { original: contentsOf(found.value) } : {};
    try {
      return { id, outputs: await save(context, lxd, id, inputs, found, outputs) };
    } catch (error) {
      if (outputs.original === undefined || hasCode(error, "incomplete")) {
        throw error;
      }
      // The change may have arrived all the same, and then nothing but state would know what was there before.
      throw new IncompleteError(id, outputs, messageOf(error), { cause: error });
    }
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const profile = await findProfileShared(lxd, state.project, state.name);
    if (profile === undefined) {
      return undefined;
    }
    const waiting = await stillWaiting(lxd, profile, state.waiting ?? []);
    return { inputs: fromApi(profile, state), outputs: outputsOf(state, waiting), mark: profile.config[OWNER_KEY] };
  },

  async update(context, id, state, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const found = await findProfile(lxd, inputs.project, inputs.name);
    if (found === undefined) {
      throw new RefusedError(
        `Profile "${inputs.name}" no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
      );
    }
    refuseTakenOver(nameOf(inputs), lxd.host, found.value.config[OWNER_KEY], context);
    return save(context, lxd, id, inputs, found, outputsOf(state, state.waiting ?? []));
  },

  async mark(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const found = await findProfile(lxd, state.project, state.name);
    if (found !== undefined) {
      refuseTakenOver(nameOf(state), lxd.host, found.value.config[OWNER_KEY], context);
      await replaceProfile(lxd, state.project, state.name, toApi(found.value, context.mark), found);
    }
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const found = await findProfile(lxd, state.project, state.name);
    if (found === undefined || isLeftToOthers(nameOf(state), lxd.host, found.value.config[OWNER_KEY], context)) {
      return;
    }
    if (state.name === "default") {
      const { waiting, lost } = await changeProfile(lxd, state.project, state.name, state.original ?? EMPTY, found);
      if (lost !== undefined) {
        throw lost;
      }
      if (waiting.length > 0) {
        context.warn(describeWaiting(state.name, waiting));
      }
    } else {
      await deleteProfile(lxd, state.project, state.name);
    }
  },
};

function nameOf({ project, name }: Pick<Inputs, "project" | "name">): string {
  return `Profile "${name}" of project "${project}"`;
}

/** A profile that LXD applies to instances by default, and that cannot be removed, but can be emptied. */
const EMPTY: ProfilePut = { description: "", config: {}, devices: {} };

/** What LXD is told. */
function toApi(inputs: Pick<Inputs, "description" | "config" | "devices">, mark: string): ProfilePut {
  const owner = mark === "" ? {} : { [OWNER_KEY]: mark };
  return { description: inputs.description, config: { ...inputs.config, ...owner }, devices: inputs.devices };
}

/** {@link toApi} in the keys that the server has. */
async function toServer(lxd: LxdClient, inputs: Inputs, mark: string): Promise<ProfilePut> {
  return toApi({ ...inputs, config: await inServersKeys(lxd, inputs.config) }, mark);
}

/** What LXD tells, spelled as in state where it means the same. */
function fromApi(profile: Profile, state: State): Partial<Inputs> {
  return {
    description: profile.description,
    config: forState(state.config, inProgramsKeys(state.config, profile.config)),
    devices: devicesForState(state.devices, profile.devices),
  };
}

function outputsOf({ original }: Outputs, waiting: readonly Waiting[]): Outputs {
  return { ...(original === undefined ? {} : { original }), ...(waiting.length === 0 ? {} : { waiting }) };
}

function contentsOf({ description, config, devices }: Profile): ProfilePut {
  const { [OWNER_KEY]: _, ...own } = config;
  return { description, config: own, devices };
}

function describe(profile: Profile): string {
  const keys = [...Object.keys(profile.config), ...Object.keys(profile.devices)];
  return `it holds ${keys.length === 0 ? "nothing" : keys.join(", ")}; used by ${profile.used_by.length} instances`;
}

/**
 * Saves the profile. LXD saves it even when instances that use it do not take the change. The same contents once more would be no change,
 * and LXD would offer them nothing: until they are started again, they are kept in state as waiting.
 * @param known - What is known until now.
 */
async function save(
  context: Context,
  lxd: LxdClient,
  id: string,
  inputs: Inputs,
  found: FoundProfile,
  known: Outputs,
): Promise<Outputs> {
  const { project, name } = inputs;
  const body = await toServer(lxd, inputs, context.mark);
  const { waiting, refusals, lost } = await changeProfile(lxd, project, name, body, found);
  if (lost !== undefined) {
    throw new IncompleteError(id, outputsOf(known, waiting), messageOf(lost), { cause: lost });
  }
  const earlier = await stillWaiting(lxd, { name, ...body }, known.waiting ?? []);
  const isEarlier = (each: Waiting): boolean =>
    earlier.some((other) => other.name === each.name && other.project === each.project);
  const outputs = outputsOf(known, [...earlier, ...waiting.filter((each) => !isEarlier(each))]);
  if (waiting.length === 0) {
    return outputs;
  }
  if (refusals.length > 0) {
    const said = refusals.map((refusal) => `  - ${refusal}`).join("\n");
    throw new IncompleteError(id, outputs, `${describeWaiting(name, waiting)}. LXD said:\n${said}`);
  }
  context.warn(describeWaiting(name, waiting));
  return outputs;
}

/**
 * A profile of a cluster.
 *
 * @example
 * ```typescript
 * new LxdProfile("web", {
 *   cluster,
 *   name: "web",
 *   config: { "limits.memory": "4GiB" },
 *   devices: { root: { type: "disk", path: "/", pool: "default" } },
 * });
 * ```
 */
export class LxdProfile extends LxdResource {
  /** Name of the profile. */
  declare readonly name: Output<string>;
  /** Project of the profile. */
  declare readonly project: Output<string>;
  /** What the profile is for. */
  declare readonly description: Output<string>;
  /** Config, without what LXD or this package adds. */
  declare readonly config: Output<Record<string, string>>;
  /** Devices by name. */
  declare readonly devices: Output<Record<string, Record<string, string>>>;
  /** Instances that did not take a change of the profile, and run on without it until they are next started; absent when there are none. */
  declare readonly waiting: Output<{ project: string; name: string }[] | undefined>;

  constructor(name: string, args: LxdProfileArgs, opts?: CustomResourceOptions) {
    // What others kept in the profile "default", such as cloud-init, may well be secret.
    super(
      "LxdProfile",
      name,
      { ...args },
      ["original", "waiting"],
      mergeOptions(opts, { additionalSecretOutputs: ["original"] }),
    );
  }
}
