/**
 * Changes the home or the uid of an existing user. `usermod --move-home` and `usermod --uid` change passwd first and then the
 * files. When that fails, or the machine loses power, nothing shows that the change is incomplete. This module changes the files
 * first and passwd last: as long as passwd is not as wanted, work remains. Each step finds what an earlier run has done.
 */
import { posix } from "node:path";

import { RefusedError } from "../../support/errors";
import { mountPoints } from "../../support/mountinfo";
import { type Machine, type MachineFile, namesIn } from "../machine";
import { type Account, type Accounts, describeOwner } from "./accounts";

export interface HomeSpec {
  readonly name: string;
  readonly uid?: number | undefined;
  readonly home?: string | undefined;
}

/** How the user gets the wanted home: the user has it, its files are there already, or they are moved. */
export interface HomePlan {
  readonly how: "stay" | "enter" | "move";
  readonly from: string;
}

export function newHome({ name, home }: HomeSpec): string {
  return home ?? `/home/${name}`;
}

/** @throws RefusedError when the files cannot be moved in one step, do not belong to the user, or other files would change owner. */
export async function planHome(machine: Machine, spec: HomeSpec, account: Account, accounts: Accounts): Promise<HomePlan> {
  const plan = await planPlace(machine, spec, account, accounts);
  const node = await machine.readFile(plan.from);
  if (node !== undefined && formerOwners(spec, account, accounts, node).length > 0) {
    await requireGivable(machine, plan.from, node, spec.uid ?? account.uid);
  }
  return plan;
}

async function planPlace(machine: Machine, spec: HomeSpec, account: Account, accounts: Accounts): Promise<HomePlan> {
  const wanted = spec.home ?? account.home;
  const isOwn = (node: MachineFile): boolean => [account.uid, spec.uid].includes(node.uid) || isNobodys(accounts, node);
  const from = (await interruptedMove(machine, account, isOwn)) ?? account.home;
  if (wanted === from) {
    return { how: wanted === account.home ? "stay" : "enter", from };
  }
  const refuse = (reason: string): never => {
    throw new RefusedError(`The home of user "${spec.name}" ${machine.place} cannot become ${wanted} (it is ${from}): ${reason}`);
  };
  const owner = accounts.users.find(({ name, home }) => name !== account.name && home === wanted);
  if (owner !== undefined) {
    refuse(`that is the home of user "${owner.name}". Set another home`);
  }
  const [present, to] = await Promise.all([placeOf(machine, from), placeOf(machine, wanted)]);
  const hasOwnThere = to.node?.type === "directory" && isOwn(to.node);
  if (hasOwnThere && (present.path === to.path || present.node?.type !== "directory" || !isOwn(present.node))) {
    return { how: "enter", from: wanted }; // passwd points to something that is not the user's
  }
  if (present.node === undefined) {
    return refuse(`there is no ${from} to move. ${cureOfMissing(account, wanted)}`);
  }
  if (present.node.type !== "directory") {
    return refuse(`${from} is not a directory. ${cureOfMissing(account, wanted)}`);
  }
  if (!isOwn(present.node)) {
    refuse(
      `${from} belongs to ${describeOwner(accounts, present.node.uid)}. If it is the user's, type there: chown ${spec.name} ${from}. ` +
        cureOfMissing(account, wanted),
    );
  }
  const sharer = sharerOf(accounts, account, [from, present.path]);
  if (sharer !== undefined) {
    refuse(`user "${sharer.name}" has its home at ${sharer.home}, which would also move. ${cureOfMissing(account, wanted)}`);
  }
  if (isAtOrBelow(present.path, to.path)) {
    refuse("that is inside of it. Set another home");
  }
  if (to.parent?.type !== "directory") {
    refuse(`there is no directory ${posix.dirname(wanted)}. Type there: mkdir -p ${posix.dirname(wanted)}`);
  }
  const fault = to.node && faultOfTarget(accounts, to.node, isOwn);
  if (fault !== undefined) {
    refuse(`${wanted} exists and ${fault}. Move it elsewhere, or set another home`);
  }
  await requireOneMount(machine, present.path, to.path, refuse);
  return { how: "move", from };
}

/**
 * Finds the files of a user whose home is missing because a move was interrupted before passwd changed. The target of that move
 * may no longer be wanted, so the journal is written before the files move.
 */
async function interruptedMove(
  machine: Machine,
  account: Account,
  isOwn: (node: MachineFile) => boolean,
): Promise<string | undefined> {
  if ((await machine.readFile(account.home)) !== undefined) {
    return undefined;
  }
  for (const path of ((await machine.readFile(journalOf(account.name)))?.content ?? "").split("\n")) {
    const node = path.startsWith("/") && path !== account.home ? await machine.readFile(path) : undefined;
    if (node?.type === "directory" && isOwn(node)) {
      return path;
    }
  }
  return undefined;
}

/** Path of the journal: where a home may be during a move. Only root can write there, and it survives a power cut. */
export function journalOf(user: string): string {
  return `/var/lib/pulumi-user-${user}.home`;
}

