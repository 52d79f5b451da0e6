import { isDeepStrictEqual } from "node:util";

/** Whether two plain JSON values are equal; the order of object keys does not matter, `undefined` members count as absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(withoutUndefined(a), withoutUndefined(b));
}

/** A deep copy of plain data without `undefined` members. */
export function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(withoutUndefined);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => [key, withoutUndefined(member)]),
    );
  }
  return value;
}
