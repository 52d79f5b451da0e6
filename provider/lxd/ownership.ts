import { randomBytes } from "node:crypto";
import { sameJson } from "../support/equality";
import { RefusedError } from "../support/errors";
import { type Config, OWNER_KEY } from "./config";

/** The mark on an object that tells its owner, at {@link OWNER_KEY}. */
export interface Mark {
  /** URN of the resource that owns it. */
  readonly urn: string;
  /**
   * Random name of the create that made or adopted the object. The state that came of it has the same one, wherever it is moved: by this
   * two states are told apart that had the same URN. Absent where an older version made the mark.
   */
  readonly claim: string | undefined;
  /** Whether that create has not ended yet, so that no state can be expected to know of the object. */
  readonly isCreating: boolean;
}

/** A mark as LXD keeps it: `<URN> [<claim>]`, or `<URN> [<claim> creating]`. */
export function writeMark({ urn, claim, isCreating }: Mark): string {
  return urn === "" ? "" : `${urn}${claim === undefined ? "" : ` [${claim}${isCreating ? " creating" : ""}]`}`;
}

/** What {@link writeMark} wrote; `undefined` where there is no mark. */
export function readMark(text: string | undefined): Mark | undefined {
  if (text === undefined || text === "") {
    return undefined;
  }
  const [, urn = text, claim, creating] = /^(.*) \[([0-9a-f]{16})( creating)?\]$/s.exec(text) ?? [];
  return { urn, claim, isCreating: creating !== undefined };
}

/** A new claim. */
export function newClaim(): string {
  return randomBytes(8).toString("hex");
}

/** How an object that is already there relates to the resource that wants to create it. */
export interface Claim {
  /** What it is, as in messages: `profile "web" in project "default"`. */
  readonly what: string;
  /** Host that was asked. */
  readonly host: string;
  /** What it looks like, for the refusal. */
  readonly description: string;
  /** Its config, which may hold an owner. */
  readonly config: Config;
  /** URN of the resource that wants it. */
  readonly urn: string;
  /** Whether the user allowed taking over what others made. */
  readonly adopt: boolean;
}

/**
 * Lets a create go on with an object that is already there when it is its own unfinished work, or the user said `adopt`.
 * @throws RefusedError telling whose it is and what to do.
 */
export function claim({ what, host, description, config, urn, adopt }: Claim): void {
  const mark = config[OWNER_KEY] ?? "";
  if (adopt || isUnfinishedWork(mark, urn)) {
    return;
  }
  if (isOwnMark(mark, urn)) {
    throw new RefusedError(`${what} already exists on ${host}, complete (${description}), and ${explainOwnMark()}`);
  }
  const whose = mark === "" ? "it was not made by Pulumi" : `it belongs to ${describeOwner(mark)}`;
  const renamed = isOfSameStack(mark, urn) ? ", give this resource that one's name among its aliases if it is the same," : ",";
  throw new RefusedError(
    `${what} already exists on ${host} and ${whose} (${description}). Set adopt: true to manage it from here without recreating it` +
      `${renamed} choose another name, or remove it first`,
  );
}

/** Whether a mark is that of the resource with this URN: of its own earlier life, or of one that is now in another stack's state. */
export function isOwnMark(mark: string | undefined, urn: string): boolean {
  return urn !== "" && readMark(mark)?.urn === urn;
}

/** Whether a create of this very resource left the object, and did not live to end. */
export function isUnfinishedWork(mark: string | undefined, urn: string): boolean {
  return isOwnMark(mark, urn) && readMark(mark)?.isCreating === true;
}

/** What it means that a resource without state finds its own mark on a finished object, and the way out of each case. */
export function explainOwnMark(): string {
  return (
    "it bears the mark of this very resource, whose state does not know it. Either that state was lost: then set adopt: true, which takes it " +
    "up as it is. Or the state of another stack has it, after pulumi state move, a stack that was renamed or a project that was: then run " +
    "pulumi up there, which marks it as that stack's, and take it out of this program"
  );
}

/** The resource that works on an object, by its URN. */
export interface Owner {
  /** As the program has it now. Empty when it is not known. */
  readonly urn: string;
  /** As it was when state was last written; another one when the resource was renamed, or moved to another stack. */
  readonly formerUrn: string;
  /** The claim that is in state; absent where an older version wrote it. */
  readonly claim: string | undefined;
}

/**
 * The mark of someone else, on an object that is in state: it was taken over since. A resource that was renamed or moved finds its own
 * earlier mark. An object without a mark is still its own: somebody has removed it, or state is older than it.
 */
export function takenOverBy(mark: string | undefined, { urn, formerUrn, claim: own }: Owner): string | undefined {
  const found = readMark(mark);
  if (found === undefined || urn === "" || (own !== undefined && found.claim === own)) {
    return undefined;
  }
  // The same URN says nothing when another state has claimed the object by it.
  return found.claim === own && (found.urn === urn || found.urn === formerUrn) ? undefined : mark;
}

/** @throws RefusedError when someone else has taken over an object that was to be changed. */
export function refuseTakenOver(what: string, host: string, mark: string | undefined, owner: Owner): void {
  const other = takenOverBy(mark, owner);
  if (other !== undefined) {
    throw new RefusedError(`${what} on ${host} was not changed: ${explainTakeover(other)}`);
  }
}

/**
 * Whether an object that was to be removed is left alone, because someone else has taken it over.
 * @param owner - Is told so.
 */
export function isLeftToOthers(
  what: string,
  host: string,
  mark: string | undefined,
  owner: Owner & { warn(text: string): void },
): boolean {
  const other = takenOverBy(mark, owner);
  if (other !== undefined) {
    owner.warn(`${what} on ${host} is left as it is: it now belongs to ${describeOwner(other)}`);
  }
  return other !== undefined;
}

/** What it means that someone else has taken over an object, and the two ways out. */
export function explainTakeover(mark: string): string {
  return (
    `it now belongs to ${describeOwner(mark)}, which has taken it over. Take it out of this program, which leaves it as it is on LXD; or ` +
    "take it back: pulumi state delete its URN here, then pulumi up with adopt: true"
  );
}

/** How messages name the resource of a mark. */
export function describeOwner(mark: string): string {
  const [stack, project, , name] = partsOf(mark);
  return `the Pulumi resource "${name ?? mark}" of stack "${stack ?? "?"}", project "${project ?? "?"}"`;
}

/** Whether two URNs, or marks, are of one stack. */
export function isOfSameStack(a: string, b: string): boolean {
  const [stack, project] = partsOf(a);
  return project !== undefined && sameJson([stack, project], partsOf(b).slice(0, 2));
}

function partsOf(mark: string): string[] {
  return (readMark(mark)?.urn ?? "").replace(/^urn:pulumi:/, "").split("::");
}
