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
import { configValueSchema, isServerMade, ownerKey, sameConfig } from "../lxd/config";
import { pointAlias, refuseTakenAliases, removeAlias } from "../lxd/images/aliases";
import { findCurrentImage, formerFingerprintsOf, markOfImage, projectsThatLoseFiles } from "../lxd/images/current";
import { fingerprintOf } from "../lxd/images/files";
import { changeImage, deleteImage, findImage, findImageShared, type Image } from "../lxd/images/images";
import { importImage, isOwnedBy, nameOfImage, setImageProperties } from "../lxd/images/imported-images";
import { DEFAULT_INSTANCE_TYPE, instanceTypeSchema, serverImageSchema } from "../lxd/instances/image-source";
import { sameImage, sameInstant } from "../lxd/meaning";
import { imageAliasSchema, projectSchema } from "../lxd/names";
import { isLeftToOthers, refuseTakenOver, takenOverBy } from "../lxd/ownership";
import { sameSet } from "../support/equality";
import { afterChange, havingChanged, IncompleteError, messageOf, RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";
import type { ImageSourceArgs } from "./lxd-vm-args";

const propertiesSchema = z.record(z.string().min(1), configValueSchema).superRefine((properties, context) => {
  for (const key of Object.keys(properties).filter(isServerMade)) {
    context.addIssue({ code: "custom", path: [key], message: "is written by the server or by this package, and cannot be set" });
  }
});

const EXPIRY = 'is not a time such as "2027-06-30T00:00:00Z"';

/** Inputs of {@link LxdImage}. @internal */
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
  autoUpdate: z.boolean().optional(),
  expiresAt: z.iso.datetime({ offset: true, error: EXPIRY }).optional(),
  properties: propertiesSchema.default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdImage}: either `metadataPath` (with `rootfsPath`, unless it is a unified tarball) or `source`. */
export interface LxdImageArgs {
  /** The cluster, or standalone server, that stores the image. */
  cluster: ClusterInput;
  /** Project of the image. @default "default" */
  project?: Input<string>;
  /** Path of the metadata tarball or of a unified tarball, on the machine that runs Pulumi; `~` is the home directory. */
  metadataPath?: Input<string>;
  /** Path of the root file system: squashfs or tarball for containers, qcow2 for virtual machines. */
  rootfsPath?: Input<string>;
  /**
   * Image of an image server, instead of local files. Needs `server`, which the cluster's hosts must reach. The alias is resolved
   * once, when the image is copied, and later only by the cluster itself, with `autoUpdate`.
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
  /**
   * Whether the cluster replaces the image by a newer one, when the alias of `source` has one (`images.auto_update_interval`). Needs
   * `aliases`, which move to the newer image. The resource is the newer image then, and an {@link LxdVm} made from a former one stays.
   * @default false; an existing image of others keeps what it has
   */
  autoUpdate?: Input<boolean>;
  /**
   * When the image expires: `2027-06-30T00:00:00Z`. Clients show it; no server removes an image because of it. An image without it keeps what it has,
   * such as the time in its metadata.
   */
  expiresAt?: Input<string>;
  /** Properties, in addition to the image's own. @default {} */
  properties?: Input<ConfigArgs>;
  /**
   * Allow changes to the properties of an existing image with the same content, and take aliases from other images. An existing
   * image is used with or without this, and stays when this resource is removed.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 1800 for create, 300 for update and delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof imageSchema>;

interface Outputs {
  fingerprint: string;
  /** Absent in states of earlier versions. */
  formerFingerprints?: string[];
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

/** See {@link LxdImage}. @internal */
export const imageLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdImage",
  schemaVersion: 2,
  schema: imageSchema,
  immutable: ["project", "sourceFingerprint", "source", "instanceType"],
  stableOutputs: { fingerprint: [], formerFingerprints: [], type: [], architecture: [], sizeBytes: [] },
  timeouts: { create: 1800, read: 60, update: 300, delete: 300 },

