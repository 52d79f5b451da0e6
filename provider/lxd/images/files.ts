/** Image files on the machine that runs Pulumi: their fingerprint, and their upload. */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Readable } from "node:stream";
import { messageOf, RefusedError } from "../../support/errors";
import { expandHome } from "../../transport/connection";

/** A metadata tarball with its root file system, or a unified tarball alone. */
export interface ImageFiles {
  readonly metadataPath: string;
  readonly rootfsPath?: string | undefined;
}

/** A request body that is read from disk while it is sent. */
export interface Upload {
  readonly headers: Record<string, string | number>;
  readonly bytes: number;
  open(): Readable;
}

const fingerprints = new Map<string, Promise<string>>();

/**
 * Computes the fingerprint that LXD gives to an image: SHA-256 over the metadata followed by the root file system. Reads each
 * state of the files once per process.
 * @throws RefusedError naming the property whose file cannot be read.
 */
export async function fingerprintOf(files: ImageFiles): Promise<string> {
  const facts = await Promise.all(present(files).map(factsOf));
  const key = JSON.stringify(facts);
  let fingerprint = fingerprints.get(key);
  if (fingerprint === undefined) {
    fingerprint = hash(facts.map(({ path }) => path));
    fingerprints.set(key, fingerprint);
    fingerprint.catch(() => fingerprints.delete(key));
  }
  return fingerprint;
}

async function hash(paths: readonly string[]): Promise<string> {
  const sum = createHash("sha256");
  for (const path of paths) {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      sum.update(chunk as Buffer);
    }
  }
  return sum.digest("hex");
}

function present({ metadataPath, rootfsPath }: ImageFiles): [string, string][] {
  return [["metadataPath", metadataPath], ...(rootfsPath === undefined ? [] : [["rootfsPath", rootfsPath] as [string, string]])];
}

async function factsOf([property, given]: [string, string]): Promise<{ path: string; size: number; mtimeMs: number }> {
  const path = expandHome(given);
  try {
    const { size, mtimeMs } = await stat(path);
    await (await open(path)).close();
    return { path, size, mtimeMs };
  } catch (error) {
    throw new RefusedError(`${property}: cannot be read: ${messageOf(error)}`);
  }
}

/**
 * Prepares the files for LXD: a single one unchanged, two as a form.
 * @param progress - Receives the number of bytes sent, as it grows.
 */
export async function uploadOf(files: ImageFiles, progress: (sent: number) => void): Promise<Upload> {
  const facts = await Promise.all(present(files).map(factsOf));
  const [metadata, rootfs] = facts;
  if (metadata === undefined || rootfs === undefined) {
    const [{ path, size } = { path: "", size: 0 }] = facts;
    return {
      headers: {
        "content-type": "application/octet-stream",
        "content-length": size,
        ...imageHeaders({ filename: plainName(path) }),
      },
      bytes: size,
      open: () => streamOf([{ path }], progress),
    };
  }
  const boundary = `lxd-image-${randomUUID()}`;
  const part = (name: string, path: string): string =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="${plainName(path)}"\r\n` +
    "Content-Type: application/octet-stream\r\n\r\n";
  // LXD distinguishes a virtual machine's image from a container's by the name of this part.
  const rootfsName = (await isDiskImage(rootfs.path)) ? "rootfs.img" : "rootfs";
  const pieces = [
    part("metadata", metadata.path),
    { path: metadata.path },
    `\r\n${part(rootfsName, rootfs.path)}`,
    { path: rootfs.path },
    `\r\n--${boundary}--\r\n`,
  ];
  const framing = pieces.reduce((sum, piece) => sum + (typeof piece === "string" ? Buffer.byteLength(piece) : 0), 0);
  const bytes = metadata.size + rootfs.size + framing;
  return {
    headers: { "content-type": `multipart/form-data; boundary=${boundary}`, "content-length": bytes },
    bytes,
    open: () => streamOf(pieces, progress),
  };
}

/** Headers for properties of an image. LXD and Incus each ignore the other's silently. */
export function imageHeaders(values: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => [
      [`x-lxd-${name}`, value],
      [`x-incus-${name}`, value],
    ]),
  );
}

function streamOf(pieces: readonly (string | { path: string })[], progress: (sent: number) => void): Readable {
  async function* chunks(): AsyncGenerator<Buffer> {
    let sent = 0;
    for (const piece of pieces) {
      const source = typeof piece === "string" ? [Buffer.from(piece)] : createReadStream(piece.path, { highWaterMark: 1 << 18 });
      for await (const chunk of source) {
        yield chunk as Buffer;
        sent += (chunk as Buffer).length;
        progress(sent);
      }
    }
  }
  return Readable.from(chunks(), { objectMode: false });
}

async function isDiskImage(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.equals(Buffer.from("QFI\xfb", "latin1"));
  } finally {
    await file.close();
  }
}

function plainName(path: string): string {
  return basename(path).replace(/[^A-Za-z0-9 ._+-]/g, "_");
}
