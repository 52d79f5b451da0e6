/**
 * A client of SFTP version 3 over any connection: the part that reading and writing whole files needs.
 * @see https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02
 */
import type { Duplex } from "node:stream";

const REQUEST = {
  init: 1,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  fsetstat: 10,
  opendir: 11,
  readdir: 12,
  remove: 13,
  rmdir: 15,
  stat: 17,
  readlink: 19,
} as const;
const REPLY = { version: 2, status: 101, handle: 102, data: 103, name: 104, attributes: 105 } as const;

const STATUS = { ok: 0, eof: 1, noSuchFile: 2 } as const;

const OPEN = { read: 1, createNew: 2 | 8 | 32 } as const;

/** Flags for the attributes that a packet has. */
const HAS = { size: 1, owner: 2, permissions: 4, times: 8, extensions: 0x80000000 } as const;

const VERSION = 3;
/** Size that every server accepts and returns in one packet. */
const CHUNK_BYTES = 32 * 1024;
const MAX_PACKET_BYTES = 1024 * 1024;

/** File types by the type bits of a mode: inode(7). */
const TYPE_BITS = 0o170000;
const TYPES: Readonly<Record<number, SftpAttributes["type"]>> = { 0o100000: "file", 0o040000: "directory", 0o120000: "symlink" };

export interface SftpAttributes {
  /** `other` is a device, a socket or a pipe. */
  readonly type: "file" | "directory" | "symlink" | "other";
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  /** Bytes; 0 for files that the kernel generates, such as those of /proc. */
  readonly size: number;
}

/** The server refused one request; the connection is still good. */
export class SftpStatusError extends Error {
  /** @param reply - The server's message, verbatim. */
  constructor(
    readonly status: number,
    readonly reply: string,
  ) {
    super(reply);
  }

  get isNoSuchFile(): boolean {
    return this.status === STATUS.noSuchFile;
  }
}

/** The other side does not speak the protocol. */
export class SftpProtocolError extends Error {}

/** The connection broke, so pending requests get no answer. */
export class SftpBrokenError extends Error {}

/** A field of a packet: a number takes four bytes, a bigint eight; text and bytes are sent with their length. */
type Field = number | bigint | string | Buffer;

/** Place of the pending greeting, which has no id, among the pending requests. */
const GREETING = -1;

/** One connection. The server answers requests in any order. When the connection breaks, all pending requests fail. */
export class SftpConnection {
  private received = Buffer.alloc(0);
  private readonly pending = new Map<number, { resolve: (packet: PacketReader) => void; reject: (error: Error) => void }>();
  private nextId = 0;
  private ended: Error | undefined;

  private constructor(private readonly socket: Duplex) {
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("error", (error) => this.end(new SftpBrokenError(error.message, { cause: error })));
    for (const event of ["end", "close"]) {
      socket.on(event, () => this.end(new SftpBrokenError("it was closed by the other side")));
    }
  }

  /** Agrees on the version with the server at the other end of a connection. */
  static async open(socket: Duplex): Promise<SftpConnection> {
    const connection = new SftpConnection(socket);
    const version = (await connection.exchange(GREETING, REQUEST.init, [VERSION])).uint32();
    if (version < VERSION) {
      throw connection.fail(`the server speaks version ${version} of SFTP, and not ${VERSION}`);
    }
    return connection;
  }

  close(): void {
    this.end(new SftpBrokenError("it was closed"));
  }

  /** Reads the attributes of a file itself; with `follow`, those of a symbolic link's target. */
  attributes(path: string, follow = false): Promise<SftpAttributes> {
    return this.attributesBy(follow ? REQUEST.stat : REQUEST.lstat, path);
  }

  private async attributesBy(type: number, which: string | Buffer): Promise<SftpAttributes> {
    const found = (await this.request(type, REPLY.attributes, which)).attributes();
    if (found === undefined) {
      throw new SftpProtocolError("the server does not report owner and permissions of a file");
    }
    return found;
  }

