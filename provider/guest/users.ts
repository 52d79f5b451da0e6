import { type Deadline, until } from "../support/deadline";
import { CommandError, hasCode, messageOf, RefusedError } from "../support/errors";
import { type Account, type Accounts, groupsOf, parseShadow, readAccounts } from "./accounts";
import { onlyKeys, parseAuthorizedKeys, withKeys } from "./authorized-keys";
import type { Guest } from "./guest";
import { readSudo, requireSudo, type SudoRights, writeSudo } from "./sudo";

/** A user as it is wanted. What is `undefined` is left as it is. */
export interface UserSpec {
  readonly name: string;
  readonly uid?: number | undefined;
  readonly home?: string | undefined;
  readonly shell: string;
  /** Supplementary groups, all of them. */
  readonly groups?: readonly string[] | undefined;
  readonly sudo: SudoRights;
  readonly authorizedKeys?: readonly string[] | undefined;
  /** Whether keys that are not listed are removed. */
  readonly authorizedKeysMode: "exclusive" | "additive";
  /** Of crypt(3). */
  readonly passwordHash?: string | undefined;
}

/** A user as it is. */
export interface LiveUser {
  readonly account: Account;
  readonly groups: readonly string[];
  readonly sudo: SudoRights | "custom";
  /** `undefined` when it was not asked for. */
  readonly authorizedKeys: readonly string[] | undefined;
  /** `undefined` when it was not asked for, or there is none. */
  readonly passwordHash: string | undefined;
}

/** The user's line of passwd, if there is such a user. */
export function findAccount(accounts: Accounts, name: string): Account | undefined {
  return accounts.users.find((user) => user.name === name);
}

/** Reads a user, wholly from files, so that it works in a container that is stopped. `undefined` when there is no such user. */
export async function readUser(
  guest: Pick<Guest, "name" | "readFile">,
  name: string,
  wanted: { readonly authorizedKeys: boolean; readonly passwordHash: boolean },
): Promise<LiveUser | undefined> {
  const accounts = await readAccounts(guest);
  const account = findAccount(accounts, name);
  if (account === undefined) {
    return undefined;
  }
  const [sudo, authorizedKeys, passwordHash] = await Promise.all([
    readSudo(guest, name),
    wanted.authorizedKeys ? readAuthorizedKeys(guest, account) : undefined,
    wanted.passwordHash ? readPasswordHash(guest, name) : undefined,
  ]);
  const effectiveKeys = authorizedKeys && (authorizedKeys.isHeeded ? parseAuthorizedKeys(authorizedKeys.content) : []);
  return { account, groups: groupsOf(accounts, name), sudo, authorizedKeys: effectiveKeys, passwordHash };
}

/**
 * Makes sure, before anything is touched, that the user can be as it is wanted.
 * @throws RefusedError with the cure.
 */
