/**
 * The lifecycle of an object that LXD identifies by name and that has its owner's mark in its config: a profile, a project. It
 * adopts, refuses, marks and removes by that mark. {@link MarkedObject} holds what a kind adds.
 */
import type { Context, Lifecycle } from "../engine/lifecycle";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import { type Config, OWNER_KEY } from "../lxd/config";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import { RefusedError } from "../support/errors";

interface CommonInputs {
  readonly cluster: ClusterConnection;
  readonly adopt: boolean;
}

/** An object as read, with the ETag that guards its next change. */
interface Found {
  readonly value: { readonly config?: Config | null | undefined };
  readonly etag: string | undefined;
}

/** Parts of a lifecycle that do not depend on the mark. */
export type CommonLifecycle<Inputs extends object, Outputs extends object> = Omit<
  Lifecycle<Inputs, Outputs>,
  "create" | "read" | "update" | "mark" | "delete"
>;

/** Parts that a kind adds. */
export interface MarkedObject<Inputs extends CommonInputs, Outputs extends object, Object extends Found>
  extends CommonLifecycle<Inputs, Outputs> {
  /** The object at the start of a message: `Profile "web" of project "default"`. */
  nameOf(inputs: Inputs): string;
  idOf(inputs: Inputs): string;
  /** Runs work on the object without interference by other work of this process. @default runs it at once */
  withLock?<Result>(lxd: LxdClient, work: () => Promise<Result>): Promise<Result>;
  /**
   * Finds the object.
   * @param state - Absent when the object is not in state.
   */
  find(lxd: LxdClient, inputs: Inputs, state?: Inputs & Outputs): Promise<Object | undefined>;
  /** `find` for a refresh, which reads many at once. @default `find` */
  findShared?(lxd: LxdClient, state: Inputs & Outputs): Promise<Object["value"] | undefined>;
  /** Describes the object briefly, for the refusal to take it over. */
  describe(found: Object["value"], inputs: Inputs): string;
  /** What it means that the object has no mark, for the refusal. @default "it was not made by Pulumi" */
  unmarked?(lxd: LxdClient, found: Object["value"]): string | undefined;
  /** Whether the object may be taken over without `adopt`. @default never */
  isFree?(found: Object["value"], inputs: Inputs): boolean;
  /** Checks an object before it is taken over. @throws RefusedError when it cannot become the wanted object. */
  refuseOther?(lxd: LxdClient, found: Object["value"], inputs: Inputs): void;
  observe(
    lxd: LxdClient,
    found: Object["value"],
    state: Inputs & Outputs,
    context: Context,
  ): Promise<{ inputs: Partial<Inputs>; outputs: Outputs }>;
  /**
   * Creates or changes the object as wanted, with `context.mark`.
   * @param found - Absent when the object does not exist.
   * @param state - Absent when the object is not in state.
   */
  save(
    context: Context,
    lxd: LxdClient,
    inputs: Inputs,
    found: Object | undefined,
    state: (Inputs & Outputs) | undefined,
  ): Promise<Outputs>;
  /** Writes a mark and nothing else. */
  writeMark(lxd: LxdClient, state: Inputs & Outputs, found: Object, mark: string): Promise<void>;
  remove(context: Context, lxd: LxdClient, state: Inputs & Outputs, found: Object): Promise<void>;
}

/** The lifecycle of a kind. */
export function markedObjectLifecycle<Inputs extends CommonInputs, Outputs extends object, Object extends Found>(
  own: MarkedObject<Inputs, Outputs, Object>,
): Lifecycle<Inputs, Outputs> {
  const onObject = async <Result>(
    context: Context,
    inputs: Inputs,
    state: (Inputs & Outputs) | undefined,
    work: (lxd: LxdClient, found: Object | undefined) => Promise<Result>,
  ): Promise<Result> => {
    const lxd = await context.lxd(inputs.cluster);
    const run = async (): Promise<Result> => work(lxd, await own.find(lxd, inputs, state));
    return own.withLock === undefined ? run() : own.withLock(lxd, run);
  };
  const markOf = ({ config }: Object["value"]): string | undefined => config?.[OWNER_KEY];

  return {
    ...own,

    create: (context, inputs) =>
      onObject(context, inputs, undefined, async (lxd, found) => {
        if (found !== undefined) {
          own.refuseOther?.(lxd, found.value, inputs);
          claim({
            what: own.nameOf(inputs),
            host: lxd.host,
            description: own.describe(found.value, inputs),
            config: found.value.config ?? {},
            urn: context.urn,
            adopt: inputs.adopt || (own.isFree?.(found.value, inputs) ?? false),
            unmarked: own.unmarked?.(lxd, found.value),
          });
        }
        return { id: own.idOf(inputs), outputs: await own.save(context, lxd, inputs, found, undefined) };
      }),

    async read(context, _id, state) {
      const lxd = await context.lxd(state.cluster);
      const value = own.findShared ? await own.findShared(lxd, state) : (await own.find(lxd, state, state))?.value;
      return value === undefined ? undefined : { ...(await own.observe(lxd, value, state, context)), mark: markOf(value) };
    },

    update: (context, _id, state, inputs) =>
      onObject(context, inputs, state, (lxd, found) => {
        if (found === undefined) {
          throw new RefusedError(
            `${own.nameOf(inputs)} no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up to create it again`,
          );
        }
        refuseTakenOver(own.nameOf(inputs), lxd.host, markOf(found.value), context);
        return own.save(context, lxd, inputs, found, state);
      }),

    mark: (context, _id, state) =>
      onObject(context, state, state, async (lxd, found) => {
        if (found !== undefined) {
          refuseTakenOver(own.nameOf(state), lxd.host, markOf(found.value), context);
          await own.writeMark(lxd, state, found, context.mark);
        }
      }),

    delete: (context, _id, state) =>
      onObject(context, state, state, async (lxd, found) => {
        if (found !== undefined && !isLeftToOthers(own.nameOf(state), lxd.host, markOf(found.value), context)) {
          await own.remove(context, lxd, state, found);
        }
      }),
  };
}
