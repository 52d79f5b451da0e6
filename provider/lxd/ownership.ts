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
  const owner = config[OWNER_KEY];
  if (adopt || (owner !== undefined && owner === urn)) {
    return;
  }
  const whose = owner === undefined || owner === "" ? "it was not made by Pulumi" : `it belongs to ${describeOwner(owner)}`;
  throw new RefusedError(
    `${what} already exists on ${host} and ${whose} (${description}). Set adopt: true to manage it from here without recreating it, ` +
      "choose another name, or remove it first",
  );
}

function describeOwner(urn: string): string {
  const [stack, project, , name] = urn.replace(/^urn:pulumi:/, "").split("::");
  return `the Pulumi resource "${name ?? urn}" of stack "${stack ?? "?"}", project "${project ?? "?"}"`;
}
