/**
 * A custom storage volume of a pool: data that outlives the instances to which it is attached.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/storage/#storage-volumes (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, type Output, output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { differences } from "../engine/state";
import type { LxdClient } from "../lxd/client/client";
import { type Config, marked, sameConfig } from "../lxd/config";
import { compareVolumes, partOfVolume } from "../lxd/instances/volumes-in-program";
import { memberNameSchema, poolNameSchema, projectSchema, volumeNameSchema } from "../lxd/names";
import { asUnfinished } from "../lxd/ownership";
import { configSchemaOf, observedConfig } from "../lxd/storage-and-networks/object-config";
import {
  COPY_KEY,
  createFromSource,
  isBetweenMembers,
  moveTo,
  moveToMember,
  moveVolume,
  refusalOfMove,
  removeHalfCopy,
  wordsForPlace,
} from "../lxd/storage-and-networks/volume-moves";
import { listSnapshots, wordsFor } from "../lxd/storage-and-networks/volume-snapshots";
import {
  changeVolume,
  createVolume,
  deleteVolume,
  type FoundVolume,
  findVolume,
  findVolumeShared,
  nameOfVolume,
  usersOf,
  VOLUME_KEYS,
  type VolumeRef,
} from "../lxd/storage-and-networks/volumes";
import { sameJson } from "../support/equality";
import { FailedError, havingChanged, IncompleteError, messageOf, RefusedError } from "../support/errors";
import { isSmaller } from "../support/units";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const volumeSchema = z.strictObject({
  ...inCluster,
  name: volumeNameSchema,
  pool: poolNameSchema,
  project: projectSchema,
  target: z.union([z.literal("").transform(() => undefined), memberNameSchema]).optional(),
  contentType: z.enum(["filesystem", "block"], 'must be "filesystem" or "block"').default("filesystem"),
  description: z.string().default(""),
  config: configSchemaOf(VOLUME_KEYS, "config").default({}),
  source: z
    .strictObject({
      pool: poolNameSchema,
      volume: volumeNameSchema,
      project: projectSchema,
      member: memberNameSchema.optional(),
      snapshots: z.boolean().default(false),
    })
    .optional(),
  deleteData: z.boolean().default(false),
  adopt: z.boolean().default(false),
});

/** A volume to copy: `source` of {@link LxdStorageVolumeArgs}. */
export interface StorageVolumeSourceArgs {
  /** Storage pool of the volume. */
  pool: Input<string>;
  /** Name of the volume. */
  volume: Input<string>;
  /** Project of the volume. @default "default" */
  project?: Input<string>;
  /** Member that has the volume. Needed only when several members have one of that name. */
  member?: Input<string>;
  /** Whether its snapshots are copied too. @default false */
  snapshots?: Input<boolean>;
}

/** Keys of the device that attaches a volume, besides those that name the volume. */
export type DiskOptions = Readonly<Record<string, Input<string | number | boolean>>>;

