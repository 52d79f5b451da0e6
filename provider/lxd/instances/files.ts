/** Files inside an instance: any number over one connection, which LXD opens with `Upgrade: sftp`. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { ApiError, RefusedError, ResponseShapeError, TransportError } from "../../support/errors";
import { api } from "../client/client";
import { clusterKey } from "../client/presented";
import type { InstanceRef } from "./instance-lock";
import { type SftpAttributes, SftpBrokenError, SftpConnection, SftpProtocolError, SftpStatusError } from "./sftp";

interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644. */
  readonly mode: number;
}

export interface InstanceFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, absolute target of a symlink, or names in a directory as `{"metadata":["a","b"]}`. */
  readonly content: string;
}

export interface InstanceFileDigest extends FileOwnership {
  /** `other` is a device, a socket or a pipe. */
  readonly type: InstanceFile["type"] | "other";
  /** SHA-256 of a file's content in hexadecimal; empty for all others. */
  readonly sha256: string;
}

export type NewFile = FileOwnership & { readonly content: string | Buffer };

const MAX_FILE_BYTES = 64 * 1024 * 1024;

/** A connection to an instance, and how many requests use it. */
interface Shared {
  readonly connection: Promise<SftpConnection>;
  uses: number;
}

/** By instance: all that this process does there at the same time shares one connection. */
const shared = new Map<string, Shared>();

/**
 * Files of one instance. Containers may be stopped; a virtual machine needs its agent. A connection exists
 * only during requests: an idle one would block other requests, possibly those that its owner waits for.
 */
export class InstanceFiles {
  constructor(private readonly ref: InstanceRef) {}

  /**
   * Reads the file at a path; a symbolic link itself. Returns `undefined` when it does not exist.
   * @throws ApiError when the instance does not exist, TransportError when the connection breaks.
   */
  read(path: string): Promise<InstanceFile | undefined> {
    return this.use(`reading ${path}`, async (sftp) => {
      const found = await attributesOf(sftp, path);
      return found && this.contentOf(sftp, path, found);
    });
  }

  /** {@link read} without content. */
  digest(path: string): Promise<InstanceFileDigest | undefined> {
    return this.use(`reading ${path}`, async (sftp) => {
      const found = await attributesOf(sftp, path);
      if (found === undefined) {
        return undefined;
      }
      const { size, ...attributes } = found;
      const content = found.type === "file" ? await sftp.read(path, size, MAX_FILE_BYTES) : undefined;
      return { ...attributes, sha256: content === undefined ? "" : createHash("sha256").update(content).digest("hex") };
    });
  }

  /** Creates a file with that owner, permissions and content. Removes an existing one first, unless it is a directory. */
  create(path: string, file: NewFile): Promise<void> {
    return this.use(`writing ${path}`, async (sftp) => {
      await removeFile(sftp, path);
      await sftp.create(path, { ...file, content: Buffer.from(file.content) });
    });
  }

  /** Whether a path is a program that root can run. Follows links. */
  isProgram(path: string): Promise<boolean> {
    return this.use(`looking for ${path}`, async (sftp) => {
      const found = await attributesOf(sftp, path, true);
      return found?.type === "file" && (found.mode & 0o111) !== 0;
    });
  }

  /** Removes a file or an empty directory. Succeeds when it does not exist. */
  remove(path: string): Promise<void> {
    return this.use(`removing ${path}`, async (sftp) => {
      const isDirectory = (await attributesOf(sftp, path))?.type === "directory";
      await (isDirectory ? sftp.removeDirectory(path) : removeFile(sftp, path));
    });
  }

