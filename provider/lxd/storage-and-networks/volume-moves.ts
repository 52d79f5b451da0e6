/**
 * Copies of custom volumes, and moves to another pool or member. A move within a member is the server's. One between members is a copy that
 * is compared before the original is removed: the servers' own moves lose the config.
 */

import { until } from "../../support/deadline";
import { FailedError, RefusedError } from "../../support/errors";
import { isSmaller } from "../../support/units";
import type { LxdClient } from "../client/client";
import { operationsSchema } from "../client/operations";
import { api } from "../client/path";
import { getMember } from "../cluster/cluster";
import { getServers } from "../cluster/servers";
import { type Config, OWNER_KEY } from "../config";
import { asUnfinished, isUnfinishedWork, readMark } from "../ownership";
import { getServer } from "../server";
import { completeSnapshots, listSnapshots } from "./volume-snapshots";
import {
  changeVolume,
  collectionOf,
  deleteVolume,
  type FoundVolume,
  findVolume,
  memberFor,
  type NewVolume,
  nameOfVolume,
  pathOf,
  queryOf,
  usersOf,
  VOLUME_KEYS,
  type VolumeRef,
} from "./volumes";

/** On a copy that may be incomplete: where it comes from. It is removed when the copy has been compared with its original. */
export const COPY_KEY = "user.pulumi.copy-of";

/** Where a volume is. The location is empty where there are no members to choose. */
export type Place = VolumeRef & { readonly location: string };

/** A volume, and the pool and member to which it moves. */
export interface Move {
  readonly from: Place;
  readonly to: { readonly pool: string; readonly location: string };
}

/** Who moves a volume, and where it is told. */
export interface Mover {
  /** The mark that the volume has at the end. */
  readonly mark: string;
  readonly progress: (text: string) => void;
}

/** Returns the move to the wanted pool and member; `undefined` for a volume that is there. */
export async function moveTo(
  lxd: LxdClient,
  from: Place,
  { pool, target = from.location }: { readonly pool: string; readonly target?: string | undefined },
): Promise<Move | undefined> {
  if (pool === from.pool && target === from.location) {
    return undefined;
  }
  const isGiven = target !== from.location;
  const location = (await memberFor(lxd, { ...from, pool }, isGiven ? target : undefined, from.location)) ?? "";
  return { from, to: { pool, location } };
}

/** Whether the data has to go from one member's part of a pool to another member's. */
export function isBetweenMembers({ from, to }: Move): boolean {
  return from.location !== "" && to.location !== "" && from.location !== to.location;
}

function destinationOf({ from, to }: Move): Place {
  return { ...from, ...to };
}

/** Formats where a volume moves to: `pool "slow" on bcn1`. */
export function wordsForPlace({ pool, location }: Move["to"]): string {
  return `pool "${pool}"${location === "" ? "" : ` on ${location}`}`;
}

/**
 * Explains why a volume is not moved; `undefined` when nothing is known to prevent it.
 * @param claim - Of who moves it: an unfinished copy of an earlier attempt is made anew.
 */
export async function refusalOfMove(
  lxd: LxdClient,
  move: Move,
  found: FoundVolume,
  claim: string | undefined,
): Promise<string | undefined> {
  const isNot = `${nameOfVolume(move.from)} is not moved to ${wordsForPlace(move.to)}, because`;
  const users = usersOf(found.value);
  if (users !== undefined) {
    return `${isNot} it is used by ${users}. Remove its disk device there first`;
  }
  if (!isBetweenMembers(move)) {
    return undefined;
  }
  const { members } = await getServers(lxd);
  const down = members.find(({ server_name, isDown }) => isDown && [move.from.location, move.to.location].includes(server_name));
  if (down !== undefined) {
    return `${isNot} ${down.server_name} is offline. Start it first`;
  }
  const left = await findVolume(lxd, destinationOf(move));
  return left === undefined || isOwnCopy(left, claim)
    ? undefined
    : `${isNot} a volume of that name is there already. Remove it, or choose another member`;
}

/** Whether a volume is what an interrupted move of the same owner has left at its destination. */
function isOwnCopy({ value }: FoundVolume, claim: string | undefined): boolean {
  const found = readMark(value.config?.[OWNER_KEY]);
  return found?.isCreating === true && found.claim !== undefined && found.claim === claim;
}

