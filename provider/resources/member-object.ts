/**
 * The lifecycle of an object of which every member of a cluster has a part: a storage pool or a network.
 * {@link Differences} holds what a kind adds.
 */
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Lifecycle } from "../engine/lifecycle";
import type { LxdClient } from "../lxd/client/client";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { getServers, getServersShared, type Servers } from "../lxd/cluster/servers";
import { configSchema } from "../lxd/config";
import { memberNameSchema } from "../lxd/names";
import {
  changedConfig,
  changeObject,
  deleteObject,
  type Found,
  faultOf,
  findManaged,
  findManagedShared,
  type MemberObject,
  markObject,
  nameOf,
  type ObjectRef,
  type ObjectType,
  observedConfig,
  refuseUnknownMembers,
  statusesOf,
  viewsOf,
  type WantedConfig,
} from "../lxd/storage-and-networks/member-objects";
import { createObject, describeUnfinished, explainFailure, isUnfinished } from "../lxd/storage-and-networks/two-phase";
import { FailedError, havingChanged, IncompleteError, RefusedError } from "../support/errors";
import { markedObjectLifecycle } from "./marked-object";

/** Returns the inputs that these kinds have in common. */
export function memberObjectInputs(type: ObjectType) {
  const configIn = (place: "config" | "memberConfig") =>
    configSchema.superRefine((config, context) => {
      for (const [key, value] of Object.entries(config)) {
        const message = faultOf(type, place, key, value);
        if (message !== undefined) {
          context.addIssue({ code: "custom", path: [key], message });
        }
      }
    });
  return {
    ...inCluster,
    description: z.string().default(""),
    config: configIn("config").default({}),
    memberConfig: z.record(memberNameSchema, configIn("memberConfig")).default({}),
    adopt: z.boolean().default(false),
  };
}

type CommonInputs = z.output<z.ZodObject<ReturnType<typeof memberObjectInputs>>> & { name: string };

/** The outputs that these kinds have in common. */
export interface MemberObjectOutputs {
  /** LXD's status of the object: `Created`, or `Pending` or `Errored` when it is not finished. */
  status: string;
  /** Status of the object on each member; the member's own status when the member does not answer. */
  memberStatus: Record<string, string>;
}

/** Parts that a kind adds to the common lifecycle. */
export interface Differences<Inputs extends CommonInputs, Outputs extends MemberObjectOutputs>
  extends Pick<
    Lifecycle<Inputs, Outputs>,
    | "kind"
    | "schema"
    | "configOf"
    | "immutable"
    | "stableOutputs"
    | "timeouts"
    | "sameBy"
    | "checkTogether"
    | "previewWarnings"
    | "replacementLoss"
  > {
  refOf(inputs: Inputs): ObjectRef;
  /** Returns what LXD shows as the type of such an object. */
  identity(inputs: Inputs): { readonly driver: string } | { readonly type: string };
  /** Describes the object briefly, for the refusal to take it over. */
  describe(found: MemberObject): string;
  /** Returns the inputs of this kind alone, as LXD reports them. */
  observedInputs?(found: MemberObject): Partial<Inputs>;
  /** Returns the outputs of this kind alone. */
  outputsOf(found: MemberObject, views: ReadonlyMap<string, Found>): Omit<Outputs, keyof MemberObjectOutputs>;
  /** Checks the place of a new object. @throws RefusedError when something else is there. */
  refuseCreate?(lxd: LxdClient, ref: ObjectRef, servers: Servers): Promise<void>;
  /** Checks a change. @throws RefusedError for a change that LXD would not make. */
  refuseChange?(lxd: LxdClient, ref: ObjectRef, servers: Servers, wanted: WantedConfig): Promise<void>;
}

