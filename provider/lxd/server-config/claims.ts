/** Which resource manages a key of the server config, and what the key's value was before. */
import { RefusedError } from "../../support/errors";
import { mayBeSecret } from "../../support/secrets";
import { sameConfigValue } from "../config";
import { describeOwner, explainTakeover, isOwnMark, isUnfinishedWork, OWN_MARK } from "../ownership";
import {
  asFormer,
  entriesOf,
  type LiveServerConfig,
  liveAt,
  NO_VALUES,
  pathOf,
  recordAt,
  recordsIn,
  type ServerKey,
  type ServerRecord,
  type ServerValue,
  type ServerValues,
  UNRECORDED,
  valueAt,
  valuesOf,
} from "./server-config";

export interface Claimant {
  readonly urn: string;
  readonly claim: string | undefined;
}

/** The keys of a resource, with what is written for them besides their values. */
export interface Claims {
  /** The former values of all wanted keys. */
  readonly former: ServerValues;
  /** The former values of keys that are no longer wanted, to be restored. */
  readonly restored: ServerValues;
  /** Records of others, without the keys that were taken from them. */
  readonly others: readonly ServerRecord[];
}

/**
 * Decides which keys a resource may manage.
 * @param state - The former values of the keys that the resource manages, as state has them.
 * @throws RefusedError naming the key, when another resource manages it, or others have set another value and `adopt` is not given.
 */
export function claimKeys(
  wanted: ServerValues,
  state: ServerValues | undefined,
  live: LiveServerConfig,
  claimant: Claimant & { readonly host: string; readonly adopt: boolean },
): Claims {
  const all = recordsIn(live);
  const own = all.find(({ at }) => at === recordAt(claimant.claim));
  const others = all.filter((record) => record !== own);
  // Of a create of this resource that was killed.
  const leftovers = others.filter(({ mark }) => isUnfinishedWork(mark, claimant.urn));
  const foreign = others.filter((record) => !leftovers.includes(record));
  const taken: ServerKey[] = [];

  const formerOf = (entry: ServerValue): string => {
    const known = valueAt(own?.former, entry);
    const other = foreign.find(({ former }) => valueAt(former, entry) !== undefined);
    const ofState = valueAt(state, entry);
    if (other !== undefined) {
      if (ofState !== undefined && known === undefined) {
        throw new RefusedError(`${pathOf(entry)} on ${claimant.host} was not changed: ${explainTakeover(other.mark)}`);
      }
      if (!claimant.adopt) {
        throw new RefusedError(explainOwner(entry, other.mark, claimant));
      }
      taken.push(entry);
      return valueAt(other.former, entry) ?? "";
    }
    const left = leftovers.map(({ former }) => valueAt(former, entry)).find((value) => value !== undefined);
    const recorded = known ?? left;
    if (recorded !== undefined) {
      return recorded === UNRECORDED ? (ofState ?? recorded) : recorded;
    }
    if (ofState !== undefined) {
      return ofState;
    }
    const value = liveAt(live, entry) ?? "";
    if (value !== "" && !claimant.adopt && !sameConfigValue(entry.key, value, entry.value)) {
      throw new RefusedError(explainOtherValue(entry, value, claimant.host));
    }
    return asFormer(entry.key, value);
  };

  const entries = entriesOf(wanted).map((entry) => ({ ...entry, value: formerOf(entry) }));
  const restored = state === undefined ? [] : formerOfDropped(wanted, state, own, foreign);
  const without = (record: ServerRecord): ServerRecord => ({
    ...record,
    former: valuesOf(
      entriesOf(record.former).filter(({ member, key }) => !taken.some((each) => each.member === member && each.key === key)),
    ),
  });
  return {
    former: valuesOf(entries),
    restored: valuesOf(restored),
    others: [
      ...foreign.filter(({ former }) => taken.some((each) => valueAt(former, each) !== undefined)).map(without),
      ...leftovers.map((record) => ({ ...record, former: NO_VALUES })),
    ],
  };
}

/** The former values of keys in state that are no longer wanted, without those that others have taken. */
function formerOfDropped(
  wanted: ServerValues,
  state: ServerValues,
  own: ServerRecord | undefined,
  foreign: readonly ServerRecord[],
): ServerValue[] {
  return entriesOf(state)
    .filter((entry) => valueAt(wanted, entry) === undefined)
    .filter((entry) => !foreign.some(({ former }) => valueAt(former, entry) !== undefined))
    .map((entry) => {
      const recorded = valueAt(own?.former, entry);
      return recorded === undefined || recorded === UNRECORDED ? entry : { ...entry, value: recorded };
    });
}

/** The mark of the resource that manages one of the keys and is not the claimant. */
export function markOfOther(
  values: ServerValues,
  live: LiveServerConfig,
  { claim }: Pick<Claimant, "claim">,
): string | undefined {
  const all = recordsIn(live);
  const own = all.find(({ at }) => at === recordAt(claim));
  const lost = entriesOf(values).filter((entry) => valueAt(own?.former, entry) === undefined);
  return all.find(({ at, former }) => at !== own?.at && lost.some((entry) => valueAt(former, entry) !== undefined))?.mark;
}

/** The former value as text for a message. */
export function describeFormer({ key, value }: ServerValue): string {
  if (value === "") {
    return "it is unset, as it was before";
  }
  if (value === UNRECORDED) {
    return "it is unset: its former value cannot be read";
  }
  return mayBeSecret(key, value) ? "its former value is restored" : `its former value ${JSON.stringify(value)} is restored`;
}

function explainOwner(entry: ServerKey, mark: string, { host, urn }: { host: string; urn: string }): string {
  return isOwnMark(mark, urn)
    ? `${pathOf(entry)} is already managed on ${host}, and ${OWN_MARK}`
    : `${pathOf(entry)} on ${host} belongs to ${describeOwner(mark)}. Remove it there, or set adopt: true to take it over`;
}

function explainOtherValue({ member, key }: ServerKey, value: string, host: string): string {
  const shown = mayBeSecret(key, value) ? "" : ` to ${JSON.stringify(value)}`;
  return (
    `${pathOf({ member, key })} is already set${shown} on ${member === "" ? host : member}, and not by a resource that manages it. Set adopt: true ` +
    "to manage it from here; its present value is restored when it is no longer managed"
  );
}