/** Moves a volume with its snapshots to another pool of its member. The server copies it, and then removes the original. */
export async function moveVolume(lxd: LxdClient, { from, to }: Move): Promise<void> {
  const location = from.location === "" ? to.location : from.location;
  const body = { name: from.name, pool: to.pool };
  await lxd.change("POST", pathOf(from), { query: queryOf({ ...from, location }), body });
}

/**
 * Moves a volume with its snapshots to another member: copies it, compares the copy, and removes the original only then. Interrupted, it
 * leaves the original; the next attempt replaces what it left of the copy. The volume is marked as unfinished at its new place.
 * @param found - The original, unused.
 */
export async function moveToMember(lxd: LxdClient, move: Move, found: FoundVolume, { mark, progress }: Mover): Promise<void> {
  const { from } = move;
  const to = destinationOf(move);
  const left = await findVolume(lxd, to);
  if (left !== undefined) {
    progress(`removing the unfinished copy on ${to.location}`);
    await discardCopy(lxd, to);
  }
  progress(`copying it to ${wordsForPlace(move.to)}`);
  const { content_type: contentType, description, config } = found.value;
  const contents = { contentType, description, config: { ...config, [OWNER_KEY]: asUnfinished(mark) } };
  await copyVolume(lxd, { from, to, withSnapshots: true, ...contents });
  progress(`removing the original on ${from.location}`);
  await deleteVolume(lxd, from);
}

/** A copy to make. */
export interface NewCopy {
  readonly from: Place;
  readonly to: Place;
  readonly withSnapshots: boolean;
  readonly contentType: string;
  readonly description: string;
  /** With the mark of its owner. */
  readonly config: Config;
}

/**
 * Copies a volume, and compares the copy with its original.
 * @throws FailedError when the copy is not complete.
 */
export async function copyVolume(lxd: LxdClient, { from, to, withSnapshots, ...wanted }: NewCopy): Promise<void> {
  const { contentType, description } = wanted;
  const { "volatile.uuid": _own, ...config } = wanted.config;
  const origin = `${from.project}/${from.pool}/${from.name}${from.location === "" ? "" : ` on ${from.location}`}`;
  const source = isBetweenMembers({ from, to })
    ? await offerOf(lxd, from, withSnapshots)
    : { type: "copy", pool: from.pool, name: from.name, project: from.project, volume_only: !withSnapshots };
  const body = {
    name: to.name,
    type: "custom",
    content_type: contentType,
    description,
    config: { ...config, [COPY_KEY]: origin },
  };
  const location = to.location === "" ? from.location : to.location;
  await lxd.change("POST", collectionOf(to), { query: queryOf({ ...to, location }), body: { ...body, source } });
  const copy = await findVolume(lxd, to);
  const lost = copy === undefined ? "it does not exist" : missingIn(copy, contentType, config);
  if (copy === undefined || lost !== undefined) {
    throw new FailedError(
      `${nameOfVolume(to)} is not a complete copy of ${nameOfVolume(from)}: ${lost}. The original is unchanged`,
    );
  }
  if (withSnapshots) {
    const [originals, copies] = [await listSnapshots(lxd, from), await listSnapshots(lxd, to)];
    const missing = originals.filter(({ name }) => !copies.some((each) => each.name === name)).map(({ name }) => name);
    if (missing.length > 0) {
      throw new FailedError(
        `${nameOfVolume(to)} does not have these snapshots of ${nameOfVolume(from)}: ${missing.join(", ")}. They may be newer than the copy. ` +
          "The original is unchanged. Run pulumi up again",
      );
    }
    await completeSnapshots(lxd, to, originals, copies);
  }
  await changeVolume(lxd, to, copy, { description, config: { [COPY_KEY]: "" }, mark: config[OWNER_KEY] ?? "" });
}

/** Keys that a volume of every driver has. The server drops those of other drivers. */
const KEYS_OF_ALL = /^(size$|security\.|snapshots\.|user\.)/;

/** What a copy lacks of what was asked for. */
function missingIn({ value }: FoundVolume, contentType: string, wanted: Config): string | undefined {
  const { config, content_type: type } = value;
  if (type !== contentType) {
    return `it is a ${type} volume`;
  }
  const lost = Object.entries(wanted).filter(
    ([key, text]) => text !== "" && KEYS_OF_ALL.test(key) && !VOLUME_KEYS.satisfies(key, text, config?.[key]),
  );
  return lost.length === 0 ? undefined : `it lacks ${lost.map(([key]) => key).join(", ")}`;
}

/** The volume of which a new one is a copy. */
export interface VolumeSource {
  readonly pool: string;
  readonly volume: string;
  readonly project: string;
  readonly member?: string | undefined;
  readonly snapshots: boolean;
}

