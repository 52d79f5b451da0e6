/**
 * LXD's own notation for sizes, as its `shared/units` package reads it: decimal units (kB, MB, GB, ...) are powers of 1000,
 * binary units (KiB, MiB, GiB, ...) powers of 1024. No unit means bytes.
 * @see https://documentation.ubuntu.com/lxd/latest/reference/instance_units/
 */
const MULTIPLIERS: ReadonlyMap<string, bigint> = new Map([
  ["", 1n],
  ["B", 1n],
  [" bytes", 1n],
  ["kB", 1000n],
  ["MB", 1000n ** 2n],
  ["GB", 1000n ** 3n],
  ["TB", 1000n ** 4n],
  ["PB", 1000n ** 5n],
  ["EB", 1000n ** 6n],
  ["KiB", 1024n],
  ["MiB", 1024n ** 2n],
  ["GiB", 1024n ** 3n],
  ["TiB", 1024n ** 4n],
  ["PiB", 1024n ** 5n],
  ["EiB", 1024n ** 6n],
]);

const LARGEST = 2n ** 63n - 1n; // of an int64

/** Bytes of an LXD size such as "48GB", "48GiB" or "1024"; `undefined` when it is not one. */
export function parseSize(text: string): bigint | undefined {
  const match = /^(\d+)( bytes|[A-Za-z]*)$/.exec(text);
  const multiplier = MULTIPLIERS.get(match?.[2] ?? "");
  if (match === null || multiplier === undefined) {
    return undefined;
  }
  const bytes = BigInt(match[1] ?? "0") * multiplier;
  return bytes > LARGEST ? undefined : bytes;
}

/** Whether both are sizes, and the first is the smaller one. */
export function isSmaller(a: string, b: string): boolean {
  const [left, right] = [parseSize(a), parseSize(b)];
  return left !== undefined && right !== undefined && left < right;
}

export function sameSize(a: string, b: string): boolean {
  const left = parseSize(a);
  return left === undefined ? a === b : left === parseSize(b);
}
