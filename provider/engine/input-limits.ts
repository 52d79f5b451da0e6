import type { CheckFailure } from "./lifecycle";

/** Deeper than any value that a resource takes. Recursion over inputs is safe up to here. */
const DEEPEST = 32;

/** Half of a UTF-16 pair alone: it is not text, and a request cannot carry it. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What no schema can judge in a property, at any depth. Without recursion, because a value may have any depth. */
export function unusableIn(name: string, value: unknown): CheckFailure[] {
  const failures: CheckFailure[] = [];
  const open: { path: string[]; value: unknown }[] = [{ path: [name], value }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path } = next;
    const fail = (reason: string, at = path): void => void failures.push({ property: at.join("."), reason });
    if (typeof next.value === "string") {
      if (LONE_SURROGATE.test(next.value)) {
        fail("is not text: it holds half of a surrogate pair");
      }
    } else if (typeof next.value === "number") {
      if (!Number.isFinite(next.value)) {
        fail("must be a finite number");
      }
    } else if (next.value !== null && typeof next.value === "object") {
      if (path.length > DEEPEST) {
        fail("is nested too deeply", path.slice(0, 3));
        continue;
      }
      for (const [key, member] of Object.entries(next.value)) {
        const at = [...path, key];
        if (Object.hasOwn(Object.prototype, key) || LONE_SURROGATE.test(key)) {
          fail("is not a name that can be used", at);
        }
        open.push({ path: at, value: member });
      }
    }
  }
  return failures;
}

/** `text`, shortened for a message. */
export function atMost(length: number, text: string): string {
  return text.length <= length ? text : `${text.slice(0, length).replace(/\p{Surrogate}$/u, "")}... (${text.length} characters)`;
}
