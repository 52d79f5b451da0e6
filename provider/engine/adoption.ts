import { isServerMade, sameConfigValue } from "../lxd/config";
import { describeOwner, isOwnMark, isUnfinishedWork } from "../lxd/ownership";
import { sameJson } from "../support/equality";
import { mayBeSecret } from "../support/secrets";

/** Keys of values that are not secret, but too long for a screen. */
const LONG = /^(authorizedKeys$|raw\.)/;

/**
 * The text of a preview about an object that will be adopted.
 * @param mark - The mark of the object.
 * @param urn - Of the resource that adopts it.
 */
export function describeAdoption(mark: string | undefined, urn: string, changes: readonly string[]): string {
  const from =
    mark === undefined || mark === "" || isUnfinishedWork(mark, urn)
      ? ""
      : isOwnMark(mark, urn)
        ? ", which bears the mark of this very resource: its state was lost, or another stack has it, and then loses the object"
        : `, which belongs to ${describeOwner(mark)} until then`;
  const effect = changes.length === 0 ? "nothing in it changes" : `would change ${changes.join(", ")}`;
  return `Adopts what is there${from}: ${effect}`;
}

/** The differences in the named properties, each with both values: `config.limits.cpu "2" -> "4"`. */
export function describeChanges(names: readonly string[], live: object, wanted: object): string[] {
  return names.flatMap((name) => {
    const changes = changesAt(name, name, valueOf(live, name), valueOf(wanted, name));
    return changes.length === 0 ? [name] : changes; // the values alone do not show the difference
  });
}

function changesAt(path: string, key: string, live: unknown, wanted: unknown): string[] {
  if (isMap(live) && isMap(wanted)) {
    const keys = [...new Set([...Object.keys(live), ...Object.keys(wanted)])].filter((each) => !isServerMade(each));
    return keys.flatMap((each) => changesAt(`${path}.${each}`, each, live[each], wanted[each]));
  }
  const same = isText(live) && isText(wanted) ? sameConfigValue(key, live, wanted) : sameJson(live, wanted);
  return same
    ? []
    : [isNotToBeShown(key, live) || isNotToBeShown(key, wanted) ? path : `${path} ${shown(live)} -> ${shown(wanted)}`];
}

function isNotToBeShown(key: string, value: unknown): boolean {
  const isHeld =
    value !== null && typeof value === "object" && Object.entries(value).some(([each, member]) => isNotToBeShown(each, member));
  return isHeld || mayBeSecret(key, value) || LONG.test(key);
}

function shown(value: unknown): string {
  return value === undefined ? "unset" : JSON.stringify(value);
}

function valueOf(map: object, name: string): unknown {
  return (map as Readonly<Record<string, unknown>>)[name];
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function isText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}
