/**
 * Structure of a drift table. Each kind of resource has one, with an entry for each of its inputs and outputs: how it
 * can differ from the program, and the result. The same entry is a row of docs/guide/drift-table.md and a test, so the
 * page is always tested.
 */
import type { Lifecycle } from "../../../provider/engine/lifecycle";
import type { ManualChange } from "./manual-changes";
import type { World } from "./world";

/** Results of a drift. The texts are the legend of the page. */
export const ANSWERS = {
  repaired: "the preview shows an update of that property, and `pulumi up` makes it",
  recreated: "the preview shows that the object will be created, and `pulumi up` creates it",
  replaced: "the preview shows a replacement, and `pulumi up` deletes and recreates the object",
  refused:
    "the preview shows the change and its refusal; `pulumi up` changes nothing, and its error names the object, the property and the remedy",
  deferred:
    "the preview shows the change; `pulumi up` writes it, and ends with an error that names each running instance that applies it only at its next stop",
  error: "the preview itself ends with an error that names the host; nothing is planned, and state is kept",
  shown: "the output shows the current value, and nothing is planned",
  ignored: "no difference to the program: nothing is shown, changed or lost",
  "cannot drift": "nothing outside the program can change it",
} as const;

/** The remedy that the error names: a manual change, or a change of the program. After it `pulumi up` succeeds. */
export type Cure = ManualChange | readonly ManualChange[] | { readonly program: object };

interface Drift {
  /** The change outside the library. */
  readonly byHand: ManualChange | readonly ManualChange[];
  /** The reason for the result, as the page shows it. */
  readonly why: string;
  /** Which program of the table it applies to. @default "usual" */
  readonly program?: string;
  /** A key whose new value LXD chooses, so that it differs from the former one. */
  readonly chosenAnew?: string;
}

/** One drift of a property, and the result. */
export type Case =
  | (Drift & {
      readonly answer: "repaired" | "replaced";
      /** Inputs that the preview names, if they differ from the property itself. */
      readonly shows?: readonly string[];
      /** Why an instance is stopped by the repair; a stop without it fails the test. */
      readonly stops?: string;
      /** Whether LXD is restarted on an empty host; a restart without it fails the test. */
      readonly startsLxdAnew?: true;
    })
  | (Drift & { readonly answer: "recreated" })
  | (Drift & {
      readonly answer: "refused";
      readonly shows?: readonly string[];
      /** Text of the error of `pulumi up`. */
      readonly says: RegExp;
      readonly cure: Cure;
    })
  | (Drift & { readonly answer: "error" | "deferred"; readonly says: RegExp; readonly cure: Cure })
  | (Drift & {
      readonly answer: "shown" | "ignored";
      /** Ends the drift, if the next entry could not be tried otherwise. */
      readonly cure?: Cure;
    })
  | { readonly answer: "cannot drift"; readonly why: string };

/** The cases of a property. */
export type Entry = Case | readonly [Case, ...Case[]];

/** Entries for the object itself, and for each property of it. */
interface Entries {
  /** Changes of the object as a whole, by their name on the page. */
  readonly object: Readonly<Record<string, Entry>>;
  readonly inputs: Readonly<Record<string, Entry>>;
  readonly outputs: Readonly<Record<string, Entry>>;
}

/** The table of one kind. */
export interface DriftTable extends Entries {
  readonly lifecycle: Lifecycle<never, never>;
  /** Arguments of the usual program, except those that describe how to reach the object. */
  readonly given: object;
  /** Hosts with everything that an object of the kind needs. */
  start(program: string): Promise<World>;
  /** Further programs: the usual arguments with a difference. */
  readonly programs: Readonly<Record<string, object>>;
}

/**
 * A table in which TypeScript reports each property without an entry.
 * @param lifecycle - The kind; its inputs and outputs need entries.
 */
export function driftTable<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  table: Omit<DriftTable, "lifecycle" | "inputs" | "outputs"> & {
    readonly inputs: { readonly [Property in keyof Inputs & string]-?: Entry };
    readonly outputs: { readonly [Property in keyof Outputs & string]-?: Entry };
  },
): DriftTable {
  return { ...table, lifecycle: lifecycle as unknown as Lifecycle<never, never> };
}

/** A property that describes how to reach, wait for or treat the object. */
export function how(why: string): Case {
  return { answer: "cannot drift", why: `it affects the method, not the object: ${why}` };
}

/** Entries of the connection properties that all kinds have. */
export const TIMEOUTS = how("how long to wait");
export const CLUSTER = how("how to reach LXD");

/** All cases of a table, each with its property or row name. */
export function casesOf(table: DriftTable): { part: keyof Entries; name: string; entry: Case }[] {
  return (["object", "inputs", "outputs"] as const).flatMap((part) =>
    Object.entries(table[part]).flatMap(([name, entry]) =>
      (Array.isArray(entry) ? (entry as readonly Case[]) : [entry as Case]).map((each) => ({ part, name, entry: each })),
    ),
  );
}
