/**
 * What a drift table is made of. Each kind of resource has one: an entry for each of its properties, inputs and outputs alike, which
 * says how it can come to differ from the program and what is then done. The same entry is a row of docs/guide/drift-table.md and a
 * test, so that neither can say what the other does not.
 */
import type { Lifecycle } from "../../../provider/engine/lifecycle";
import type { Hand } from "./by-hand";
import type { World } from "./world";

/** What is done about a drift. The texts are the legend of the page. */
export const ANSWERS = {
  repaired: "the preview shows it as an update of that property, and `pulumi up` undoes it",
  "made again": "the preview shows that the object will be created, and `pulumi up` makes it",
  replaced: "the preview shows a replacement, and `pulumi up` removes the object and makes it again",
  refused:
    "the preview shows it, and says that it will be refused; `pulumi up` changes nothing, and its error names the object, the property and the cure",
  deferred:
    "the preview shows it; `pulumi up` writes it, and ends with an error that names each running instance that takes it only when it is next stopped",
  error: "the preview itself ends with an error that names the host; nothing is planned and nothing forgotten",
  shown: "the output follows what is there, and nothing is planned",
  "left alone": "it is no difference to the program: nothing is shown, nothing is changed, nothing is lost",
  "cannot drift": "nothing outside of the program can change it",
} as const;

/** What the error, or the reason, tells to do: by hand, or in the program. After it `pulumi up` is fine. */
export type Cure = Hand | readonly Hand[] | { readonly program: object };

interface Drift {
  /** What someone does behind the library's back. */
  readonly byHand: Hand | readonly Hand[];
  /** Why that is the answer, for a person. */
  readonly why: string;
  /** Which of the kind's programs it is about. @default "usual" */
  readonly program?: string;
  /** A key whose value LXD chooses anew, so that it is not what it was. */
  readonly chosenAnew?: string;
}

/** One way in which a property drifts, and the answer. */
export type Case =
  | (Drift & {
      readonly answer: "repaired" | "replaced";
      /** Inputs that the preview names, when they are others than the property itself. */
      readonly shows?: readonly string[];
      /** Why an instance is stopped in the course of it; without, that is a failure. */
      readonly stops?: string;
      /** Whether LXD is started anew on a host that holds nothing; without, that is a failure. */
      readonly startsLxdAnew?: true;
    })
  | (Drift & { readonly answer: "made again" })
  | (Drift & {
      readonly answer: "refused";
      readonly shows?: readonly string[];
      /** What the error of `pulumi up` says. */
      readonly says: RegExp;
      readonly cure: Cure;
    })
  | (Drift & { readonly answer: "error" | "deferred"; readonly says: RegExp; readonly cure: Cure })
  | (Drift & {
      readonly answer: "shown" | "left alone";
      /** What ends it, when the next entry could not be tried otherwise. */
      readonly cure?: Cure;
    })
  | { readonly answer: "cannot drift"; readonly why: string };

/** What is known of a property. */
export type Entry = Case | readonly [Case, ...Case[]];

/** Entries for the object itself, and for each property of it. */
interface Entries {
  /** What happens to the object as a whole, by what it is called on the page. */
  readonly object: Readonly<Record<string, Entry>>;
  readonly inputs: Readonly<Record<string, Entry>>;
  readonly outputs: Readonly<Record<string, Entry>>;
}

/** All of one kind. */
export interface DriftTable extends Entries {
  readonly lifecycle: Lifecycle<never, never>;
  /** Arguments of the usual program, but for those that say how the object is reached. */
  readonly given: object;
  /** Hosts with all that an object of the kind needs. */
  start(program: string): Promise<World>;
  /** Further programs: the usual arguments with a difference. */
  readonly programs: Readonly<Record<string, object>>;
}

/**
 * A table in which TypeScript misses the entry of every property that has none.
 * @param lifecycle - The kind; its inputs and outputs are those that need entries.
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

/** A property that says how the object is reached, waited for or treated. */
export function how(why: string): Case {
  return { answer: "cannot drift", why: `it says how, not what: ${why}` };
}

/** The entries of what all kinds have for reaching an object. */
export const TIMEOUTS = how("how long to wait");
export const CLUSTER = how("where LXD is reached");

/** All cases of a table, with the property, or the name of the row, that each stands under. */
export function casesOf(table: DriftTable): { part: keyof Entries; name: string; entry: Case }[] {
  return (["object", "inputs", "outputs"] as const).flatMap((part) =>
    Object.entries(table[part]).flatMap(([name, entry]) =>
      (Array.isArray(entry) ? (entry as readonly Case[]) : [entry as Case]).map((each) => ({ part, name, entry: each })),
    ),
  );
}
