import { isDeepStrictEqual } from "node:util";

/** Whether two plain JSON values are equal. The order of keys does not matter; `undefined` members count as absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(withoutUndefined(a), withoutUndefined(b));
}

/** Whether two lists have the same members. Order and repetition do not matter. */
export function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.every((member) => b.includes(member)) && b.every((member) => a.includes(member));
}

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

/** JSON text that is the same for equal data: members are sorted by name. The engine passes maps in any order. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) =>
    member !== null && typeof member === "object" && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
