import type * as z from "zod";
import { nearest } from "../support/spelling";

type Issue = z.core.$ZodIssue;

/** Marks issues for which zod has no text, see {@link wording}. */
const NO_WORDS = "fits none of the alternatives";

const OR_LIST = new Intl.ListFormat("en-GB", { type: "disjunction" });

/** An issue at the path where a user would look for it. */
export interface LocatedIssue {
  readonly path: readonly PropertyKey[];
  readonly isUnknownKey?: true;
  readonly reason: string;
}

/** Texts for zod's issues where the schema has none: the second half of a sentence that begins with the property. */
export const wording: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case "invalid_type":
      return issue.input === undefined || issue.input === null ? "is required" : `must be ${noun(issue.expected)}`;
    case "invalid_value":
      return issue.input === undefined
        ? "is required"
        : `must be ${OR_LIST.format(issue.values.map((value) => JSON.stringify(value)))}`;
    case "too_small":
      return issue.origin === "string" && issue.minimum === 1
        ? "must not be empty"
        : `must be ${issue.inclusive ? "at least" : "more than"} ${issue.minimum}${unit(issue.origin)}`;
    case "too_big":
      return `must be ${issue.inclusive ? "at most" : "less than"} ${issue.maximum}${unit(issue.origin)}`;
    case "invalid_union":
      return NO_WORDS;
    case "unrecognized_keys":
      // `locate` splits this text again.
      return issue.keys.map((key) => unknownKeyReason(key, keysOf(issue.inst))).join("\n");
    default:
      return undefined;
  }
};

export function unknownKeyReason(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  const hint = near === undefined ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
  return `is not a known property${known.length === 0 ? "" : `; ${hint}`}`;
}

/** The issues that a user can act on. For a union, those of the alternative that was meant. */
export function locate(issue: Issue, path: readonly PropertyKey[] = []): LocatedIssue[] {
  const at = [...path, ...issue.path];
  switch (issue.code) {
    case "unrecognized_keys": {
      const reasons = issue.message.split("\n");
      return issue.keys.map((key, index) => ({
        path: [...at, key],
        isUnknownKey: true,
        reason: reasons[index] ?? "is not a known property",
      }));
    }
    case "invalid_key":
      return [{ path: at, reason: issue.issues[0]?.message ?? issue.message }];
    case "invalid_union":
      return issue.message === NO_WORDS ? ofAlternatives(issue.errors, at) : [{ path: at, reason: issue.message }];
    default:
      return [{ path: at, reason: issue.message }];
  }
}

function ofAlternatives(alternatives: readonly (readonly Issue[])[], path: readonly PropertyKey[]): LocatedIssue[] {
  const meant = alternatives.find((issues) => !issues.some(tellsApart));
  if (meant !== undefined) {
    return meant.flatMap((issue) => locate(issue, path));
  }
  // No alternative matches. The values of one property distinguish them; report those values.
  const issues = alternatives.flat().filter(tellsApart);
  const deepest = Math.max(0, ...issues.map((issue) => issue.path.length));
  const [first, ...others] = issues.filter((issue) => issue.path.length === deepest);
  if (first === undefined) {
    return [{ path, reason: NO_WORDS }];
  }
  const wishes = [first, ...others].map(({ message }) => message.replace(/^must be /, ""));
  const reason = wishes.includes("is required") ? "is required" : `must be ${OR_LIST.format(new Set(wishes))}`;
  return [{ path: [...path, ...first.path], reason }];
}

/** Whether an issue shows that another alternative of a union was meant. */
function tellsApart({ code, path }: Issue): boolean {
  return code === "invalid_value" || (code === "invalid_type" && path.length === 0);
}

function noun(type: string): string {
  const known: Readonly<Record<string, string>> = { record: "an object", int: "a whole number", array: "a list" };
  return known[type] ?? `${/^[aeiou]/.test(type) ? "an" : "a"} ${type}`;
}

function unit(origin: string): string {
  return origin === "string" ? " characters long" : origin === "array" ? " long" : "";
}

function keysOf(schema: unknown): string[] {
  return Object.keys((schema as Partial<z.ZodObject> | undefined)?.shape ?? {});
}
