import type * as z from "zod";
import { containsUnknown, isUnknownAt } from "./unknowns";
import type { CheckFailure } from "./lifecycle";

type Properties = Record<string, unknown>;

/**
 * Validates inputs against a schema and fills in its defaults. A property that holds anything unknown is passed on untouched, and
 * only what is known of it is judged: the update checks it again with its value.
 */
export function checkProperties(
  schema: z.ZodObject,
  inputs: Properties,
): { inputs: Properties; failures: CheckFailure[]; complete: boolean } {
  const failures: CheckFailure[] = [];
  const checked: Properties = {};
  for (const name of Object.keys(inputs)) {
    if (!Object.hasOwn(schema.shape, name)) {
      failures.push({ property: name, reason: `is not a known property${suggestion(name, Object.keys(schema.shape))}` });
    }
  }
  let complete = failures.length === 0;
  for (const [name, propertySchema] of Object.entries(schema.shape)) {
    const given = inputs[name] ?? undefined; // Pulumi hands on null for "not given"
    const unknown = containsUnknown(given);
    const result = (propertySchema as z.ZodType).safeParse(withoutNulls(given));
    if (unknown) {
      checked[name] = given;
      complete = false;
    } else if (result.success && result.data !== undefined) {
      checked[name] = result.data;
    }
    const issues = result.success ? [] : result.error.issues;
    for (const issue of issues) {
      if (!unknown || !isUnknownAt(given, issue.path)) {
        failures.push(...describeIssue(name, issue, given));
        complete = false;
      }
    }
  }
  return { inputs: checked, failures, complete };
}

function describeIssue(name: string, issue: z.core.$ZodIssue, given: unknown): CheckFailure[] {
  const property = [name, ...issue.path].map(String).join(".");
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({ property: `${property}.${key}`, reason: "is not a known property" }));
    case "invalid_union": {
      // The alternative that went furthest is the one that was meant.
      const alternatives = issue.errors.filter((issues) => issues.length > 0);
      const best = alternatives.sort((a, b) => depth(b) - depth(a))[0];
      return best === undefined
        ? [{ property, reason: issue.message }]
        : best.flatMap((inner) => describeIssue(name, { ...inner, path: [...issue.path, ...inner.path] }, given));
    }
    case "invalid_type":
      return [{ property, reason: missing(given, issue.path) ? "is required" : `must be ${article(issue.expected)}` }];
    default:
      return [{ property, reason: lowerFirst(issue.message) }];
  }
}

function depth(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(...issues.map(({ path, code }) => path.length + (code === "invalid_type" ? 0 : 0.5)));
}

function missing(given: unknown, path: readonly PropertyKey[]): boolean {
  let current = given;
  for (const key of path) {
    if (current === null || typeof current !== "object") {
      return false;
    }
    current = (current as Record<PropertyKey, unknown>)[key];
  }
  return current === undefined || current === null;
}

function article(type: string): string {
  return type === "record" ? "an object" : `${/^[aeiou]/.test(type) ? "an" : "a"} ${type}`;
}

function lowerFirst(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(withoutNulls);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== null)
        .map(([key, member]) => [key, withoutNulls(member)]),
    );
  }
  return value;
}

function suggestion(name: string, known: readonly string[]): string {
  const near = known.find((candidate) => distance(name.toLowerCase(), candidate.toLowerCase()) <= 2);
  return near === undefined ? `; known are ${known.join(", ")}` : `; did you mean ${near}?`;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
