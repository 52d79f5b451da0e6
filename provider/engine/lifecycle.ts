import type * as z from "zod";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import type { ConfigOwner } from "../lxd/config-keys";
import type { Deadline } from "../support/deadline";
import type { Connection } from "../transport/connection";
import type { SshConnection } from "../transport/ssh";

export type { Connection, SshConnection };

/** What a lifecycle is given besides its data. */
export interface Context {
  /** By when the call must have ended; `timeouts` of the resource. */
  readonly deadline: Deadline;
  /** The resource's URN, which marks what it owns. Empty when it is not known. */
  readonly urn: string;
  /** The URN that state knows it by: another one when it was renamed or moved since. */
  readonly formerUrn: string;
  /** The claim in state, which the object's mark has too (lxd/ownership.ts); in a create, the new one. */
  readonly claim: string | undefined;
  /** The mark to write on what is made or changed: `claim` with the URN, and in a create that it has not ended. Empty without a URN. */
  readonly mark: string;
  /** Shows what is being waited for, in the resource's row of Pulumi's display. */
  progress(text: string): void;
  /** A warning that stays on the screen. */
  warn(text: string): void;
  /** The SSH connection to a host. */
  host(connection: Connection): Promise<SshConnection>;
  /** LXD's API on a host, or on the first host of a cluster that answers; `within` the call's own time, unless another is given. */
  lxd(at: Connection | ClusterConnection, within?: Deadline): Promise<LxdClient>;
}

/** What is wrong with one input. */
export interface CheckFailure {
  /** Property path, such as `devices.eth0.hwaddr`. */
  readonly property: string;
  readonly reason: string;
}

/** An object as it is. */
export interface Observed<Inputs extends object, Outputs extends object> {
  /** What the server tells of the inputs. All others are as state has them. */
  readonly inputs: Partial<Inputs>;
  readonly outputs: Outputs;
  /** The mark that it bears (lxd/ownership.ts). */
  readonly mark?: string | undefined;
}

/**
 * What a kind of resource does, without any knowledge of Pulumi: plain async functions over plain data. The adapter makes a dynamic
 * provider of it.
 *
 * State is all inputs plus the outputs, so that reading and deleting need nothing else.
 */
export interface Lifecycle<Inputs extends object, Outputs extends object> {
  /** The class name, such as "LxdVm". */
  readonly kind: string;
  /** Version of the shape of state; raised when its meaning changes. */
  readonly schemaVersion: number;
  /** Whether the object is the host that `connection` leads to. It alone keeps a change of how patiently that is dialled. */
  readonly isHost?: true;
  /** The only place of defaults and limits. */
  readonly schema: z.ZodObject;
  /** Whose keys of LXD's config the input `config` has; a preview warns of misspelt ones. */
  readonly configOf?: ConfigOwner;
  /** State as an older schema wrote it, in today's shape. Pure. Present from the first raise of `schemaVersion` on. */
  upgrade?(state: Readonly<Record<string, unknown>>, schemaVersion: number): Inputs & Outputs;
  /** Inputs that LXD cannot change in place: another value replaces the object, and the preview says so. */
  readonly immutable: readonly (keyof Inputs & string)[];
  /**
   * Outputs that others are likely to use, each with the inputs whose change may change it. As long as those stay, a preview knows the
   * output, and what uses it is not shown as changing (stable-outputs.ts).
   */
  readonly stableOutputs?: Readonly<Partial<Record<keyof Outputs & string, readonly (keyof Inputs & string)[]>>>;
  /** Default seconds for each call. */
  readonly timeouts: { readonly create: number; readonly update: number; readonly delete: number; readonly read: number };

  /** Rules that concern several inputs at once. Pure. Called when all inputs are known and valid by themselves. */
  checkTogether?(inputs: Inputs): CheckFailure[];
  /** Equality of the inputs that are not compared as plain JSON (differences.ts). Pure. The whole state is for what hangs on outputs. */
  readonly sameBy?: {
    readonly [Name in keyof Inputs]?: (
      observed: Inputs[Name],
      wanted: Inputs[Name],
      state: Inputs & Outputs,
      inputs: Inputs,
    ) => boolean;
  };
  /**
   * Optional inputs of which the object keeps what it has while the program does not give them. `read` may answer them in any case: state
   * takes only those that were given.
   */
  readonly leftAsIs?: readonly (keyof Inputs & string)[];
  /** What a person should know before the difference is applied, such as a refusal to restart. Pure. */
  previewWarnings?(state: Inputs & Outputs, inputs: Inputs): string[];
  /**
   * What is lost when the object is replaced, as a sentence for the preview. Present in every kind that holds data, or on which
   * others depend. Pure.
   */
  replacementLoss?(state: Inputs & Outputs): string;
  /** What a person is told at every preview for as long as it is so, whether or not anything is to be changed. Pure. */
  standingWarnings?(state: Inputs & Outputs, inputs: Inputs): string[];
  /**
   * What a change would do that only LXD can tell, such as to others. Asked in previews, of an object in state whose inputs change, and of
   * one that is to be adopted.
   * @param former - The inputs before, of one in state.
   */
  previewEffects?(context: Context, inputs: Inputs, former?: Inputs): Promise<string[]>;
  /** Makes the object, or adopts what an interrupted create left. */
  create(context: Context, inputs: Inputs): Promise<{ id: string; outputs: Outputs }>;
  /** The object as it is, or `undefined` when it is gone. Unreachable is an error, never "gone". */
  read(context: Context, id: string, state: Inputs & Outputs): Promise<Observed<Inputs, Outputs> | undefined>;
  /** Outputs by which `read` finds an object that is not in state, for the preview of an adoption. Pure. Absent where the inputs are enough. */
  lookupKeys?(inputs: Inputs): Partial<Outputs>;
  /** Makes the object as wanted, whatever it is now; also finishes a half-done create. */
  update(context: Context, id: string, state: Inputs & Outputs, inputs: Inputs): Promise<Outputs>;
  /**
   * Writes the context's mark on the object, in place of the one that it bears, and changes nothing else. Called when a create has ended,
   * and when the resource has another URN than the one it is marked with. Absent where a kind has no place for a mark.
   */
  mark?(context: Context, id: string, state: Inputs & Outputs): Promise<void>;
  /** Removes the object. Already gone is done. */
  delete(context: Context, id: string, state: Inputs & Outputs): Promise<void>;
}
