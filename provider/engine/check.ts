import type * as z from "zod";
import { unusableIn } from "./input-limits";
import { locate, unknownKeyReason, wording } from "./issues";
import type { CheckFailure } from "./lifecycle";
import { containsUnknown, isUnknownAt } from "./unknowns";

type Properties = Record<string, unknown>;

/**
 * Validates inputs against a schema and fills in its defaults. A property that contains something unknown is passed on
 * unchanged, and only its known parts are judged. The update checks it again with its value.
 */
export function checkProperties(
  schema: z.ZodObject,
  inputs: Properties,
): { inputs: Properties; failures: CheckFailure[]; complete: boolean } {
  const failures: CheckFailure[] = [];
  const checked: Properties = {};
  for (const name of Object.keys(inputs)) {
    if (!Object.hasOwn(schema.shape, name)) {
      failures.push({ property: name, reason: unknownKeyReason(name, Object.keys(schema.shape)) });
    }
  }
  let complete = failures.length === 0;
  for (const [name, propertySchema] of Object.entries(schema.shape)) {
    const unusable = unusableIn(name, inputs[name]);
    if (unusable.length > 0) {
      failures.push(...unusable);
      complete = false;
      continue;
    }
    // Pulumi passes null for "not given".
    const given = asJson(inputs[name] ?? undefined);
    const unknown = containsUnknown(given);
    const result = (propertySchema as z.ZodType).safeParse(given, { error: wording });
    if (unknown) {
      checked[name] = given;
      complete = false;
    } else if (result.success && result.data !== undefined) {
      checked[name] = result.data;
    }
    const issues = result.success ? [] : result.error.issues.flatMap((issue) => locate(issue));
    for (const { path, unknownKey, reason } of issues) {
      if (unknownKey !== undefined || !isUnknownAt(given, path)) {
        failures.push({ property: [name, ...path].map(String).join("."), reason });
        complete = false;
      }
    }
  }
  return { inputs: checked, failures, complete };
}

/** The value as state returns it: without what is not given, which arrives as null, and without the minus of -0. */
function asJson(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((member: unknown) => asJson(member) ?? null);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== null && member !== undefined)
        .map(([key, member]) => [key, asJson(member)]),
    );
  }
  return value === 0 ? 0 : value;
}
