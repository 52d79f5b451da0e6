/**
 * Private keys in every form that OpenSSH's client reads: OpenSSH's own with all its ciphers, and OpenSSL's (PKCS#1,
 * SEC1, PKCS#8, plain and encrypted). Node's crypto converts what ssh2 cannot read.
 * @see https://github.com/openssh/openssh-portable/blob/V_9_2_P1/PROTOCOL.key
 */
import { createDecipheriv, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { pbkdf } from "bcrypt-pbkdf";
import { type ParsedKey, utils } from "ssh2";
import { messageOf } from "../support/errors";

/** Why a key cannot be used. */
export class KeyProblem {
  constructor(
    readonly why: string,
    /** Whether the right passphrase is missing. */
    readonly encrypted = false,
  ) {}
}

const OPENSSH = "OPENSSH PRIVATE KEY";
const MAGIC = "openssh-key-v1\0";

/** The only cipher of OpenSSH's keys that ssh2 does not decrypt. */
const CHACHA = "chacha20-poly1305@openssh.com";

/** Reads the first private key in a text. Ignores the text around it, and accepts line breaks of any system. */
export function readPrivateKey(text: string, passphrase: string | undefined): ParsedKey | KeyProblem {
  const lines = text.replace(/\r\n?/g, "\n");
  const [pem, label] = /-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----[^]*?-----END \1-----/.exec(lines) ?? [];
  if (pem === undefined || label === undefined) {
    return parse(lines, passphrase); // a key of PuTTY, or none
  }
  const container = label === OPENSSH ? Container.read(pem) : undefined;
  const encrypted = container?.encrypted ?? (label.startsWith("ENCRYPTED") || /^Proc-Type: 4,ENCRYPTED/m.test(pem));
  if (encrypted && (passphrase === undefined || passphrase === "")) {
    return new KeyProblem("it is encrypted, and its passphrase is not given", true);
  }
  try {
    const key = label === OPENSSH ? parse(container?.forSsh2(passphrase ?? "") ?? pem, passphrase) : ofOpenSsl(pem, passphrase);
    return encrypted && key instanceof KeyProblem ? wrongPassphrase(key.why) : key;
  } catch (error) {
    return encrypted ? wrongPassphrase(messageOf(error)) : new KeyProblem(messageOf(error));
  }
}

function wrongPassphrase(why: string): KeyProblem {
  return new KeyProblem(`it is encrypted, and its passphrase does not open it (${why})`, true);
}

function parse(text: string, passphrase: string | undefined): ParsedKey | KeyProblem {
  const key = utils.parseKey(text, passphrase);
  if (key instanceof Error) {
    return new KeyProblem(key.message);
  }
  return key.isPrivateKey() ? key : new KeyProblem("it is a public key");
}

function ofOpenSsl(pem: string, passphrase: string | undefined): ParsedKey | KeyProblem {
  const key = createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) });
  switch (key.asymmetricKeyType) {
    case "rsa":
      return parse(key.export({ format: "pem", type: "pkcs1" }).toString(), undefined);
    case "ec":
      return parse(key.export({ format: "pem", type: "sec1" }).toString(), undefined);
    case "ed25519":
      return parse(ed25519(key), undefined);
    case "dsa":
      return parse(dsa(key), undefined);
    default:
      return new KeyProblem(`SSH has no keys of the kind ${key.asymmetricKeyType}`);
  }
}

function ed25519(key: KeyObject): string {
  const { x = "", d = "" } = key.export({ format: "jwk" });
  const [publicKey, seed] = [Buffer.from(x, "base64url"), Buffer.from(d, "base64url")];
  return plainContainer("ssh-ed25519", [publicKey], [publicKey, Buffer.concat([seed, publicKey])]);
}

/** Integers have the same bytes in DER as in SSH. */
function dsa(key: KeyObject): string {
  const [, [, parameters], secret] = parts(key.export({ format: "der", type: "pkcs8" })) as [Der, Der[], Buffer];
  const [, y] = parts(createPublicKey(key).export({ format: "der", type: "spki" })) as [Der, Buffer];
  const numbers = [...(parameters as Buffer[]), integer(y.subarray(1))]; // a bit string begins with a count of bits
  return plainContainer("ssh-dss", numbers, [...numbers, integer(secret)]);
}

