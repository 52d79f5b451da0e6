/**
 * A client of SFTP version 3 over any connection: the part that reading and writing whole files needs.
 * @see https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02
 */
import type { Duplex } from "node:stream";

/** Types of packets. */
const REQUEST = {
  init: 1,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fsetstat: 10,
  opendir: 11,
  readdir: 12,
  remove: 13,
  rmdir: 15,
  stat: 17,
  readlink: 19,
} as const;
const REPLY = { version: 2, status: 101, handle: 102, data: 103, name: 104, attributes: 105 } as const;

/** Status codes of the protocol that are handled here. */
const STATUS = { ok: 0, eof: 1, noSuchFile: 2 } as const;

const OPEN = { read: 1, createAnew: 2 | 8 | 32 } as const;

/** Flags for the attributes that a packet has. */
const HAS = { size: 1, owner: 2, permissions: 4, times: 8, extensions: 0x80000000 } as const;

const VERSION = 3;
/** Size that every server accepts and returns in one packet. */
const CHUNK_BYTES = 32 * 1024;
const MAX_PACKET_BYTES = 1024 * 1024;

/** The type bits of a mode: inode(7). */
const TYPE_BITS = 0o170000;

/** Attributes of a file. */
export interface SftpAttributes {
  /** `other` is a device, a socket or a pipe. */
  readonly type: "file" | "directory" | "symlink" | "other";
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644. */
  readonly mode: number;
  /** Bytes; 0 for files that the kernel generates, such as those of /proc. */
  readonly size: number;
}

/** The server refused one request; the connection is still good. */
export class SftpStatusError extends Error {
  constructor(
    /** Status code of the protocol. */
    readonly status: number,
    /** The server's message, verbatim. */
    readonly reply: string,
  ) {
    super(reply);
  }

  /** Whether the server reports that the file does not exist. */
  get isNoSuchFile(): boolean {
    return this.status === STATUS.noSuchFile;
  }
}

/** The other side does not speak the protocol. */
export class SftpProtocolError extends Error {}

/** The connection broke, so pending requests get no answer. */
export class SftpBrokenError extends Error {}

interface Waiting {
  resolve(packet: Packet): void;
  reject(error: Error): void;
}

/** One connection. The server answers requests in any order. When the connection breaks, all pending requests fail. */
export class SftpConnection {
  private received = Buffer.alloc(0);
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 0;
  private ended: Error | undefined;
  private readonly greeted: Promise<Packet>;
  private greet: Waiting | undefined;

  private constructor(private readonly socket: Duplex) {
    this.greeted = new Promise((resolve, reject) => {
      this.greet = { resolve, reject };
    });
    socket.on("data", (chunk: Buffer) => this.take(chunk));
    socket.on("error", (error) => this.end(new SftpBrokenError(error.message, { cause: error })));
    for (const event of ["end", "close"]) {
      socket.on(event, () => this.end(new SftpBrokenError("it was closed by the other side")));
    }
  }

  /** Agrees on the version with the server at the other end of a connection. */
  static async open(socket: Duplex): Promise<SftpConnection> {
    const connection = new SftpConnection(socket);
    connection.send(REQUEST.init, uint32(VERSION));
    const version = (await connection.greeted).uint32();
    if (version < VERSION) {
      throw connection.giveUp(`the server speaks version ${version} of SFTP, and not ${VERSION}`);
    }
    return connection;
  }

  /** Closes the connection at once. Pending requests fail. */
  close(): void {
    this.end(new SftpBrokenError("it was closed"));
  }

  /** Reads the attributes of a file itself; with `follow`, those of a symbolic link's target. */
  async attributes(path: string, follow = false): Promise<SftpAttributes> {
    const packet = await this.ask(follow ? REQUEST.stat : REQUEST.lstat, REPLY.attributes, text(path));
    return packet.attributes();
  }

  /** Reads the target of a symbolic link, as stored. */
  async readLink(path: string): Promise<string> {
    const packet = await this.ask(REQUEST.readlink, REPLY.name, text(path));
    packet.uint32(); // number of names: one
    return packet.bytes().toString("utf8");
  }

