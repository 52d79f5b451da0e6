/** One file of a machine: replaced in one step, and never through a link that a user could have put there. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { RefusedError } from "../support/errors";
import { applyChanges, type FileDigest, type FileOwnership, type Machine, namesIn, type Step } from "./machine";
import { clearKeptDirectory, keptPath, makeKeptDirectory } from "./marks";
import { type Accounts, describeOwner, readAccounts } from "./users/accounts";

/** The wanted state of a file. */
export interface FileSpec {
  readonly path: string;
  readonly content: Buffer;
  /** A name, or a numeric id. */
  readonly owner: string | number;
  readonly group: string | number;
  readonly mode: number;
}

/** The present state of a file. */
export interface LiveFile {
  readonly digest: FileDigest;
  readonly accounts: Accounts;
  /** Whether the command that follows a change of the file has not run to its end. */
  readonly isPending: boolean;
}

export async function readFile(machine: Machine, path: string): Promise<LiveFile | undefined> {
  const [digest, accounts, pending] = await Promise.all([
    machine.digestFile(path),
    readAccounts(machine),
    isPending(machine, path),
  ]);
  return digest && { digest, accounts, isPending: pending };
}

/** Whether {@link ensureFile} noted that a command must follow, and {@link endPending} has not ended it. */
export async function isPending(machine: Machine, path: string): Promise<boolean> {
  return (await machine.digestFile(keptPath("pending", path))) !== undefined;
}

export function sha256Of(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

export function describeFile({ type, mode }: FileDigest): string {
  return `${type === "other" ? "a device, socket or pipe" : `a ${type}`}, mode ${mode.toString(8).padStart(4, "0")}`;
}

/** Where a file is to be, and who may write there. */
interface Place {
  /** Its directory without links; for missing directories, where they will be. */
  readonly directory: string;
  /** Directories to make, from the top. */
  readonly missing: readonly string[];
  /** The user that a directory on the way belongs to. `undefined` when all belong to root. */
  readonly user: { readonly uid: number; readonly gid: number; readonly directory: string } | undefined;
}

const MOST_LINKS = 40;

/** @throws RefusedError when a part of the path is not a directory, or directories on the way belong to several users. */
async function placeOf(machine: Machine, path: string): Promise<Place> {
  const refuse = (reason: string): never => {
    throw new RefusedError(`${path} ${machine.place} cannot be managed: ${reason}`);
  };
  let at = "/";
  let user: Place["user"];
  const rest = partsOf(posix.dirname(path));
  for (let links = 0, name = rest.shift(); name !== undefined; name = rest.shift()) {
    const next = posix.join(at, name);
    const found = await machine.digestFile(next);
    if (found === undefined) {
      const missing = [next, ...rest.map((_part, index) => posix.join(next, ...rest.slice(0, index + 1)))];
      return { directory: missing.at(-1) ?? next, missing, user };
    }
    if (found.uid !== 0) {
      if (user !== undefined && user.uid !== found.uid) {
        refuse(`${user.directory} and ${next} belong to different users, so that one could lead the other's file elsewhere`);
      }
      user ??= { uid: found.uid, gid: found.gid, directory: next };
    }
    if (found.type === "symlink" && links < MOST_LINKS) {
      links += 1;
      const target = (await machine.readFile(next))?.content ?? refuse(`${next} has just changed`);
      rest.unshift(...partsOf(target));
      at = "/";
    } else if (found.type === "directory") {
      at = next;
    } else {
      refuse(`${next} is not a directory. Move it elsewhere, or set another path`);
    }
  }
  return { directory: at, missing: [], user };
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "");
}

/** What a change of a file starts from. */
interface Prepared {
  readonly place: Place;
  readonly ownership: FileOwnership;
  readonly existing: FileDigest | undefined;
}