  private async contentOf(sftp: SftpConnection, path: string, found: SftpAttributes): Promise<InstanceFile> {
    const { type, size, ...ownership } = found;
    switch (type) {
      case "file":
        return { type, ...ownership, content: (await sftp.read(path, size, MAX_FILE_BYTES)).toString("utf8") };
      case "symlink":
        return { type, ...ownership, content: posix.resolve(posix.dirname(path), await sftp.readLink(path)) };
      case "directory":
        return { type, ...ownership, content: JSON.stringify({ metadata: await sftp.list(path) }) };
      case "other":
        throw new RefusedError(
          `${path} in ${this.name} is neither a file nor a directory nor a link, and cannot be read. Remove it there`,
        );
    }
  }

  private async use<Result>(doing: string, work: (sftp: SftpConnection) => Promise<Result>): Promise<Result> {
    const { lxd, project, name } = this.ref;
    const key = JSON.stringify([clusterKey(lxd.endpoint), lxd.host, project, name]);
    const own = shared.get(key) ?? { connection: this.connect(), uses: 0 };
    const forget = (): void => {
      if (shared.get(key) === own) {
        shared.delete(key);
      }
    };
    shared.set(key, own);
    own.uses += 1;
    try {
      const sftp = await lxd.deadline.race(own.connection, `opening an SFTP connection to ${this.name}`);
      return await lxd.deadline.race(work(sftp), `${doing} in ${this.name}`, () => sftp.close());
    } catch (error) {
      if (!(error instanceof SftpStatusError)) {
        forget(); // it may be broken, and the next request opens another one
      }
      throw this.asLibraryError(error, doing);
    } finally {
      own.uses -= 1;
      // Lets the caller's next request begin before the connection is closed.
      setImmediate(() => {
        if (own.uses === 0) {
          forget();
          own.connection.then((sftp) => sftp.close()).catch(() => undefined);
        }
      });
    }
  }

  private async connect(): Promise<SftpConnection> {
    const { lxd, project } = this.ref;
    const socket = await lxd.connect(this.path, "sftp", { project });
    return lxd.deadline.race(SftpConnection.open(socket), `opening an SFTP connection to ${this.name}`, () => socket.destroy());
  }

  private asLibraryError(error: unknown, doing: string): unknown {
    const { host, title } = this.ref.lxd;
    if (error instanceof SftpStatusError) {
      return new ApiError(title, `SFTP (${doing})`, this.path, error.isNoSuchFile ? 404 : 500, error.reply);
    }
    if (error instanceof SftpProtocolError) {
      return new ResponseShapeError(`SFTP with ${title} failed while ${doing} in instance "${this.ref.name}": ${error.message}`);
    }
    if (error instanceof SftpBrokenError) {
      const message = `The SFTP connection to ${this.name} broke while ${doing}: ${error.message}`;
      return new TransportError(host, message, { cause: error });
    }
    return error;
  }

  private get path(): string {
    return api`/1.0/instances/${this.ref.name}/sftp`;
  }

  private get name(): string {
    return `instance "${this.ref.name}" (${this.ref.lxd.title})`;
  }
}

/**
 * Reads attributes. Returns `undefined` when the file does not exist. For a path that leads through a file, servers only report a
 * failure, so this then reads the parent.
 */
async function attributesOf(sftp: SftpConnection, path: string, follow = false): Promise<SftpAttributes | undefined> {
  try {
    return await sftp.attributes(path, follow);
  } catch (error) {
    if (!(error instanceof SftpStatusError)) {
      throw error;
    }
    if (error.isNoSuchFile) {
      return undefined;
    }
    const above = posix.dirname(path);
    const parent = above === path ? undefined : await attributesOf(sftp, above);
    if (above !== path && (parent === undefined || parent.type === "file")) {
      return undefined;
    }
    throw error;
  }
}

/** Removes a file. Succeeds when it does not exist. */
async function removeFile(sftp: SftpConnection, path: string): Promise<void> {
  try {
    await sftp.remove(path);
  } catch (error) {
    if (!(error instanceof SftpStatusError) || (await attributesOf(sftp, path)) !== undefined) {
      throw error;
    }
  }
}
