import * as z from "zod";
import { isNotFound, ResponseShapeError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { runInInstance } from "./exec";

/** Where a file is. */
export interface FileLocation {
  readonly project: string;
  readonly instance: string;
  /** Absolute path inside the instance. */
  readonly path: string;
}

/** Who may do what with a file. */
export interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644. */
  readonly mode: number;
}

/** A file as LXD shows it. */
export interface InstanceFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, target of a symlink, LXD's answer with the list of names for a directory. */
  readonly content: string;
}

/** `X-LXD-*` of a file's answer; Incus says `X-Incus-*`. */
const headersSchema = z.object({
  type: z.enum(["file", "directory", "symlink"]).default("file"),
  uid: z.coerce.number().int(),
  gid: z.coerce.number().int(),
  mode: z
    .string()
    .regex(/^[0-7]+$/)
    .transform((octal) => Number.parseInt(octal, 8) & 0o7777),
});

/**
 * Reads a file of an instance. Containers may be stopped; a virtual machine needs its agent (`isAgentMissing`).
 * @see https://documentation.ubuntu.com/lxd/latest/api/#/instances/instance_files_get
 * @returns `undefined` when there is no such file. LXD says the same of an instance that does not exist: look for it first.
 */
export async function readInstanceFile(lxd: LxdClient, at: FileLocation): Promise<InstanceFile | undefined> {
  try {
    const { headers, body } = await lxd.getRaw(filesPath(at), { project: at.project, path: at.path });
    const said = Object.fromEntries(
      ["type", "uid", "gid", "mode"].map((name) => [name, headers[`x-lxd-${name}`] ?? headers[`x-incus-${name}`]]),
    );
    const parsed = headersSchema.safeParse(said);
    if (!parsed.success) {
      throw new ResponseShapeError(
        `The answer of ${lxd.host} for ${at.path} in instance "${at.instance}" is not what LXD's API describes: ${z.prettifyError(parsed.error)}`,
      );
    }
    return { ...parsed.data, content: body.toString("utf8") };
  } catch (error) {
    if (isNotFound(error)) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Makes a file in a directory that exists. When there is a file of that name already, LXD writes into it and leaves its owner and
 * permissions as they are: to be sure of them use {@link replaceInstanceFile}.
 */
export async function createInstanceFile(
  lxd: LxdClient,
  at: FileLocation,
  file: FileOwnership & { readonly content: string },
): Promise<void> {
  const query = new URLSearchParams({ project: at.project, path: at.path });
  const operation = await lxd.beginRaw({
    method: "POST",
    path: `${filesPath(at)}?${query.toString()}`,
    headers: {
      "content-type": "application/octet-stream",
      "content-length": Buffer.byteLength(file.content),
      "x-lxd-type": "file",
      "x-lxd-write": "overwrite",
      "x-lxd-uid": file.uid,
      "x-lxd-gid": file.gid,
      "x-lxd-mode": octal(file.mode),
    },
    body: file.content,
  });
  if (operation !== undefined) {
    await lxd.finish(operation);
  }
}

/**
 * Puts a file in the place of another, or of none, in one step: whoever opens it sees the old content or the new, and owner and
 * permissions are those given. The directory must be one that only root can write to.
 * @param accept - Judges the new file, by its temporary path, before it is put in place; throws to leave the old one.
 */
export async function replaceInstanceFile(
  lxd: LxdClient,
  at: FileLocation,
  file: FileOwnership & { readonly content: string },
  accept?: (temporaryPath: string) => Promise<void>,
): Promise<void> {
  const slash = at.path.lastIndexOf("/");
  const temporary = { ...at, path: `${at.path.slice(0, slash)}/.${at.path.slice(slash + 1)}.pulumi-new` };
  await removeInstanceFile(lxd, temporary); // an interrupted write may have left one with other permissions
  try {
    await createInstanceFile(lxd, temporary, file);
    await accept?.(temporary.path);
    await runInInstance(lxd, { ...at, argv: ["mv", "-f", "-T", temporary.path, at.path] });
  } catch (error) {
    await removeInstanceFile(lxd, temporary).catch(() => undefined); // the first error is the one to tell
    throw error;
  }
}

/** Removes a file or an empty directory; one that is gone is done. */
export async function removeInstanceFile(lxd: LxdClient, at: FileLocation): Promise<void> {
  await lxd.remove(filesPath(at), { project: at.project, path: at.path });
}

function filesPath(at: FileLocation): string {
  return api`/1.0/instances/${at.instance}/files`;
}

/** With a leading zero: without it LXD takes the digits for decimal ones. */
function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}
