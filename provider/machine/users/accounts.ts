import { RefusedError } from "../../support/errors";
import type { Machine } from "../machine";

/** A line of `/etc/passwd`: passwd(5). */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** A line of `/etc/group`: group(5). */
export interface Group {
  readonly name: string;
  readonly gid: number;
  /** Users that have it as a supplementary group. */
  readonly members: readonly string[];
}

export interface Accounts {
  readonly users: readonly Account[];
  readonly groups: readonly Group[];
}

/** @throws RefusedError when there is no passwd: then nothing is known of any user, and none may count as gone. */
export async function readAccounts(machine: Pick<Machine, "place" | "readFile">): Promise<Accounts> {
  const [passwd, group] = await Promise.all([machine.readFile("/etc/passwd"), machine.readFile("/etc/group")]);
  if (passwd === undefined) {
    throw new RefusedError(`There is no /etc/passwd ${machine.place}, so its users cannot be managed`);
  }
  return { users: parsePasswd(passwd.content), groups: parseGroup(group?.content ?? "") };
}

/** Skips other lines, such as those of NIS. */
export function parsePasswd(text: string): Account[] {
  return records(text).flatMap(([name = "", , uid = "", gid = "", , home = "", shell = ""]) =>
    isNumber(uid) && isNumber(gid) ? [{ name, uid: Number(uid), gid: Number(gid), home, shell }] : [],
  );
}

export function parseGroup(text: string): Group[] {
  return records(text).flatMap(([name = "", , gid = "", members = ""]) =>
    isNumber(gid) ? [{ name, gid: Number(gid), members: members.split(",").filter((member) => member !== "") }] : [],
  );
}

/** The password hash of a user in `/etc/shadow`: shadow(5). `undefined` when the user has no line there. */
export function parseShadow(text: string, name: string): string | undefined {
  return records(text).find(([user]) => user === name)?.[1];
}

export function groupsOf({ groups }: Accounts, user: string): string[] {
  return groups.filter(({ members }) => members.includes(user)).map(({ name }) => name);
}

export function describeOwner({ users }: Accounts, uid: number): string {
  const owner = users.find((user) => user.uid === uid);
  return owner === undefined ? `the uid ${uid}, which no user has` : `user "${owner.name}"`;
}

function records(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => /^[^#+\-:\s]/.test(line))
    .map((line) => line.split(":"));
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}