/** @throws RefusedError with the cure when the file cannot become as wanted. Touches nothing. */
export async function prepareFile(machine: Machine, spec: FileSpec): Promise<Prepared> {
  const { path } = spec;
  const refuse = (reason: string): never => {
    throw new RefusedError(`${path} ${machine.place} cannot be managed: ${reason}`);
  };
  const [existing, accounts, place] = await Promise.all([
    machine.digestFile(path),
    readAccounts(machine),
    placeOf(machine, path),
  ]);
  const ownership = { ...idsOf(spec, accounts, refuse), mode: spec.mode };
  if (existing?.type === "symlink") {
    refuse("it is a link, which is not followed. Manage the file that it leads to, or remove the link");
  } else if (existing !== undefined && existing.type !== "file") {
    refuse(`it is ${existing.type === "directory" ? "a directory" : "a device, socket or pipe"}. Set the path of a file`);
  }
  const { user } = place;
  if (user !== undefined && (user.uid !== ownership.uid || user.gid !== ownership.gid)) {
    refuse(
      `${user.directory} belongs to ${describeOwner(accounts, user.uid)}, who could lead a file of another owner elsewhere. Set owner and group ` +
        "to that user's, or choose a directory that belongs to root",
    );
  }
  return { place, ownership, existing };
}

function idsOf(
  { owner, group }: FileSpec,
  { users, groups }: Accounts,
  refuse: (reason: string) => never,
): { uid: number; gid: number } {
  const user = users.find(({ name }) => name === owner);
  const named = groups.find(({ name }) => name === group);
  if (typeof owner === "string" && user === undefined) {
    refuse(`there is no user "${owner}". Create it first, and let this resource depend on it`);
  }
  if (typeof group === "string" && named === undefined) {
    refuse(`there is no group "${group}". Create it first, or set another group`);
  }
  return { uid: user?.uid ?? Number(owner), gid: named?.gid ?? Number(group) };
}

/** Whether a file is already as wanted. */
function isAsWanted(existing: FileDigest | undefined, content: Buffer, { uid, gid, mode }: FileOwnership): boolean {
  return (
    existing !== undefined &&
    existing.uid === uid &&
    existing.gid === gid &&
    existing.mode === mode &&
    existing.sha256 === sha256Of(content)
  );
}

/**
 * Makes the file as wanted, with the directories above it.
 * @param notes - Whether to note that a command must follow ({@link endPending}), before anything changes.
 * @returns Whether something was changed.
 */
export async function ensureFile(machine: Machine, spec: FileSpec, { notes }: { readonly notes: boolean }): Promise<boolean> {
  const { place, ownership, existing } = await prepareFile(machine, spec);
  if (isAsWanted(existing, spec.content, ownership)) {
    return false;
  }
  if (notes) {
    await makeKeptDirectory(machine);
    await machine.createFile(keptPath("pending", spec.path), { uid: 0, gid: 0, mode: 0o600, content: "" });
  }
  if (place.missing.length > 0) {
    await noteMade(machine, spec.path, place.missing);
  }
  await replaceFile(machine, spec.path, spec.content, { place, ownership, existing });
  return true;
}

/**
 * Keeps the file that is there, so that {@link removeFile} can restore it.
 * @param isNew - Whether what was kept before is of no use.
 */
export async function keepFormer(machine: Machine, path: string, { isNew }: { readonly isNew: boolean }): Promise<void> {
  const former = keptPath("former", path);
  if (isNew || (await machine.digestFile(former)) === undefined) {
    await makeKeptDirectory(machine);
    await machine.run(["cp", "-a", path, `${former}.new`]);
    await machine.run(["mv", "-f", "-T", `${former}.new`, former]);
  }
}

/** Notes directories before they are made, so that an interruption does not make them somebody else's. */
async function noteMade(machine: Machine, path: string, directories: readonly string[]): Promise<void> {
  await makeKeptDirectory(machine);
  const content = [...new Set([...(await madeFor(machine, path)), ...directories])].join("\n");
  await machine.createFile(keptPath("made", path), { uid: 0, gid: 0, mode: 0o600, content });
}

/** The directories that were made for a file, from the top. A path has no line break. */
async function madeFor(machine: Machine, path: string): Promise<string[]> {
  const noted = (await machine.readFile(keptPath("made", path)))?.content ?? "";
  return noted.split("\n").filter((directory) => directory !== "");
}

