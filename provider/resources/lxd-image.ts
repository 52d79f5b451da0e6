/**
 * An image in a cluster's own store, from local files or from an image server. LXD copies it to the members.
 * @see https://documentation.ubuntu.com/lxd/latest/image-handling/ (LXD 5.0 to 6)
 */
import { all, type CustomResourceOptions, type Input, type Output, output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { CheckFailure, Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { notCompared } from "../engine/state";
import type { LxdClient, Tagged } from "../lxd/client/client";
import { type Config, configValueSchema, isServerMade, OWNER_KEY, sameConfig } from "../lxd/config";
import { type Claimant, pointAlias, refuseTakenAliases, removeAliases } from "../lxd/images/aliases";
import { fingerprintOf } from "../lxd/images/files";
import {
  changeImage,
  copyImage,
  deleteImage,
  findImage,
  findImageShared,
  type Image,
  listFingerprints,
  uploadImage,
} from "../lxd/images/images";
import { DEFAULT_INSTANCE_TYPE, instanceTypeSchema, serverImageSchema } from "../lxd/instances/image-source";
import type { InstanceType } from "../lxd/instances/instances";
import { sameImage } from "../lxd/meaning";
import { imageAliasSchema, projectSchema } from "../lxd/names";
import { explainOwnMark, isLeftToOthers, isOwnMark, isUnfinishedWork, refuseTakenOver, takenOverBy } from "../lxd/ownership";
import { sameJson, sameSet } from "../support/equality";
import { afterChange, hasCode, IncompleteError, messageOf, RefusedError, replyOf } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";
import type { ImageSourceArgs } from "./lxd-vm-args";

const propertiesSchema = z.record(z.string().min(1), configValueSchema).superRefine((properties, context) => {
  for (const key of Object.keys(properties).filter(isServerMade)) {
    context.addIssue({ code: "custom", path: [key], message: "is written by LXD or by this package, and cannot be set" });
  }
});

/**
 * Inputs of {@link LxdImage}.
 * @internal
 */
export const imageSchema = z.strictObject({
  ...inCluster,
  project: projectSchema,
  metadataPath: z.string().min(1).optional(),
  rootfsPath: z.string().min(1).optional(),
  sourceFingerprint: z.string().optional(),
  source: serverImageSchema.optional(),
  instanceType: instanceTypeSchema.optional(),
  aliases: z.array(imageAliasSchema).default([]),
  public: z.boolean().default(false),
  properties: propertiesSchema.default({}),
  adopt: z.boolean().default(false),
});

/**
 * Arguments of {@link LxdImage}: either `metadataPath` (with `rootfsPath`, unless it is a unified tarball) or `source`.
 */
export interface LxdImageArgs {
  /** The cluster, or standalone server, that stores the image. */
  cluster: ClusterInput;
  /** Project of the image. @default "default" */
  project?: Input<string>;
  /**
   * Path of the metadata tarball or of a unified tarball, on the machine that runs Pulumi; `~` is the home directory.
   */
  metadataPath?: Input<string>;
  /** Path of the root file system: squashfs or tarball for containers, qcow2 for virtual machines. */
  rootfsPath?: Input<string>;
  /**
   * Image of an image server, instead of local files. Needs `server`, which the cluster's hosts must reach. The alias
   * is resolved once, when the image is copied.
   */
  source?: Input<ImageSourceArgs>;
  /**
   * Type of instances that the image of `source` is for; local files state it themselves.
   * @default "virtual-machine", as for {@link LxdVm}
   */
  instanceType?: Input<"virtual-machine" | "container">;
  /** Aliases that point to the image. Its other aliases are left as they are. @default [] */
  aliases?: Input<Input<string>[]>;
  /** Whether untrusted clients can see the image. @default false */
  public?: Input<boolean>;
  /** Properties, in addition to the image's own. @default {} */
  properties?: Input<ConfigArgs>;
  /**
   * Allow changes to the properties of an existing image with the same content, and take aliases from other images. An
   * existing image is used with or without this, and stays when this resource is removed.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 1800 for create, 300 for update and delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof imageSchema>;

interface Outputs {
  /** SHA-256 fingerprint of the image. */
  fingerprint: string;
  /** Whether this resource brought the image to the cluster and removes it. */
  created: boolean;
  /** Aliases that this resource created or moved. */
  ownAliases: string[];
  type: string;
  architecture: string;
  sizeBytes: number;
}

type State = Inputs & Outputs;

/** Prefix by which the program reports to `check` that a file cannot be read. */
const UNREADABLE = "unreadable ";

/**
 * See {@link LxdImage}.
 * @internal
 */
export const imageLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdImage",
  schemaVersion: 2,
  schema: imageSchema,
  immutable: ["project", "sourceFingerprint", "source", "instanceType"],
  stableOutputs: { fingerprint: [], type: [], architecture: [], sizeBytes: [] },
  timeouts: { create: 1800, read: 60, update: 300, delete: 300 },

  /** Version 1 had `remote` instead of `source`, with the instance type in it. */
  upgrade({ remote, ...state }) {
    const { type, ...source } = (remote ?? {}) as { type?: string };
    return { ...state, ...(type !== undefined && { source, instanceType: type }) } as unknown as State;
  },

  checkTogether({ metadataPath, rootfsPath, sourceFingerprint, source, instanceType }) {
    const failures: CheckFailure[] = [];
    if ((metadataPath === undefined) === (source === undefined)) {
      failures.push({ property: "metadataPath", reason: "must be given, or else source; not both" });
    }
    if (rootfsPath !== undefined && metadataPath === undefined) {
      failures.push({ property: "rootfsPath", reason: "needs metadataPath beside it" });
    }
    if (instanceType !== undefined && metadataPath !== undefined) {
      failures.push({ property: "instanceType", reason: "is only for an image of source: files say it themselves" });
    }
    if (sourceFingerprint?.startsWith(UNREADABLE) === true) {
      const [property = "", ...reason] = sourceFingerprint.slice(UNREADABLE.length).split(": ");
      failures.push({ property, reason: reason.join(": ") });
    } else if (metadataPath !== undefined && !/^[0-9a-f]{64}$/.test(sourceFingerprint ?? "")) {
      failures.push({ property: "sourceFingerprint", reason: "is worked out from the files, and cannot be given" });
    }
    return failures;
  },

  sameBy: {
    // Paths are not compared: equal content is the same image.
    metadataPath: notCompared,
    rootfsPath: notCompared,
    source: (_observed, wanted, state, inputs) => isOfVersion1(inputs) || sameSource(state, wanted),
    instanceType: (_observed, _wanted, state, inputs): boolean =>
      isOfVersion1(inputs) || typeWanted(state) === typeWanted(inputs),
    aliases: sameSet,
    properties: sameConfig,
  },

  replacementLoss: ({ fingerprint, created }) =>
    created
      ? `Image ${short(fingerprint)} will be removed with its aliases. Instances that were made from it stay as they are`
      : `Image ${short(fingerprint)} was not brought by this resource, and stays`,

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const { project, sourceFingerprint, source } = inputs;
    const known = sourceFingerprint ?? source?.fingerprint;
    const found = known === undefined ? undefined : await findImage(lxd, project, known);
    if (known !== undefined) {
      await refuseTakenAliases(lxd, claimantOf(context, inputs, false), inputs.aliases, found?.value.fingerprint ?? known);
    }
    const { fingerprint, created } =
      found === undefined
        ? await bring(context, lxd, inputs)
        : { fingerprint: found.value.fingerprint, created: isToBeOwned(context, inputs, found.value) };
    const outputs = await settle(context, lxd, inputs, { fingerprint, created, ownAliases: [], dropped: [] });
    return { id: `${project}/${fingerprint}`, outputs };
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const image = await findImageShared(lxd, state.project, state.fingerprint);
    if (image === undefined) {
      return undefined;
    }
    // An image that was removed and that others have brought since belongs to them.
    const created = state.created && takenOverBy(image.properties?.[OWNER_KEY], context) === undefined;
    return { inputs: fromApi(image, state), outputs: outputsOf(image, { created, ownAliases: state.ownAliases }) };
  },

  lookupKeys: ({ sourceFingerprint = "", source }) => ({
    fingerprint: source?.fingerprint ?? sourceFingerprint,
    created: false,
    ownAliases: [],
  }),

  async update(context, _id, state, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const { fingerprint, created, ownAliases } = state;
    const dropped = Object.keys(state.properties).filter((key) => !(key in inputs.properties));
    return settle(context, lxd, inputs, { fingerprint, created, ownAliases, dropped });
  },

  async mark(context, _id, state) {
    if (!state.created) {
      return;
    }
    const lxd = await context.lxd(state.cluster);
    const found = await findImage(lxd, state.project, state.fingerprint);
    if (found !== undefined) {
      refuseTakenOver(`Image ${short(state.fingerprint)}`, lxd.host, found.value.properties?.[OWNER_KEY], context);
      await changeImage(lxd, state.project, found, ({ public: isPublic, properties }) => ({
        public: isPublic,
        properties: withOwner(properties ?? {}, context),
      }));
    }
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const found = await findImage(lxd, state.project, state.fingerprint);
    const what = `Image ${short(state.fingerprint)}`;
    if (state.created && !isLeftToOthers(what, lxd.host, found?.value.properties?.[OWNER_KEY], context)) {
      await deleteImage(lxd, state.project, state.fingerprint); // its aliases go with it
      return;
    }
    await removeAliases(lxd, state.project, state.fingerprint, state.ownAliases);
  },
};

