import { type Deadline, until } from "../../support/deadline";
import { sameSet } from "../../support/equality";
import { CommandError, FailedError, hasCode, messageOf, RefusedError, tail } from "../../support/errors";
import { applyChanges, type Change, type Machine, type Step } from "../machine";
import { type Account, type Accounts, groupsOf, parseShadow, readAccounts } from "./accounts";
import { onlyKeys, parseAuthorizedKeys, withKeys } from "./authorized-keys";
import {
  giveFiles,
  type HomeSpec,
  journalOf,
  mountsIn,
  newHome,
  planHome,
  quoted,
  refusalOfBusy,
  settleFiles,
  sharerOf,
  uidForNewUser,
  willSettle,
} from "./home";
import { describeObstacle, type FoundKeys, findKeys, keysDirectory, keysPath } from "./strict-modes";
import { readSudo, removeSudo, requireSudo, type SudoRights, stagedRulesPath, sudoChange } from "./sudo";

/** The wanted state of a user. A property that is `undefined` stays unchanged. */
export interface UserSpec extends HomeSpec {
  readonly shell: string;
  /** All supplementary groups. */
  readonly groups?: readonly string[] | undefined;
  readonly sudo: SudoRights;
  readonly authorizedKeys?: readonly string[] | undefined;
  /** Whether keys that are not listed are removed. */
  readonly authorizedKeysMode: "exclusive" | "additive";
  /** A hash of crypt(3). */
  readonly passwordHash?: string | undefined;
}

/** The present state of a user. What was not requested is `undefined`. */
export interface LiveUser {
  readonly account: Account;
  /** The home in passwd, if it exists. */
  readonly home: string | undefined;
  readonly groups: readonly string[];
  readonly sudo: SudoRights | "custom";
  /** The keys that sshd accepts. */
  readonly authorizedKeys: readonly string[] | undefined;
  readonly passwordHash: string | undefined;
}

export function findAccount(accounts: Accounts, name: string): Account | undefined {
  return accounts.users.find((user) => user.name === name);
}

/** Reads a user from files only, so that it works in a stopped container. `undefined` when the user does not exist. */
export async function readUser(
  machine: Machine,
  name: string,
  wanted: { readonly home: boolean; readonly authorizedKeys: boolean; readonly passwordHash: boolean },
): Promise<LiveUser | undefined> {
  const accounts = await readAccounts(machine);
  const account = findAccount(accounts, name);
  if (account === undefined) {
    return undefined;
  }
  const [home, sudo, keys, passwordHash] = await Promise.all([
    wanted.home ? machine.readFile(account.home) : undefined,
    readSudo(machine, name),
    wanted.authorizedKeys ? findKeys(machine, account, accounts) : undefined,
    wanted.passwordHash ? readPasswordHash(machine, name) : undefined,
  ]);
  const authorizedKeys = keys && (keys.obstacle === undefined ? parseAuthorizedKeys(keys.content) : []);
  return { account, home: home && account.home, groups: groupsOf(accounts, name), sudo, authorizedKeys, passwordHash };
}

/** @throws RefusedError with the cure when the user cannot be set up. Touches nothing. */
export async function requirePossible(machine: Machine, spec: UserSpec, accounts: Accounts): Promise<void> {
  const refuse = (reason: string): never => {
    throw new RefusedError(`User "${spec.name}" cannot be set up ${machine.place}: ${reason}`);
  };
  const account = findAccount(accounts, spec.name);
  const namesake = accounts.users.find(({ uid }) => uid === spec.uid);
  if (namesake !== undefined && namesake.name !== spec.name) {
    refuse(`the uid ${namesake.uid} belongs to the user "${namesake.name}". Set another uid, or none`);
  }
  const missing = (spec.groups ?? []).filter((group) => !accounts.groups.some(({ name }) => name === group));
  if (missing.length > 0) {
    refuse(
      `there is no group ${missing.map((group) => `"${group}"`).join(", ")}. Install the package that creates it, create it ` +
        `(groupadd ${missing.join("; groupadd ")}, or groups in cloud-init), or remove it from groups`,
    );
  }
  if (account === undefined && accounts.groups.some(({ name }) => name === spec.name)) {
    refuse(
      `a group with the name of the user's own group already exists. Remove it (groupdel ${spec.name}), or choose another name`,
    );
  }
  await (account === undefined ? uidForNewUser(machine, spec, accounts) : planHome(machine, spec, account, accounts));
  if (account?.shell !== spec.shell && !(await machine.isProgram(spec.shell))) {
    refuse(`there is no shell ${spec.shell}. Install it there, or set another shell, such as /bin/sh`);
  }
  if (spec.sudo !== "none" && (await readSudo(machine, spec.name)) !== spec.sudo) {
    await requireSudo(machine, spec.name);
  }
}