  /** Version 1 had `remote` instead of `source`, with the instance type in it. */
  upgrade({ remote, ...state }) {
    const { type, ...source } = (remote ?? {}) as { type?: string };
    return { ...state, ...(type !== undefined && { source, instanceType: type }) } as unknown as State;
  },

  checkTogether({ metadataPath, rootfsPath, sourceFingerprint, source, instanceType, autoUpdate, aliases }) {
    const failures: CheckFailure[] = [];
    if ((metadataPath === undefined) === (source === undefined)) {
      failures.push({ property: "metadataPath", reason: "is required without source, and not allowed with it" });
    }
    if (rootfsPath !== undefined && metadataPath === undefined) {
      failures.push({ property: "rootfsPath", reason: "needs metadataPath too" });
    }
    if (instanceType !== undefined && metadataPath !== undefined) {
      failures.push({ property: "instanceType", reason: "is only for an image of source: local files contain their type" });
    }
    if (autoUpdate === true && (source?.alias === undefined || aliases.length === 0)) {
      const reason =
        source?.alias === undefined
          ? "is only for an image of source by alias: files and a fingerprint have no newer image"
          : "needs aliases: the newer image is found by them";
      failures.push({ property: "autoUpdate", reason });
    }
    if (sourceFingerprint?.startsWith(UNREADABLE) === true) {
      const [property = "", ...reason] = sourceFingerprint.slice(UNREADABLE.length).split(": ");
      failures.push({ property, reason: reason.join(": ") });
    } else if (metadataPath !== undefined && !/^[0-9a-f]{64}$/.test(sourceFingerprint ?? "")) {
      failures.push({ property: "sourceFingerprint", reason: "is computed from the files, and cannot be given" });
    }
    return failures;
  },

  sameBy: {
    // Paths are not compared: equal content is the same image.
    metadataPath: notCompared,
    rootfsPath: notCompared,
    // A change between files and a server shows in sourceFingerprint. In inputs of version 1, which a refresh compares, a server
    // has another name.
    source: (made, wanted, { fingerprint }) =>
      made === undefined || wanted === undefined || sameImage({ image: made, fingerprint }, wanted),
    instanceType: (made = DEFAULT_INSTANCE_TYPE, wanted = DEFAULT_INSTANCE_TYPE, state, inputs) =>
      state.source === undefined || inputs.source === undefined || made === wanted,
    aliases: sameSet,
    properties: sameConfig,
    expiresAt: sameInstant,
    autoUpdate: (observed = false, wanted, { created }) => observed === (wanted ?? (created ? false : observed)),
  },
  leftAsIs: ["expiresAt"],

