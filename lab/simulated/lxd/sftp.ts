/**
 * SFTP over the files of a simulated guest: ssh2's server side of the protocol, on a plain connection instead of an SSH
 * channel.
 */
import { posix } from "node:path";
import type { Duplex } from "node:stream";
import type { Attributes, SFTPWrapper } from "ssh2";
import { SFTP } from "ssh2/lib/protocol/SFTP.js";
import type { FaultEffect } from "../faults";
import { type FileNode, FileSystemError, type MemoryFiles } from "../memory-files";

const STATUS = { ok: 0, eof: 1, noSuchFile: 2, failure: 4 } as const;
const OPEN = { write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;
const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const;

/** Operations on files, as faults name them. */
type Act = "look" | "read" | "make" | "write" | "own" | "remove";

/** A request that was answered with a status other than success. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Serves the files of a guest until the connection ends.
 * @param faultAt - Called before each request with its operation and path.
 */
export function serveSftp(
  connection: Duplex,
  files: MemoryFiles,
  faultAt: (act: Act, path: string) => FaultEffect | undefined,
): void {
  const sftp = serverOn(connection);
  const open = new Map<number, string>();
  let lastHandle = 0;
  const pathOf = (handle: Buffer): string => {
    const path = open.get(handle.readUInt32BE(0));
    if (path === undefined) {
      throw new Refusal(STATUS.failure, "EBADF");
    }
    return path;
  };

  /** Answers one request, unless a fault comes first. */
  const on = (id: number, act: Act, path: string, answer: () => void): void => {
    const effect = faultAt(act, path);
    if (effect === "hang") {
      return;
    }
    if (effect === "drop-before") {
      connection.destroy();
      return;
    }
    try {
      if (typeof effect === "object" && "status" in effect) {
        throw new Refusal(STATUS.failure, effect.error);
      }
      if (effect === "drop-after") {
        connection.cork(); // the answer is lost with the connection
      }
      answer();
    } catch (error) {
      sftp.status(id, ...statusOf(error, path));
    }
    if (effect === "drop-after") {
      connection.destroy();
    }
  };
  const done = (id: number, work: () => void) => (): void => {
    work();
    sftp.status(id, STATUS.ok);
  };
  const look = (id: number, path: string, follow: boolean): void =>
    on(id, "look", path, () => sftp.attrs(id, attributesOf(nodeAt(files, path, follow))));

  const emitter = sftp as unknown as NodeJS.EventEmitter;
  emitter.on("error", () => connection.destroy());
  emitter.on("OPEN", (id: number, path: string, flags: number) =>
    on(id, (flags & OPEN.write) === 0 ? "read" : "make", path, () => {
      openFile(files, path, flags);
      lastHandle += 1;
      open.set(lastHandle, posix.resolve("/", path));
      sftp.handle(id, handleOf(lastHandle));
    }),
  );
  emitter.on("READ", (id: number, handle: Buffer, offset: number, length: number) => {
    const { content } = nodeAt(files, pathOf(handle), true);
    const part = content.subarray(offset, offset + length);
    if (part.length === 0) {
      sftp.status(id, STATUS.eof);
    } else {
      sftp.data(id, part);
    }
  });
  emitter.on("WRITE", (id: number, handle: Buffer, offset: number, data: Buffer) => {
    const path = pathOf(handle);
    const bytes = Buffer.from(data); // ssh2 reuses this buffer for the next packet
    on(
      id,
      "write",
      path,
      done(id, () => {
        const { content } = nodeAt(files, path, true);
        const end = Math.max(content.length, offset + bytes.length);
        const next = Buffer.concat([content], end);
        bytes.copy(next, offset);
        files.writeFile(path, next);
      }),
    );
  });
  const unread = new Map<number, string[]>();
  emitter.on("OPENDIR", (id: number, path: string) =>
    on(id, "look", path, () => {
      if (nodeAt(files, path, true).type !== "directory") {
        throw new FileSystemError("Not a directory");
      }
      lastHandle += 1;
      unread.set(lastHandle, files.list(path));
      sftp.handle(id, handleOf(lastHandle));
    }),
  );
  emitter.on("READDIR", (id: number, handle: Buffer) => {
    const names = unread.get(handle.readUInt32BE(0))?.splice(0, 100) ?? [];
    if (names.length === 0) {
      sftp.status(id, STATUS.eof);
    } else {
      sftp.name(
        id,
        names.map((filename) => ({
          filename,
          longname: filename,
          attrs: { mode: 0, uid: 0, gid: 0, size: 0, atime: 0, mtime: 0 },
        })),
      );
    }
  });
  emitter.on("CLOSE", (id: number, handle: Buffer) => {
    open.delete(handle.readUInt32BE(0));
    unread.delete(handle.readUInt32BE(0));
    sftp.status(id, STATUS.ok);
  });
  // LXD's server sets only the permission bits: setuid and similar are lost.
  emitter.on("FSETSTAT", (id: number, handle: Buffer, { uid, gid, mode }: Partial<Attributes>) => {
    const path = pathOf(handle);
    on(
      id,
      "own",
      path,
      done(id, () => {
        Object.assign(nodeAt(files, path, true), {
          ...(uid === undefined ? {} : { uid, gid }),
          ...(mode === undefined ? {} : { mode: mode & 0o777 }),
        });
      }),
    );
  });
  emitter.on("FSTAT", (id: number, handle: Buffer) => look(id, pathOf(handle), true));
  emitter.on("LSTAT", (id: number, path: string) => look(id, path, false));
  emitter.on("STAT", (id: number, path: string) => look(id, path, true));
  emitter.on("READLINK", (id: number, path: string) =>
    on(id, "look", path, () => {
      const filename = nodeAt(files, path, false).content.toString();
      sftp.name(id, [{ filename, longname: "", attrs: {} as Attributes }]);
    }),
  );
  for (const [request, isDirectory] of [
    ["REMOVE", false],
    ["RMDIR", true],
  ] as const) {
    emitter.on(request, (id: number, path: string) =>
      on(
        id,
        "remove",
        path,
        done(id, () => {
          if ((nodeAt(files, path, false).type === "directory") !== isDirectory) {
            throw new FileSystemError(isDirectory ? "Not a directory" : "Is a directory");
          }
          files.remove(path);
        }),
      ),
    );
  }
}

/** ssh2 makes this class the end of an SSH channel; a connection that accepts all writes replaces the channel. */
function serverOn(connection: Duplex): SFTPWrapper {
  const protocol = {
    channelData: (_id: number, data: Buffer) => void connection.write(data),
    channelClose: () => connection.end(),
  };
  const unbounded = { id: 0, state: "open", window: Number.POSITIVE_INFINITY, packetSize: Number.POSITIVE_INFINITY };
  const sftp = new SFTP(
    { _protocol: protocol },
    { type: "sftp", incoming: unbounded, outgoing: { ...unbounded } },
    { server: true },
  );
  connection.on("data", (chunk: Buffer) => sftp.push(chunk));
  connection.on("error", () => undefined);
  connection.on("close", () => sftp.push(null));
  return sftp as unknown as SFTPWrapper;
}

function handleOf(id: number): Buffer {
  const handle = Buffer.alloc(4);
  handle.writeUInt32BE(id);
  return handle;
}

function openFile(files: MemoryFiles, path: string, flags: number): void {
  if ((flags & OPEN.write) === 0) {
    if (nodeAt(files, path, true).type === "directory") {
      throw new FileSystemError("Is a directory");
    }
    return;
  }
  const isThere = files.get(path, false) !== undefined;
  if (isThere && (flags & OPEN.exclusive) !== 0) {
    throw new FileSystemError("File exists");
  }
  if (!isThere && (flags & OPEN.create) === 0) {
    throw new FileSystemError("No such file or directory");
  }
  if (!isThere || (flags & OPEN.truncate) !== 0) {
    files.writeFile(path, "");
  }
}

/** @throws FileSystemError as the system call would fail. */
function nodeAt(files: MemoryFiles, path: string, follow: boolean): FileNode {
  const node = files.get(path, follow);
  if (node !== undefined) {
    return node;
  }
  for (let above = posix.dirname(posix.resolve("/", path)); above !== "/"; above = posix.dirname(above)) {
    const parent = files.get(above);
    if (parent !== undefined) {
      throw new FileSystemError(parent.type === "directory" ? "No such file or directory" : "Not a directory");
    }
  }
  throw new FileSystemError("No such file or directory");
}

function attributesOf({ type, mode, uid, gid, content, modified }: FileNode): Attributes {
  const seconds = Math.floor(modified.getTime() / 1000);
  return { mode: TYPE_BITS[type] | mode, uid, gid, size: content.length, atime: seconds, mtime: seconds };
}

/** As LXD's server does: a missing file has its own code, everything else is a failure. */
function statusOf(error: unknown, path: string): [status: number, message: string] {
  if (error instanceof Refusal) {
    return [error.status, error.message];
  }
  if (!(error instanceof FileSystemError)) {
    throw error;
  }
  const isGone = error.message === "No such file or directory";
  return [
    isGone ? STATUS.noSuchFile : STATUS.failure,
    isGone ? "file does not exist" : `${path}: ${error.message.toLowerCase()}`,
  ];
}
