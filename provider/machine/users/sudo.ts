import { RefusedError } from "../../support/errors";
import type { Change, Machine, MachineFile } from "../machine";

/** What a user may do through sudo: nothing, everything with the user's password, or everything without one. */
export const SUDO_RIGHTS = ["none", "password", "passwordless"] as const;

export type SudoRights = (typeof SUDO_RIGHTS)[number];

const MODE = 0o440;

function rulesPath(user: string): string {
  return `/etc/sudoers.d/${user}`;
}

/** Path of rules until visudo has checked them. sudo skips a file whose name has a dot; a user name has none. */
export function stagedRulesPath(user: string): string {
  return `/etc/sudoers.d/.${user}.pulumi-new`;
}

export function sudoRules(user: string, rights: SudoRights): string {
  const tags = { none: undefined, password: "", passwordless: "NOPASSWD: " }[rights];
  return tags === undefined ? "" : `# Managed by Pulumi; changes made here are undone.\n${user} ALL=(ALL:ALL) ${tags}ALL\n`;
}

/** What a file in sudoers.d grants; `custom` when it is not ours, or when sudo ignores it because of its owner or permissions. */
export function parseSudoRules(user: string, file: MachineFile | undefined): SudoRights | "custom" {
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

/** Reads what a user's own file in sudoers.d grants. Ignores what other files and groups grant. */
export async function readSudo(machine: Machine, user: string): Promise<SudoRights | "custom"> {
  return parseSudoRules(user, await machine.readFile(rulesPath(user)));
}

export async function requireSudo(machine: Machine, user: string): Promise<void> {
  const isThere =
    (await machine.findProgram("visudo")) !== undefined ||
    // visudo may be in another directory.
    (await machine.run(["visudo", "--version"], { allowFailure: true, output: "none" })).exitCode === 0;
  if (!isThere) {
    throw new RefusedError(
      `User "${user}" needs sudo, but ${machine.name} has no sudo. Install it there (apt-get install sudo, or packages: [sudo] in ` +
        'cloud-init), or set sudo: "none"',
    );
  }
}

/** Makes a user's own file grant exactly these rights. visudo checks the file before it is put in place. */
export function sudoChange(user: string, rights: Exclude<SudoRights, "none">): Change {
  const path = rulesPath(user);
  const temporary = stagedRulesPath(user);
  return {
    staged: [{ path: temporary, file: { uid: 0, gid: 0, mode: MODE, content: sudoRules(user, rights) } }],
    steps: [{ argv: ["visudo", "-c", "-f", temporary] }, { argv: ["mv", "-f", "-T", temporary, path] }],
  };
}

export function removeSudo(machine: Machine, user: string): Promise<void> {
  return machine.removeFile(rulesPath(user));
}
