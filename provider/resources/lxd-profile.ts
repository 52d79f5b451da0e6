/**
 * A profile: config and devices that instances share.
 * @see https://documentation.ubuntu.com/lxd/latest/profiles/ (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, mergeOptions, type Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import {
  configSchema,
  devicesForState,
  forState,
  isServerMade,
  OWNER_KEY,
  ownerKey,
  sameConfig,
  sameDevices,
} from "../lxd/config";
import { inProgramsKeys, inServersKeys } from "../lxd/instances/boot-keys";
import { checkedDevicesSchema } from "../lxd/instances/device-schema";
import { profileNameSchema, projectSchema } from "../lxd/names";
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
import { hasCode, IncompleteError, messageOf } from "../support/errors";
import type { ClusterInput, ConfigArgs, DevicesArgs } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

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
  /**
   * Name of the profile. `default` needs no `adopt`; its former contents are restored on delete. Another name replaces the
   * profile.
   */
  name: Input<string>;
  /** Project of the profile. Another project replaces the profile. @default "default" */
  project?: Input<string>;
  /** Purpose of the profile. @default "" */
  description?: Input<string>;
  /** Config, complete: keys that are not given are removed from the profile. @default {} */
  config?: Input<ConfigArgs>;
  /** Devices by name, complete: devices that are not given are removed from the profile. @default {} */
  devices?: Input<DevicesArgs>;
  /** Take over a profile of that name that others made. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 300 for update, 120 for create and delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof profileSchema>;

interface Outputs {
  /** Former contents of an adopted `default` profile, restored on delete. */
  original?: ProfilePut | undefined;
  /** Instances that run without the profile's last change until their next start. */
  waiting?: readonly Waiting[] | undefined;
}

/** See {@link LxdProfile}. @internal */
export const profileLifecycle = markedObjectLifecycle<Inputs, Outputs, FoundProfile>({
  kind: "LxdProfile",
  schemaVersion: 1,
  schema: profileSchema,
  configOf: "instance",
  immutable: ["name", "project"],
  timeouts: { create: 120, read: 60, update: 300, delete: 120 },

  sameBy: { config: sameConfig, devices: sameDevices },

  replacementLoss: ({ name }) =>
    `Profile "${name}" will be removed, then created again. That is refused while an instance uses it`,

  standingWarnings: ({ waiting = [] }, { name }) => (waiting.length === 0 ? [] : [describeWaiting(name, waiting)]),

  async previewEffects(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const profile = await findProfileShared(lxd, inputs.project, inputs.name);
    return profile === undefined
      ? []
      : describeForeseen(inputs.name, await foreseeChange(lxd, profile, await toServer(lxd, inputs, context.mark)));
  },

  nameOf,
  idOf: ({ project, name }) => `${project}/${name}`,
  find: (lxd, { project, name }) => findProfile(lxd, project, name),
  findShared: (lxd, { project, name }) => findProfileShared(lxd, project, name),
  describe({ config, devices, used_by }) {
    const keys = [...Object.keys(config).filter((key) => !isServerMade(key)), ...Object.keys(devices)];
    return `it holds ${keys.join(", ") || "nothing"}; used by ${used_by.length} instances`;
  },
  isFree: ({ config }, { name }) => name === "default" && config[OWNER_KEY] === undefined,

  async observe(lxd, profile, state) {
    const waiting = await stillWaiting(lxd, profile, state.waiting ?? []);
    const inputs = {
      description: profile.description,
      config: forState(state.config, inProgramsKeys(state.config, profile.config)),
      devices: devicesForState(state.devices, profile.devices),
    };
    return { inputs, outputs: outputsOf(state, waiting) };
  },

  async save(context, lxd, inputs, found, state) {
    const { project, name } = inputs;
    if (found === undefined) {
      await createProfile(lxd, project, name, await toServer(lxd, inputs, context.mark));
      return {};
    }
    const known: Outputs = state ?? (name === "default" ? { original: contentsOf(found.value) } : {});
    try {
      return await change(context, lxd, inputs, found, known);
    } catch (error) {
      if (state !== undefined || known.original === undefined || hasCode(error, "incomplete")) {
        throw error;
      }
      // LXD may have made the change. Then only state has the former contents.
      throw new IncompleteError(`${project}/${name}`, known, messageOf(error), { cause: error });
    }
  },

  writeMark: (lxd, { project, name }, found, mark) => replaceProfile(lxd, project, name, (live) => toApi(live, mark), found),

  async remove(context, lxd, { project, name, original = { description: "", config: {}, devices: {} } }, found) {
    if (name !== "default") {
      await deleteProfile(lxd, project, name);
      return;
    }
    // LXD cannot remove this profile.
    const { waiting, lost } = await changeProfile(lxd, project, name, original, found);
    if (lost !== undefined) {
      throw lost;
    }
    if (waiting.length > 0) {
      context.warn(describeWaiting(name, waiting));
    }
  },
});

