import { RefusedError } from "../../support/errors";

/**
 * Builds a path. Each inserted value becomes exactly one segment, whatever characters it has.
 * @example api`/1.0/instances/${name}/state`
 * @throws RefusedError for a value that cannot be a segment: the path would lead to another object.
 */
export function api(strings: TemplateStringsArray, ...values: readonly string[]): string {
  return strings.reduce((path, text, index) => path + segment(values[index - 1] ?? "") + text);
}

function segment(name: string): string {
  if (/^\.{0,2}$|\p{Surrogate}/u.test(name)) {
    throw new RefusedError(`${JSON.stringify(name)} is not a name that an object of LXD or Incus can have`);
  }
  return encodeURIComponent(name);
}

export type Query = Readonly<Record<string, string | number | undefined>>;

export function withQuery(path: string, query: Query = {}): string {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) {
      given.set(key, String(value));
    }
  }
  return given.size === 0 ? path : `${path}?${given.toString()}`;
}