  /** Reads the target of a symbolic link, as stored. */
  async readLink(path: string): Promise<string> {
    const packet = await this.request(REQUEST.readlink, REPLY.name, path);
    packet.uint32(); // number of names: one
    return packet.bytes().toString("utf8");
  }

  /** Lists the names in a directory, sorted. */
  async list(path: string): Promise<string[]> {
    const handle = (await this.request(REQUEST.opendir, REPLY.handle, path)).bytes();
    const next = (): Promise<PacketReader | undefined> => this.requestNext(REQUEST.readdir, REPLY.name, handle);
    const names: string[] = [];
    for (let packet = await next(); packet !== undefined; packet = await next()) {
      for (let left = packet.uint32(); left > 0; left -= 1) {
        names.push(packet.bytes().toString("utf8"));
        packet.bytes(); // the same name in the format of ls -l
        packet.attributes();
      }
    }
    this.closeHandle(handle);
    return names.filter((name) => name !== "." && name !== "..").sort();
  }

  /**
   * Reads the content of a file.
   * @param expectedBytes - Probable size, which saves a request.
   * @throws SftpProtocolError when it is larger than `maxBytes`.
   */
  async read(path: string, expectedBytes: number, maxBytes: number): Promise<Buffer> {
    const handle = await this.openFile(path, OPEN.read);
    let length = 0;
    const next = async (): Promise<Buffer | undefined> =>
      (await this.requestNext(REQUEST.read, REPLY.data, handle, BigInt(length), CHUNK_BYTES))?.bytes();
    const chunks: Buffer[] = [];
    for (let chunk = await next(); chunk !== undefined; chunk = await next()) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > maxBytes) {
        throw new SftpProtocolError(`the file is larger than ${maxBytes} bytes`);
      }
      if (length === expectedBytes && chunk.length < CHUNK_BYTES) {
        break;
      }
    }
    this.closeHandle(handle);
    return Buffer.concat(chunks, length);
  }

  /**
   * Creates a file that does not exist yet. Only its future owner can see any of its content.
   * @throws SftpProtocolError when the server does not give it the owner and permissions. It is then empty.
   */
  async create(path: string, file: { uid: number; gid: number; mode: number; content: Buffer }): Promise<void> {
    const { uid, gid, mode, content } = file;
    const handle = await this.openFile(path, OPEN.createNew);
    // Sets permissions first, or another user could read the file in between; and again last, because a change of owner may clear
    // bits of them.
    await this.request(REQUEST.fsetstat, REPLY.status, handle, HAS.permissions, 0o600);
    await this.request(REQUEST.fsetstat, REPLY.status, handle, HAS.owner, uid, gid);
    await this.request(REQUEST.fsetstat, REPLY.status, handle, HAS.permissions, mode);
    const made = await this.attributesBy(REQUEST.fstat, handle);
    if (made.uid !== uid || made.gid !== gid || made.mode !== mode) {
      this.closeHandle(handle);
      throw new SftpProtocolError(
        `the server made a file with ${describeOwnership(made)}, and was asked for ${describeOwnership(file)}`,
      );
    }
    for (let offset = 0; offset < content.length; offset += CHUNK_BYTES) {
      const chunk = content.subarray(offset, offset + CHUNK_BYTES);
      await this.request(REQUEST.write, REPLY.status, handle, BigInt(offset), chunk);
    }
    await this.request(REQUEST.close, REPLY.status, handle);
  }

  /** Removes anything but a directory. */
  async remove(path: string): Promise<void> {
    await this.request(REQUEST.remove, REPLY.status, path);
  }

  /** Removes an empty directory. */
  async removeDirectory(path: string): Promise<void> {
    await this.request(REQUEST.rmdir, REPLY.status, path);
  }

  private async openFile(path: string, flags: number): Promise<Buffer> {
    const noAttributes = 0;
    return (await this.request(REQUEST.open, REPLY.handle, path, flags, noAttributes)).bytes();
  }

  /** Closes a handle after reading. Ignores errors, because the data has been read. */
  private closeHandle(handle: Buffer): void {
    this.request(REQUEST.close, REPLY.status, handle).catch(() => undefined);
  }

  /** {@link request}, with `undefined` at the end of the data. */
  private async requestNext(type: number, expected: number, ...fields: readonly Field[]): Promise<PacketReader | undefined> {
    try {
      return await this.request(type, expected, ...fields);
    } catch (error) {
      if (error instanceof SftpStatusError && error.status === STATUS.eof) {
        return undefined;
      }
      throw error;
    }
  }

  /** Sends a request. Returns its answer, read up to the contents. */
  private async request(type: number, expected: number, ...fields: readonly Field[]): Promise<PacketReader> {
    const id = this.nextId++;
    const packet = await this.exchange(id, type, [id, ...fields]);
    if (packet.type === REPLY.status) {
      const status = packet.uint32();
      if (status !== STATUS.ok) {
        throw new SftpStatusError(status, packet.bytes().toString("utf8"));
      }
    }
    if (packet.type !== expected) {
      throw this.fail(`the server answered a request of type ${type} with a packet of type ${packet.type}`);
    }
    return packet;
  }

  private exchange(id: number, type: number, fields: readonly Field[]): Promise<PacketReader> {
    return new Promise((resolve, reject) => {
      if (this.ended !== undefined) {
        reject(this.ended);
        return;
      }
      this.pending.set(id, { resolve, reject });
      const body = Buffer.concat([Buffer.of(type), ...fields.map(encode)]);
      this.socket.write(encode(body));
    });
  }

  private receive(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    while (this.received.length >= 4) {
      const length = this.received.readUInt32BE(0);
      if (length < 5 || length > MAX_PACKET_BYTES) {
        this.fail(`the server sent a packet of ${length} bytes`);
        return;
      }
      if (this.received.length < 4 + length) {
        return;
      }
      const packet = new PacketReader(this.received.subarray(4, 4 + length));
      this.received = this.received.subarray(4 + length);
      const id = packet.type === REPLY.version ? GREETING : packet.uint32();
      this.pending.get(id)?.resolve(packet);
      this.pending.delete(id);
    }
  }

  /** Ends the connection, and returns the error to throw. */
  private fail(why: string): SftpProtocolError {
    const error = new SftpProtocolError(why);
    this.end(error);
    return error;
  }

  private end(error: Error): void {
    this.ended ??= error;
    for (const { reject } of this.pending.values()) {
      reject(this.ended);
    }
    this.pending.clear();
    this.socket.destroy();
  }
}