/** Ends what {@link ensureFile} noted. */
export async function endPending(machine: Machine, path: string): Promise<void> {
  await machine.removeFile(keptPath("pending", path));
  await clearKeptDirectory(machine);
}

/**
 * Replaces a file in one step. Works as the user whose directory it is: root could be led elsewhere there.
 * @param source - The content, or the path of a file that only root can change.
 */
async function replaceFile(
  machine: Machine,
  path: string,
  source: Buffer | string,
  { place, ownership, existing }: Prepared,
): Promise<void> {
  const { uid, gid } = ownership;
  const mode = ownership.mode.toString(8);
  const staged = stagedPath(path);
  const target = posix.join(place.directory, posix.basename(path));
  const temporary = temporaryPath(target);
  const owner: Step[] = place.user === undefined ? [{ argv: ["chown", `${uid}:${gid}`, temporary] }] : [];
  const steps: Step[] = [
    ...place.missing.map((directory) => ({ argv: ["mkdir", "-m", "755", directory] })),
    { argv: ["rm", "-f", temporary] },
    // The copy has the access control list of the present file.
    existing === undefined
      ? { argv: ["install", "-m", "600", "/dev/null", temporary] }
      : { argv: ["cp", "-a", target, temporary] },
    { argv: ["chmod", "600", temporary] },
    { argv: ["cp", staged, temporary] },
    ...owner,
    { argv: ["chmod", mode, temporary] },
    { argv: ["mv", "-f", "-T", temporary, target] },
  ];
  const as = place.user && { uid: place.user.uid, gid: place.user.gid };
  const writer = as ?? { uid: 0, gid: 0 };
  const options = { scratch: `${staged}.out`, ...(as && { as }) };
  if (typeof source !== "string") {
    const file = { ...writer, mode: 0o600, content: source };
    await applyChanges(machine, [{ staged: [{ path: staged, file }], steps }], options);
    return;
  }
  await machine.run(["install", "-m", "600", "-o", String(writer.uid), "-g", String(writer.gid), source, staged]);
  await applyChanges(machine, [{ staged: [], steps }], options);
  await machine.removeFile(staged);
}

/** Files of a change until it is in place. Work on one machine runs one after the other. */
function stagedPath(path: string): string {
  return `/run/.pulumi-file-${sha256Of(Buffer.from(path)).slice(0, 16)}`;
}

function temporaryPath(path: string): string {
  return posix.join(posix.dirname(path), `.${posix.basename(path)}.pulumi-new`);
}

/**
 * Removes a file, or restores the one that was there before it was managed, and removes the directories that were made for it and
 * are empty. Succeeds when it is already gone. What is restored stays kept until {@link forgetFile}, so that this can be repeated.
 * @returns `false` when something else than a file is at the path, which is left.
 */
export async function removeFile(machine: Machine, path: string, how: "restore" | "remove" | "keep"): Promise<boolean> {
  const former = keptPath("former", path);
  const existing = await machine.digestFile(path);
  const isFile = existing === undefined || existing.type === "file";
  if (isFile && how !== "keep") {
    const kept = how === "restore" ? await machine.digestFile(former) : undefined;
    if (kept?.type === "file") {
      await replaceFile(machine, path, former, { place: await placeOf(machine, path), ownership: kept, existing });
    } else {
      await machine.removeFile(path);
    }
    await machine.removeFile(temporaryPath(path));
    for (const directory of (await madeFor(machine, path)).reverse()) {
      const found = await machine.readFile(directory);
      if (found?.type !== "directory" || namesIn(found).length > 0) {
        break;
      }
      await machine.removeFile(directory);
    }
  }
  await Promise.all((["made", "pending"] as const).map((what) => machine.removeFile(keptPath(what, path))));
  return isFile;
}

/** Removes what was kept of a file that was removed. */
export async function forgetFile(machine: Machine, path: string): Promise<void> {
  await machine.removeFile(keptPath("former", path));
  await clearKeptDirectory(machine);
}
