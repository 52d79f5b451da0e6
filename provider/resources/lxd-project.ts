/**
 * A project: a part of a cluster with its own instances, profiles and images, and with limits and restrictions.
 * @see https://documentation.ubuntu.com/lxd/latest/reference/projects/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { configSchema, forState, marked, sameConfig } from "../lxd/config";
import { projectNameSchema } from "../lxd/names";
import {
  contentsOf,
  createProject,
  deleteProject,
  type FoundProject,
  findProject,
  isFeature,
  keptOf,
  refusalOfChange,
  replaceProject,
} from "../lxd/projects";
import { RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const projectSchema = z.strictObject({
  ...inCluster,
  name: projectNameSchema.refine((name) => name !== "default", "is the project that every server has and that cannot be removed"),
  description: z.string().default(""),
  config: configSchema.default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdProject}. */
export interface LxdProjectArgs {
  /** The cluster, or standalone server, that the project belongs to. */
  cluster: ClusterInput;
  /** Name of the project; not `default`. Another name replaces the project. */
  name: Input<string>;
  /** Purpose of the project. @default "" */
  description?: Input<string>;
  /**
   * Features (`features.images`), limits (`limits.memory`, `limits.instances`) and restrictions (`restricted`,
   * `restricted.devices.disk`). LXD chooses a feature that is not given: it is neither changed nor shown as drift. All other keys
   * that are not given are removed. LXD changes the features of an empty project only.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /** Take over a project of that name that others made. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for every call */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof projectSchema>;

/** See {@link LxdProject}. @internal */
export const projectLifecycle = markedObjectLifecycle<Inputs, object, FoundProject>({
  kind: "LxdProject",
  schemaVersion: 1,
  schema: projectSchema,
  immutable: ["name"],
  configOf: "project",
  timeouts: { create: 60, read: 60, update: 60, delete: 60 },
  sameBy: { config: sameConfig },
  replacementLoss: ({ name }) =>
    `${nameOf({ name })} will be removed, then created again. This is refused while it holds anything`,

  async previewEffects(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const found = await findProject(lxd, inputs.name);
    const refusal = found && refusalOfChange(found.value, inputs.config);
    return refusal === undefined ? [] : [`pulumi up will refuse this. ${refusal}`];
  },

  nameOf,
  idOf: ({ name }) => name,
  find: (lxd, { name }) => findProject(lxd, name),
  describe: (project) => `it holds ${contentsOf(project).join(", ") || "nothing"}`,
  observe: (_lxd, { description, config }, state) => {
    const own = Object.entries(config).filter(([key]) => !isFeature(key) || key in state.config);
    return Promise.resolve({ inputs: { description, config: forState(state.config, Object.fromEntries(own)) }, outputs: {} });
  },

  async save(context, lxd, { name, description, config }, found) {
    if (found === undefined) {
      await createProject(lxd, name, { description, config: marked(config, context.mark) });
      return {};
    }
    const refusal = refusalOfChange(found.value, config);
    if (refusal !== undefined) {
      throw new RefusedError(`${refusal}. Nothing was changed`);
    }
    await replaceProject(lxd, found, (live) => ({
      description,
      config: { ...keptOf(live), ...marked(config, context.mark) },
    }));
    return {};
  },

  writeMark: (lxd, _state, found, mark) =>
    replaceProject(lxd, found, ({ description, config }) => ({ description, config: marked(config, mark) })),

  async remove(_context, lxd, { name }, { value }) {
    const contents = contentsOf(value);
    if (contents.length > 0) {
      throw new RefusedError(
        `${nameOf({ name })} on ${lxd.host} was not removed, because it holds ${contents.join(", ")}. Remove or move these first`,
      );
    }
    await deleteProject(lxd, name);
  },
});

function nameOf({ name }: Pick<Inputs, "name">): string {
  return `Project "${name}"`;
}

/**
 * A project of a cluster.
 *
 * @example
 * ```typescript
 * const shop = new LxdProject("shop", {
 *   cluster,
 *   name: "shop",
 *   config: { "features.images": false, "limits.instances": 20, restricted: true },
 * });
 * new LxdProfile("web", { cluster, project: shop.name, name: "web" });
 * ```
 */
export class LxdProject extends LxdResource {
  /** Name of the project. */
  declare readonly name: Output<string>;
  /** Purpose of the project. */
  declare readonly description: Output<string>;
  /** Config, without what LXD or this package adds. */
  declare readonly config: Output<Record<string, string>>;

  constructor(name: string, args: LxdProjectArgs, opts?: CustomResourceOptions) {
    super("LxdProject", name, { ...args }, [], opts);
  }
}
