/**
 * The lifecycle of an object of which every member of a cluster has a part: a storage pool or a network. {@link Differences}
 * holds what a kind adds.
 */
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import type { LxdClient } from "../lxd/client/client";
import { isServerFailure } from "../lxd/client/transient-failures";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { getServers, getServersShared, type Servers } from "../lxd/cluster/servers";
import { countUsers } from "../lxd/in-use";
import { memberNameSchema } from "../lxd/names";
import { isUnfinished, makeObject } from "../lxd/storage-and-networks/creation";
import {
  changeObject,
  deleteObject,
  type Found,
  findManaged,
  findManagedShared,
  type Identity,
  idOf,
  type MemberObject,
  markObject,
  nameOf,
  type ObjectRef,
  type ObjectType,
  readOnMembers,
  refuseOtherType,
  refuseUnknownMembers,
  statusesOf,
  type Views,
} from "../lxd/storage-and-networks/member-objects";
import { changedConfig, configSchemaOf, observedConfig } from "../lxd/storage-and-networks/object-config";
import { pause } from "../support/deadline";
import { sameJson } from "../support/equality";
import { adding, hasCode, havingChanged, messageOf } from "../support/errors";
import { type CommonLifecycle, markedObjectLifecycle } from "./marked-object";

/** The inputs that these kinds have in common. */
export function memberObjectInputs(type: ObjectType) {
  return {
    ...inCluster,
    description: z.string().default(""),
    config: configSchemaOf(type, "config").default({}),
    memberConfig: z.record(memberNameSchema, configSchemaOf(type, "memberConfig")).default({}),
    adopt: z.boolean().default(false),
  };
}

type CommonInputs = z.output<z.ZodObject<ReturnType<typeof memberObjectInputs>>> & { name: string };

/** The outputs that these kinds have in common. */
export type MemberObjectOutputs = { status: string; memberStatus: Record<string, string> };

/** Why the server failed, by facts that it does not tell. */
export interface FailureFacts {
  /** For the error; empty when there are none. */
  readonly text: string;
  /** Whether all hosts were asked and have nothing in the way, so that the server may succeed now. */
  readonly mayHavePassed: boolean;
}

/** How often a change is sent that the server fails at, while nothing is in its way. */
const ATTEMPTS = 3;

/** Parts that a kind adds to the common lifecycle. */
export interface Differences<Inputs extends CommonInputs, Outputs extends MemberObjectOutputs>
  extends CommonLifecycle<Inputs, Outputs> {
  refOf(inputs: Inputs): ObjectRef;
  identity(inputs: Inputs): Identity;
  /** The inputs of this kind alone, as LXD reports them. */
  observedInputs?(found: MemberObject): Partial<Inputs>;
  /** Finds out why the server failed to make or change the object. */
  explainFailure?(context: Context, lxd: LxdClient, inputs: Inputs, servers: Servers): Promise<FailureFacts>;
  /** Whether a change replaces the object, as far as its inputs tell. @default the change of one that is immutable */
  isReplaced?(former: Inputs, inputs: Inputs): boolean;
  /** The outputs of this kind alone. */
  outputsOf(found: MemberObject, views: ReadonlyMap<string, Found>): Omit<Outputs, keyof MemberObjectOutputs>;
}

