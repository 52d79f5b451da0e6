import { type Deadline, until } from "../support/deadline";
import { sameSet } from "../support/equality";
import { CommandError, FailedError, hasCode, messageOf, RefusedError } from "../support/errors";
import { type Account, type Accounts, groupsOf, parseShadow, readAccounts } from "./accounts";
import { onlyKeys, parseAuthorizedKeys, withKeys } from "./authorized-keys";
import { type Change, make } from "./changes";
import type { Guest, Step } from "./guest";
import {
  giveFiles,
  journalOf,
  mountsIn,
  newHome,
  planHome,
  quoted,
  refusalOfBusy,
  settleFiles,
  uidForNewUser,
  willSettle,
} from "./home";
import { describeObstacle, type FoundKeys, findKeys, keysDirectory, keysPath } from "./strict-modes";
import { readSudo, removeSudo, requireSudo, type SudoRights, stagedRulesPath, sudoChange } from "./sudo";

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
  /** The home as passwd has it, when it is there. `undefined` when it was not asked for. */
  readonly home: string | undefined;
  readonly groups: readonly string[];
  readonly sudo: SudoRights | "custom";
  /** Those that sshd accepts. `undefined` when it was not asked for. */
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
  wanted: { readonly home: boolean; readonly authorizedKeys: boolean; readonly passwordHash: boolean },
): Promise<LiveUser | undefined> {
  const accounts = await readAccounts(guest);
  const account = findAccount(accounts, name);
  if (account === undefined) {
    return undefined;
  }
  const [home, sudo, keys, passwordHash] = await Promise.all([
    wanted.home ? guest.readFile(account.home) : undefined,
    readSudo(guest, name),
    wanted.authorizedKeys ? findKeys(guest, account, accounts) : undefined,
    wanted.passwordHash ? readPasswordHash(guest, name) : undefined,
  ]);
  const authorizedKeys = keys && (keys.obstacle === undefined ? parseAuthorizedKeys(keys.content) : []);
  return { account, home: home && account.home, groups: groupsOf(accounts, name), sudo, authorizedKeys, passwordHash };
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
  await (account === undefined ? uidForNewUser(guest, spec, accounts) : planHome(guest, spec, account, accounts));
  if (account?.shell !== spec.shell && !(await guest.isProgram(spec.shell))) {
    refuse(`it has no shell ${spec.shell}. Install it there, or set shell to one that it has, such as /bin/sh`);
  }
  if (spec.sudo !== "none" && (await readSudo(guest, spec.name)) !== spec.sudo) {
    await requireSudo(guest, spec.name);
  }
}