  /** Lists the names in a directory, sorted. */
  async list(path: string): Promise<string[]> {
    const handle = (await this.ask(REQUEST.opendir, REPLY.handle, text(path))).bytes();
    const names: string[] = [];
    for (;;) {
      const packet = await this.more(REQUEST.readdir, REPLY.name, uint32(handle.length), handle);
      if (packet === undefined) {
        break;
      }
      for (let left = packet.uint32(); left > 0; left -= 1) {
        names.push(packet.bytes().toString("utf8"));
        packet.bytes(); // the same name in the format of ls -l
        packet.skipAttributes();
      }
    }
    this.leave(handle);
    return names.filter((name) => name !== "." && name !== "..").sort();
  }

  /**
   * Reads the content of a file.
   * @param expectedBytes - Probable size, which saves a request.
   * @throws SftpProtocolError when it is larger than `maxBytes`.
   */
  async read(path: string, expectedBytes: number, maxBytes: number): Promise<Buffer> {
    const handle = await this.openFile(path, OPEN.read);
    const chunks: Buffer[] = [];
    let length = 0;
    for (;;) {
      const chunk = await this.readAt(handle, length);
      if (chunk === undefined) {
        break;
      }
      chunks.push(chunk);
      length += chunk.length;
      if (length > maxBytes) {
        throw new SftpProtocolError(`the file is larger than ${maxBytes} bytes`);
      }
      if (length === expectedBytes && chunk.length < CHUNK_BYTES) {
        break;
      }
    }
    this.leave(handle);
    return Buffer.concat(chunks, length);
  }

  /** Creates a file that does not exist yet. Only its future owner can see any of its content. */
  async create(path: string, file: { uid: number; gid: number; mode: number; content: Buffer }): Promise<void> {
    const { uid, gid, mode, content } = file;
    const handle = await this.openFile(path, OPEN.createAnew);
    const onHandle = [uint32(handle.length), handle];
    // Sets permissions first, or another user could read the file in between; and again last, because a change of owner
    // may clear bits of them.
    await this.ask(REQUEST.fsetstat, REPLY.status, ...onHandle, uint32(HAS.permissions), uint32(0o600));
    await this.ask(REQUEST.fsetstat, REPLY.status, ...onHandle, uint32(HAS.owner), uint32(uid), uint32(gid));
    await this.ask(REQUEST.fsetstat, REPLY.status, ...onHandle, uint32(HAS.permissions), uint32(mode));
    for (let offset = 0; offset < content.length; offset += CHUNK_BYTES) {
      const chunk = content.subarray(offset, offset + CHUNK_BYTES);
      await this.ask(REQUEST.write, REPLY.status, ...onHandle, uint64(offset), uint32(chunk.length), chunk);
    }
    await this.ask(REQUEST.close, REPLY.status, ...onHandle);
  }

  /** Removes anything but a directory. */
  async remove(path: string): Promise<void> {
    await this.ask(REQUEST.remove, REPLY.status, text(path));
  }

  /** Removes an empty directory. */
  async removeDirectory(path: string): Promise<void> {
    await this.ask(REQUEST.rmdir, REPLY.status, text(path));
  }

  private async openFile(path: string, flags: number): Promise<Buffer> {
    const noAttributes = uint32(0);
    return (await this.ask(REQUEST.open, REPLY.handle, text(path), uint32(flags), noAttributes)).bytes();
  }

  private async readAt(handle: Buffer, offset: number): Promise<Buffer | undefined> {
    const fields = [uint32(handle.length), handle, uint64(offset), uint32(CHUNK_BYTES)];
    return (await this.more(REQUEST.read, REPLY.data, ...fields))?.bytes();
  }

  /** Returns `undefined` at the end of the data. */
  private async more(type: number, expected: number, ...fields: readonly Buffer[]): Promise<Packet | undefined> {
    try {
      return await this.ask(type, expected, ...fields);
    } catch (error) {
      if (error instanceof SftpStatusError && error.status === STATUS.eof) {
        return undefined;
      }
      throw error;
    }
  }

  /** Closes a handle after reading. Ignores errors, because the data has been read. */
  private leave(handle: Buffer): void {
    this.ask(REQUEST.close, REPLY.status, uint32(handle.length), handle).catch(() => undefined);
  }