export async function ensureAccount(machine: Machine, spec: UserSpec, accounts: Accounts): Promise<Account> {
  let known = accounts;
  const existing = findAccount(accounts, spec.name);
  if (existing === undefined) {
    await addUser(machine, spec, accounts);
    known = await readAccounts(machine); // a group may have listed the name before the user existed
  }
  const endMove = existing && (await settleFiles(machine, spec, existing, accounts));
  const changes = accountChanges(spec, madeAccount(machine, spec, known), groupsOf(known, spec.name));
  if (changes.length > 0) {
    try {
      await changeUser(machine, spec.name, changes);
    } catch (error) {
      if (hasCode(error, "command") || hasCode(error, "refused")) {
        // If this fails, the next run finds the files where passwd will point.
        await endMove?.("take back").catch(() => undefined);
      }
      throw error;
    }
    known = await readAccounts(machine);
  }
  await endMove?.("keep");
  return madeAccount(machine, spec, known);
}

function madeAccount(machine: Machine, spec: UserSpec, accounts: Accounts): Account {
  const account = findAccount(accounts, spec.name);
  if (account === undefined) {
    throw new FailedError(
      `User "${spec.name}" is not in /etc/passwd of ${machine.name} after useradd. Users that are kept elsewhere cannot be managed`,
    );
  }
  return account;
}

/** The arguments for usermod that make the account, apart from its files, as wanted. Exported for tests. */
export function accountChanges(spec: UserSpec, account: Account, groups: readonly string[]): string[] {
  return [
    ...(spec.uid === undefined || spec.uid === account.uid ? [] : ["--uid", String(spec.uid)]),
    ...(spec.home === undefined || spec.home === account.home ? [] : ["--home", spec.home]),
    ...(spec.shell === account.shell ? [] : ["--shell", spec.shell]),
    ...(spec.groups === undefined || sameSet(spec.groups, groups) ? [] : ["--groups", [...new Set(spec.groups)].join(",")]),
  ];
}

async function addUser(machine: Machine, spec: UserSpec, accounts: Accounts): Promise<void> {
  const home = newHome(spec);
  const { uid, keptBy } = await uidForNewUser(machine, spec, accounts);
  if (uid !== undefined && keptBy !== undefined && keptBy !== uid) {
    await giveFiles(machine, home, keptBy, uid);
  }
  const { name, passwordHash, sudo } = spec;
  const groups = [...new Set(spec.groups)].join(",");
  const argv = ["useradd", "--create-home", "--home-dir", home, "--shell", spec.shell, "--user-group"];
  argv.push(...(uid === undefined ? [] : ["--uid", String(uid)]), ...(groups === "" ? [] : ["--groups", groups]), name);
  const changes: Change[] = [{ staged: [], steps: [{ argv }] }];
  if (passwordHash !== undefined) {
    changes.push(passwordChange(name, passwordHash));
  }
  if (sudo !== "none") {
    changes.push(sudoChange(name, sudo));
  }
  try {
    await applyChanges(machine, changes, { scratch: scratchPath(name) });
  } catch (error) {
    if (!hasCode(error, "command")) {
      throw error;
    }
    const { program, exitCode } = error;
    if (program === "useradd" && exitCode === NOT_FOUND) {
      throw new RefusedError(
        `${machine.name} has no useradd, so no users can be created there. Install it (package passwd on Debian and Ubuntu, shadow on Alpine)`,
      );
    }
    if (program === "useradd" || program === "sh") {
      throw error;
    }
    // The user exists. ensureAccess sets its rights next, and reports why that fails.
  }
}

async function changeUser(machine: Machine, name: string, changes: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await run(machine, ["usermod", ...changes, name], [0, IN_USE]);
  if (exitCode === IN_USE) {
    throw refusalOfBusy(machine, name, stderr.trim());
  }
}