function integer(der: Buffer): Buffer {
  return elements(der)[0] as Buffer;
}

type Der = Buffer | Der[];

/** What a DER sequence holds: sequences as lists, everything else as its bytes. */
function parts(der: Buffer): Der[] {
  const [whole] = elements(der);
  return Array.isArray(whole) ? whole : [];
}

function elements(der: Buffer): Der[] {
  const found: Der[] = [];
  for (let at = 0; at < der.length; ) {
    const tag = der.readUInt8(at);
    const short = der.readUInt8(at + 1);
    const size = short < 0x80 ? 0 : short & 0x7f;
    const length = size === 0 ? short : der.readUIntBE(at + 2, size);
    const start = at + 2 + size;
    const value = der.subarray(start, start + length);
    found.push(tag === 0x30 ? elements(value) : value);
    at = start + length;
  }
  return found;
}

function lengthPrefixed(part: Buffer | string): Buffer {
  const bytes = Buffer.from(part);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function plainContainer(type: string, publicParts: readonly Buffer[], secretParts: readonly Buffer[]): string {
  // Two equal numbers show that the decryption was right, or was not needed.
  const check = Buffer.alloc(8);
  const secret = Buffer.concat([check, ...[type, ...secretParts, ""].map(lengthPrefixed)]);
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (secret.length % 8)) % 8));
  return pemOf(Buffer.concat([type, ...publicParts].map(lengthPrefixed)), Buffer.concat([secret, padding]));
}

function pemOf(publicKey: Buffer, secret: Buffer): string {
  const one = Buffer.from([0, 0, 0, 1]);
  const bytes = Buffer.concat([
    Buffer.from(MAGIC),
    ...["none", "none", ""].map(lengthPrefixed),
    one,
    lengthPrefixed(publicKey),
    lengthPrefixed(secret),
  ]);
  return `-----BEGIN ${OPENSSH}-----\n${bytes.toString("base64").replace(/.{70}/g, "$&\n").trimEnd()}\n-----END ${OPENSSH}-----`;
}

/** A key in OpenSSH's own form. */
class Container {
  private constructor(
    private readonly pem: string,
    private readonly cipher: string,
    private readonly kdf: Buffer,
    private readonly publicKey: Buffer,
    private readonly secret: Buffer,
  ) {}

  /** Parses a container; `undefined` when it is damaged. ssh2 then reports what is wrong. */
  static read(pem: string): Container | undefined {
    const bytes = Buffer.from(pem.split("\n").slice(1, -1).join(""), "base64");
    let at = MAGIC.length;
    const next = (): Buffer => {
      const length = bytes.readUInt32BE(at);
      at += 4 + length;
      return bytes.subarray(at - length, at);
    };
    try {
      const [cipher, , kdf] = [next().toString(), next(), next()];
      at += 4; // the number of keys, which is one
      return new Container(pem, cipher, kdf, next(), next());
    } catch {
      return undefined;
    }
  }

  get encrypted(): boolean {
    return this.cipher !== "none";
  }

  /** The key in a form that ssh2 reads. */
  forSsh2(passphrase: string): string {
    return this.cipher === CHACHA ? pemOf(this.publicKey, this.decrypted(passphrase)) : this.pem;
  }

  private decrypted(passphrase: string): Buffer {
    const saltLength = this.kdf.readUInt32BE(0);
    const salt = this.kdf.subarray(4, 4 + saltLength);
    const key = Buffer.alloc(64); // the second half encrypts lengths of packets, and a key has none
    const phrase = Buffer.from(passphrase);
    pbkdf(phrase, phrase.length, salt, salt.length, key, key.length, this.kdf.readUInt32BE(4 + saltLength));
    const blockOne = Buffer.from([1, ...Buffer.alloc(15)]);
    const secret = createDecipheriv("chacha20", key.subarray(0, 32), blockOne).update(this.secret);
    if (secret.readUInt32BE(0) !== secret.readUInt32BE(4)) {
      throw new Error("the numbers at its beginning differ");
    }
    return secret;
  }
}