/**
 * Creates a volume as a copy. It has the size and storage options of its source where the program gives none. Returns where it is.
 * @throws RefusedError when the source cannot become the wanted volume.
 */
export async function createFromSource(
  lxd: LxdClient,
  ref: VolumeRef,
  { target, contentType, description, config }: NewVolume,
  source: VolumeSource,
  warn: (text: string) => void,
): Promise<string> {
  const location = (await memberFor(lxd, ref, target)) ?? "";
  const original = { project: source.project, pool: source.pool, name: source.volume, location: source.member };
  const found = await findVolume(lxd, original, "source.member");
  const isNot = `${nameOfVolume({ ...ref, location })} is not created, because its source, ${nameOfVolume(original)},`;
  if (found === undefined) {
    throw new RefusedError(`${isNot} does not exist on ${lxd.host}`);
  }
  const { content_type: type, config: live } = found.value;
  if (type !== contentType) {
    throw new RefusedError(`${isNot} has contentType ${type}, not ${contentType}`);
  }
  const size = live?.["size"] ?? "";
  if (type === "block" && isSmaller(config["size"] ?? "", size)) {
    throw new RefusedError(
      `${isNot} has ${size}, and a block volume cannot be shrunk (config.size). Give at least the size that it has`,
    );
  }
  const users = usersOf(found.value);
  if (users !== undefined) {
    warn(
      `${nameOfVolume(original)} is copied while it is used by ${users}: what is written meanwhile may be in the copy in part`,
    );
  }
  const stored = Object.entries(live ?? {}).filter(([key]) => !/^(user|snapshots)\.|^volatile\.uuid$/.test(key));
  await copyVolume(lxd, {
    from: { ...original, location: found.value.location },
    to: { ...ref, location },
    withSnapshots: source.snapshots,
    ...{ contentType, description, config: { ...Object.fromEntries(stored), ...config } },
  });
  return location;
}

/** Makes a member offer a volume to another one, which fetches it from there. */
async function offerOf(lxd: LxdClient, from: Place, withSnapshots: boolean): Promise<object> {
  const { url } = await getMember(lxd, from.location);
  const { certificate } = (await getServer(lxd, from.location)).environment;
  const body = { name: from.name, pool: from.pool, migration: true, volume_only: !withSnapshots };
  const offer = await lxd.begin("POST", pathOf(from), { query: queryOf(from), body });
  const secrets = Object.entries(offer?.metadata ?? {}).filter(([, secret]) => typeof secret === "string");
  return {
    ...{ type: "migration", mode: "pull", operation: `${url}${api`/1.0/operations/${offer?.id ?? ""}`}`, certificate },
    ...{ secrets: Object.fromEntries(secrets), volume_only: !withSnapshots },
  };
}

/**
 * Removes a copy that is marked as unfinished. Waits for the server first, which may still be making it for a client that has
 * disconnected: when that fails, the server removes the volume of that name.
 */
export async function discardCopy(lxd: LxdClient, ref: Place): Promise<void> {
  await until(lxd.deadline, async (report) => {
    const operations = await lxd.get("/1.0/operations", operationsSchema, { project: ref.project, recursion: 1 });
    const isBusy = operations.some(({ class: kind, status_code, resources }) => {
      const urls = Object.values(resources ?? {}).flatMap((each) => each ?? []);
      const isOfIt = urls.length === 0 || urls.some((url) => url.split("?")[0]?.endsWith(api`volumes/custom/${ref.name}`));
      return kind === "task" && status_code < 200 && isOfIt;
    });
    report(`${lxd.title} is still making ${nameOfVolume(ref)}`);
    return isBusy ? undefined : true;
  });
  await deleteVolume(lxd, ref);
}

/**
 * Removes the copy that an interrupted run of the same resource has left. Its original is unchanged.
 * @throws RefusedError for a copy of others.
 */
export async function removeHalfCopy(
  lxd: LxdClient,
  ref: Place,
  { value: { config } }: FoundVolume,
  { urn, progress }: { readonly urn: string; readonly progress: (text: string) => void },
): Promise<void> {
  if (!isUnfinishedWork(config?.[OWNER_KEY], urn)) {
    throw new RefusedError(
      `${nameOfVolume(ref)} on ${lxd.host} is an unfinished copy of ${config?.[COPY_KEY] ?? "another volume"}. Remove it first`,
    );
  }
  progress("removing an unfinished copy");
  await discardCopy(lxd, ref);
}