/**
 * Moves a user's files to the wanted home and gives them to the wanted uid. Does not change passwd. The user must not run
 * processes (see {@link requireIdle}).
 * @returns A function that ends a move: keeps it after passwd was changed, or takes it back when passwd cannot be changed.
 */
export async function settleFiles(
  machine: Machine,
  spec: HomeSpec,
  account: Account,
  accounts: Accounts,
): Promise<(outcome: "keep" | "take back") => Promise<void>> {
  const { how, from } = await planHome(machine, spec, account, accounts);
  const home = spec.home ?? account.home;
  const uid = spec.uid ?? account.uid;
  const node = await machine.readFile(from);
  if (node === undefined && from === newHome(spec)) {
    // useradd was interrupted before it made the home
    await machine.run(["install", "-d", "-m", "700", "-o", String(uid), "-g", String(account.gid), from]);
  }
  if (node?.type === "directory") {
    for (const former of formerOwners(spec, account, accounts, node)) {
      await giveFiles(machine, from, former, uid);
    }
  }
  if (how === "move") {
    await machine.createFile(journalOf(spec.name), { uid: 0, gid: 0, mode: 0o600, content: `${home}\n${from}\n` });
    await machine.run(["mv", "-f", "-T", from, home]);
  }
  return async (outcome) => {
    if (how === "move" && outcome === "take back") {
      await machine.run(["mv", "-f", "-T", home, from]);
    }
    if (how !== "stay") {
      await machine.removeFile(journalOf(spec.name));
    }
  };
}

/** Whether {@link settleFiles} would change something. */
export async function willSettle(machine: Machine, spec: HomeSpec, account: Account, accounts: Accounts): Promise<boolean> {
  if (changesUidOrHome(spec, account)) {
    return true;
  }
  const node = await machine.readFile(account.home);
  return node === undefined || (node.type === "directory" && isNobodys(accounts, node));
}

function changesUidOrHome({ uid, home }: HomeSpec, account: Account): boolean {
  return (uid ?? account.uid) !== account.uid || (home ?? account.home) !== account.home;
}

/** Whether no user has the uid of a file: it is left over from a change of the uid, or from a removed user. */
function isNobodys({ users }: Accounts, node: MachineFile): boolean {
  return users.every(({ uid }) => uid !== node.uid);
}

/** The uids whose files in the home must get the user's uid. */
function formerOwners(spec: HomeSpec, account: Account, accounts: Accounts, home: MachineFile | undefined): number[] {
  const left = home?.type === "directory" && isNobodys(accounts, home) ? [home.uid] : [];
  return [...new Set([account.uid, ...left])].filter((former) => former !== (spec.uid ?? account.uid));
}

/**
 * Checks that the files in a home can change owner. A mount in the home may belong to others, such as a directory of the host.
 * usermod does not stop there, and neither does `find -xdev` when it is the same file system: everything in it that has the
 * former uid would be given away. If the home is a link, usermod gives nothing, and fails after it has changed passwd (shadow
 * 4.13).
 * @throws RefusedError naming what is in the way.
 */
async function requireGivable(machine: Machine, home: string, node: MachineFile, uid: number): Promise<void> {
  const refuse = (reason: string): never => {
    throw new RefusedError(`The files in ${home} ${machine.place} cannot be given to the uid ${uid}: ${reason}`);
  };
  if (node.type === "symlink") {
    refuse("that is a link. Set home to the directory that it leads to");
  }
  const { path, mounts } = await mountsIn(machine, home);
  const below = mounts.filter((target) => target !== path);
  if (below.length > 0) {
    refuse(
      `${quoted(below)} is mounted there, and the user's files in it would also change owner. Unmount it (in an instance, remove the ` +
        "disk device) for the time of the change",
    );
  }
}

/** The path of a directory without links, and the mount points at it and below it. */
export async function mountsIn(machine: Machine, directory: string): Promise<{ path: string; mounts: string[] }> {
  const { path } = await placeOf(machine, directory, "follow");
  return { path, mounts: (await mountsOf(machine)).filter((target) => isAtOrBelow(path, target)) };
}

async function mountsOf(machine: Machine): Promise<string[]> {
  return mountPoints((await machine.run(["cat", "/proc/self/mountinfo"])).stdout, machine.name);
}

export function quoted(paths: readonly string[]): string {
  return paths.map((path) => JSON.stringify(path)).join(", ");
}

export async function giveFiles(machine: Machine, directory: string, from: number, to: number): Promise<void> {
  await machine.run(
    // -h: follows no link
    ["find", directory, "-xdev", "-user", String(from), "-exec", "chown", "-h", String(to), "{}", "+"],
  );
}

/** @throws RefusedError when a user whose uid or home changes runs processes: usermod would refuse later. */
export async function requireIdle(machine: Machine, spec: HomeSpec, account: Account): Promise<void> {
  if (!changesUidOrHome(spec, account)) {
    return;
  }
  const argv = ["find", "/proc", "-maxdepth", "1", "-user", String(account.uid)];
  const { stdout } = await machine.run(argv, { allowFailure: true }); // processes that end meanwhile make it fail
  const processes = stdout.match(/\d+$/gm);
  if (processes !== null) {
    throw refusalOfBusy(machine, spec.name, `process ${processes.slice(0, 3).join(", ")}`);
  }
}