  replacementLoss: ({ fingerprint, created }) =>
    created
      ? `${nameOfImage(fingerprint)} will be removed with its aliases. Instances that were made from it stay unchanged`
      : `${nameOfImage(fingerprint)} was not imported by this resource, and stays`,

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const { project, adopt, aliases, sourceFingerprint, source } = inputs;
    const by = { ...context, project, adopt };
    const known = sourceFingerprint ?? source?.fingerprint;
    const found = known === undefined ? undefined : (await findImage(lxd, project, known))?.value;
    if (known !== undefined) {
      await refuseTakenAliases(lxd, by, aliases, found?.fingerprint ?? known);
    }
    const finish = async (image: { fingerprint: string; created: boolean }): Promise<{ id: string; outputs: Outputs }> => {
      const id = idOf(project, image.fingerprint);
      return { id, outputs: await settle(context, lxd, inputs, { id, ...image, ownAliases: [] }) };
    };
    if (found !== undefined) {
      return finish({ fingerprint: found.fingerprint, created: isOwnedBy(by, found) });
    }
    const imported = await importImage(lxd, by, inputs);
    return havingChanged(() => finish(imported));
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const { project, fingerprint, ownAliases } = state;
    const isReplaceable = state.autoUpdate === true && fingerprint !== ""; // unknown in the preview of an adoption
    const image = isReplaceable ? (await findCurrent(lxd, state))?.value : await findImageShared(lxd, project, fingerprint);
    if (image === undefined) {
      return undefined;
    }
    await warnOfSharedFiles(context, lxd, project, image);
    const formerFingerprints = formerFingerprintsOf(state, image.fingerprint);
    // An image that was removed and that others have imported since belongs to them.
    const created = state.created && takenOverBy(markOfImage(image, formerFingerprints, context.urn), context) === undefined;
    return { inputs: fromApi(image, state), outputs: outputsOf(image, { formerFingerprints, created, ownAliases }) };
  },

  lookupKeys: ({ sourceFingerprint = "", source }) => ({
    fingerprint: source?.fingerprint ?? sourceFingerprint,
    created: false,
    ownAliases: [],
  }),

  async update(context, id, state, inputs) {
    return settle(context, await context.lxd(inputs.cluster), inputs, { id, ...state, former: state });
  },

  async mark(context, _id, state) {
    if (!state.created) {
      return;
    }
    const lxd = await context.lxd(state.cluster);
    const found = await findCurrent(lxd, state);
    if (found !== undefined) {
      const { fingerprint } = found.value;
      const mark = markOfImage(found.value, formerFingerprintsOf(state, fingerprint), context.urn);
      refuseTakenOver(nameOfImage(fingerprint), lxd.host, mark, context);
      await changeImage(lxd, state.project, found, ({ public: isPublic, properties }) => ({
        public: isPublic,
        properties: { ...properties, ...ownerKey(context.mark) },
      }));
    }
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const image = (await findCurrent(lxd, state))?.value;
    const fingerprint = image?.fingerprint ?? state.fingerprint;
    const mark = markOfImage(image, formerFingerprintsOf(state, fingerprint), context.urn);
    if (state.created && !isLeftToOthers(nameOfImage(fingerprint), lxd.host, mark, context)) {
      await deleteImage(lxd, state.project, fingerprint); // its aliases go with it
      return;
    }
    for (const alias of state.ownAliases) {
      await removeAlias(lxd, state.project, fingerprint, alias);
    }
  },
};

/** The image in state, or the newer one by which the server has replaced it. */
function findCurrent(lxd: LxdClient, state: State): Promise<Tagged<Image> | undefined> {
  return findCurrentImage(lxd, { ...state, aliases: new Set([...state.aliases, ...state.ownAliases]) });
}

async function warnOfSharedFiles(context: Context, lxd: LxdClient, project: string, image: Image): Promise<void> {
  const { fingerprint } = image;
  const others = image.auto_update ? await projectsThatLoseFiles(lxd, { project, fingerprint }) : [];
  if (others.length > 0) {
    context.warn(
      `${nameOfImage(fingerprint)} has autoUpdate, and the project ${others.join(", ")} has the same image without it. When ${lxd.title} replaces ` +
        "the image, it removes the files of both, and the other project can make no instances from its own. Set autoUpdate there too, or remove it there",
    );
  }
}

/** Sets the properties and aliases of the image, in an update of `former` state. On failure, state keeps what this resource imported. */
async function settle(
  context: Context,
  lxd: LxdClient,
  inputs: Inputs,
  known: Pick<Outputs, "fingerprint" | "created" | "ownAliases"> & { id: string; former?: State },
): Promise<Outputs> {
  const { project, adopt, aliases } = inputs;
  const { created, former } = known;
  const by = { ...context, project, adopt };
  const found = await (former === undefined ? findImage(lxd, project, known.fingerprint) : findCurrent(lxd, former));
  if (found === undefined) {
    const name = nameOfImage(known.fingerprint);
    throw new RefusedError(`${name} no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up to import it again`);
  }
  const { fingerprint } = found.value;
  const formerFingerprints = formerFingerprintsOf(former ?? known, fingerprint);
  const dropped = Object.keys(former?.properties ?? {}).filter((key) => !(key in inputs.properties));
  const own = new Set(known.ownAliases);
  const outputs = (): Outputs => outputsOf(found.value, { formerFingerprints, created, ownAliases: [...own] });
  let isChanged = false;
  try {
    isChanged = await setImageProperties(lxd, by, found, inputs, { own: created, dropped });
    for (const name of new Set(aliases)) {
      isChanged = (await pointAlias(lxd, by, name, { fingerprint, created }, own)) || isChanged;
    }
    for (const name of [...own].filter((each) => !aliases.includes(each))) {
      await removeAlias(lxd, project, fingerprint, name);
      own.delete(name);
    }
  } catch (error) {
    if (!created) {
      throw isChanged ? afterChange(error) : error;
    }
    throw new IncompleteError(known.id, outputs(), messageOf(error), { cause: error });
  }
  return outputs();
}

