/**
 * A group of cluster members, in which instances can be placed.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_groups/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { DEFAULT_GROUP } from "../lxd/cluster/cluster";
import {
  createClusterGroup,
  deleteClusterGroup,
  type FoundClusterGroup,
  findClusterGroup,
  findClusterGroupShared,
  findUnknownMembers,
  homeless,
  markClusterGroup,
  replaceClusterGroup,
} from "../lxd/cluster/cluster-groups";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { clusterGroupNameSchema, memberNameSchema } from "../lxd/names";
import { sameSet } from "../support/equality";
import { RefusedError } from "../support/errors";
import type { ClusterInput } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const clusterGroupSchema = z.strictObject({
  ...inCluster,
  name: clusterGroupNameSchema.refine(
    (name) => name !== DEFAULT_GROUP,
    "is the group that every cluster has, that new members join, and that cannot be removed",
  ),
  description: z.string().default(""),
  members: z
    .array(memberNameSchema)
    .superRefine((members, context) => {
      members.forEach((member, index) => {
        if (members.indexOf(member) < index) {
          context.addIssue({ code: "custom", path: [index], message: `names ${member} a second time` });
        }
      });
    })
    .default([]),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdClusterGroup}. */
export interface LxdClusterGroupArgs {
  /** The cluster that the group belongs to. */
  cluster: ClusterInput;
  /** Name of the group; not `default`. Another name replaces the group. */
  name: Input<string>;
  /** Purpose of the group. @default "" */
  description?: Input<string>;
  /**
   * Names of all members of the group, in any order; others are removed from it. A member may be in several groups, and is in at least one: a
   * member that leaves its only group is in `default` then.
   * @default []
   */
  members?: Input<Input<string>[]>;
  /** Take over a group of that name that others made. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for read, 120 for all others */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof clusterGroupSchema>;

/** See {@link LxdClusterGroup}. @internal */
export const clusterGroupLifecycle = markedObjectLifecycle<Inputs, object, FoundClusterGroup>({
  kind: "LxdClusterGroup",
  schemaVersion: 1,
  schema: clusterGroupSchema,
  immutable: ["name"],
  timeouts: { create: 120, read: 60, update: 120, delete: 120 },
  sameBy: { members: sameSet },
  replacementLoss: ({ name }) =>
    `${nameOf({ name })} will be removed, then created under its new name. Until then, no instance can be placed in it`,

  async previewEffects(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const { unknown } = await findUnknownMembers(lxd, inputs.members);
    const found = await findClusterGroup(lxd, inputs.name);
    const moved = found === undefined ? [] : await homeless(lxd, inputs.name, found.value.members, inputs.members);
    return [
      ...unknown.map((member) => `${member} is no member of the cluster yet. Unless it joins before, pulumi up will refuse this`),
      ...moved.map(
        (member) => `${member} is in no other group, and will be in the group ${DEFAULT_GROUP}: every member is in one`,
      ),
    ];
  },

  nameOf,
  idOf: ({ name }) => name,
  // A removal of a member from two groups must not find it in the other one each time.
  withLock: withClusterLock,
  find: (lxd, { name }) => findClusterGroup(lxd, name),
  findShared: (lxd, { name }) => findClusterGroupShared(lxd, name),
  describe: ({ members }) => (members.length === 0 ? "it has no members" : `its members are ${members.join(", ")}`),
  unmarked: (lxd, { keepsMark }) =>
    keepsMark ? undefined : `${lxd.names.name} does not say who made it; a pulumi up that was killed may have`,
  observe: (_lxd, { description, members }, state) =>
    Promise.resolve({
      inputs: { description, members: sameSet(members, state.members) ? state.members : inOrderOf(state.members, members) },
      outputs: {},
    }),

  async save(context, lxd, { name, description, members }, found) {
    await refuseUnknownMembers(lxd, name, members);
    const put = { description, members, mark: context.mark };
    await (found === undefined ? createClusterGroup(lxd, name, put) : replaceClusterGroup(lxd, found.value, put));
    return {};
  },

  writeMark: (lxd, { description }, found, mark) => markClusterGroup(lxd, found.value, mark, description),
  remove: (_context, lxd, _state, found) => deleteClusterGroup(lxd, found.value),
});

function nameOf({ name }: Pick<Inputs, "name">): string {
  return `Cluster group "${name}"`;
}

async function refuseUnknownMembers(lxd: LxdClient, name: string, members: readonly string[]): Promise<void> {
  const { unknown, known } = await findUnknownMembers(lxd, members);
  if (unknown.length > 0) {
    throw new RefusedError(
      `${nameOf({ name })}: members names ${unknown.join(", ")}, which the cluster of ${lxd.host} does not have (its members are ${known.join(", ")})`,
    );
  }
}

/** Returns live members with the known ones first, in their order. */
function inOrderOf(known: readonly string[], live: readonly string[]): string[] {
  return [...known.filter((member) => live.includes(member)), ...live.filter((member) => !known.includes(member)).sort()];
}

/**
 * A group of members of a cluster. `target` of an {@link LxdVm} takes a member of it: `@` and the name of the group.
 *
 * @example
 * ```typescript
 * const gpu = new LxdClusterGroup("gpu", { cluster, name: "gpu", members: ["bcn1"] });
 * new LxdVm("render", {
 *   cluster,
 *   name: "render",
 *   image: { alias: "debian-12" },
 *   target: pulumi.interpolate`@${gpu.name}`,
 * });
 * ```
 */
export class LxdClusterGroup extends LxdResource {
  /** Name of the group. */
  declare readonly name: Output<string>;
  /** Purpose of the group. */
  declare readonly description: Output<string>;
  /** Names of the group's members. */
  declare readonly members: Output<string[]>;

  constructor(name: string, args: LxdClusterGroupArgs, opts?: CustomResourceOptions) {
    super("LxdClusterGroup", name, { ...args }, [], opts);
  }
}
