/**
 * The lifecycles of what is on a machine. Each kind is written once, against the machine's files and commands, and becomes a pair:
 * `VmUser` and `HostUser`. {@link MachineObject} holds what a kind adds.
 */
import * as z from "zod";
import type { Context, Lifecycle, Observed } from "../engine/lifecycle";
import { OWNER_KEY } from "../lxd/config";
import { claim, isLeftToOthers, isOwnMark, REMOVED, readMark, refuseTakenOver } from "../lxd/ownership";
import type { Machine } from "../machine/machine";
import { afterChange, hasCode, havingChanged, IncompleteError, messageOf } from "../support/errors";
import { type Access, IN_INSTANCE, type InInstance, type Inside, type Needs, ON_HOST, type OnHost } from "./machine-access";

/** Parts of a lifecycle that do not depend on the machine. */
type CommonLifecycle<Inputs extends object, Outputs extends object> = Pick<
  Lifecycle<Inputs, Outputs>,
  "schemaVersion" | "timeouts" | "leftAsIs" | "sameBy" | "lookupKeys" | "checkTogether" | "standingWarnings" | "previewWarnings"
>;

/** What a change of a machine gets. */
export interface Work {
  /** The machine that is changed. */
  readonly machine: Machine;
  /** That of the call. */
  readonly context: Context;
  /** The object at the start of a message: `User "alice" of instance "web1"`. */
  readonly what: string;
}

/** What making or changing an object gets. */
export interface SaveWork<Outputs extends object> extends Work {
  /** What an attempt of this call told before LXD or its agent failed. */
  readonly attempted: Outputs | undefined;
  /** Tells that the object exists now, with these outputs. An error that follows keeps it in state. */
  readonly exists: (outputs: Outputs) => void;
}

/** Parts that a kind adds. */
export interface MachineObject<Inputs extends object, Outputs extends object> extends CommonLifecycle<Inputs, Outputs> {
  /** Name of the kind, without the prefix `Vm` or `Host`. */
  readonly kind: string;
  /** Schemas of the inputs, without those that say which machine. */
  readonly shape: z.core.$ZodLooseShape;
  /** See {@link Lifecycle.immutable}. */
  readonly immutable: readonly (keyof Inputs & string)[];
  /** What reading needs of the machine. */
  readonly needs: Needs;
  /** The object without its machine, as messages name it: `User "alice"`. */
  nameOf(inputs: Inputs): string;
  /** The object within its machine, for the id. @param resource - Name of the resource, for an object that has no name. */
  idOf(inputs: Inputs, resource: string): string;
  /** Name of the object's mark. Absent for a kind that owns nothing. */
  readonly markOf?: (inputs: Inputs) => string;
  /** See {@link Lifecycle.replacementLoss}. @param what - See {@link Work.what}. */
  readonly replacementLoss?: (state: Inputs & Outputs, what: string) => string;
  /** Describes an object that is there, for the refusal to take it over. `undefined` when there is none. */
  readonly describe?: (machine: Machine, inputs: Inputs) => Promise<string | undefined>;
  /** The state of an object that is gone while its mark is there, in a kind whose removal ends with its mark. */
  asMissing?(state: Inputs & Outputs): Observed<Inputs, Outputs>;
  /** Keeps what is there, before an object that others made is taken over. @param isOwned - Whether another resource has made it. */
  takeOver?(machine: Machine, inputs: Inputs, isOwned: boolean): Promise<void>;
  /** Looks whether the object can become as wanted. Touches nothing. @throws RefusedError with the cure when it cannot. */
  refuse?(machine: Machine, inputs: Inputs, state: (Inputs & Outputs) | undefined): Promise<void>;
  /** What a preview tells of a machine that runs. @throws RefusedError as `save`. Touches nothing. */
  foresee?(work: Omit<Work, "what">, inputs: Inputs, former: Inputs | undefined): Promise<string[]>;
  /** Reads the object. `undefined` when it is gone. */
  observe(machine: Machine, state: Inputs & Outputs, context: Context): Promise<Observed<Inputs, Outputs> | undefined>;
  /** The state of an object whose machine does not run; `undefined` when nothing is known of it. */
  asKnown(state: Inputs & Outputs): Observed<Inputs, Outputs> | undefined;
  /** Makes the object as wanted, from any state. */
  save(work: SaveWork<Outputs>, inputs: Inputs, state: (Inputs & Outputs) | undefined): Promise<Outputs>;
  /** Whether removing the object changes nothing on the machine, which then need not run. */
  leavesAll?(state: Inputs & Outputs): boolean;
  /** Looks whether the object can be removed. Touches nothing. @throws RefusedError when more would be lost. */
  refuseRemoval?(machine: Machine, state: Inputs & Outputs, context: Context): Promise<void>;
  /** Succeeds when the object is already gone. Absent for a kind that leaves its object as it is: its machine need not run then. */
  readonly remove?: (work: Work, state: Inputs & Outputs) => Promise<void>;
  /**
   * Forgets what was kept for the removal. Present in a kind whose removal may put something else in the object's place, which a
   * repeated removal would take for the object. The mark tells in between that the object is removed, and goes last.
   */
  endRemoval?(machine: Machine, state: Inputs & Outputs): Promise<void>;
}

