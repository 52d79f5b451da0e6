/** The keys that make a server take snapshots by itself: of instances, of volumes, and of all volumes of a pool. */

/** `@startup` and `@never` are for instances alone; a server refuses them for a volume. */
const ALIASES = "hourly|daily|midnight|weekly|monthly|annually|yearly|startup|never";

const TRIGGER = new RegExp(`^(@(${ALIASES})|[^ @]+( [^ @]+){4})$`, "i");

const SCHEDULE = `must be a cron expression of five fields such as "0 6 * * *", or one or more of @${ALIASES.replaceAll("|", ", @")}, separated by ", "`;

const EXPIRY =
  'must be a time such as "2w" or "1d 12H": numbers with S (seconds), M (minutes), H (hours), d (days), w (weeks), m (months) or y (years), ' +
  "each unit once, separated by single spaces";

/** Explains what is wrong with the value of such a key; `undefined` for a good value, and for other keys. */
export function faultOfSnapshotKey(key: string, value: string): string | undefined {
  const [, name] = /^(?:volume\.)?snapshots\.(schedule|expiry|expiry\.manual|pattern)$/.exec(key) ?? [];
  if (name === undefined || value === "") {
    return undefined;
  }
  if (name === "schedule") {
    return value.split(", ").every((trigger) => TRIGGER.test(trigger)) ? undefined : SCHEDULE;
  }
  if (name === "pattern") {
    return value.includes("/") ? "must not contain slashes, which names of snapshots cannot have" : undefined;
  }
  return isExpiry(value.trim()) ? undefined : EXPIRY;
}

function isExpiry(text: string): boolean {
  const units = text.split(" ").map((part) => /^\d+([SMHdwmy])$/.exec(part)?.[1]);
  return !units.includes(undefined) && new Set(units).size === units.length;
}
