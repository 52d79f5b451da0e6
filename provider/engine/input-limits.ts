import type { CheckFailure } from "./lifecycle";

/** Deeper than anything that a resource takes. What goes through inputs by recursion is safe up to here. */
const DEEPEST = 32;

/** Half of a UTF-16 pair alone: no text, and nothing that a request could carry. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What no schema could judge in a property, wherever it stands. Without recursion: there is no telling how deep a value is. */
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

/** `text` as a message can hold it. */
export function atMost(length: number, text: string): string {
  return text.length <= length ? text : `${text.slice(0, length).replace(/\p{Surrogate}$/u, "")}... (${text.length} characters)`;
}