export function refusalOfBusy(machine: Machine, name: string, seen: string): RefusedError {
  return new RefusedError(
    `User "${name}" ${machine.place} runs processes, so its uid or home cannot change now (${seen}). Log the user out and stop its ` +
      "services, then run pulumi up again",
  );
}

/**
 * The uid of a new user. If its home already exists, the uid is that of the home, so that the files of a kept home belong to the
 * user again; `keptBy` is the uid that they belong to now.
 * @throws RefusedError when the home belongs to another user, or is not a directory.
 */
export async function uidForNewUser(
  machine: Machine,
  spec: HomeSpec,
  accounts: Accounts,
): Promise<{ uid: number | undefined; keptBy?: number }> {
  const home = newHome(spec);
  const kept = await machine.readFile(home);
  if (kept === undefined) {
    return { uid: spec.uid };
  }
  const refuse = (reason: string): never => {
    throw new RefusedError(`User "${spec.name}" cannot be created ${machine.place}: ${reason}`);
  };
  if (kept.type !== "directory") {
    refuse(`${home} exists and is not a directory. Move it elsewhere, or set another home`);
  }
  const owner = accounts.users.find(({ uid }) => uid === kept.uid);
  if (owner !== undefined) {
    refuse(
      `${home} exists and belongs to the user "${owner.name}". Set another home. Or, if the directory is for "${spec.name}", set uid and give ` +
        "the directory to that uid (chown)",
    );
  }
  if (spec.uid !== undefined && spec.uid !== kept.uid) {
    await requireGivable(machine, home, kept, spec.uid);
  }
  return { uid: spec.uid ?? kept.uid, keptBy: kept.uid };
}

/** A path with all links above its last component resolved, and with "follow" also that one. */
interface Place {
  readonly path: string;
  readonly node: MachineFile | undefined;
  readonly parent: MachineFile | undefined;
}

const MOST_LINKS = 40;

async function placeOf(machine: Machine, path: string, link?: "follow"): Promise<Place> {
  let at = "/";
  let links = 0;
  let parent: MachineFile | undefined;
  let node = await machine.readFile(at);
  const rest = partsOf(path);
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    parent = node;
    if (parent?.type !== "directory") {
      return { path: posix.join(at, name, ...rest), node: undefined, parent: undefined };
    }
    const next = posix.join(at, name);
    node = await machine.readFile(next);
    if (node?.type === "symlink" && (rest.length > 0 || link === "follow") && links < MOST_LINKS) {
      links += 1;
      rest.unshift(...partsOf(posix.resolve(at, node.content)));
      at = "/";
      node = await machine.readFile(at);
    } else {
      at = next;
    }
  }
  return { path: at, node, parent };
}

function partsOf(path: string): string[] {
  return posix
    .resolve(path)
    .split("/")
    .filter((part) => part !== "");
}

/** Another user whose home is at or below one of these paths of a user's home. */
export function sharerOf({ users }: Accounts, { name }: Account, paths: readonly string[]): Account | undefined {
  return users.find((user) => user.name !== name && paths.some((path) => isAtOrBelow(path, user.home)));
}

function isAtOrBelow(directory: string, path: string): boolean {
  return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** Why a home cannot replace what is at a path; `undefined` for an empty directory that belongs to the user. */
function faultOfTarget(accounts: Accounts, node: MachineFile, isOwn: (node: MachineFile) => boolean): string | undefined {
  if (node.type !== "directory") {
    return "is not a directory";
  }
  if (namesIn(node).length > 0) {
    return "is not empty";
  }
  return isOwn(node) ? undefined : `belongs to ${describeOwner(accounts, node.uid)}`;
}

function cureOfMissing({ uid, gid }: Account, wanted: string): string {
  return `To start with an empty home, type there: install -d -m 700 -o ${uid} -g ${gid} ${wanted}`;
}

/** A directory moves in one step only within one mount. Otherwise mv(1) copies it file by file, and leaves mounts below it behind. */
async function requireOneMount(machine: Machine, from: string, to: string, refuse: (reason: string) => never): Promise<void> {
  const mounts = await mountsOf(machine);
  const below = mounts.filter((target) => isAtOrBelow(from, target) || isAtOrBelow(to, target));
  if (below.length > 0) {
    refuse(`${quoted(below)} is mounted there, and mounts do not move. Unmount it (in an instance, remove the disk device)`);
  }
  const mountOf = (path: string): string | undefined =>
    mounts.filter((target) => isAtOrBelow(target, path)).sort((one, other) => other.length - one.length)[0];
  const { stdout } = await machine.run(["stat", "-c", "%d", from, posix.dirname(to)]);
  const [here, there] = stdout.trim().split("\n");
  if (mountOf(from) !== mountOf(to) || here !== there) {
    refuse(
      `that is on another file system (${mountOf(to) ?? "/"}). Set a home on the file system of the present one. Or copy the home by hand, ` +
        "remove the former one, and run usermod --home",
    );
  }
}