/** The inputs that LXD reports, limited to those that were given. */
function fromApi(image: Image, state: State): Partial<Inputs> {
  const live = image.properties ?? {};
  const names = (image.aliases ?? []).map(({ name }) => name);
  return {
    aliases: state.aliases.filter((name) => names.includes(name)),
    public: image.public,
    autoUpdate: image.auto_update === (state.autoUpdate ?? false) ? state.autoUpdate : image.auto_update,
    expiresAt: sameInstant(image.expires_at, state.expiresAt) ? state.expiresAt : (image.expires_at ?? undefined),
    properties: Object.fromEntries(Object.entries(live).filter(([key]) => key in state.properties)),
  };
}

function idOf(project: string, fingerprint: string): string {
  return `${project}/${fingerprint}`;
}

function outputsOf(image: Image, known: Pick<Outputs, "formerFingerprints" | "created" | "ownAliases">): Outputs {
  const { fingerprint, type, architecture, size } = image;
  return { fingerprint, ...known, type, architecture, sizeBytes: size };
}

/**
 * An image in a cluster's own store. Its fingerprint is known before anything is sent: an existing image is not uploaded again,
 * and changed content of the files shows as a replacement in the preview.
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
  /** Fingerprints that the image had before, while the cluster replaced it by newer ones. */
  declare readonly formerFingerprints: Output<string[]>;
  /** Whether this resource imported the image and removes it. */
  declare readonly created: Output<boolean>;
  /** Type of the image: `container` or `virtual-machine`. */
  declare readonly type: Output<string>;
  /** Architecture, such as `x86_64`. */
  declare readonly architecture: Output<string>;
  /** Size of the image's files in bytes. */
  declare readonly sizeBytes: Output<number>;

  constructor(name: string, args: LxdImageArgs, opts?: CustomResourceOptions) {
    const { metadataPath, rootfsPath } = args;
    const source = metadataPath === undefined ? {} : { sourceFingerprint: sourceFingerprint(metadataPath, rootfsPath) };
    super("LxdImage", name, { ...args, ...source }, OUTPUTS, opts);
    if (metadataPath !== undefined) {
      // For local files the fingerprint is an input, which a preview knows. A preview of an update knows no computed output, even
      // if only the connection changes, and would show everything made from this image as replaced.
      this.fingerprint = (this as unknown as { sourceFingerprint: Output<string> }).sourceFingerprint;
    }
  }
}

const OUTPUTS = ["fingerprint", "formerFingerprints", "created", "ownAliases", "type", "architecture", "sizeBytes"];

/**
 * Computes the fingerprint in the program, so that a preview detects other content. `check` reports an unreadable file with its
 * property.
 */
function sourceFingerprint(metadataPath: Input<string>, rootfsPath: Input<string> | undefined): Output<string> {
  return all([output(metadataPath), output(rootfsPath)]).apply(([metadata, rootfs]) =>
    fingerprintOf({ metadataPath: metadata, rootfsPath: rootfs }).catch((error: unknown) => UNREADABLE + messageOf(error)),
  );
}