/** @throws RefusedError when a user's home makes sshd ignore all keys. The home belongs to the user and is not changed. */
export async function requireLogin(machine: Machine, spec: UserSpec, accounts: Accounts): Promise<void> {
  const account = findAccount(accounts, spec.name);
  if (account === undefined || spec.authorizedKeys === undefined || (await willSettle(machine, spec, account, accounts))) {
    return; // a home that is about to change is checked afterwards
  }
  requireKeysAccepted(machine, spec, await findKeys(machine, account, accounts));
}

function requireKeysAccepted(machine: Machine, { name, authorizedKeys = [] }: UserSpec, { obstacle }: FoundKeys): void {
  if (obstacle !== undefined && !obstacle.isOurs && authorizedKeys.length > 0) {
    throw new RefusedError(describeObstacle(machine, name, obstacle));
  }
}

/** @param formerKeys - The keys that were managed before. */
export async function ensureAccess(
  machine: Machine,
  spec: UserSpec,
  account: Account,
  formerKeys: readonly string[],
): Promise<void> {
  await removeStaged(machine, spec.name);
  const { name, passwordHash, sudo } = spec;
  const changes: Change[] = [];
  if (passwordHash !== undefined && (await readPasswordHash(machine, name)) !== passwordHash) {
    changes.push(passwordChange(name, passwordHash));
  }
  if ((await readSudo(machine, name)) !== sudo) {
    await (sudo === "none" ? removeSudo(machine, name) : changes.push(sudoChange(name, sudo)));
  }
  await applyChanges(machine, changes, { scratch: scratchPath(name) });
  if (spec.authorizedKeys !== undefined) {
    const found = await findKeys(machine, account, await readAccounts(machine));
    const { content: present, obstacle } = found;
    const wanted =
      spec.authorizedKeysMode === "exclusive"
        ? onlyKeys(spec.authorizedKeys)
        : withKeys(present, spec.authorizedKeys, formerKeys);
    requireKeysAccepted(machine, spec, found);
    if (obstacle !== undefined || !sameSet(parseAuthorizedKeys(wanted), parseAuthorizedKeys(present))) {
      await writeAuthorizedKeys(machine, account, wanted, found);
    }
  }
}

/** Removes a user, its processes and its rights. Succeeds when the user is already gone. */
export async function removeUser(
  machine: Machine,
  name: string,
  options: { readonly home: "keep" | "remove"; readonly deadline: Deadline; readonly warn: (text: string) => void },
): Promise<void> {
  await removeStaged(machine, name);
  await removeSudo(machine, name);
  const accounts = await readAccounts(machine);
  const account = findAccount(accounts, name);
  if (account === undefined) {
    return;
  }
  const removesHome = options.home === "remove";
  if (removesHome) {
    await requireRemovableHome(machine, account, accounts);
  }
  let argv = ["userdel", ...(removesHome ? ["--remove"] : []), name];
  await until(options.deadline, async (report) => {
    const { exitCode, stderr } = await run(machine, argv, [0, IN_USE, GONE, HOME_LEFT]);
    if (exitCode === IN_USE) {
      report(stderr.trim());
      const killed = await run(machine, ["pkill", "-KILL", "-U", String(account.uid)], [0, NOTHING_TO_KILL, NOT_FOUND]);
      if (killed.exitCode === NOT_FOUND) {
        // A small image has no procps. The user is removed, and its processes stay. --force would remove a home of any owner.
        const isOwn = removesHome && (await machine.readFile(account.home))?.uid === account.uid;
        argv = ["userdel", "--force", ...(isOwn ? ["--remove"] : []), name];
      }
      return undefined;
    }
    if (exitCode === HOME_LEFT || (removesHome && !argv.includes("--remove"))) {
      const reason = stderr.trim() || `${account.home} does not belong to the user`;
      options.warn(
        `User "${name}" was removed from ${machine.name}, but its home was not: ${reason}. Remove it there if it is not needed`,
      );
    }
    return true;
  });
}

