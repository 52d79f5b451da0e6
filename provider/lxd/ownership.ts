import { randomBytes } from "node:crypto";
import { sameJson } from "../support/equality";
import { RefusedError } from "../support/errors";
import { type Config, OWNER_KEY } from "./config";

/** Mark on an object that names its owner, at {@link OWNER_KEY}. */
export interface Mark {
  readonly urn: string;
  /**
   * Random name of the create that made or adopted the object. The state that resulted carries the same name, wherever it moves. The name
   * distinguishes two states with the same URN. Absent from marks of older versions.
   */
  readonly claim: string | undefined;
  /** Whether that create is unfinished. Until it ends, no state records the object. */
  readonly isCreating: boolean;
}

/** Formats a mark for LXD: `<URN> [<claim>]`, or `<URN> [<claim> creating]`. */
export function writeMark({ urn, claim, isCreating }: Mark): string {
  return urn === "" || claim === undefined ? urn : `${urn} [${claim}${isCreating ? " creating" : ""}]`;
}

/** In the place of a mark: the removal of the object has ended, and what is there now is not the object. */
export const REMOVED = "removed";

export function readMark(text: string | undefined): Mark | undefined {
  if (text === undefined || text === "" || text === REMOVED) {
    return undefined;
  }
  const [, urn = text, claim, creating] = /^(.*) \[([0-9a-f]{16})( creating)?\]$/s.exec(text) ?? [];
  return { urn, claim, isCreating: creating !== undefined };
}

/** The mark of an object that is being made anew in another place: a create continues with it. */
export function asUnfinished(text: string): string {
  const mark = readMark(text);
  return mark === undefined ? text : writeMark({ ...mark, isCreating: true });
}

export function newClaim(): string {
  return randomBytes(8).toString("hex");
}

/** An existing object, and the resource that wants to create it. */
export interface Claim {
  /** Name of the object in messages: `profile "web" in project "default"`. */
  readonly what: string;
  readonly host: string;
  readonly description: string;
  readonly config: Config;
  readonly urn: string;
  readonly adopt: boolean;
  /** What an object without a mark means. @default "it was not made by Pulumi" */
  readonly unmarked?: string | undefined;
}

/**
 * Lets a create continue with an existing object that is its own unfinished work, or that `adopt` allows it to take.
 * @throws RefusedError naming the owner and the remedy.
 */
export function claim({ what, host, description, config, urn, adopt, unmarked = "it was not made by Pulumi" }: Claim): void {
  const mark = config[OWNER_KEY] === REMOVED ? "" : (config[OWNER_KEY] ?? "");
  if (adopt || isUnfinishedWork(mark, urn)) {
    return;
  }
  if (isOwnMark(mark, urn)) {
    throw new RefusedError(`${what} already exists on ${host}, complete (${description}), and ${OWN_MARK}`);
  }
  const whose = mark === "" ? unmarked : `it belongs to ${describeOwner(mark)}`;
  const renamed = isOfSameStack(mark, urn) ? ", give this resource that one's name among its aliases if it is the same," : ",";
  throw new RefusedError(
    `${what} already exists on ${host} and ${whose} (${description}). Set adopt: true to manage it from here without recreating it` +
      `${renamed} choose another name, or remove it first`,
  );
}

/** Whether a mark has the URN of this resource. It may also be from a resource that is now in another stack's state. */
export function isOwnMark(mark: string | undefined, urn: string): boolean {
  return urn !== "" && readMark(mark)?.urn === urn;
}

export function isUnfinishedWork(mark: string | undefined, urn: string): boolean {
  return isOwnMark(mark, urn) && readMark(mark)?.isCreating === true;
}

/** Whether a text, such as a description, is the mark of a create that has not ended (docs/adr/0012). */
export function isMarkOfCreate(text: string): boolean {
  return text.startsWith("urn:pulumi:") && readMark(text)?.isCreating === true;
}

/** Explains, for messages, a finished object with the mark of a resource that has no state. */
export const OWN_MARK =
  "it has the mark of this resource, but its state does not have it. If that state was lost, set adopt: true, which keeps the object unchanged. " +
  "If another stack's state has it (after pulumi state move, or under a renamed stack or project), run pulumi up there, which marks it for " +
  "that stack, and remove it from this program";

/** Resource that works on an object, by its URN. */
export interface Owner {
  /** Empty when unknown. */
  readonly urn: string;
  /** URN when state was last written. It differs after a rename, or a move to another stack. */
  readonly formerUrn: string;
  /** Claim in state. Absent when an older version wrote the state. */
  readonly claim: string | undefined;
}

/**
 * Returns the mark of another owner that has taken over an object in state. A renamed or moved resource recognizes its own earlier mark. An
 * object without a mark still belongs to its resource: somebody removed the mark, or state predates marks.
 */
export function takenOverBy(mark: string | undefined, { urn, formerUrn, claim: own }: Owner): string | undefined {
  const found = readMark(mark);
  if (found === undefined || urn === "" || (own !== undefined && found.claim === own)) {
    return undefined;
  }
  // A matching URN proves nothing when another state has claimed the object under it.
  return found.claim === own && (found.urn === urn || found.urn === formerUrn) ? undefined : mark;
}

/** @throws RefusedError when another owner has taken over the object. */
export function refuseTakenOver(what: string, host: string, mark: string | undefined, owner: Owner): void {
  const other = takenOverBy(mark, owner);
  if (other !== undefined) {
    throw new RefusedError(`${what} on ${host} was not changed: ${explainTakeover(other)}`);
  }
}

/** Whether a removal leaves an object to another owner, who has taken it over. Warns when it does. */
export function isLeftToOthers(
  what: string,
  host: string,
  mark: string | undefined,
  owner: Owner & { warn(text: string): void },
): boolean {
  const other = takenOverBy(mark, owner);
  if (other !== undefined) {
    owner.warn(`${what} on ${host} is not removed: it now belongs to ${describeOwner(other)}`);
  }
  return other !== undefined;
}

export function explainTakeover(mark: string): string {
  return (
    `it now belongs to ${describeOwner(mark)}, which has taken it over. Remove it from this program, and it is kept unchanged. Or take it ` +
    "back: pulumi state delete its URN here, then pulumi up with adopt: true"
  );
}

/** What a mark says of its resource, as far as it is a URN. */
export function ownerOf(mark: string): { stack?: string | undefined; project?: string | undefined; name?: string | undefined } {
  const [stack, project, , name] = partsOf(mark);
  return { stack, project, name };
}

export function describeOwner(mark: string): string {
  const { stack, project, name } = ownerOf(mark);
  return `the Pulumi resource "${name ?? mark}" of stack "${stack ?? "?"}", project "${project ?? "?"}"`;
}

/** Whether two URNs, or marks, belong to one stack. */
export function isOfSameStack(a: string, b: string): boolean {
  const [stack, project] = partsOf(a);
  return project !== undefined && sameJson([stack, project], partsOf(b).slice(0, 2));
}

function partsOf(mark: string): string[] {
  return (readMark(mark)?.urn ?? "").replace(/^urn:pulumi:/, "").split("::");
}
