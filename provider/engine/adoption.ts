import { isServerMade, sameConfigValue } from "../lxd/config";
import { describeOwner, isOwnMark, isUnfinishedWork } from "../lxd/ownership";
import { sameJson } from "../support/equality";
import { mayBeSecret } from "../support/secrets";
import type { Properties } from "./properties";

/** Keys of values that are not secret, but too long for a screen. */
const LONG = /^(authorizedKeys$|content(Base64)?$|raw\.)/;

/** @param urn - Of the resource that adopts the object. */
export function describeAdoption(mark = "", urn: string, changes: readonly string[]): string {
  const effect = changes.length === 0 ? "nothing in it changes" : `would change ${changes.join(", ")}`;
  return `Adopts the existing object${describeFormerOwner(mark, urn)}: ${effect}`;
}

function describeFormerOwner(mark: string, urn: string): string {
  if (mark === "" || isUnfinishedWork(mark, urn)) {
    return "";
  }
  return isOwnMark(mark, urn)
    ? " that has this resource's own mark (its state was lost, or another stack has it and will lose the object)"
    : ` of ${describeOwner(mark)}`;
}

/** The differences in the named properties, each with both values: `config.limits.cpu "2" -> "4"`. */
export function describeChanges(names: readonly string[], live: object, wanted: object): string[] {
  const [before, after] = [live, wanted] as Properties[];
  return names.flatMap((name) => {
    const changes = changesAt(name, name, before?.[name], after?.[name]);
    return changes.length === 0 ? [name] : changes; // the values alone do not show the difference
  });
}

function changesAt(path: string, key: string, live: unknown, wanted: unknown): string[] {
  if (isMap(live) && isMap(wanted)) {
    const keys = [...new Set([...Object.keys(live), ...Object.keys(wanted)])].filter((each) => !isServerMade(each));
    return keys.flatMap((each) => changesAt(`${path}.${each}`, each, live[each], wanted[each]));
  }
  const same = isText(live) && isText(wanted) ? sameConfigValue(key, live, wanted) : sameJson(live, wanted);
  if (same) {
    return [];
  }
  return isHidden(key, live) || isHidden(key, wanted) ? [path] : [`${path} ${shown(live)} -> ${shown(wanted)}`];
}

function isHidden(key: string, value: unknown): boolean {
  const holdsHidden =
    value !== null && typeof value === "object" && Object.entries(value).some(([each, member]) => isHidden(each, member));
  return holdsHidden || mayBeSecret(key, value) || LONG.test(key);
}

function shown(value: unknown): string {
  return value === undefined ? "unset" : JSON.stringify(value);
}

function isMap(value: unknown): value is Readonly<Properties> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function isText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}