/**
 * Whether the inputs have version 1's name for the source. A refresh compares inputs in state, which have no version.
 */
function isOfVersion1({ source, metadataPath }: Inputs): boolean {
  return source === undefined && metadataPath === undefined;
}

/** Whether the program still means the image that was copied. */
function sameSource({ source: made, fingerprint }: State, wanted: Inputs["source"]): boolean {
  return made === undefined || wanted === undefined ? made === wanted : sameImage({ image: made, fingerprint }, wanted);
}

function typeWanted({ source, instanceType }: Inputs): InstanceType | undefined {
  return source && (instanceType ?? DEFAULT_INSTANCE_TYPE);
}

/** Whether this resource brought the existing image before, and removes it. */
function isToBeOwned(context: Context, { adopt }: Inputs, { fingerprint, properties }: Image): boolean {
  const mark = properties?.[OWNER_KEY];
  if (!isOwnMark(mark, context.urn)) {
    return false;
  }
  const isOwned = adopt || isUnfinishedWork(mark, context.urn);
  if (!isOwned) {
    context.warn(
      `Image ${short(fingerprint)} is there, and is used as it is; it stays when this resource goes, because ${explainOwnMark()}`,
    );
  }
  return isOwned;
}

/** Uploads the image, or lets LXD copy it. */
async function bring(context: Context, lxd: LxdClient, inputs: Inputs): Promise<{ fingerprint: string; created: boolean }> {
  const { project, metadataPath, rootfsPath, sourceFingerprint, source } = inputs;
  const progress = (text: string): void => context.progress(text);
  if (source !== undefined) {
    const before = await listFingerprints(lxd, project);
    const fingerprint = await copyImage(lxd, project, source, inputs.instanceType ?? DEFAULT_INSTANCE_TYPE, progress);
    const image = await findImage(lxd, project, fingerprint);
    return {
      fingerprint,
      created: !before.includes(fingerprint) || (image !== undefined && isToBeOwned(context, inputs, image.value)),
    };
  }
  if (metadataPath === undefined || sourceFingerprint === undefined) {
    throw new RefusedError("An image needs metadataPath or source");
  }
  const image = { fingerprint: sourceFingerprint, public: inputs.public, properties: withOwner(inputs.properties, context) };
  try {
    await uploadImage(lxd, project, { metadataPath, rootfsPath }, image, progress);
  } catch (error) {
    // Somebody may have brought the same image meanwhile; that counts as success.
    const there = await findImage(lxd, project, sourceFingerprint);
    if (there === undefined) {
      const paths = [metadataPath, rootfsPath].filter((path) => path !== undefined).join(" with ");
      throw hasCode(error, "operation")
        ? new RefusedError(`LXD on ${lxd.host} does not take ${paths} as an image: ${replyOf(error)}`, { cause: error })
        : error;
    }
    return { fingerprint: sourceFingerprint, created: isToBeOwned(context, inputs, there.value) };
  }
  return { fingerprint: sourceFingerprint, created: true };
}