/** Returns the lifecycle of a kind. */
export function memberObjectLifecycle<Inputs extends CommonInputs, Outputs extends MemberObjectOutputs>(
  own: Differences<Inputs, Outputs>,
): Lifecycle<Inputs, Outputs> {
  type State = Inputs & Outputs;

  const changedIn = (state: State, inputs: Inputs): string[] =>
    changedConfig(own.refOf(inputs).type, state, inputs, Object.keys(state.memberStatus));

  const outputsOf = (found: MemberObject, servers: Servers, views: ReadonlyMap<string, Found>): Outputs => {
    const common: MemberObjectOutputs = { status: found.status, memberStatus: statusesOf(servers, views) };
    return { ...common, ...own.outputsOf(found, views) } as Outputs;
  };

  return markedObjectLifecycle<Inputs, Outputs, Found>({
    ...own,
    schemaVersion: 1,

    sameBy: {
      ...own.sameBy,
      // The config of an unfinished object has no effect yet.
      config: (_observed, _wanted, state, inputs) =>
        !changedIn(state, inputs).includes("config") && state.status !== "Pending" && state.status !== "Errored",
      memberConfig: (_observed, _wanted, state, inputs) => !changedIn(state, inputs).includes("memberConfig"),
    } as NonNullable<Lifecycle<Inputs, Outputs>["sameBy"]>,

    nameOf: (inputs) => nameOf(own.refOf(inputs)),
    idOf: (inputs) => idOf(own.refOf(inputs)),
    withLock: withClusterLock,
    find: (lxd, inputs) => findManaged(lxd, own.refOf(inputs)),
    findShared: (lxd, inputs) => findManagedShared(lxd, own.refOf(inputs)),
    // An object that is only defined has no owner's mark yet. Finishing it loses nothing.
    isFree: ({ status }) => status === "Pending",
    refuseOther: (lxd, found, inputs) => refuseOther(lxd, own.refOf(inputs), found, own.identity(inputs)),

    async observe(lxd, found, state) {
      const servers = await getServersShared(lxd);
      const ref = own.refOf(state);
      const views = await viewsOf(lxd, ref, servers);
      const config = observedConfig(ref.type, state, found.config ?? {}, views);
      const inputs = { description: found.description, ...config, ...own.observedInputs?.(found) } as Partial<Inputs>;
      return { inputs, outputs: outputsOf(found, servers, views) };
    },

    async save(context, lxd, inputs, before, state) {
      const ref = own.refOf(inputs);
      const { description, config, memberConfig } = inputs;
      const wanted = { description, config, memberConfig, mark: context.mark };
      const servers = await getServers(lxd);
      const change = async (found: Found): Promise<Outputs> => {
        await own.refuseChange?.(lxd, ref, servers, wanted);
        await changeObject(lxd, ref, servers, found, wanted, state?.config ?? {});
        const after = (await findManaged(lxd, ref)) ?? found;
        return outputsOf(after.value, servers, await viewsOf(lxd, ref, servers));
      };
      refuseUnknownMembers(lxd, ref, servers, memberConfig);
      if (before !== undefined && !isUnfinished(before)) {
        return change(before);
      }
      await (before === undefined ? own.refuseCreate?.(lxd, ref, servers) : own.refuseChange?.(lxd, ref, servers, wanted));
      try {
        const creation = { ...wanted, ref, identity: own.identity(inputs) };
        await createObject(lxd, servers, creation, before, (text) => context.progress(text));
      } catch (error) {
        const left = await describeUnfinished(lxd, servers, ref, error);
        if (left === undefined) {
          throw explainFailure(lxd, servers, ref, error);
        }
        const outputs = outputsOf(left.found.value, servers, left.views);
        throw new IncompleteError(idOf(ref), outputs, left.message, { cause: error });
      }
      const made = await findManaged(lxd, ref);
      if (made === undefined) {
        throw new FailedError(`${nameOf(ref)} was created on ${lxd.host}, and then removed by someone else. Run pulumi up again`);
      }
      return havingChanged(() => change(made));
    },

    writeMark: (lxd, state, found, mark) => markObject(lxd, own.refOf(state), found, mark),
    remove: (_context, lxd, state) => deleteObject(lxd, own.refOf(state)),
  });
}

function idOf({ project, name }: ObjectRef): string {
  return project === undefined ? name : `${project}/${name}`;
}

/** Checks the type of an existing object. @throws RefusedError when it is not the wanted type. */
function refuseOther(lxd: LxdClient, ref: ObjectRef, found: MemberObject, identity: Readonly<Record<string, string>>): void {
  for (const [property, wanted] of Object.entries(identity)) {
    if (found[property] !== wanted) {
      throw new RefusedError(
        `${nameOf(ref)} already exists on ${lxd.host}, with ${property} ${String(found[property])} instead of ${wanted}. ` +
          "Choose another name, or remove it first",
      );
    }
  }
}
