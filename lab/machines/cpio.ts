/** A file, folder or link of a cpio archive. A link's content is its target. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** Type and permissions, as in `stat`: for example 0o100644 for a file. */
  readonly mode: number;
  readonly content?: string | Buffer;
}

/** Type bits of a mode, as in `stat`. */
const FILE = 0o100000;
const FOLDER = 0o040000;

/** A file with permissions. */
export function file(path: string, content: string | Buffer, permissions = 0o644): CpioEntry {
  return { path, mode: FILE | permissions, content };
}

/** A folder with permissions. */
export function folder(path: string, permissions = 0o755): CpioEntry {
  return { path, mode: FOLDER | permissions };
}

/**
 * An archive in cpio's "newc" format, which Linux unpacks as its initial file system. The kernel also takes several such
 * archives in one file, one after the other. Everything belongs to root. A folder must precede what it contains.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts = [...entries, { path: "TRAILER!!!", mode: 0 }].map((entry, index) => member(entry, index + 1));
  // The next archive must begin at a multiple of four bytes; 512 is what cpio itself writes.
  return padded(Buffer.concat(parts), 512);
}

function member({ path, mode, content = "" }: CpioEntry, inode: number): Buffer {
  const data = Buffer.from(content);
  const name = Buffer.from(`${path}\0`);
  const isFolder = (mode & 0o170000) === FOLDER;
  // inode, mode, uid, gid, links, mtime, size, device (major, minor), special device (major, minor), name size, checksum
  const fields = [inode, mode, 0, 0, isFolder ? 2 : 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return Buffer.concat([padded(Buffer.concat([header, name]), 4), padded(data, 4)]);
}

function padded(data: Buffer, multiple: number): Buffer {
  return Buffer.concat([data, Buffer.alloc((multiple - (data.length % multiple)) % multiple)]);
}