/** @throws RefusedError naming what else would be lost, so that the user cannot be removed, or not with its home. */
export async function requireRemovable(machine: Machine, name: string, home: "keep" | "remove"): Promise<void> {
  if (name === machine.login) {
    throw new RefusedError(
      `User "${name}" ${machine.place} was not removed: Pulumi is logged in as that user there, and could not log in again. Set another user ` +
        "in connection.user, run pulumi up, and then remove it",
    );
  }
  if (home === "keep") {
    return;
  }
  const accounts = await readAccounts(machine);
  const account = findAccount(accounts, name);
  await (account && requireRemovableHome(machine, account, accounts));
}

/**
 * userdel(8) would delete what is mounted in a home, such as a directory of the host that is a disk device of an instance, and
 * the homes of others in it.
 */
async function requireRemovableHome(machine: Machine, account: Account, accounts: Accounts): Promise<void> {
  const { name, home } = account;
  const { path, mounts } = await mountsIn(machine, home);
  const sharer = sharerOf(accounts, account, [home, path]);
  if (sharer !== undefined) {
    throw new RefusedError(
      `The home of user "${name}" ${machine.place} has the home of user "${sharer.name}" in it (${sharer.home}), and removing it would delete ` +
        'both. Move that home elsewhere, or set homeOnDelete: "keep"',
    );
  }
  if (mounts.length > 0) {
    throw new RefusedError(
      `The home of user "${name}" ${machine.place} has mounts (${quoted(mounts)}), and removing the home would delete the mounted files. ` +
        'Unmount them (in an instance, remove the disk device), or set homeOnDelete: "keep"',
    );
  }
}

/** Exit codes of useradd(8), usermod(8) and userdel(8), of pkill(1), and of LXD for a missing program. */
const GONE = 6;
const IN_USE = 8;
const HOME_LEFT = 12;
const NOTHING_TO_KILL = 1;
const NOT_FOUND = 127;

/** @throws CommandError for an exit code that is not expected. */
async function run(machine: Machine, argv: readonly string[], expected: readonly number[]): ReturnType<Machine["run"]> {
  const result = await machine.run(argv, { allowFailure: true });
  if (!expected.includes(result.exitCode)) {
    throw new CommandError(machine.name, argv[0] ?? "", result.exitCode, tail(result.stderr || result.stdout));
  }
  return result;
}

async function readPasswordHash(machine: Machine, name: string): Promise<string | undefined> {
  return parseShadow((await machine.readFile("/etc/shadow"))?.content ?? "", name);
}

/** chpasswd reads hashes only from standard input: a file that only root can read, in memory and not on a disk. */
function passwordChange(name: string, hash: string): Change {
  const path = stagingPath(name);
  return {
    staged: [{ path, file: { uid: 0, gid: 0, mode: 0o600, content: `${name}:${hash}\n` } }],
    steps: [{ argv: ["chpasswd", "--encrypted"], stdin: path }],
  };
}

/**
 * Writes the keys as the user: in a directory that the user can write to, a link could mislead root. As root, this only changes
 * the owner of a `.ssh` directory that belongs to another user, and never of what a link in its place leads to.
 */
async function writeAuthorizedKeys(machine: Machine, account: Account, content: string, { directory }: FoundKeys): Promise<void> {
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
      await machine.run(["chown", "-h", `${uid}:${gid}`, folder]);
    }
    const keys: Change = { staged: [{ path: staged, file: { uid, gid, mode: 0o600, content } }], steps };
    await applyChanges(machine, [keys], { scratch: scratchPath(name), as: { uid, gid } });
  } catch (error) {
    if (hasCode(error, "command")) {
      throw new RefusedError(
        `The keys of user "${name}" cannot be written to ${path}: ${messageOf(error)}. The user must own its home`,
        { cause: error },
      );
    }
    throw error;
  }
}

/** One name is enough: all work on one user runs one after the other. */
function stagingPath(user: string): string {
  return `/run/.pulumi-user-${user}`;
}

/** File for the output of steps. A user name contains no dot. */
function scratchPath(user: string): string {
  return `${stagingPath(user)}.out`;
}

/** Removes what an interrupted run left: keys or a hash to install, and the journal of a finished move. */
async function removeStaged(machine: Machine, user: string): Promise<void> {
  const left = [stagingPath(user), scratchPath(user), stagedRulesPath(user), journalOf(user)];
  await Promise.all(left.map((path) => machine.removeFile(path)));
}