/** Arguments of {@link LxdStorageVolume}. */
export interface LxdStorageVolumeArgs {
  /** The cluster, or standalone server, that the volume belongs to. */
  cluster: ClusterInput;
  /** Name of the volume. Another name replaces the volume. */
  name: Input<string>;
  /** Storage pool of the volume. Another pool moves the volume, if nothing uses it. */
  pool: Input<string>;
  /** Project of the volume. Another project replaces the volume. @default "default" */
  project?: Input<string>;
  /**
   * Name of the member that has the volume. Required for a pool of which each member has its own part (`dir`, `btrfs`, `lvm`, `zfs`),
   * in a cluster of several members. Left out for a pool that all members share (`ceph`), and on a standalone server. Volumes of
   * several members may have the same name. Another member moves the volume, if nothing uses it.
   */
  target?: Input<string>;
  /**
   * Content of the volume: `filesystem`, which a container or virtual machine mounts, or `block`, which a virtual machine has as a disk.
   * Another type replaces the volume. @default "filesystem"
   */
  contentType?: Input<"filesystem" | "block">;
  /** Purpose of the volume. @default "" */
  description?: Input<string>;
  /**
   * Config of the volume, such as `{ size: "20GiB", "snapshots.schedule": "@daily", "snapshots.expiry": "2w" }`. A volume can grow; a
   * `block` volume cannot shrink. Without `size`, a `filesystem` volume is as large as its pool, and a `block` volume has LXD's default
   * of 10 GiB. Keys that are not given are neither changed nor shown as drift. A key that is removed from here is unset.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /**
   * The volume of which this one is made as a copy, such as `{ pool: "fast", volume: "orders" }`: in `project`, on `member` if several
   * have one of that name, with its `snapshots` if that is true. Without `size` in `config`, the copy has the size of its source. Used
   * once: the volumes are independent afterwards. Another source replaces the volume; leaving it out changes nothing.
   */
  source?: Input<StorageVolumeSourceArgs>;
  /**
   * Whether the volume may be removed with its snapshots and all its data: by `pulumi destroy`, by a replacement, or because it left
   * the program. With `false`, this is refused, because LXD does not tell whether a volume is empty. It takes effect with the
   * `pulumi up` that sets it; the removal comes after that. A volume in use is never removed. @default false
   */
  deleteData?: Input<boolean>;
  /** Take over a volume of that name that others made. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 300 for create and delete, 3600 for update, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof volumeSchema>;

type Outputs = { location: string };

type State = Inputs & Outputs;

/** See {@link LxdStorageVolume}. @internal */
export const storageVolumeLifecycle = markedObjectLifecycle<Inputs, Outputs, FoundVolume>({
  kind: "LxdStorageVolume",
  schemaVersion: 1,
  schema: volumeSchema,
  configOf: "volume",
  immutable: ["name", "project", "contentType", "source"],
  stableOutputs: { location: ["target", "pool"] },
  timeouts: { create: 300, read: 60, update: 3600, delete: 300 },
  partOfProgram: partOfVolume,
  compareInProgram: compareVolumes,
  sameBy: {
    config: sameConfig,
    // It matters once.
    source: (observed, wanted) => wanted === undefined || sameJson(observed, wanted),
    // Without a target, a volume stays where it is.
    target: (_observed, wanted, state) => wanted === undefined || wanted === refOf(state).location,
  },

  replacementLoss: (state) =>
    `${nameOf(state)} will be removed with its snapshots and all its data, then created again.${
      state.deleteData ? "" : ` pulumi up will refuse this. ${refusalOfLoss(state)}`
    }`,

  previewWarnings(state, inputs) {
    if (isReplaced(state, inputs)) {
      return [];
    }
    return [
      ...(inputs.pool !== state.pool || !(inputs.target === undefined || inputs.target === state.location)
        ? [`${nameOf(state)} will be moved: the server copies it with its snapshots, then removes the original`]
        : []),
      ...refusedIf(refusalOfShrink(state, inputs.config, state.config)),
    ];
  },

  async previewEffects(context, inputs, former) {
    if (former === undefined) {
      return [];
    }
    const lxd = await context.lxd(inputs.cluster);
    const found = await findVolume(lxd, refOf(former));
    if (found === undefined) {
      return [];
    }
    const { location } = found.value;
    const from = { ...refOf(former), location };
    if (isReplaced({ ...former, location }, inputs)) {
      const snapshots = wordsFor(await listSnapshots(lxd, from));
      return [
        ...(snapshots === undefined ? [] : [`${nameOfVolume(from)} has ${snapshots}`]),
        ...refusedIf(refusalOfUse(lxd.host, from, found)),
      ];
    }
    const move = await moveTo(lxd, from, inputs);
    return refusedIf(move && (await refusalOfMove(lxd, move, found, context.claim)));
  },

  nameOf,
  idOf,
  lookupKeys: ({ target = "" }) => ({ location: target }),
  find: (lxd, inputs, state) => findVolume(lxd, refOf(state ?? inputs)),
  findShared: (lxd, state) => findVolumeShared(lxd, refOf(state)),
  describe: (found) =>
    `a ${found.content_type} volume${found.location === "" ? "" : ` on ${found.location}`}, used by ${usersOf(found) ?? "nothing"}`,
  refuseOther({ host }, found, inputs) {
    if (found.content_type !== inputs.contentType) {
      throw new RefusedError(
        `${nameOf(inputs)} already exists on ${host} with contentType ${found.content_type}, not ${inputs.contentType}. It cannot be ` +
          "converted. Change contentType, choose another name, or remove it first",
      );
    }
  },

  observe: (_lxd, { description, content_type, config, location }, state) =>
    Promise.resolve({
      inputs: {
        description,
        contentType: content_type as Inputs["contentType"],
        config: observedConfig(VOLUME_KEYS, { config: state.config, memberConfig: {} }, config ?? {}, new Map()).config,
      },
      outputs: { location },
    }),

  async save(context, lxd, inputs, found, state) {
    if (found === undefined) {
      return make(context, lxd, inputs);
    }
    if (state === undefined && found.value.config?.[COPY_KEY] !== undefined) {
      await removeHalfCopy(lxd, { ...refOf(inputs), location: found.value.location }, found, context);
      return havingChanged(() => make(context, lxd, inputs));
    }
    const { description, config } = inputs;
    const from = { ...refOf(state ?? inputs), location: found.value.location };
    const move = await moveTo(lxd, from, inputs);
    const refusal =
      refusalOfShrink({ ...inputs, ...from }, config, found.value.config ?? {}) ??
      (move && (await refusalOfMove(lxd, move, found, context.claim)));
    if (refusal !== undefined) {
      throw new RefusedError(refusal);
    }
    const change = async (ref: VolumeRef & Outputs, live: FoundVolume): Promise<Outputs> => {
      const wanted = { description, config: { ...unsetKeys(state?.config ?? {}, config), ...config }, mark: context.mark };
      await changeVolume(lxd, ref, live, wanted);
      return { location: ref.location };
    };
    if (move === undefined) {
      return change(from, found);
    }
    return havingChanged(async () => {
      if (isBetweenMembers(move)) {
        await moveToMember(lxd, move, found, context);
      } else {
        // Until state knows the new place, the next run takes the volume there for its own unfinished work.
        await changeVolume(lxd, from, found, { config: {}, mark: asUnfinished(context.mark) });
        context.progress(`moving it to ${wordsForPlace(move.to)}`);
        await moveVolume(lxd, move);
      }
      const there = { ...from, ...move.to };
      try {
        const moved = await findVolume(lxd, there);
        if (moved === undefined) {
          throw new FailedError(`${nameOfVolume(there)} does not exist, although ${lxd.title} has moved it`);
        }
        return await change(there, moved);
      } catch (error) {
        const { location } = there;
        throw new IncompleteError(idOf(inputs), { location }, messageOf(error), { cause: error });
      }
    });
  },

  writeMark: (lxd, state, found, mark) =>
    changeVolume(lxd, { ...refOf(state), location: found.value.location }, found, { config: {}, mark }),

  async remove(_context, lxd, state, found) {
    const ref = { ...refOf(state), location: found.value.location };
    const inUse = refusalOfUse(lxd.host, ref, found);
    if (inUse !== undefined) {
      throw new RefusedError(inUse);
    }
    if (!state.deleteData) {
      throw new RefusedError(refusalOfLoss(state, lxd.host, wordsFor(await listSnapshots(lxd, ref))));
    }
    await deleteVolume(lxd, ref);
  },
});

async function make(context: Context, lxd: LxdClient, inputs: Inputs): Promise<Outputs> {
  const { target, contentType, description, config, source } = inputs;
  const wanted = { target, contentType, description, config: marked(config, context.mark) };
  const location =
    source === undefined
      ? await createVolume(lxd, refOf(inputs), wanted)
      : await createFromSource(lxd, refOf(inputs), wanted, source, context.warn);
  return { location };
}

function refOf({ project, pool, name, target, location }: Inputs & Partial<Outputs>): VolumeRef {
  return { project, pool, name, location: location === undefined || location === "" ? target : location };
}

/** Without its place, which may change. */
function idOf({ project, name }: Inputs): string {
  return `${project}/${name}`;
}

function nameOf(inputs: Inputs & Partial<Outputs>): string {
  return nameOfVolume(refOf(inputs));
}

/** Tells in a preview what `pulumi up` refuses. */
function refusedIf(refusal: string | undefined): string[] {
  return refusal === undefined ? [] : [`pulumi up will refuse this. ${refusal}`];
}

/** Whether a change replaces the volume. */
function isReplaced(state: State, inputs: Inputs): boolean {
  return differences(storageVolumeLifecycle, state, inputs).some((name) => storageVolumeLifecycle.immutable.includes(name));
}

/** Unsets the keys that are no longer given. */
function unsetKeys(former: Config, wanted: Config): Config {
  return Object.fromEntries(
    Object.keys(former)
      .filter((key) => !(key in wanted))
      .map((key) => [key, ""]),
  );
}

/** Explains why a volume is not shrunk; `undefined` when nothing prevents it. */
function refusalOfShrink(volume: State, { size = "" }: Config, { size: live = "" }: Config): string | undefined {
  return volume.contentType === "block" && isSmaller(size, live)
    ? `${nameOf(volume)} has ${live}, and a block volume cannot be shrunk (config.size). Give the size that it has`
    : undefined;
}

/**
 * Explains why a volume that may hold data is not removed.
 * @param snapshots - Names those that the server has.
 */
function refusalOfLoss(state: State, host?: string, snapshots?: string): string {
  const others = host === undefined ? " with its snapshots" : snapshots === undefined ? "" : ` with its ${snapshots}`;
  return (
    `${nameOf(state)}${host === undefined ? "" : ` on ${host}`} is not removed, because it may hold data, which would be lost` +
    `${others}. To remove it nevertheless, set deleteData: true and run pulumi up before the change that removes it. To keep it ` +
    "without this program, set the resource option retainOnDelete"
  );
}

/** Explains why a volume in use is not removed; `undefined` when it is not in use. */
function refusalOfUse(host: string, ref: VolumeRef, { value }: FoundVolume): string | undefined {
  const users = usersOf(value);
  return users === undefined
    ? undefined
    : `${nameOfVolume(ref)} on ${host} is not removed, because it is used by ${users}. Remove its disk device there first`;
}

/**
 * A custom storage volume of a cluster, or of one standalone server. It outlives the instances to which it is attached.
 *
 * An instance or a profile attaches it by the device that {@link LxdStorageVolume.disk} returns. An instance can attach a volume of its
 * own member only.
 *
 * @example
 * ```typescript
 * const data = new LxdStorageVolume("data", {
 *   cluster,
 *   name: "data",
 *   pool: "default",
 *   target: "bcn1",
 *   config: { size: "50GiB", "snapshots.schedule": "@daily", "snapshots.expiry": "2w" },
 * });
 * new LxdVm("db", {
 *   cluster,
 *   name: "db",
 *   image: { alias: "debian-12" },
 *   target: data.location,
 *   devices: { data: data.disk({ path: "/srv/data" }) },
 * });
 * ```
 */
export class LxdStorageVolume extends LxdResource {
  /** Name of the volume: `source` of the device that attaches it. */
  declare readonly name: Output<string>;
  /** Storage pool of the volume: `pool` of the device that attaches it. */
  declare readonly pool: Output<string>;
  /** Project of the volume. */
  declare readonly project: Output<string>;
  /** Content of the volume. */
  declare readonly contentType: Output<"filesystem" | "block">;
  /** Purpose of the volume. */
  declare readonly description: Output<string>;
  /** Config, limited to the keys that were given. */
  declare readonly config: Output<Record<string, string>>;
  /** Member that has the volume: `target` of an instance that attaches it. Empty for a shared pool and on a standalone server. */
  declare readonly location: Output<string>;

  constructor(name: string, args: LxdStorageVolumeArgs, opts?: CustomResourceOptions) {
    super("LxdStorageVolume", name, { ...args }, ["location"], opts);
  }

  /**
   * Returns the device by which an instance or a profile attaches this volume.
   * @param options - Further keys of the device, such as `{ path: "/srv/data", readonly: true }`. A `filesystem` volume needs `path`, where
   *   it is mounted; a `block` volume has none.
   */
  disk(options: DiskOptions = {}): Output<Record<string, string | number | boolean>> {
    // This object has no property that the program left out.
    const { contentType: content = output("filesystem") } = this as Partial<this>;
    const own = { pool: this.pool, source: this.name, contentType: content };
    return output({ ...own, options }).apply(
      ({ pool, source, contentType, options: given }): Record<string, string | number | boolean> => {
        const isMounted = contentType === "filesystem";
        if (isMounted !== "path" in given) {
          const what = isMounted ? "needs path, where it is mounted" : "has no path, because it is not mounted";
          throw new Error(`The device of storage volume "${source}" ${what}: contentType is ${contentType}`);
        }
        return { type: "disk", pool, source, ...given };
      },
    );
  }
}
