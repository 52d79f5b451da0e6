import { isServerMade, sameConfigValue } from "../lxd/config";
import { describeOwner } from "../lxd/ownership";
import { sameJson } from "../support/equality";

/** Free text of the user, and credentials: a live value of these has no business on a screen. */
const PRIVATE = /(^|\.)(cloudInit|cloud-init|environment|user|raw|authorizedKeys|passwordHash)(\.|$)/;

/** What a preview says of an object that is to be adopted. */
export function describeAdoption(mark: string | undefined, changes: readonly string[]): string {
  const from = mark === undefined || mark === "" ? "" : `, which belongs to ${describeOwner(mark)} until then`;
  const effect = changes.length === 0 ? "nothing in it changes" : `would change ${changes.join(", ")}`;
  return `Adopts what is there${from}: ${effect}`;
}

/** What differs in the named properties, each with both values: `config.limits.cpu "2" -> "4"`. */
export function describeChanges(names: readonly string[], live: object, wanted: object): string[] {
  return names.flatMap((name) => {
    const changes = changesAt(name, name, valueOf(live, name), valueOf(wanted, name));
    return changes.length === 0 ? [name] : changes; // what differs is not to be seen in the values alone
  });
}

function changesAt(path: string, key: string, live: unknown, wanted: unknown): string[] {
  if (isMap(live) && isMap(wanted)) {
    const keys = [...new Set([...Object.keys(live), ...Object.keys(wanted)])].filter((each) => !isServerMade(each));
    return keys.flatMap((each) => changesAt(`${path}.${each}`, each, live[each], wanted[each]));
  }
  const same = isText(live) && isText(wanted) ? sameConfigValue(key, live, wanted) : sameJson(live, wanted);
  return same ? [] : [PRIVATE.test(path) ? path : `${path} ${shown(live)} -> ${shown(wanted)}`];
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
