import { isDeepStrictEqual } from "node:util";

/** Whether two plain JSON values are equal. The order of keys does not matter; `undefined` members count as absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(withoutUndefined(a), withoutUndefined(b));
}

/** Whether two lists have the same members. Order and repetition do not matter. */
export function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.every((member) => b.includes(member)) && b.every((member) => a.includes(member));
}

/** Whether two lists have items of the same meanings, in any order. */
export function sameMeanings<Item>(a: readonly Item[], b: readonly Item[], meaningOf: (item: Item) => string): boolean {
  const [left, right] = [a, b].map((items) => items.map(meaningOf).sort());
  return isDeepStrictEqual(left, right);
}

/** Returns the live items: first those whose meaning is known, as the known items and in their order, then all others. */
export function knownFirst<Item>(known: readonly Item[], live: readonly Item[], meaningOf: (item: Item) => string): Item[] {
  const others = [...live];
  const kept = known.filter((item) => {
    const at = others.findIndex((other) => meaningOf(other) === meaningOf(item));
    return at >= 0 && others.splice(at, 1).length > 0;
  });
  return [...kept, ...others];
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