/** The lifecycles of a pair of kinds: of what is in an instance, and of what is on a host. */
export function machineLifecycles<Inputs extends object, Outputs extends object>(
  own: MachineObject<Inputs, Outputs>,
): { vm: Lifecycle<Inputs & InInstance, Outputs>; host: Lifecycle<Inputs & OnHost, Outputs> } {
  return { vm: lifecycleOf(own, IN_INSTANCE), host: lifecycleOf(own, ON_HOST) };
}

function lifecycleOf<Inputs extends object, Outputs extends object, Where extends object>(
  own: MachineObject<Inputs, Outputs>,
  access: Access<Where>,
): Lifecycle<Inputs & Where, Outputs> {
  const { shape, kind, replacementLoss, markOf, describe, ...common } = own;
  /** Within a sentence: `user "alice"`. */
  const shortName = (inputs: Inputs): string => lowerFirst(own.nameOf(inputs));
  const whatOf = (inputs: Inputs & Where): string => `${own.nameOf(inputs)} of ${access.titleOf(inputs)}`;

  // Refuses an object that is there and is not the resource's.
  const refuseForeign = (
    description: string | undefined,
    mark: string | undefined,
    host: string,
    inputs: Inputs & Where,
    urn: string,
  ): void => {
    if (description !== undefined) {
      const { adopt = false } = inputs as { adopt?: boolean };
      claim({ what: whatOf(inputs), host, description, config: mark === undefined ? {} : { [OWNER_KEY]: mark }, urn, adopt });
    }
  };

  /** The refusal that `pulumi up` would meet, as far as a machine that runs shows it. */
  const previewRefusal = async (
    context: Context,
    inputs: Inputs & Where,
    isNew: boolean,
    former?: Inputs & Where,
  ): Promise<string[]> => {
    try {
      const options = { needs: "commands", mark: markOf?.(inputs), what: shortName(inputs) } as const;
      const seen = await access.look(context, inputs, options, async (machine) => {
        const description = isNew ? await describe?.(machine, inputs) : undefined;
        await own.refuse?.(machine, inputs, undefined);
        return { description, notes: (await own.foresee?.({ machine, context }, inputs, former)) ?? [] };
      });
      if (typeof seen !== "object") {
        return [];
      }
      refuseForeign(seen.value.description, seen.mark, seen.host, inputs, context.urn);
      return seen.value.notes;
    } catch (error) {
      if (!hasCode(error, "refused")) {
        throw error;
      }
      return [`pulumi up will refuse this. ${messageOf(error)}`];
    }
  };

  const save = (context: Context, inputs: Inputs & Where, state?: Inputs & Where & Outputs): Promise<Outputs> => {
    const what = whatOf(inputs);
    // Work in a guest is repeated from its start when LXD restarts.
    let known: Outputs | undefined;
    const exists = (outputs: Outputs): void => {
      known = outputs;
    };
    const work = async (inside: Inside): Promise<Outputs> => {
      const { machine, mark, host } = inside;
      const isNew = state === undefined || mark === REMOVED;
      const found = isNew ? await describe?.(machine, inputs) : undefined;
      if (state === undefined) {
        refuseForeign(found, mark, host, inputs, context.urn);
      } else {
        refuseTakenOver(what, host, mark, context);
      }
      await own.refuse?.(machine, inputs, state);
      if (found !== undefined && !isOwnMark(mark, context.urn)) {
        await own.takeOver?.(machine, inputs, readMark(mark) !== undefined);
      }
      if (markOf !== undefined && context.mark !== "" && mark !== context.mark) {
        // The mark comes first, so that the next run recognizes a half-made object.
        await inside.setMark(context.mark);
      }
      try {
        return await own.save({ machine, context, what, attempted: known, exists }, inputs, state);
      } catch (error) {
        if (known === undefined) {
          throw markOf === undefined ? error : afterChange(error);
        }
        const message = `${what} exists, but is not finished: ${messageOf(error)}. The next pulumi up continues`;
        throw new IncompleteError(access.idOf(inputs, own.idOf(inputs, nameInUrn(context.urn))), known, message, {
          cause: error,
        });
      }
    };
    return access.setUp(context, inputs, { doing: `Setting up ${shortName(inputs)}`, mark: markOf?.(inputs) }, work);
  };

  const lifecycle: Lifecycle<Inputs & Where, Outputs> = {
    ...(common as object as CommonLifecycle<Inputs & Where, Outputs>),
    kind: access.prefix + kind,
    schema: z.strictObject({ ...access.shape, ...shape }),
    immutable: [...access.immutable, ...own.immutable],
    ...(replacementLoss && { replacementLoss: (state: Inputs & Where & Outputs) => replacementLoss(state, whatOf(state)) }),

    previewCreation: (context, inputs, isReplacement) =>
      isReplacement ? Promise.resolve([]) : previewRefusal(context, inputs, true),
    previewEffects: (context, inputs, former) => previewRefusal(context, inputs, false, former),

    async create(context, inputs) {
      return { outputs: await save(context, inputs), id: access.idOf(inputs, own.idOf(inputs, nameInUrn(context.urn))) };
    },

    async read(context, _id, state) {
      const options = { needs: own.needs, mark: markOf?.(state), what: shortName(state) };
      const seen = await access.look(context, state, options, (machine) => own.observe(machine, state, context));
      if (seen === "gone") {
        return undefined;
      }
      const present = seen === "unknown" ? own.asKnown(state) : seen.value;
      const isMarked = typeof seen === "object" && (seen.mark ?? "") !== "";
      const observed = (present ?? (isMarked && Object.hasOwn(state, "schemaVersion") ? own.asMissing?.(state) : undefined)) as
        | Observed<Inputs & Where, Outputs>
        | undefined;
      return observed && { ...observed, ...(seen !== "unknown" && { mark: seen.mark }) };
    },

    update: (context, _id, state, inputs) => save(context, inputs, state),

    ...(markOf && {
      mark: (context: Context, _id: string, state: Inputs & Where & Outputs) =>
        access.writeMark(context, state, markOf(state), (mark, host) => refuseTakenOver(whatOf(state), host, mark, context)),
    }),

    async delete(context, _id, state) {
      const { remove } = own;
      if (remove === undefined || own.leavesAll?.(state) === true) {
        return;
      }
      const what = whatOf(state);
      const doing = `Removing ${shortName(state)}`;
      await access.remove(context, state, { doing, mark: markOf?.(state) }, async (inside) => {
        const { machine, mark, host } = inside;
        if (isLeftToOthers(what, host, mark, context)) {
          return;
        }
        await own.refuseRemoval?.(machine, state, context);
        if (own.endRemoval === undefined) {
          // The mark goes first. An interruption then leaves an object that state knows, not a mark without one.
          await (markOf && inside.setMark(""));
          await havingChanged(() => remove({ machine, context, what }, state));
          return;
        }
        if (mark === undefined) {
          return; // a removal that ended, and was not seen to
        }
        if (mark !== REMOVED) {
          await havingChanged(() => remove({ machine, context, what }, state));
          await inside.setMark(REMOVED);
        }
        await own.endRemoval(machine, state);
        await inside.setMark("");
      });
    },
  };
  return lifecycle;
}

function nameInUrn(urn: string): string {
  return urn.split("::").at(-1) ?? "";
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