/** The lifecycle of a kind. */
export function memberObjectLifecycle<Inputs extends CommonInputs, Outputs extends MemberObjectOutputs>(
  own: Differences<Inputs, Outputs>,
): Lifecycle<Inputs, Outputs> {
  type State = Inputs & Outputs;

  const changedIn = (state: State, inputs: Inputs): string[] =>
    changedConfig(own.refOf(inputs).type, state, inputs, Object.keys(state.memberStatus));

  const outputsOf = (servers: Servers, found: MemberObject, read: Views): Outputs => {
    const common: MemberObjectOutputs = { status: found.status, memberStatus: statusesOf(servers, read) };
    return { ...common, ...own.outputsOf(found, read.views) } as Outputs;
  };

  /** What `pulumi up` would refuse, with the members and the other objects as they are. */
  const refusals = async (lxd: LxdClient, inputs: Inputs, isNew: boolean): Promise<string[]> => {
    const [ref, identity] = [own.refOf(inputs), own.identity(inputs)];
    const servers = await getServersShared(lxd);
    try {
      refuseUnknownMembers(lxd, ref, servers, inputs.memberConfig);
      await ref.type.refuseConfig?.(lxd, ref, identity, inputs);
      await (isNew ? ref.type.refuseOccupied?.(lxd, ref, servers) : undefined);
    } catch (error) {
      return [`pulumi up will refuse this, unless the program also changes that. ${refusalIn(error)}`];
    }
    const lacking = isNew ? await ref.type.lackingMembers?.(lxd, { ...inputs, identity }, servers) : undefined;
    return [...(lacking?.values() ?? [])];
  };

  return markedObjectLifecycle<Inputs, Outputs, Found>({
    ...own,

    previewCreation: async (context, inputs) => refusals(await context.lxd(inputs.cluster), inputs, true),

    async previewEffects(context, inputs, former) {
      const lxd = await context.lxd(inputs.cluster);
      const isReplaced =
        former !== undefined && (isRenamed(own.immutable, former, inputs) || own.isReplaced?.(former, inputs) === true);
      if (!isReplaced) {
        return refusals(lxd, inputs, false);
      }
      const users = (await findManaged(lxd, own.refOf(former)))?.value.used_by ?? [];
      return users.length === 0 ? [] : [`${nameOf(own.refOf(former))} is used by ${countUsers(users)}`];
    },

    sameBy: {
      ...own.sameBy,
      // The config of an unfinished object has no effect yet.
      config: (_observed, _wanted, state, inputs) => !changedIn(state, inputs).includes("config") && !isUnfinished(state),
      memberConfig: (_observed, _wanted, state, inputs) => !changedIn(state, inputs).includes("memberConfig"),
    } as NonNullable<Lifecycle<Inputs, Outputs>["sameBy"]>,

    nameOf: (inputs) => nameOf(own.refOf(inputs)),
    idOf: (inputs) => idOf(own.refOf(inputs)),
    withLock: withClusterLock,
    find: (lxd, inputs) => findManaged(lxd, own.refOf(inputs)),
    findShared: (lxd, inputs) => findManagedShared(lxd, own.refOf(inputs)),
    describe: (found, inputs) => own.refOf(inputs).type.describe(found),
    // An object that is only defined has no owner's mark yet. Finishing it loses nothing.
    isFree: ({ status }) => status === "Pending",
    refuseOther: (lxd, found, inputs) => refuseOtherType(lxd, own.refOf(inputs), found, own.identity(inputs)),

    async observe(lxd, found, state, context) {
      const servers = await getServersShared(lxd);
      const ref = own.refOf(state);
      const read = await readOnMembers(lxd, ref, servers);
      // One member's trouble must not fail every refresh, and with it the pulumi up that could mend it.
      for (const [member, error] of read.failing) {
        context.warn(
          `${nameOf(ref)} cannot be read on ${member}, and its part there is taken to be unchanged: ${messageOf(error)}. ` +
            "Install what is missing there, or repair it",
        );
      }
      const config = observedConfig(ref.type, state, found.config ?? {}, read.views);
      const inputs = { description: found.description, ...config, ...own.observedInputs?.(found) } as Partial<Inputs>;
      return { inputs, outputs: outputsOf(servers, found, read) };
    },

    async save(context, lxd, inputs, before, state) {
      const ref = own.refOf(inputs);
      const { description, config, memberConfig } = inputs;
      const wanted = { description, config, memberConfig, mark: context.mark };
      const servers = await getServers(lxd);
      // The failure, and what state keeps of the object, matter more than facts that cannot be had.
      const factsOf = async (error: unknown): Promise<FailureFacts | undefined> =>
        isOfServer(error) ? own.explainFailure?.(context, lxd, inputs, servers).catch(() => undefined) : undefined;
      const changed = async (found: Found, attempt = 1): Promise<Found> => {
        try {
          await changeObject(lxd, ref, servers, found, wanted, state?.config ?? {});
          return (await findManaged(lxd, ref)) ?? found;
        } catch (error) {
          const { text = "", mayHavePassed = false } = (await factsOf(error)) ?? {};
          // Not what the server refuses, nor a change that it saved nevertheless: a second one would find nothing to do.
          const isFailure = isServerFailure(error) || hasCode(error, "operation");
          const hasTime = context.deadline.remainingMs > context.deadline.seconds * 500; // half of it
          if (!mayHavePassed || !isFailure || !hasTime || attempt === ATTEMPTS) {
            const tried = `It was sent ${attempt} times, and nothing is in its way on the hosts of its members`;
            throw adding(error, [...(mayHavePassed && attempt > 1 ? [tried] : []), ...(text === "" ? [] : [text])].join(". "));
          }
          await pause(attempt * 1000, context.deadline);
          context.progress("sending the change again: the server failed, and nothing is in its way on the hosts");
          return changed((await findManaged(lxd, ref)) ?? found, attempt + 1);
        }
      };
      const change = async (before: Found): Promise<Outputs> => {
        await ref.type.refuseChange?.(lxd, ref, servers, wanted);
        const after = await changed(before);
        return outputsOf(servers, after.value, await readOnMembers(lxd, ref, servers));
      };
      refuseUnknownMembers(lxd, ref, servers, memberConfig);
      await ref.type.refuseConfig?.(lxd, ref, own.identity(inputs), wanted);
      if (before !== undefined && !isUnfinished(before.value)) {
        return change(before);
      }
      const creation = { ...wanted, ref, identity: own.identity(inputs) };
      await (before ? undefined : ref.type.refuseOccupied?.(lxd, ref, servers));
      await (before ? ref.type.refuseChange?.(lxd, ref, servers, wanted) : ref.type.refuseCreate?.(lxd, creation, servers));
      const making = makeObject(lxd, servers, creation, before, {
        outputsOf: (found, views) => outputsOf(servers, found, { views, failing: new Map() }),
        progress: context.progress,
      });
      const made = await making.catch(async (error: unknown) => {
        throw adding(error, (await factsOf(error))?.text ?? "");
      });
      return havingChanged(() => change(made));
    },

    writeMark: (lxd, state, found, mark) => markObject(lxd, own.refOf(state), found, mark),
    remove: (_context, lxd, state) => deleteObject(lxd, own.refOf(state)),
  });
}

function isRenamed<Inputs extends object>(immutable: readonly (keyof Inputs)[], former: Inputs, inputs: Inputs): boolean {
  return immutable.some((name) => !sameJson(former[name], inputs[name]));
}

/** Whether the server itself has answered that it failed. */
function isOfServer(error: unknown): boolean {
  const isCause = (hasCode(error, "incomplete") || hasCode(error, "failed")) && isOfServer(error.cause);
  return hasCode(error, "api") || hasCode(error, "operation") || isCause;
}

/** Returns the message of a refusal, and throws any other error. */
function refusalIn(error: unknown): string {
  if (hasCode(error, "refused")) {
    return error.message;
  }
  throw error;
}