/** Sets the properties and aliases. On failure, state keeps what this resource brought. */
async function settle(
  context: Context,
  lxd: LxdClient,
  inputs: Inputs,
  known: Pick<Outputs, "fingerprint" | "created" | "ownAliases"> & { dropped: readonly string[] },
): Promise<Outputs> {
  const { project } = inputs;
  const { fingerprint, created } = known;
  const found = await findImage(lxd, project, fingerprint);
  if (found === undefined) {
    throw new RefusedError(
      `Image ${short(fingerprint)} no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up brings it again`,
    );
  }
  const ownAliases = [...known.ownAliases];
  let isChanged = false;
  try {
    isChanged = await setProperties(context, lxd, inputs, found, known);
    for (const name of new Set(inputs.aliases)) {
      if (await pointAlias(lxd, claimantOf(context, inputs, created), name, fingerprint, ownAliases)) {
        ownAliases.push(name);
        isChanged = true;
      }
    }
    const leaving = ownAliases.filter((name) => !inputs.aliases.includes(name));
    await removeAliases(lxd, project, fingerprint, leaving);
  } catch (error) {
    if (!created) {
      throw isChanged ? afterChange(error) : error;
    }
    const outputs = outputsOf(found.value, { ...known, ownAliases });
    throw new IncompleteError(`${project}/${fingerprint}`, outputs, messageOf(error), { cause: error });
  }
  return outputsOf(found.value, { created, ownAliases: ownAliases.filter((name) => inputs.aliases.includes(name)) });
}