  private async ask(type: number, expected: number, ...fields: readonly Buffer[]): Promise<Packet> {
    if (this.ended !== undefined) {
      throw this.ended;
    }
    const id = this.nextId++;
    const answer = new Promise<Packet>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.send(type, uint32(id), ...fields);
    const packet = await answer;
    if (packet.type === REPLY.status) {
      const status = packet.uint32();
      if (status !== STATUS.ok) {
        throw new SftpStatusError(status, packet.bytes().toString("utf8"));
      }
    }
    if (packet.type !== expected) {
      throw this.giveUp(`the server answered a request of type ${type} with a packet of type ${packet.type}`);
    }
    return packet;
  }

  private send(type: number, ...fields: readonly Buffer[]): void {
    const body = Buffer.concat([Buffer.from([type]), ...fields]);
    this.socket.write(Buffer.concat([uint32(body.length), body]));
  }

  private take(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    while (this.received.length >= 4) {
      const length = this.received.readUInt32BE(0);
      if (length < 5 || length > MAX_PACKET_BYTES) {
        this.giveUp(`the server sent a packet of ${length} bytes`);
        return;
      }
      if (this.received.length < 4 + length) {
        return;
      }
      const packet = new Packet(this.received.subarray(4, 4 + length));
      this.received = this.received.subarray(4 + length);
      this.handOut(packet);
    }
  }

  private handOut(packet: Packet): void {
    if (packet.type === REPLY.version) {
      this.greet?.resolve(packet);
      this.greet = undefined;
      return;
    }
    const id = packet.uint32();
    this.waiting.get(id)?.resolve(packet);
    this.waiting.delete(id);
  }

  private giveUp(why: string): SftpProtocolError {
    const error = new SftpProtocolError(why);
    this.end(error);
    return error;
  }

  private end(error: Error): void {
    this.ended ??= error;
    for (const waiting of [this.greet, ...this.waiting.values()]) {
      waiting?.reject(this.ended);
    }
    this.waiting.clear();
    this.socket.destroy();
  }
}

/** A packet, read from its start. */
class Packet {
  readonly type: number;
  private position = 1;

  constructor(private readonly body: Buffer) {
    this.type = body.readUInt8(0);
  }

  uint32(): number {
    return this.next(4).readUInt32BE(0);
  }

  bytes(): Buffer {
    return this.next(this.uint32());
  }

  attributes(): SftpAttributes {
    const flags = this.uint32();
    if ((flags & HAS.owner) === 0 || (flags & HAS.permissions) === 0) {
      throw new SftpProtocolError("the server does not tell owner and permissions of a file");
    }
    const size = (flags & HAS.size) === 0 ? 0 : Number(this.next(8).readBigUInt64BE(0));
    const [uid, gid, mode] = [this.uint32(), this.uint32(), this.uint32()];
    const type = ({ 0o100000: "file", 0o040000: "directory", 0o120000: "symlink" } as const)[mode & TYPE_BITS];
    return { type: type ?? "other", uid, gid, mode: mode & 0o7777, size };
  }

  skipAttributes(): void {
    const flags = this.uint32();
    for (const [flag, bytes] of [
      [HAS.size, 8],
      [HAS.owner, 8],
      [HAS.permissions, 4],
      [HAS.times, 8],
    ] as const) {
      this.next((flags & flag) === 0 ? 0 : bytes);
    }
    for (let left = (flags & HAS.extensions) === 0 ? 0 : this.uint32(); left > 0; left -= 1) {
      this.bytes();
      this.bytes();
    }
  }

  private next(length: number): Buffer {
    const end = this.position + length;
    if (end > this.body.length) {
      throw new SftpProtocolError("the server sent a packet that is cut short");
    }
    const part = this.body.subarray(this.position, end);
    this.position = end;
    return part;
  }
}

function uint32(value: number): Buffer {
  const field = Buffer.alloc(4);
  field.writeUInt32BE(value);
  return field;
}

function uint64(value: number): Buffer {
  const field = Buffer.alloc(8);
  field.writeBigUInt64BE(BigInt(value));
  return field;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([uint32(bytes.length), bytes]);
}