function nameOf({ project, name }: Pick<Inputs, "project" | "name">): string {
  return `Profile "${name}" of project "${project}"`;
}

function toApi(inputs: Pick<Inputs, "description" | "config" | "devices">, mark: string): ProfilePut {
  return {
    description: inputs.description,
    config: { ...inputs.config, ...ownerKey(mark) },
    devices: inputs.devices,
  };
}

/** {@link toApi} with the config keys that the server has. */
async function toServer(lxd: LxdClient, inputs: Inputs, mark: string): Promise<ProfilePut> {
  return toApi({ ...inputs, config: await inServersKeys(lxd, inputs.config) }, mark);
}

function outputsOf({ original }: Outputs, waiting: readonly Waiting[]): Outputs {
  return { original, waiting: waiting.length === 0 ? undefined : waiting };
}

function contentsOf({ description, config, devices }: Profile): ProfilePut {
  const { [OWNER_KEY]: _, ...own } = config;
  return { description, config: own, devices };
}

/**
 * Saves the profile. LXD saves it even when instances that use it do not take the change. Sending the same contents again is no
 * change, and LXD would not offer it to them again. State keeps these instances as waiting until their next start.
 * @param known - Outputs so far.
 */
async function change(context: Context, lxd: LxdClient, inputs: Inputs, found: FoundProfile, known: Outputs): Promise<Outputs> {
  const { project, name } = inputs;
  const id = `${project}/${name}`;
  const body = await toServer(lxd, inputs, context.mark);
  const { waiting, refusals, lost } = await changeProfile(lxd, project, name, body, found);
  if (lost !== undefined) {
    throw new IncompleteError(id, outputsOf(known, waiting), messageOf(lost), { cause: lost });
  }
  const earlier = await stillWaiting(lxd, { name, ...body }, known.waiting ?? []);
  const isEarlier = (each: Waiting): boolean =>
    earlier.some((other) => other.name === each.name && other.project === each.project);
  const outputs = outputsOf(known, [...earlier, ...waiting.filter((each) => !isEarlier(each))]);
  const said = refusals.map((refusal) => `  - ${refusal}`).join("\n");
  if (waiting.length === 0) {
    if (refusals.length > 0) {
      context.warn(`${nameOf(inputs)} was changed, although ${lxd.title} reported a failure:\n${said}`);
    }
    return outputs;
  }
  if (refusals.length > 0) {
    throw new IncompleteError(id, outputs, `${describeWaiting(name, waiting)}. ${lxd.names.name} said:\n${said}`);
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
  /** Purpose of the profile. */
  declare readonly description: Output<string>;
  /** Config, without what LXD or this package adds. */
  declare readonly config: Output<Record<string, string>>;
  /** Devices by name. */
  declare readonly devices: Output<Record<string, Record<string, string>>>;
  /**
   * Instances that did not take a change of the profile and run without it until their next start. `undefined` when there are
   * none.
   */
  declare readonly waiting: Output<{ project: string; name: string }[] | undefined>;

  constructor(name: string, args: LxdProfileArgs, opts?: CustomResourceOptions) {
    // The former contents of the profile "default", such as cloud-init texts, may be secret.
    super(
      "LxdProfile",
      name,
      { ...args },
      ["original", "waiting"],
      mergeOptions(opts, { additionalSecretOutputs: ["original"] }),
    );
  }
}
