import type { InstanceFile } from "../lxd/instances/files";
import { RefusedError } from "../support/errors";
import type { Change } from "./changes";
import type { Guest } from "./guest";

/** What a user may do by sudo: nothing, everything with the own password, or everything without one. */
export const SUDO_RIGHTS = ["none", "password", "passwordless"] as const;

/** See {@link SUDO_RIGHTS}. */
export type SudoRights = (typeof SUDO_RIGHTS)[number];

const MODE = 0o440;

/** The file of a user in sudoers.d. A user name has no dot in it, so sudo does not pass over the file. */
function rulesPath(user: string): string {
  return `/etc/sudoers.d/${user}`;
}

/** Where rules are until they are judged. A name with a dot in it is passed over by sudo. */
export function stagedRulesPath(user: string): string {
  return `/etc/sudoers.d/.${user}.pulumi-new`;
}

/** The file that grants the rights; empty for none. */
export function sudoRules(user: string, rights: SudoRights): string {
  const tags = { none: undefined, password: "", passwordless: "NOPASSWD: " }[rights];
  return tags === undefined ? "" : `# Managed by Pulumi; changes made here are undone.\n${user} ALL=(ALL:ALL) ${tags}ALL\n`;
}

/**
 * What a file in sudoers.d grants; `custom` when it is not one of ours, or when its owner or permissions are such that sudo does not
 * read it.
 */
export function parseSudoRules(user: string, file: InstanceFile | undefined): SudoRights | "custom" {
  const rules = rulesIn(file?.content ?? "");
  if (file === undefined || rules === "") {
    return "none";
  }
  const intact = file.type === "file" && file.uid === 0 && file.mode === MODE;
  return (intact ? SUDO_RIGHTS.find((rights) => rulesIn(sudoRules(user, rights)) === rules) : undefined) ?? "custom";
}

function rulesIn(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/\s+/g, " ").trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .join("\n");
}

/** Reads what a user's own file in sudoers.d grants. What other files and groups grant is not looked at. */
export async function readSudo(guest: Pick<Guest, "readFile">, user: string): Promise<SudoRights | "custom"> {
  return parseSudoRules(user, await guest.readFile(rulesPath(user)));
}

/**
 * Makes sure that sudo is there to grant rights with.
 * @throws RefusedError
 */
export async function requireSudo(guest: Pick<Guest, "name" | "findProgram" | "run">, user: string): Promise<void> {
  const isThere =
    (await guest.findProgram("visudo")) !== undefined ||
    (await guest.run(["visudo", "--version"], { allowFailure: true, output: "none" })).exitCode === 0; // it may be elsewhere
  if (!isThere) {
    throw new RefusedError(
      `User "${user}" is to have sudo, but ${guest.name} has no sudo. Install it there (apt-get install sudo, or packages: [sudo] in ` +
        'cloud-init), or set sudo: "none"',
    );
  }
}

/** What grants rights, and no others by this file. A file that sudo would not read is never put in place. */
export function sudoChange(user: string, rights: Exclude<SudoRights, "none">): Change {
  const path = rulesPath(user);
  const temporary = stagedRulesPath(user);
  return {
    staged: [{ path: temporary, file: { uid: 0, gid: 0, mode: MODE, content: sudoRules(user, rights) } }],
    steps: [{ argv: ["visudo", "-c", "-f", temporary] }, { argv: ["mv", "-f", "-T", temporary, path] }],
  };
}

/** Takes away what a user's own file in sudoers.d grants. */
export function removeSudo(guest: Pick<Guest, "removeFile">, user: string): Promise<void> {
  return guest.removeFile(rulesPath(user));
}
