/**
 * A storage pool on all members of a cluster.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/storage/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { poolNameSchema } from "../lxd/names";
import { nameOf } from "../lxd/storage-and-networks/member-objects";
import { faultsOfDriver } from "../lxd/storage-and-networks/storage-drivers";
import { describeMoves, describeShrinks, isElsewhere, POOLS, pool, sourcesOf } from "../lxd/storage-and-networks/storage-pools";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { type MemberObjectOutputs, memberObjectInputs, memberObjectLifecycle } from "./member-object";

/** Inputs of {@link LxdStoragePool}. @internal */
export const storagePoolSchema = z.strictObject({
  ...memberObjectInputs(POOLS),
  name: poolNameSchema,
  driver: z.string().regex(/^[a-z][a-z0-9]*$/, 'must be the name of a storage driver, such as "btrfs"'),
});

/** Arguments of {@link LxdStoragePool}. */
export interface LxdStoragePoolArgs {
  /** The cluster, or standalone server, that the pool belongs to. */
  cluster: ClusterInput;
  /** Name of the pool. Another name replaces the pool. */
  name: Input<string>;
  /**
   * Storage driver: `dir`, `btrfs`, `lvm`, `zfs`, `ceph`, `cephfs`, `cephobject`, or another one that every member has. Another driver
   * replaces the pool.
   */
  driver: Input<string>;
  /** Purpose of the pool. @default "" */
  description?: Input<string>;
  /**
   * Config of the pool. Member-specific keys given here apply to every member: `source`, `size`, `zfs.pool_name`, `lvm.vg_name`,
   * `lvm.thinpool_name`. Keys that are not given are neither changed nor shown as drift. Without `source`, each member gets LXD's
   * default: a directory, or a loop file of `size`, else of 20 % of the disk, 5 to 30 GiB. Another `source` replaces the pool;
   * LXD refuses that while the pool is used.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /**
   * Config that differs on a member, by the member's name. A member with a `source` here does not use `size` from `config`. A
   * member that joins later brings its own values when it joins.
   * @default {}
   */
  memberConfig?: Input<Record<string, Input<ConfigArgs>>>;
  /** Take over a pool of that name and driver that others made. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 600 for create and update, 300 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof storagePoolSchema>;

type Outputs = MemberObjectOutputs & { sources: Record<string, string> };

/** See {@link LxdStoragePool}. @internal */
export const storagePoolLifecycle = memberObjectLifecycle<Inputs, Outputs>({
  kind: "LxdStoragePool",
  schemaVersion: 1,
  schema: storagePoolSchema,
  configOf: "pool",
  immutable: ["name", "driver"],
  stableOutputs: { sources: ["config", "memberConfig"] },
  timeouts: { create: 600, read: 60, update: 600, delete: 300 },
  refOf: ({ name }) => pool(name),
  identity: ({ driver }) => ({ driver }),

  checkTogether: faultsOfDriver,
  sameBy: {
    // A pool cannot move: a pool elsewhere is another pool with the same name.
    name: (observed, wanted, state, inputs) => observed === wanted && describeMoves(state, inputs).length === 0,
  },

  previewWarnings(state, inputs) {
    const moves = describeMoves(state, inputs);
    const isReplaced = moves.length > 0 || state.name !== inputs.name || state.driver !== inputs.driver;
    return isReplaced ? moves : describeShrinks(state, inputs);
  },

  isReplaced: (former, inputs) => isElsewhere(former, inputs),

  replacementLoss: ({ name }) =>
    `${nameOf(pool(name))} will be removed with all its volumes and their data, then created again. That is refused while an ` +
    "instance, a volume, an image or a profile uses it",

  observedInputs: ({ driver }) => ({ driver }),
  outputsOf: (_found, views) => ({ sources: sourcesOf(views) }),
});

/**
 * A storage pool on all members of a cluster, or on one standalone server.
 *
 * @example
 * ```typescript
 * new LxdStoragePool("fast", {
 *   cluster,
 *   name: "fast",
 *   driver: "btrfs",
 *   config: { size: "50GiB" },
 *   memberConfig: { bcn1: { size: "100GiB" } },
 * });
 * ```
 */
export class LxdStoragePool extends LxdResource {
  /** Name of the pool. */
  declare readonly name: Output<string>;
  /** Storage driver of the pool. */
  declare readonly driver: Output<string>;
  /** Purpose of the pool. */
  declare readonly description: Output<string>;
  /** Config, limited to the keys that were given. */
  declare readonly config: Output<Record<string, string>>;
  /** Config that differs on a member, by the member's name. */
  declare readonly memberConfig: Output<Record<string, Record<string, string>>>;
  /** LXD's status of the pool: `Created`, or `Pending` or `Errored` when it is not finished. */
  declare readonly status: Output<string>;
  /** Status of the pool on each member; `Unavailable` where LXD fails to read it; the member's own status when the member does not answer. */
  declare readonly memberStatus: Output<Record<string, string>>;
  /** Location of the pool on each member: the given source, or LXD's default. */
  declare readonly sources: Output<Record<string, string>>;

  constructor(name: string, args: LxdStoragePoolArgs, opts?: CustomResourceOptions) {
    super("LxdStoragePool", name, { ...args }, ["status", "memberStatus", "sources"], opts);
  }
}
