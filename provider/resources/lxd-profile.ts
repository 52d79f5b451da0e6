/**
 * A profile: config and devices that instances share.
 * @see https://documentation.ubuntu.com/lxd/latest/profiles/ (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, mergeOptions, type Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/bookkeeping";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { configSchema, devicesInWordsOf, inWordsOf, OWNER_KEY, sameConfig, sameDevices } from "../lxd/config";
import { checkedDevicesSchema } from "../lxd/instances/device-values";
import { objectNameSchema, projectSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import {
  createProfile,
  deleteProfile,
  type FoundProfile,
  findProfile,
  findProfileShared,
  type Profile,
  type ProfilePut,
  refusalsOfSavedProfile,
  replaceProfile,
} from "../lxd/profiles";
import { hasCode, IncompleteError, messageOf, RefusedError, replyOf } from "../support/errors";
import type { ClusterConnectionArgs, ConfigArgs, DevicesArgs } from "./common-args";

/** Inputs of {@link LxdProfile}. */
const profileSchema = z.strictObject({
  ...inCluster,
  name: objectNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  config: configSchema.default({}),
  devices: checkedDevicesSchema.default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdProfile}. */
export interface LxdProfileArgs {
  /** The cluster, or standalone server, that the profile belongs to. */
  cluster: Input<ClusterConnectionArgs>;
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
}

type State = Inputs & Outputs;

/** See {@link LxdProfile}. */
export const profileLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdProfile",
  schemaVersion: 1,
  schema: profileSchema,
  immutable: ["name", "project"],
  timeouts: { create: 120, read: 60, update: 300, delete: 120 },

  diff(state, inputs) {
    const changed: (keyof Inputs)[] = [];
    for (const key of ["name", "project", "description"] as const) {
      if (state[key] !== inputs[key]) {
        changed.push(key);
      }
    }
    if (!sameConfig(state.config, inputs.config)) {
      changed.push("config");
    }
    if (!sameDevices(state.devices, inputs.devices)) {
      changed.push("devices");
    }
    return changed;
  },

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const found = await findProfile(lxd, inputs.project, inputs.name);
    const id = `${inputs.project}/${inputs.name}`;
    if (found === undefined) {
      await createProfile(lxd, inputs.project, inputs.name, toApi(inputs, context.urn));
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
      await save(context, lxd, id, inputs, found, outputs);
    } catch (error) {
      if (outputs.original === undefined || hasCode(error, "incomplete")) {
        throw error;
      }
      // The change may have arrived all the same, and then nothing but state would know what was there before.
      throw new IncompleteError(id, outputs, messageOf(error), { cause: error });
    }
    return { id, outputs };
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const profile = await findProfileShared(lxd, state.project, state.name);
    if (profile === undefined) {
      return undefined;
    }
    return { inputs: fromApi(profile, state), outputs: outputsOf(state), mark: profile.config[OWNER_KEY] };
  },

  sought: () => ({}),

  async update(context, id, state, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const found = await findProfile(lxd, inputs.project, inputs.name);
    if (found === undefined) {
      throw new RefusedError(
        `Profile "${inputs.name}" no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
      );
    }
    refuseTakenOver(nameOf(inputs), lxd.host, found.value.config[OWNER_KEY], context);
    await save(context, lxd, id, inputs, found, outputsOf(state));
    return outputsOf(state);
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const found = await findProfile(lxd, state.project, state.name);
    if (found === undefined || isLeftToOthers(nameOf(state), lxd.host, found.value.config[OWNER_KEY], context)) {
      return;
    }
    if (state.name === "default") {
      await replaceProfile(lxd, state.project, state.name, state.original ?? EMPTY, found);
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
function toApi(inputs: Pick<Inputs, "description" | "config" | "devices">, urn: string): ProfilePut {
  const owner = urn === "" ? {} : { [OWNER_KEY]: urn };
  return { description: inputs.description, config: { ...inputs.config, ...owner }, devices: inputs.devices };
}

/** What LXD tells, in the words of the state where they mean the same. */
function fromApi(profile: Profile, state: State): Inputs {
  const { cluster, name, project, adopt, timeouts } = state;
  return {
    cluster,
    name,
    project,
    adopt,
    timeouts,
    description: profile.description,
    config: inWordsOf(state.config, profile.config),
    devices: devicesInWordsOf(state.devices, profile.devices),
  };
}

function outputsOf(state: State): Outputs {
  return state.original === undefined ? {} : { original: state.original };
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
 * Saves the profile. LXD saves it even when instances that use it do not take the change: then they are told one by one. The same contents
 * once more would be no change, and LXD would offer them nothing.
 */
async function save(
  context: Context,
  lxd: LxdClient,
  id: string,
  inputs: Inputs,
  found: FoundProfile,
  outputs: Outputs,
): Promise<void> {
  try {
    await replaceProfile(lxd, inputs.project, inputs.name, toApi(inputs, context.urn), found);
  } catch (error) {
    const refusals = refusalsOfSavedProfile(replyOf(error));
    if (refusals === undefined) {
      throw error;
    }
    throw new IncompleteError(
      id,
      outputs,
      `Profile "${inputs.name}" is saved, but ${refusals.length} instances that use it did not take the change:\n` +
        `${refusals.map((refusal) => `  - ${refusal}`).join("\n")}\nThey take it when they are next started. Stop and start them, or undo the change`,
      { cause: error },
    );
  }
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

  constructor(name: string, args: LxdProfileArgs, opts?: CustomResourceOptions) {
    // What others kept in the profile "default", such as cloud-init, may well be secret.
    super("LxdProfile", name, { ...args }, ["original"], mergeOptions(opts, { additionalSecretOutputs: ["original"] }));
  }
}
