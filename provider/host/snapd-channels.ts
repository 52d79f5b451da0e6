/** Channels of snaps, and which of two is older. @see https://snapcraft.io/docs/channels */

/** By stability. Later ones are published earlier. */
const RISKS = ["stable", "candidate", "beta", "edge"];

interface Channel {
  readonly track: string;
  readonly risk: string;
  /** A fix for some users, such as "ubuntu-22.04". Empty for the channel itself. */
  readonly branch: string;
}

/** The default track is "latest", the default risk "stable". */
function parse(text: string): Channel {
  const [first = "", second = "", third = ""] = text.split("/");
  return RISKS.includes(first)
    ? { track: "latest", risk: first, branch: second }
    : { track: first, risk: second === "" ? "stable" : second, branch: third };
}

/** The full name of a channel, as the store writes it. */
export function fullChannel(text: string): string {
  const { track, risk, branch } = parse(text);
  return [track, risk, ...(branch === "" ? [] : [branch])].join("/");
}

export function sameChannel(a: string, b: string): boolean {
  return fullChannel(a) === fullChannel(b);
}

/** A snap that a host has or would get. */
export interface Offer {
  /** Empty for a snap that was installed from a file. */
  readonly channel: string;
  /** Such as "5.21.4-8a3cf61", when it is known. */
  readonly version?: string | undefined;
}

type Direction = "same" | "forwards" | "backwards" | "unknown";

/**
 * The direction of a change of channel. LXD does not start on data of a newer LXD, so an undecidable change is "unknown", not
 * "forwards". Versions decide when both are numbers, otherwise tracks, and within one track the risk.
 */
export function direction(from: Offer, to: Offer): Direction {
  const [source, target] = [parse(from.channel), parse(to.channel)];
  const [has, gets] = [numbersOf(from.version), numbersOf(to.version)];
  const onTrack = numbersOf(target.track);
  if (has !== undefined && onTrack !== undefined) {
    // Track "5.21" has the versions 5.21.*, and track "6" all of 6.*.
    const way = directionBetween(has.slice(0, onTrack.length), onTrack);
    if (way !== "same") {
      return way;
    }
  }
  return has !== undefined && gets !== undefined ? directionBetween(has, gets) : directionByName(source, target);
}

function directionByName(source: Channel, target: Channel): Direction {
  if (source.track === target.track) {
    if (source.risk === target.risk && source.branch === target.branch) {
      return "same";
    }
    return RISKS.indexOf(source.risk) < RISKS.indexOf(target.risk) ? "forwards" : "unknown";
  }
  if (target.track === "latest" && numbersOf(source.track) !== undefined) {
    return "forwards";
  }
  const [before, after] = [numbersOf(source.track), numbersOf(target.track)];
  return before === undefined || after === undefined ? "unknown" : directionBetween(before, after);
}

function directionBetween(from: readonly number[], to: readonly number[]): Direction {
  const difference = compare(to, from);
  if (difference === 0) {
    return "same";
  }
  return difference < 0 ? "backwards" : "forwards";
}

/** The numbers of a version: 5, 21, 4 for `5.21.4-8a3cf61`; `undefined` for a name such as "git-8a3cf61". */
function numbersOf(version: string | undefined): number[] | undefined {
  return /^\d+(\.\d+)*/
    .exec(version ?? "")?.[0]
    .split(".")
    .map(Number);
}

interface Upload {
  readonly revision: number | undefined;
  readonly version?: string | undefined;
}

/**
 * Whether an upload is of an older LXD than another one. If the versions do not decide, the revisions do. The store counts
 * revisions over all tracks: a fix for an old track has a higher one than newer tracks.
 */
export function isOlderUpload(upload: Upload, other: Upload): boolean {
  const [version, otherVersion] = [numbersOf(upload.version), numbersOf(other.version)];
  const way = version === undefined || otherVersion === undefined ? 0 : compare(version, otherVersion);
  return way === 0 ? (upload.revision ?? 0) < (other.revision ?? 0) : way < 0;
}

export function isOlder(version: string, other: string): boolean {
  return compare(numbersOf(version) ?? [], numbersOf(other) ?? []) < 0;
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < Math.max(a.length, b.length); index += 1) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}