export async function requirePossible(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<void> {
  const refuse = (reason: string): never => {
    throw new RefusedError(`User "${spec.name}" cannot be as wanted in ${guest.name}: ${reason}`);
  };
  const account = findAccount(accounts, spec.name);
  const namesake = accounts.users.find(({ uid }) => uid === spec.uid);
  if (namesake !== undefined && namesake.name !== spec.name) {
    refuse(`the uid ${namesake.uid} belongs to the user "${namesake.name}". Give another uid, or none`);
  }
  const missing = (spec.groups ?? []).filter((group) => !accounts.groups.some(({ name }) => name === group));
  if (missing.length > 0) {
    refuse(
      `it has no group ${missing.map((group) => `"${group}"`).join(", ")}. Install the package that brings it, make it ` +
        `(groupadd ${missing.join("; groupadd ")}, or groups in cloud-init), or leave it out of groups`,
    );
  }
  if (account === undefined && accounts.groups.some(({ name }) => name === spec.name)) {
    refuse(
      `there is a group of that name already, which would be the user's own. Remove it (groupdel ${spec.name}), or choose another name`,
    );
  }
  if (account?.shell !== spec.shell && (await guest.run(["test", "-x", spec.shell], { allowFailure: true })).exitCode !== 0) {
    refuse(`it has no shell ${spec.shell}. Install it there, or set shell to one that it has, such as /bin/sh`);
  }
  if (spec.sudo !== "none" && (await readSudo(guest, spec.name)) !== spec.sudo) {
    await requireSudo(guest, spec.name);
  }
}

/** Makes the user, or changes it to have the wanted uid, home, shell and groups. */
export async function ensureAccount(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<Account> {
  let known = accounts;
  if (findAccount(known, spec.name) === undefined) {
    await addUser(guest, spec, known);
    known = await readAccounts(guest); // a group may have listed the name when it was nobody's
  }
  const changes = accountChanges(spec, madeAccount(guest, spec, known), groupsOf(known, spec.name));
  if (changes.length > 0) {
    await changeUser(guest, spec.name, changes);
    known = await readAccounts(guest);
  }
  return madeAccount(guest, spec, known);
}

function madeAccount(guest: Guest, spec: UserSpec, accounts: Accounts): Account {
  const account = findAccount(accounts, spec.name);
  if (account === undefined) {
    throw new RefusedError(
      `User "${spec.name}" is not in /etc/passwd of ${guest.name} after it was made; users that are kept elsewhere cannot be managed`,
    );
  }
  return account;
}

/** The arguments for usermod that make the account as wanted; none when it is. Exported for tests. */
export function accountChanges(spec: UserSpec, account: Account, groups: readonly string[]): string[] {
  return [
    ...(spec.uid === undefined || spec.uid === account.uid ? [] : ["--uid", String(spec.uid)]),
    ...(spec.home === undefined || spec.home === account.home ? [] : ["--home", spec.home, "--move-home"]),
    ...(spec.shell === account.shell ? [] : ["--shell", spec.shell]),
    ...(spec.groups === undefined || sameSet(spec.groups, groups) ? [] : ["--groups", [...new Set(spec.groups)].join(",")]),
  ];
}

async function addUser(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<void> {
  const home = spec.home ?? `/home/${spec.name}`;
  const uid = spec.uid ?? (await ownerOfKeptHome(guest, home, spec, accounts));
  const argv = ["useradd", "--create-home", "--home-dir", home, "--shell", spec.shell, "--user-group"];
  if (uid !== undefined) {
    argv.push("--uid", String(uid));
  }
  if (spec.groups !== undefined && spec.groups.length > 0) {
    argv.push("--groups", [...new Set(spec.groups)].join(","));
  }
  const { exitCode } = await run(guest, [...argv, spec.name], [0, NOT_FOUND]);
  if (exitCode === NOT_FOUND) {
    throw new RefusedError(
      `${guest.name} has no useradd, so no users can be made there. Install it (package passwd on Debian and Ubuntu, shadow on Alpine)`,
    );
  }
}

/**
 * The uid to give to a user whose home was kept when it was removed: that of the home, so that its files are its own again.
 * @throws RefusedError when the directory is somebody else's.
 */
async function ownerOfKeptHome(guest: Guest, home: string, spec: UserSpec, accounts: Accounts): Promise<number | undefined> {
  const kept = await guest.readFile(home);
  const owner = accounts.users.find(({ uid }) => uid === kept?.uid);
  if (owner !== undefined) {
    throw new RefusedError(
      `User "${spec.name}" cannot be made in ${guest.name}: ${home} exists and belongs to the user "${owner.name}". Give another home, or ` +
        "the uid that the user is to have, and the directory to that uid (chown)",
    );
  }
  return kept?.uid;
}

async function changeUser(guest: Guest, name: string, changes: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await run(guest, ["usermod", ...changes, name], [0, IN_USE]);
  if (exitCode === IN_USE) {
    throw new RefusedError(
      `User "${name}" in ${guest.name} runs processes, so its uid or home cannot change now (${stderr.trim()}). Log it out and stop its ` +
        "services; the next pulumi up tries again",
    );
  }
}

/** Gives a user that exists its password, sudo rights and keys. `formerKeys` are those that were its own until now. */
export async function ensureAccess(guest: Guest, spec: UserSpec, account: Account, formerKeys: readonly string[]): Promise<void> {
  await guest.removeFile(stagingPath(spec.name)); // an interrupted run may have left one, with what it was to bring
  if (spec.passwordHash !== undefined && (await readPasswordHash(guest, spec.name)) !== spec.passwordHash) {
    await setPasswordHash(guest, spec.name, spec.passwordHash);
  }
  if ((await readSudo(guest, spec.name)) !== spec.sudo) {
    await writeSudo(guest, spec.name, spec.sudo);
  }
  if (spec.authorizedKeys !== undefined) {
    const { content: present, isHeeded } = await readAuthorizedKeys(guest, account);
    const wanted =
      spec.authorizedKeysMode === "exclusive"
        ? onlyKeys(spec.authorizedKeys)
        : withKeys(present, spec.authorizedKeys, formerKeys);
    if (!isHeeded || !sameSet(parseAuthorizedKeys(wanted), parseAuthorizedKeys(present))) {
      await writeAuthorizedKeys(guest, account, wanted);
    }
  }
}

/** Removes a user, its processes and its rights. Already gone is done. */
export async function removeUser(
  guest: Guest,
  name: string,
  options: { readonly home: "keep" | "remove"; readonly deadline: Deadline; readonly warn: (text: string) => void },
): Promise<void> {
  await guest.removeFile(stagingPath(name));
  await writeSudo(guest, name, "none");
  const account = findAccount(await readAccounts(guest), name);
  if (account === undefined) {
    return;
  }
  const argv = ["userdel", ...(options.home === "remove" ? ["--remove"] : []), name];
  await until(options.deadline, async (report) => {
    const { exitCode, stderr } = await run(guest, argv, [0, IN_USE, GONE, HOME_LEFT]);
    if (exitCode === IN_USE) {
      report(stderr.trim());
      const killed = await run(guest, ["pkill", "-KILL", "-U", String(account.uid)], [0, NOTHING_TO_KILL, NOT_FOUND]);
      if (killed.exitCode === NOT_FOUND) {
        argv.splice(1, 0, "--force"); // a small image without procps: the user goes, its processes stay
      }
      return undefined;
    }
    if (exitCode === HOME_LEFT) {
      options.warn(`User "${name}" is removed from ${guest.name}, but its home is not: ${stderr.trim()}`);
    }
    return true;
  });
}

/** Exit codes of useradd(8), usermod(8) and userdel(8), of pkill(1), and of LXD for a program that is not there. */
const GONE = 6;
const IN_USE = 8;
const HOME_LEFT = 12;
const NOTHING_TO_KILL = 1;
const NOT_FOUND = 127;

/** Runs a program of which some failures mean something. */
async function run(guest: Guest, argv: readonly string[], expected: readonly number[]): ReturnType<Guest["run"]> {
  const result = await guest.run(argv, { allowFailure: true });
  if (!expected.includes(result.exitCode)) {
    throw new CommandError(guest.name, argv[0] ?? "", result.exitCode, (result.stderr || result.stdout).trim().slice(-2000));
  }
  return result;
}

async function readPasswordHash(guest: Pick<Guest, "readFile">, name: string): Promise<string | undefined> {
  return parseShadow((await guest.readFile("/etc/shadow"))?.content ?? "", name);
}

/** chpasswd takes hashes on standard input alone; a file that only root can read stands in for it, in memory and not on a disk. */
async function setPasswordHash(guest: Guest, name: string, hash: string): Promise<void> {
  const path = stagingPath(name);
  try {
    await guest.createFile(path, { uid: 0, gid: 0, mode: 0o600, content: `${name}:${hash}\n` });
    await guest.run(["sh", "-c", 'exec chpasswd --encrypted < "$1"', "sh", path]);
  } finally {
    await guest.removeFile(path);
  }
}

/**
 * The file of a user's keys, and whether sshd heeds it: not when it belongs to somebody else, or when others can write to it.
 * @see https://man.openbsd.org/sshd_config#StrictModes
 */
async function readAuthorizedKeys(
  guest: Pick<Guest, "readFile">,
  account: Account,
): Promise<{ content: string; isHeeded: boolean }> {
  const file = await guest.readFile(keysPath(account));
  if (file?.type !== "file") {
    // Where a link leads is the user's own affair; it is replaced by a file when the keys are not as wanted.
    return { content: "", isHeeded: true };
  }
  return { content: file.content, isHeeded: [0, account.uid].includes(file.uid) && (file.mode & 0o022) === 0 };
}

/**
 * Puts the keys in place as the user itself: in a directory that the user can write to, root could be led astray by a link.
 */
async function writeAuthorizedKeys(guest: Guest, account: Account, content: string): Promise<void> {
  const { name, uid, gid } = account;
  const path = keysPath(account);
  const directory = path.slice(0, path.lastIndexOf("/"));
  const staged = stagingPath(name);
  const temporary = `${path}.pulumi-new`;
  const asUser = { as: { uid, gid } };
  try {
    await guest.createFile(staged, { uid, gid, mode: 0o600, content });
    if ((await guest.readFile(directory)) === undefined) {
      await guest.run(["mkdir", "-m", "700", directory], asUser);
    }
    await guest.run(["install", "-m", "600", "-T", staged, temporary], asUser);
    await guest.run(["mv", "-f", "-T", temporary, path], asUser);
  } catch (error) {
    if (hasCode(error, "command")) {
      throw new RefusedError(
        `The keys of user "${name}" cannot be put into ${path}: ${messageOf(error)}. Its home must be a directory of its own`,
        { cause: error },
      );
    }
    throw error;
  } finally {
    await guest.removeFile(staged);
  }
}

function keysPath({ home }: Account): string {
  return `${home.replace(/\/$/, "")}/.ssh/authorized_keys`;
}

/** Everything about one user is done one after the other, so one name will do; what an interrupted run left there is removed. */
function stagingPath(user: string): string {
  return `/run/.pulumi-user-${user}`;
}

/** Whether two lists have the same members. */
export function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.every((member) => b.includes(member)) && b.every((member) => a.includes(member));
}