/**
 * Sets the image's properties.
 * @returns Whether anything was changed.
 */
async function setProperties(
  context: Context,
  lxd: LxdClient,
  inputs: Inputs,
  found: Tagged<Image>,
  { created, dropped }: { created: boolean; dropped: readonly string[] },
): Promise<boolean> {
  const wantedOf = ({ properties }: Image): Config => {
    const kept = Object.fromEntries(Object.entries(properties ?? {}).filter(([key]) => !dropped.includes(key)));
    const wanted = { ...kept, ...inputs.properties };
    return created ? withOwner(wanted, context) : wanted;
  };
  const live = found.value.properties ?? {};
  if (sameJson(wantedOf(found.value), live) && inputs.public === found.value.public) {
    return false;
  }
  if (!created && !inputs.adopt) {
    const keys = Object.keys(inputs.properties).filter((key) => inputs.properties[key] !== live[key]);
    const what = [...keys.map((key) => `properties.${key}`), ...(inputs.public === found.value.public ? [] : ["public"])];
    throw new RefusedError(
      `Image ${short(found.value.fingerprint)} was already on ${lxd.host}, not made by this resource, and differs in ${what.join(", ")}. ` +
        "Set adopt: true to change it, or leave these out",
    );
  }
  await changeImage(lxd, inputs.project, found, (image) => ({ public: inputs.public, properties: wantedOf(image) }));
  return true;
}

