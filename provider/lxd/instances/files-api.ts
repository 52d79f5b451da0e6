/**
 * Files of an instance, one request for each: for servers that have no SFTP. What is wanted is said in files.ts.
 * @see https://documentation.ubuntu.com/lxd/latest/api/#/instances/instance_files_get
 */
import * as z from "zod";
import { isNotFound, ResponseShapeError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { runInInstance } from "./exec";
import type { InstanceFile, NewFile } from "./file";

/** Where a file is. */
interface FileLocation {
  readonly project: string;
  readonly instance: string;
  /** Absolute path inside the instance. */
  readonly path: string;
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

/** @returns `undefined` when there is no such file. LXD says the same of an instance that does not exist: look for it first. */
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

/** LXD would write into a file that is there, and leave its owner and permissions as they are. */
export async function createInstanceFile(lxd: LxdClient, at: FileLocation, file: NewFile): Promise<void> {
  await removeInstanceFile(lxd, at);
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

/** Ends with 0 for a program, with 1 for none. */
export const IS_PROGRAM = '[ -f "$1" ] && [ -x "$1" ]';

/** The API follows no links, so the instance is asked. */
export async function isProgramInInstance(lxd: LxdClient, { path, ...at }: FileLocation): Promise<boolean> {
  const { exitCode } = await runInInstance(lxd, {
    ...at,
    argv: ["sh", "-c", IS_PROGRAM, "sh", path],
    output: "none",
    allowFailure: true,
  });
  return exitCode === 0;
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
