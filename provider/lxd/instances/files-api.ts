/**
 * Files of an instance, with one request for each, for servers without SFTP. files.ts defines the behaviour.
 * @see https://documentation.ubuntu.com/lxd/latest/api/#/instances/instance_files_get
 */
import * as z from "zod";
import { isNotFound, ResponseShapeError } from "../../support/errors";
import { api } from "../client/client";
import { runInInstance } from "./exec";
import type { InstanceRef } from "./instance-lock";

interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644; setuid and similar bits cannot be set. */
  readonly mode: number;
}

export interface InstanceFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, absolute target of a symlink, or names in a directory as `{"metadata":["a","b"]}`. */
  readonly content: string;
}

export type NewFile = FileOwnership & { readonly content: string };

/** `X-LXD-*` headers of a file; Incus sends `X-Incus-*`. */
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
 * @returns `undefined` when the file does not exist. LXD answers the same for an instance that does not exist: check that first.
 */
export async function readInstanceFile(ref: InstanceRef, path: string): Promise<InstanceFile | undefined> {
  try {
    const { headers, body } = await ref.lxd.getRaw(filesPath(ref), { project: ref.project, path });
    const said = Object.fromEntries(
      ["type", "uid", "gid", "mode"].map((name) => [name, headers[`x-lxd-${name}`] ?? headers[`x-incus-${name}`]]),
    );
    const parsed = headersSchema.safeParse(said);
    if (!parsed.success) {
      throw new ResponseShapeError(
        `The answer of ${ref.lxd.host} for ${path} in instance "${ref.name}" is not what LXD's API describes: ${z.prettifyError(parsed.error)}`,
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

/** Creates a file. Removes an existing one first, because LXD would write into that and keep its owner and permissions. */
export async function createInstanceFile(ref: InstanceRef, path: string, file: NewFile): Promise<void> {
  await removeInstanceFile(ref, path);
  const query = new URLSearchParams({ project: ref.project, path });
  const operation = await ref.lxd.beginRaw({
    method: "POST",
    path: `${filesPath(ref)}?${query.toString()}`,
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
    await ref.lxd.finish(operation);
  }
}

/** Exits with 0 for a program, with 1 otherwise. */
export const IS_PROGRAM = '[ -f "$1" ] && [ -x "$1" ]';

/** Checks inside the instance, because the API follows no links. */
export async function isProgramInInstance(ref: InstanceRef, path: string): Promise<boolean> {
  const { exitCode } = await runInInstance(ref, {
    argv: ["sh", "-c", IS_PROGRAM, "sh", path],
    output: "none",
    allowFailure: true,
  });
  return exitCode === 0;
}

/** Removes a file or an empty directory. Succeeds when it does not exist. */
export async function removeInstanceFile(ref: InstanceRef, path: string): Promise<void> {
  await ref.lxd.remove(filesPath(ref), { project: ref.project, path });
}

function filesPath({ name }: InstanceRef): string {
  return api`/1.0/instances/${name}/files`;
}

/** Formats a mode with a leading zero. Without it, LXD reads the digits as decimal. */
function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}
