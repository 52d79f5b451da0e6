import { posix } from "node:path";
import type { Machine, MachineFile } from "../machine";
import { type Account, type Accounts, describeOwner } from "./accounts";

/** Why sshd ignores the keys of a user. */
export interface Obstacle {
  readonly path: string;
  /** What is wrong there: `belongs to user "bob", mode 755`. */
  readonly fact: string;
  readonly cure: string;
  /** Whether it is the user's own `.ssh` or the file in it. These are corrected when keys are written. */
  readonly isOurs: boolean;
}

export interface FoundKeys {
  readonly content: string;
  /** `undefined` when sshd accepts the file, or would accept one. */
  readonly obstacle: Obstacle | undefined;
  readonly directory: MachineFile | undefined;
}

type Read = Pick<Machine, "readFile">;

/** The user that opens the files, with its groups. */
interface Viewer {
  readonly account: Account;
  readonly gids: ReadonlySet<number>;
  readonly accounts: Accounts;
}

export function keysDirectory({ home }: Account): string {
  return posix.join(home, ".ssh");
}

export function keysPath(account: Account): string {
  return posix.join(keysDirectory(account), "authorized_keys");
}

/**
 * Reads a user's keys as sshd does, which opens the file as the user. The file, and each directory from there up to the home,
 * must belong to root or the user, and nobody else may write to it. A directory above the home counts only where a link leads out
 * of the home.
 * @see https://man.openbsd.org/sshd_config#StrictModes, and `safe_path` in OpenSSH's misc.c
 */
export async function findKeys(machine: Read, account: Account, accounts: Accounts): Promise<FoundKeys> {
  const groups = accounts.groups.filter(({ members }) => members.includes(account.name));
  const viewer = { account, gids: new Set([account.gid, ...groups.map(({ gid }) => gid)]), accounts };
  const home = await follow(machine, account.home);
  const fault = faultOf(viewer, home.path, home.node, "directory");
  if (fault !== undefined) {
    return { content: "", obstacle: { ...fault, isOurs: false }, directory: undefined };
  }
  const directory = await machine.readFile(keysDirectory(account));
  if (directory === undefined) {
    return { content: "", obstacle: undefined, directory };
  }
  const way = await onTheWay(machine, viewer, directory, home.path);
  if (way?.isOurs === false) {
    return { content: "", obstacle: way, directory };
  }
  const path = keysPath(account);
  const file = await machine.readFile(path);
  if (file?.type === "directory") {
    return { content: "", obstacle: { path, fact: "is a directory", cure: `rmdir ${path}`, isOurs: false }, directory };
  }
  if (file?.type !== "file") {
    // The target of a link is up to the user. A file replaces the link when the keys are not as wanted.
    return { content: "", obstacle: way, directory };
  }
  const ofFile = faultOf(viewer, path, file, "file");
  return { content: file.content, obstacle: way ?? (ofFile && { ...ofFile, isOurs: true }), directory };
}

/** What is wrong with `.ssh`, or with a directory that a link in its place leads through. */
async function onTheWay(machine: Read, viewer: Viewer, directory: MachineFile, home: string): Promise<Obstacle | undefined> {
  const path = keysDirectory(viewer.account);
  if (directory.type !== "symlink") {
    const fault = faultOf(viewer, path, directory, "directory");
    return fault && { ...fault, isOurs: directory.type === "directory" };
  }
  for (let at = await follow(machine, path); ; at = await follow(machine, posix.dirname(at.path))) {
    const fault = faultOf(viewer, at.path, at.node, "directory");
    if (fault !== undefined) {
      return { ...fault, isOurs: false };
    }
    if (at.path === home || at.path === "/") {
      return undefined;
    }
  }
}

const MOST_LINKS = 40;

/** Follows a path's links. Links above the last component do not matter for owners and permissions. */
async function follow(machine: Read, path: string): Promise<{ path: string; node: MachineFile | undefined }> {
  let at = posix.resolve(path);
  for (let links = 0; ; links += 1) {
    const node = await machine.readFile(at);
    if (node?.type !== "symlink" || links === MOST_LINKS) {
      return { path: at, node };
    }
    at = posix.resolve(posix.dirname(at), node.content);
  }
}

function faultOf(
  { account, gids, accounts }: Viewer,
  path: string,
  node: MachineFile | undefined,
  kind: "file" | "directory",
): Omit<Obstacle, "isOurs"> | undefined {
  if (node === undefined) {
    return { path, fact: "does not exist", cure: `install -d -m 700 -o ${account.uid} -g ${account.gid} ${path}` };
  }
  if (node.type !== kind) {
    return { path, fact: `is not a ${kind}`, cure: `mv ${path} ${path}.old` };
  }
  const shown = `belongs to ${describeOwner(accounts, node.uid)}, mode ${node.mode.toString(8)}`;
  if (![0, account.uid].includes(node.uid)) {
    return { path, fact: shown, cure: `chown ${account.name} ${path}` };
  }
  if ((node.mode & 0o022) !== 0) {
    return { path, fact: `${shown}: others can write to it`, cure: `chmod go-w ${path}` };
  }
  const needed = kind === "file" ? 0o4 : 0o1; // to read it, or to go through it
  const shift = node.uid === account.uid ? 6 : gids.has(node.gid) ? 3 : 0;
  if (((node.mode >> shift) & needed) === 0) {
    return { path, fact: `${shown}: the user has no access to it`, cure: `chown ${account.name} ${path}; chmod u+rwx ${path}` };
  }
  return undefined;
}

export function describeObstacle(machine: Pick<Machine, "place">, user: string, { path, fact, cure }: Obstacle): string {
  return (
    `sshd ignores the keys of user "${user}" ${machine.place}: ${path} ${fact}. It must belong to the user or root, and ` +
    `others must not be able to write to it. Type there: ${cure}`
  );
}