/** Returns the inputs that LXD reports, limited to those that were given. */
function fromApi(image: Image, state: State): Partial<Inputs> {
  const live = image.properties ?? {};
  const names = (image.aliases ?? []).map(({ name }) => name);
  return {
    aliases: state.aliases.filter((name) => names.includes(name)),
    public: image.public,
    properties: Object.fromEntries(Object.entries(live).filter(([key]) => key in state.properties)),
  };
}

function outputsOf(image: Image, known: Pick<Outputs, "created" | "ownAliases">): Outputs {
  const { fingerprint, type, architecture, size } = image;
  return { fingerprint, created: known.created, ownAliases: known.ownAliases, type, architecture, sizeBytes: size };
}

function withOwner(properties: Config, { mark }: Context): Config {
  return mark === "" ? properties : { ...properties, [OWNER_KEY]: mark };
}

function short(fingerprint: string): string {
  return fingerprint.slice(0, 12);
}

function claimantOf({ urn }: Context, { project, adopt }: Inputs, created: boolean): Claimant {
  return { urn, project, adopt, created };
}

/**
 * An image in a cluster's own store. Its fingerprint is known before anything is sent: an existing image is not
 * uploaded again, and changed content of the files shows as a replacement in the preview.
 *
 * @example
 * ```typescript
 * new LxdImage("debian", {
 *   cluster,
 *   metadataPath: "~/images/debian-12/metadata.tar.gz",
 *   rootfsPath: "~/images/debian-12/rootfs.squashfs",
 *   aliases: ["debian-12"],
 * });
 * const ubuntu = new LxdImage("ubuntu", {
 *   cluster,
 *   source: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" },
 *   aliases: ["ubuntu"],
 * });
 * new LxdVm("web", { cluster, name: "web", image: ubuntu });
 * ```
 */
export class LxdImage extends LxdResource {
  /** Project of the image. */
  declare readonly project: Output<string>;
  /** Aliases that point to the image, of those that were given. */
  declare readonly aliases: Output<string[]>;
  /** Whether untrusted clients can see the image. */
  declare readonly public: Output<boolean>;
  /** Properties of the image, of those that were given. */
  declare readonly properties: Output<Record<string, string>>;
  /** SHA-256 fingerprint of the image. */
  declare readonly fingerprint: Output<string>;
  /** Whether this resource brought the image to the cluster and removes it. */
  declare readonly created: Output<boolean>;
  /** Type of the image: `container` or `virtual-machine`. */
  declare readonly type: Output<string>;
  /** Architecture, such as `x86_64`. */
  declare readonly architecture: Output<string>;
  /** Size of the image's files in bytes. */
  declare readonly sizeBytes: Output<number>;

  constructor(name: string, args: LxdImageArgs, opts?: CustomResourceOptions) {
    const source =
      args.metadataPath === undefined ? {} : { sourceFingerprint: sourceFingerprint(args.metadataPath, args.rootfsPath) };
    super(
      "LxdImage",
      name,
      { ...args, ...source },
      ["fingerprint", "created", "ownAliases", "type", "architecture", "sizeBytes"],
      opts,
    );
    if (args.metadataPath !== undefined) {
      // For local files the fingerprint is an input, which a preview knows. A preview of an update knows no computed
      // output, even if only the connection changes, and would show everything made from this image as replaced.
      this.fingerprint = (this as unknown as { sourceFingerprint: Output<string> }).sourceFingerprint;
    }
  }
}

/**
 * Computes the fingerprint in the program, so that a preview detects other content. `check` reports an unreadable file
 * with its property.
 */
function sourceFingerprint(metadataPath: Input<string>, rootfsPath: Input<string> | undefined): Output<string> {
  return all([output(metadataPath), output(rootfsPath)]).apply(([metadata, rootfs]) =>
    fingerprintOf({ metadataPath: metadata, rootfsPath: rootfs }).catch((error: unknown) => UNREADABLE + messageOf(error)),
  );
}
