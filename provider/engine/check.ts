import type * as z from "zod";
import { locate, unknownKeyReason, wording } from "./issues";
import type { CheckFailure } from "./lifecycle";
import { containsUnknown, isUnknownAt, type Properties } from "./properties";

/** Deeper than any value that a resource takes. Recursion over inputs is safe up to here. */
const DEEPEST = 32;

/** Half of a UTF-16 pair alone: it is not text, and a request cannot carry it. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Validates inputs against a schema and fills in its defaults. A property that contains something unknown is passed on unchanged,
 * and only its known parts are judged. The update checks it again with its value.
 * @returns `complete`: whether all is valid and known.
 */
export function checkProperties(
  schema: z.ZodObject,
  inputs: Properties,
): { inputs: Properties; failures: CheckFailure[]; complete: boolean } {
  const failures: CheckFailure[] = Object.keys(inputs)
    .filter((name) => !Object.hasOwn(schema.shape, name))
    .map((property) => ({ property, reason: unknownKeyReason(property, Object.keys(schema.shape)) }));
  const checked: Properties = {};
  for (const [name, propertySchema] of Object.entries(schema.shape)) {
    const unusable = unusableIn(name, inputs[name]);
    if (unusable.length > 0) {
      failures.push(...unusable);
      continue;
    }
    // Pulumi passes null for "not given".
    const given = asJson(inputs[name] ?? undefined);
    const result = (propertySchema as z.ZodType).safeParse(given, { error: wording });
    if (containsUnknown(given)) {
      checked[name] = given;
    } else if (result.success && result.data !== undefined) {
      checked[name] = result.data;
    }
    for (const { path, isUnknownKey, reason } of result.error?.issues.flatMap((issue) => locate(issue)) ?? []) {
      if (isUnknownKey === true || !isUnknownAt(given, path)) {
        failures.push({ property: [name, ...path].map(String).join("."), reason });
      }
    }
  }
  return { inputs: checked, failures, complete: failures.length === 0 && !containsUnknown(checked) };
}

/** What no schema can judge in a property, at any depth. Without recursion, because a value may have any depth. */
function unusableIn(name: string, value: unknown): CheckFailure[] {
  const failures: CheckFailure[] = [];
  const open: { path: string[]; value: unknown }[] = [{ path: [name], value }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path } = next;
    const fail = (reason: string, at = path): void => void failures.push({ property: at.join("."), reason });
    if (typeof next.value === "string" && LONE_SURROGATE.test(next.value)) {
      fail("is not text: it holds half of a surrogate pair");
    } else if (typeof next.value === "number" && !Number.isFinite(next.value)) {
      fail("must be a finite number");
    } else if (next.value !== null && typeof next.value === "object") {
      if (path.length > DEEPEST) {
        fail("is nested too deeply", path.slice(0, 3));
        continue;
      }
      for (const [key, member] of Object.entries(next.value)) {
        const at = [...path, key];
        if (Object.hasOwn(Object.prototype, key) || LONE_SURROGATE.test(key)) {
          fail("is not a usable name", at);
        }
        open.push({ path: at, value: member });
      }
    }
  }
  return failures;
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

/**
 * A failure as the engine shows it: shortened, without secrets, and with the property in the text. With a property of its own,
 * the engine would also print the property's value, and "<nil>" for a nested one.
 */
export function forEngine({ property, reason }: CheckFailure, safe: (text: string) => string): CheckFailure {
  return { property: "", reason: `${atMost(200, safe(property))} ${atMost(1000, safe(reason))}` };
}

function atMost(length: number, text: string): string {
  return text.length <= length ? text : `${text.slice(0, length).replace(/\p{Surrogate}$/u, "")}... (${text.length} characters)`;
}
