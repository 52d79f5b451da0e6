import type * as z from "zod";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import type { ConfigOwner } from "../lxd/config-keys";
import type { Deadline } from "../support/deadline";
import type { Connection } from "../transport/connection";
import type { SshConnection } from "../transport/ssh";

export type { Connection, SshConnection };

/** What a lifecycle gets besides its data. */
export interface Context {
  /** From `timeouts` of the resource. */
  readonly deadline: Deadline;
  /** Marks what the resource owns. Empty when it is not known. */
  readonly urn: string;
  /** The URN in state. It differs when the resource was renamed or moved since. */
  readonly formerUrn: string;
  /** The claim in state, which is also in the object's mark (lxd/ownership.ts); in a create, the new one. */
  readonly claim: string | undefined;
  /**
   * The mark to write on what is made or changed: `claim` with the URN. In a create, it also says that the create has not ended.
   * Empty without a URN.
   */
  readonly mark: string;
  /** Shows what the call waits for, in the resource's row of Pulumi's display. */
  readonly progress: (text: string) => void;
  /** A warning that stays on the screen. */
  readonly warn: (text: string) => void;
  host(connection: Connection): Promise<SshConnection>;
  /** LXD's API on a host, or on the first host of a cluster that answers. */
  lxd(at: Connection | ClusterConnection, within?: Deadline): Promise<LxdClient>;
}

export interface CheckFailure {
  /** Property path, such as `devices.eth0.hwaddr`. */
  readonly property: string;
  readonly reason: string;
}

export interface Observed<Inputs extends object, Outputs extends object> {
  /** The inputs that the server reports. All others stay as in state. */
  readonly inputs: Partial<Inputs>;
  readonly outputs: Outputs;
  readonly mark?: string | undefined;
}

/**
 * What a kind of resource does, without knowledge of Pulumi: plain async functions over plain data. The adapter makes a dynamic
 * provider of it.
 *
 * State is all inputs plus the outputs, so that reading and deleting need nothing else. Functions without a context are pure.
 */
export interface Lifecycle<Inputs extends object, Outputs extends object> {
  /** The class name. */
  readonly kind: string;
  /** Version of the shape of state; raised when its meaning changes. */
  readonly schemaVersion: number;
  /** Whether the object is the host of `connection`. Only such an object stores changed limits of dialling. */
  readonly isHost?: true;
  /** The only place of defaults and limits. */
  readonly schema: z.ZodObject;
  /** Whose keys of LXD's config the input `config` has; a preview warns of misspelt ones. */
  readonly configOf?: ConfigOwner;
  /** Converts state of an older schema into today's shape. Present from the first raise of `schemaVersion` on. */
  upgrade?(state: Readonly<Record<string, unknown>>, schemaVersion: number): Inputs & Outputs;
  /** Inputs that LXD cannot change in place: another value replaces the object, and the preview says so. */
  readonly immutable: readonly (keyof Inputs & string)[];
  /**
   * Outputs that others are likely to use, each with the inputs whose change may change it. While those stay, a preview knows the
   * output and does not show its users as changing (stable-outputs.ts).
   */
  readonly stableOutputs?: Readonly<Partial<Record<keyof Outputs & string, readonly (keyof Inputs & string)[]>>>;
  /** Default seconds for each call. */
  readonly timeouts: { readonly create: number; readonly update: number; readonly delete: number; readonly read: number };

  /** Rules that concern several inputs at once. Called when all inputs are known and valid by themselves. */
  checkTogether?(inputs: Inputs): CheckFailure[];
  /** What is compared with other resources of the program; `undefined` for one that need not be. Pure. */
  partOfProgram?(inputs: Inputs): object | undefined;
  /**
   * Faults that only several resources of the program together show, as far as they concern this one. Called in every `check` in which all
   * inputs are known. Pure.
   * @param others - Parts of the resources that were checked before.
   */
  compareInProgram?(own: never, others: readonly never[]): { failures: CheckFailure[]; warnings: string[] };
  /** Equality of inputs that are not compared as plain JSON (`differences` of state.ts). Outputs are in `state`. */
  readonly sameBy?: {
    readonly [Name in keyof Inputs]?: (
      observed: Inputs[Name],
      wanted: Inputs[Name],
      state: Inputs & Outputs,
      inputs: Inputs,
    ) => boolean;
  };
  /**
   * Optional inputs whose present value the object keeps while the program does not give them. `read` may always return them:
   * state takes only those that were given.
   */
  readonly leftAsIs?: readonly (keyof Inputs & string)[];
  /** What the user should know before the difference is applied, such as a refusal to restart. */
  previewWarnings?(state: Inputs & Outputs, inputs: Inputs): string[];
  /** What is lost when the object is replaced. Present in every kind that holds data, or on which others depend. */
  replacementLoss?(state: Inputs & Outputs): string;
  /** What every preview reports while it is true, whether or not anything changes. */
  standingWarnings?(state: Inputs & Outputs, inputs: Inputs): string[];
  /**
   * What only LXD knows of an object that will be created, such as its place.
   * @param isReplacement - Whether the object in state will be removed first.
   */
  previewCreation?(context: Context, inputs: Inputs, isReplacement: boolean): Promise<string[]>;
  /**
   * The effects of a change that only LXD knows, such as those on others. Asked in previews of an object in state whose inputs
   * change, and of one that will be adopted.
   * @param former - The former inputs, for an object in state.
   */
  previewEffects?(context: Context, inputs: Inputs, former?: Inputs): Promise<string[]>;
  /** Makes the object, or adopts what an interrupted create left. */
  create(context: Context, inputs: Inputs): Promise<{ id: string; outputs: Outputs }>;
  /** Reads the object, or returns `undefined` when it is gone. Unreachable is an error, never "gone". */
  read(context: Context, id: string, state: Inputs & Outputs): Promise<Observed<Inputs, Outputs> | undefined>;
  /** Outputs by which `read` finds an object that is not in state, to preview an adoption, if the inputs do not suffice. */
  lookupKeys?(inputs: Inputs): Partial<Outputs>;
  /** Makes the object as wanted from any state. Also finishes a half-done create. */
  update(context: Context, id: string, state: Inputs & Outputs, inputs: Inputs): Promise<Outputs>;
  /**
   * Replaces the object's mark by the context's, and changes nothing else. Called when a create has ended, and when the URN of
   * the resource differs from the one in its mark. Absent for a kind that has no place for a mark.
   */
  mark?(context: Context, id: string, state: Inputs & Outputs): Promise<void>;
  /** Removes the object. Succeeds when it is already gone. */
  delete(context: Context, id: string, state: Inputs & Outputs): Promise<void>;
}
