/**
 * A storage pool on all members of a cluster.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/storage/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { CheckFailure, Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { getServers, getServersShared, type Servers } from "../lxd/cluster/servers";
import { configSchema, OWNER_KEY, sameConfig, sameConfigValue } from "../lxd/config";
import { memberNameSchema, poolNameSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import {
  changeObject,
  deleteObject,
  type Found,
  findObject,
  findObjectShared,
  type MemberObject,
  markObject,
  misplaced,
  namedKeys,
  namedMemberKeys,
  nameOf,
  refuseUnknownMembers,
  sameMemberConfig,
  statusesOf,
  viewsOf,
} from "../lxd/storage-and-networks/member-objects";
import { isSmaller, POOLS, pool, refuseResize, sourcesOf } from "../lxd/storage-and-networks/storage-pools";
import { createObject, describeUnfinished, explainFailure, isUnfinished } from "../lxd/storage-and-networks/two-phase";
import { IncompleteError, RefusedError } from "../support/errors";
import { parseSize } from "../support/units";
import type { ClusterInput, ConfigArgs } from "./common-args";

const poolConfigSchema = configSchema.superRefine((config, context) => {
  for (const key of Object.keys(config)) {
    const message = misplaced(POOLS, key, "config");
    if (message !== undefined) {
      context.addIssue({ code: "custom", path: [key], message });
    }
  }
});

const poolMemberConfigSchema = configSchema.superRefine((config, context) => {
  for (const [key, value] of Object.entries(config)) {
    const message =
      misplaced(POOLS, key, "memberConfig") ??
      (key === "size" && value !== "" && parseSize(value) === undefined ? 'is not a size such as "20GiB"' : undefined);
    if (message !== undefined) {
      context.addIssue({ code: "custom", path: [key], message });
    }
  }
});

/** Inputs of {@link LxdStoragePool}. */
const storagePoolSchema = z.strictObject({
  ...inCluster,
  name: poolNameSchema,
  driver: z.enum(["dir", "btrfs", "zfs", "lvm"], 'must be "dir", "btrfs", "zfs" or "lvm"'),
  description: z.string().default(""),
  config: poolConfigSchema.default({}),
  memberConfig: z.record(memberNameSchema, poolMemberConfigSchema).default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdStoragePool}. */
export interface LxdStoragePoolArgs {
  /** The cluster, or standalone server, that the pool belongs to. */
  cluster: ClusterInput;
  /** Name of the pool. */
  name: Input<string>;
  /** How volumes are stored: `dir`, `btrfs`, `zfs` or `lvm`. */
  driver: Input<"dir" | "btrfs" | "zfs" | "lvm">;
  /** What the pool is for. @default "" */
  description?: Input<string>;
  /** Config of the whole pool. Keys that are not given here are LXD's: neither changed nor shown as drift. @default {} */
  config?: Input<ConfigArgs>;
  /**
   * What each member has for itself, by its name: `source`, `size`, `zfs.pool_name`, `lvm.vg_name`, `lvm.thinpool_name`. A member that
   * is not given gets LXD's default: a directory, or a loop file of 20 % of the disk, 5 to 30 GiB. A member that joins later brings
   * its own when it joins. Another `source` replaces the pool; LXD refuses that while the pool is used.
   * @default {}
   */
  memberConfig?: Input<Record<string, Input<ConfigArgs>>>;
  /** Take over a pool of that name and driver that others made. It is then removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Seconds for each call. */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof storagePoolSchema>;

interface Outputs {
  /** LXD's status of the pool: `Created`, or `Pending` or `Errored` when it is not finished. */
  status: string;
  /** Status on each member; that of the member itself when it cannot be asked. */
  memberStatus: Record<string, string>;
  /** Where the pool is on each member: what it was given as source, or what LXD made by default. */
  sources: Record<string, string>;
}

type State = Inputs & Outputs;

/**
 * See {@link LxdStoragePool}.
 * @internal
 */
export const storagePoolLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdStoragePool",
  schemaVersion: 1,
  schema: storagePoolSchema,
  immutable: ["name", "driver"],
  stableOutputs: { sources: ["memberConfig"] },
  timeouts: { create: 600, read: 60, update: 600, delete: 300 },

  checkTogether: ({ driver, memberConfig }) =>
    Object.entries(memberConfig).flatMap(([member, config]) =>
      Object.keys(config).flatMap((key): CheckFailure[] => {
        const property = `memberConfig.${member}.${key}`;
        const owner = /^(zfs|lvm)\./.exec(key)?.[1];
        if (owner !== undefined && owner !== driver) {
          return [{ property, reason: `is a key of driver ${owner}, and the pool's driver is ${driver}` }];
        }
        return key === "size" && driver === "dir"
          ? [{ property, reason: "cannot be set: a dir pool is as large as the file system that it lies on" }]
          : [];
      }),
    ),

  sameBy: {
    // A pool stays where it was made: what is made elsewhere is another pool that takes over the name.
    name: (observed, wanted, state, inputs) => observed === wanted && membersWithOtherSource(state, inputs).length === 0,
    // A pool that is not finished has none of its config in effect.
    config: (observed, wanted, { status }) => sameConfig(observed, wanted) && status !== "Pending" && status !== "Errored",
    memberConfig: sameMemberConfig,
  },

  previewWarnings(state, inputs) {
    const moved = membersWithOtherSource(state, inputs).map(
      (member) => `Storage pool "${state.name}" is on ${state.sources[member]} at ${member} and cannot be moved`,
    );
    const isReplaced = moved.length > 0 || state.name !== inputs.name || state.driver !== inputs.driver;
    return isReplaced ? moved : forewarnOfShrinking(state, inputs);
  },

  replacementLoss: ({ name }) =>
    `${nameOf(pool(name))} will be removed with all volumes in it, and their data is lost; then it is made again. LXD refuses that as long ` +
    "as an instance, a volume, an image or a profile uses it",

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    return withClusterLock(lxd, async () => {
      const subject = pool(inputs.name);
      const found = await findObject(lxd, subject);
      if (found !== undefined) {
        refuseOtherDriver(lxd, found.value, inputs);
        // One that is only defined bears no owner's mark yet, and nothing is lost by finishing it.
        if (found.value.status !== "Pending") {
          claim({
            what: nameOf(subject),
            host: lxd.host,
            description: `driver ${found.value.driver}, status ${found.value.status}, used by ${found.value.used_by?.length ?? 0} objects`,
            config: found.value.config ?? {},
            urn: context.urn,
            adopt: inputs.adopt,
          });
        }
      }
      return { id: inputs.name, outputs: await ensure(context, lxd, inputs, found, []) };
    });
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const subject = pool(state.name);
    const found = await findObjectShared(lxd, subject);
    if (found === undefined) {
      return undefined;
    }
    const servers = await getServersShared(lxd);
    const views = await viewsOf(lxd, subject, servers);
    return { inputs: fromApi(found, views, state), outputs: outputsOf(found, servers, views), mark: found.config?.[OWNER_KEY] };
  },

  async update(context, id, state, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    return withClusterLock(lxd, async () => {
      const found = await findObject(lxd, pool(inputs.name));
      if (found === undefined) {
        throw new RefusedError(
          `Storage pool "${id}" no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
        );
      }
      refuseTakenOver(nameOf(pool(inputs.name)), lxd.host, found.value.config?.[OWNER_KEY], context);
      const dropped = Object.keys(state.config).filter((key) => !(key in inputs.config));
      return ensure(context, lxd, inputs, found, dropped);
    });
  },

  async mark(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const subject = pool(state.name);
      const found = await findObject(lxd, subject);
      if (found !== undefined) {
        refuseTakenOver(nameOf(subject), lxd.host, found.value.config?.[OWNER_KEY], context);
        await markObject(lxd, subject, found, context.mark);
      }
    });
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const subject = pool(state.name);
      const found = await findObject(lxd, subject);
      if (found !== undefined && !isLeftToOthers(nameOf(subject), lxd.host, found.value.config?.[OWNER_KEY], context)) {
        await deleteObject(lxd, subject);
      }
    });
  },
};

/** Makes the pool what it is to be, from whatever it is. */
async function ensure(
  context: Context,
  lxd: LxdClient,
  inputs: Inputs,
  before: Found | undefined,
  dropped: readonly string[],
): Promise<Outputs> {
  const subject = pool(inputs.name);
  const { driver, description, config, memberConfig } = inputs;
  const servers = await getServers(lxd);
  refuseUnknownMembers(lxd, subject, servers, memberConfig);
  if (isUnfinished(before)) {
    try {
      const creation = { subject, identity: { driver }, description, config, memberConfig, mark: context.mark };
      await createObject(lxd, servers, creation, before, (text) => context.progress(text));
    } catch (error) {
      const left = await describeUnfinished(lxd, servers, subject, error);
      if (left === undefined) {
        throw explainFailure(lxd, servers, subject, error);
      }
      const outputs = outputsOf(left.found.value, servers, left.views);
      throw new IncompleteError(inputs.name, outputs, left.message, { cause: error });
    }
  }
  const made = await findObject(lxd, subject);
  if (made === undefined) {
    throw new RefusedError(`${nameOf(subject)} was removed from ${lxd.host} by someone else while it was worked on`);
  }
  await refuseResize(lxd, subject, servers, memberConfig);
  await changeObject(lxd, subject, servers, made, { description, config, dropped, memberConfig, mark: context.mark });
  return outputsOf(made.value, servers, await viewsOf(lxd, subject, servers));
}

/** What LXD tells, in the words of the state where they mean the same. */
function fromApi(found: MemberObject, views: ReadonlyMap<string, Found>, state: State): Partial<Inputs> {
  return {
    // LXD's drivers are more than those that this resource makes; another one is told as it is, and then differs.
    driver: found.driver as Inputs["driver"],
    description: found.description,
    config: namedKeys(POOLS, state.config, found.config ?? {}),
    memberConfig: namedMemberKeys(POOLS, state.memberConfig, views),
  };
}

function outputsOf(found: MemberObject, servers: Servers, views: ReadonlyMap<string, Found>): Outputs {
  return { status: found.status, memberStatus: statusesOf(servers, views), sources: sourcesOf(views) };
}

/** Members on which the pool exists, and elsewhere than it is now wanted. */
function membersWithOtherSource(state: State, inputs: Inputs): string[] {
  return Object.entries(inputs.memberConfig).flatMap(([member, { source }]) => {
    const known = [state.memberConfig[member]?.["source"], state.sources[member]];
    const isMade = state.memberStatus[member] === "Created" && state.sources[member] !== undefined;
    return isMade && source !== undefined && source !== "" && !known.some((each) => sameConfigValue("source", each, source))
      ? [member]
      : [];
  });
}

/** Whether LXD can make a pool larger is not known here; that it makes none smaller is. */
function forewarnOfShrinking(state: State, inputs: Inputs): string[] {
  return Object.entries(inputs.memberConfig).flatMap(([member, { size = "" }]) => {
    const live = state.memberConfig[member]?.["size"] ?? "";
    return isSmaller(size, live)
      ? [
          `pulumi up will refuse this. Storage pool "${state.name}" has ${live} on ${member}, and LXD shrinks no pool (memberConfig.${member}.size)`,
        ]
      : [];
  });
}

function refuseOtherDriver(lxd: LxdClient, found: MemberObject, inputs: Inputs): void {
  if (found.driver !== inputs.driver) {
    throw new RefusedError(
      `Storage pool "${inputs.name}" already exists on ${lxd.host}, with driver ${found.driver} instead of ${inputs.driver}. Choose another name, or remove it first`,
    );
  }
}

/**
 * A storage pool on all members of a cluster, or on one standalone server.
 *
 * @example
 * ```typescript
 * new LxdStoragePool("fast", {
 *   cluster,
 *   name: "fast",
 *   driver: "btrfs",
 *   memberConfig: { bcn1: { source: "/dev/sdb" }, bcn2: { size: "50GiB" } },
 * });
 * ```
 */
export class LxdStoragePool extends LxdResource {
  /** Name, as LXD has it. */
  declare readonly name: Output<string>;
  /** How volumes are stored. */
  declare readonly driver: Output<string>;
  /** What it is for. */
  declare readonly description: Output<string>;
  /** Config of the whole pool, as far as it was given. */
  declare readonly config: Output<Record<string, string>>;
  /** What members have for themselves, as far as it was given. */
  declare readonly memberConfig: Output<Record<string, Record<string, string>>>;
  /** LXD's status of the pool: `Created`, or `Pending` or `Errored` when it is not finished. */
  declare readonly status: Output<string>;
  /** Status on each member; that of the member itself when it cannot be asked. */
  declare readonly memberStatus: Output<Record<string, string>>;
  /** Where the pool is on each member: what it was given as source, or what LXD made by default. */
  declare readonly sources: Output<Record<string, string>>;

  constructor(name: string, args: LxdStoragePoolArgs, opts?: CustomResourceOptions) {
    super("LxdStoragePool", name, { ...args }, ["status", "memberStatus", "sources"], opts);
  }
}