/** Makes the user, or changes it to have the wanted uid, home, shell and groups. */
export async function ensureAccount(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<Account> {
  let known = accounts;
  const existing = findAccount(accounts, spec.name);
  if (existing === undefined) {
    await addUser(guest, spec, accounts);
    known = await readAccounts(guest); // a group may have listed the name when it was nobody's
  }
  const endMove = existing && (await settleFiles(guest, spec, existing, accounts));
  const changes = accountChanges(spec, madeAccount(guest, spec, known), groupsOf(known, spec.name));
  if (changes.length > 0) {
    try {
      await changeUser(guest, spec.name, changes);
    } catch (error) {
      if (hasCode(error, "command") || hasCode(error, "refused")) {
        await endMove?.("take back").catch(() => undefined); // where it fails, the next run finds the files where passwd is to point
      }
      throw error;
    }
    known = await readAccounts(guest);
  }
  await endMove?.("keep");
  return madeAccount(guest, spec, known);
}

function madeAccount(guest: Guest, spec: UserSpec, accounts: Accounts): Account {
  const account = findAccount(accounts, spec.name);
  if (account === undefined) {
    throw new FailedError(
      `User "${spec.name}" is not in /etc/passwd of ${guest.name} after it was made; users that are kept elsewhere cannot be managed`,
    );
  }
  return account;
}

/** The arguments for usermod that make the account as wanted, its files apart; none when it is. Exported for tests. */
export function accountChanges(spec: UserSpec, account: Account, groups: readonly string[]): string[] {
  return [
    ...(spec.uid === undefined || spec.uid === account.uid ? [] : ["--uid", String(spec.uid)]),
    ...(spec.home === undefined || spec.home === account.home ? [] : ["--home", spec.home]),
    ...(spec.shell === account.shell ? [] : ["--shell", spec.shell]),
    ...(spec.groups === undefined || sameSet(spec.groups, groups) ? [] : ["--groups", [...new Set(spec.groups)].join(",")]),
  ];
}

async function addUser(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<void> {
  const home = newHome(spec);
  const { uid, keptBy } = await uidForNewUser(guest, spec, accounts);
  if (uid !== undefined && keptBy !== undefined && keptBy !== uid) {
    await giveFiles(guest, home, keptBy, uid);
  }
  const argv = ["useradd", "--create-home", "--home-dir", home, "--shell", spec.shell, "--user-group"];
  if (uid !== undefined) {
    argv.push("--uid", String(uid));
  }
  if (spec.groups !== undefined && spec.groups.length > 0) {
    argv.push("--groups", [...new Set(spec.groups)].join(","));
  }
  const account: Change = { staged: [], steps: [{ argv: [...argv, spec.name] }] };
  const { passwordHash, sudo } = spec;
  try {
    await make(
      guest,
      [
        account,
        ...(passwordHash === undefined ? [] : [passwordChange(spec.name, passwordHash)]),
        ...(sudo === "none" ? [] : [sudoChange(spec.name, sudo)]),
      ],
      { scratch: scratchPath(spec.name) },
    );
  } catch (error) {
    if (!hasCode(error, "command")) {
      throw error;
    }
    const { program, exitCode } = error;
    if (program === "useradd" && exitCode === NOT_FOUND) {
      throw new RefusedError(
        `${guest.name} has no useradd, so no users can be made there. Install it (package passwd on Debian and Ubuntu, shadow on Alpine)`,
      );
    }
    if (program === "useradd" || program === "sh") {
      throw error;
    }
    // The user is there; what it may do is seen to next, by ensureAccess, which tells why it cannot be.
  }
}

async function changeUser(guest: Guest, name: string, changes: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await run(guest, ["usermod", ...changes, name], [0, IN_USE]);
  if (exitCode === IN_USE) {
    throw refusalOfBusy(guest, name, stderr.trim());
  }
}

/**
 * Makes sure that the keys of a user that exists will let it in.
 * @throws RefusedError when its home makes sshd ignore all keys: the home is the user's own.
 */
export async function requireLogin(guest: Guest, spec: UserSpec, accounts: Accounts): Promise<void> {
  const account = findAccount(accounts, spec.name);
  if (account === undefined || spec.authorizedKeys === undefined || (await willSettle(guest, spec, account, accounts))) {
    return; // what is yet to be put right is looked at then
  }
  requireHeeded(guest, spec, await findKeys(guest, account, accounts));
}

function requireHeeded(guest: Guest, { name, authorizedKeys = [] }: UserSpec, { obstacle }: FoundKeys): void {
  if (obstacle !== undefined && !obstacle.isOurs && authorizedKeys.length > 0) {
    throw new RefusedError(describeObstacle(guest, name, obstacle));
  }
}

/** Gives a user that exists its password, sudo rights and keys. `formerKeys` are those that were its own until now. */
export async function ensureAccess(guest: Guest, spec: UserSpec, account: Account, formerKeys: readonly string[]): Promise<void> {
  await removeStaged(guest, spec.name);
  const { name, passwordHash, sudo } = spec;
  const changes: Change[] = [];
  if (passwordHash !== undefined && (await readPasswordHash(guest, name)) !== passwordHash) {
    changes.push(passwordChange(name, passwordHash));
  }
  if ((await readSudo(guest, name)) !== sudo) {
    await (sudo === "none" ? removeSudo(guest, name) : changes.push(sudoChange(name, sudo)));
  }
  await make(guest, changes, { scratch: scratchPath(name) });
  if (spec.authorizedKeys !== undefined) {
    const found = await findKeys(guest, account, await readAccounts(guest));
    const { content: present, obstacle } = found;
    const wanted =
      spec.authorizedKeysMode === "exclusive"
        ? onlyKeys(spec.authorizedKeys)
        : withKeys(present, spec.authorizedKeys, formerKeys);
    requireHeeded(guest, spec, found);
    if (obstacle !== undefined || !sameSet(parseAuthorizedKeys(wanted), parseAuthorizedKeys(present))) {
      await writeAuthorizedKeys(guest, account, wanted, found);
    }
  }
}

/** Removes a user, its processes and its rights. Already gone is done. */
export async function removeUser(
  guest: Guest,
  name: string,
  options: { readonly home: "keep" | "remove"; readonly deadline: Deadline; readonly warn: (text: string) => void },
): Promise<void> {
  await removeStaged(guest, name);
  await removeSudo(guest, name);
  const account = findAccount(await readAccounts(guest), name);
  if (account === undefined) {
    return;
  }
  if (options.home === "remove") {
    await refuseMountsIn(guest, name, account.home);
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

/**
 * Makes sure that a user can be removed with its home.
 * @throws RefusedError naming what is mounted there.
 */
export async function requireRemovable(guest: Guest, name: string): Promise<void> {
  const account = findAccount(await readAccounts(guest), name);
  await (account && refuseMountsIn(guest, name, account.home));
}

/**
 * userdel(8) deletes a home with all that is mounted in it, such as a directory of the host that is a disk device of the instance.
 * @throws RefusedError naming what is mounted.
 */
async function refuseMountsIn(guest: Guest, name: string, home: string): Promise<void> {
  const { mounts } = await mountsIn(guest, home);
  if (mounts.length > 0) {
    throw new RefusedError(
      `The home of user "${name}" in ${guest.name} has ${quoted(mounts)} mounted, and removing the home would delete what is in there. Unmount ` +
        'that, or take out the disk device, or set homeOnDelete: "keep"',
    );
  }
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
function passwordChange(name: string, hash: string): Change {
  const path = stagingPath(name);
  return {
    staged: [{ path, file: { uid: 0, gid: 0, mode: 0o600, content: `${name}:${hash}\n` } }],
    steps: [{ argv: ["chpasswd", "--encrypted"], stdin: path }],
  };
}

/**
 * Puts the keys in place as the user itself: in a directory that the user can write to, root could be led astray by a link. Only a `.ssh`
 * that is not the user's is given to it by root, and never what a link in its place leads to.
 */
async function writeAuthorizedKeys(guest: Guest, account: Account, content: string, { directory }: FoundKeys): Promise<void> {
  const { name, uid, gid } = account;
  const path = keysPath(account);
  const folder = keysDirectory(account);
  const staged = stagingPath(name);
  const temporary = `${path}.pulumi-new`;
  const steps: Step[] = [];
  if (directory === undefined) {
    steps.push({ argv: ["mkdir", "-m", "700", folder] });
  } else if (directory.type === "directory" && (directory.mode & 0o722) !== 0o700) {
    steps.push({ argv: ["chmod", "700", folder] });
  }
  steps.push({ argv: ["install", "-m", "600", "-T", staged, temporary] }, { argv: ["mv", "-f", "-T", temporary, path] });
  try {
    if (directory?.type === "directory" && directory.uid !== uid) {
      await guest.run(["chown", "-h", `${uid}:${gid}`, folder]);
    }
    const keys: Change = { staged: [{ path: staged, file: { uid, gid, mode: 0o600, content } }], steps };
    await make(guest, [keys], { scratch: scratchPath(name), as: { uid, gid } });
  } catch (error) {
    if (hasCode(error, "command")) {
      throw new RefusedError(
        `The keys of user "${name}" cannot be put into ${path}: ${messageOf(error)}. Its home must be a directory of its own`,
        { cause: error },
      );
    }
    throw error;
  }
}

/** Everything about one user is done one after the other, so one name will do. */
function stagingPath(user: string): string {
  return `/run/.pulumi-user-${user}`;
}

/** Takes what steps write. A user's name has no dot in it. */
function scratchPath(user: string): string {
  return `${stagingPath(user)}.out`;
}

/** What an interrupted run has left: keys or a hash that it was to bring, and the journal of a move that has ended. */
async function removeStaged(guest: Pick<Guest, "removeFile">, user: string): Promise<void> {
  const left = [stagingPath(user), scratchPath(user), stagedRulesPath(user), journalOf(user)];
  await Promise.all(left.map((path) => guest.removeFile(path)));
}