class PacketReader {
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

  /** @returns `undefined` when the server does not report owner and permissions. */
  attributes(): SftpAttributes | undefined {
    const flags = this.uint32();
    const has = (flag: number): boolean => (flags & flag) !== 0;
    const size = has(HAS.size) ? Number(this.next(8).readBigUInt64BE(0)) : 0;
    const [uid, gid] = has(HAS.owner) ? [this.uint32(), this.uint32()] : [];
    const mode = has(HAS.permissions) ? this.uint32() : undefined;
    this.next(has(HAS.times) ? 8 : 0);
    for (let left = has(HAS.extensions) ? this.uint32() : 0; left > 0; left -= 1) {
      this.bytes();
      this.bytes();
    }
    return uid === undefined || gid === undefined || mode === undefined
      ? undefined
      : { type: TYPES[mode & TYPE_BITS] ?? "other", uid, gid, mode: mode & 0o7777, size };
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

function describeOwnership({ uid, gid, mode }: Pick<SftpAttributes, "uid" | "gid" | "mode">): string {
  return `uid ${uid}, gid ${gid} and mode ${mode.toString(8)}`;
}

function encode(field: Field): Buffer {
  if (typeof field === "string" || Buffer.isBuffer(field)) {
    const bytes = Buffer.from(field);
    return Buffer.concat([encode(bytes.length), bytes]);
  }
  const number = Buffer.alloc(typeof field === "bigint" ? 8 : 4);
  if (typeof field === "bigint") {
    number.writeBigUInt64BE(field);
  } else {
    number.writeUInt32BE(field);
  }
  return number;
}
