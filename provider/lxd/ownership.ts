import { sameJson } from "../support/equality";
import { RefusedError } from "../support/errors";
import { type Config, OWNER_KEY } from "./config";

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
  const owner = config[OWNER_KEY] ?? "";
  if (adopt || (owner !== "" && owner === urn)) {
    return;
  }
  const whose = owner === "" ? "it was not made by Pulumi" : `it belongs to ${describeOwner(owner)}`;
  const renamed = isOfSameStack(owner, urn) ? ", give this resource that one's name among its aliases if it is the same," : ",";
  throw new RefusedError(
    `${what} already exists on ${host} and ${whose} (${description}). Set adopt: true to manage it from here without recreating it` +
      `${renamed} choose another name, or remove it first`,
  );
}

/** The resource that works on an object, by its URN. */
export interface Owner {
  /** As the program has it now. Empty when it is not known. */
  readonly urn: string;
  /** As it was when state was last written; another one when the resource was renamed, or moved to another stack. */
  readonly formerUrn: string;
}

/**
 * The mark of someone else, on an object that is in state: he has taken it over since. A resource that was renamed or moved finds
 * its own earlier mark. An object without a mark is still its own: somebody has removed it, or state is older than it.
 */
export function takenOverBy(mark: string | undefined, { urn, formerUrn }: Owner): string | undefined {
  return mark === undefined || mark === "" || urn === "" || mark === urn || mark === formerUrn ? undefined : mark;
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
export function describeOwner(urn: string): string {
  const [stack, project, , name] = partsOf(urn);
  return `the Pulumi resource "${name ?? urn}" of stack "${stack ?? "?"}", project "${project ?? "?"}"`;
}

/** Whether two URNs are of one stack. */
export function isOfSameStack(a: string, b: string): boolean {
  const [stack, project] = partsOf(a);
  return project !== undefined && sameJson([stack, project], partsOf(b).slice(0, 2));
}

function partsOf(urn: string): string[] {
  return urn.replace(/^urn:pulumi:/, "").split("::");
}
