/**
 * Private keys in every form that OpenSSH's client reads: OpenSSH's own with all its ciphers, and OpenSSL's (PKCS#1, SEC1, PKCS#8, plain
 * and encrypted). Node's crypto converts what ssh2 cannot read.
 * @see https://github.com/openssh/openssh-portable/blob/V_9_2_P1/PROTOCOL.key
 */
import { createDecipheriv, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { pbkdf } from "bcrypt-pbkdf";
import { type ParsedKey, utils } from "ssh2";
import { messageOf } from "../support/errors";

export class KeyProblem {
  constructor(
    readonly why: string,
    /** Whether the right passphrase is missing. */
    readonly encrypted = false,
  ) {}
}

const OPENSSH = "OPENSSH PRIVATE KEY";
const MAGIC = "openssh-key-v1\0";

/** The only cipher that ssh2 does not decrypt. */
const CHACHA = "chacha20-poly1305@openssh.com";

/** Reads the first private key in a text. Ignores the text around it, and accepts line breaks of any system. */
export function readPrivateKey(text: string, passphrase: string | undefined): ParsedKey | KeyProblem {
  const lines = text.replace(/\r\n?/g, "\n");
  const [pem, label] = /-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----[^]*?-----END \1-----/.exec(lines) ?? [];
  if (pem === undefined || label === undefined) {
    return parse(lines, passphrase); // a key of PuTTY, or none
  }
  const container = label === OPENSSH ? readContainer(pem) : undefined;
  const encrypted = container?.encrypted ?? (label.startsWith("ENCRYPTED") || /^Proc-Type: 4,ENCRYPTED/m.test(pem));
  if (encrypted && (passphrase === undefined || passphrase === "")) {
    return new KeyProblem("it is encrypted, and its passphrase is not given", true);
  }
  try {
    const plain = container?.cipher === CHACHA ? decrypt(container, passphrase ?? "") : pem;
    const key = label === OPENSSH ? parse(plain, passphrase) : ofOpenSsl(pem, passphrase);
    return encrypted && key instanceof KeyProblem ? wrongPassphrase(key.why) : key;
  } catch (error) {
    return encrypted ? wrongPassphrase(messageOf(error)) : new KeyProblem(messageOf(error));
  }
}

function wrongPassphrase(why: string): KeyProblem {
  return new KeyProblem(`it is encrypted, and its passphrase does not open it (${why})`, true);
}

function parse(text: string, passphrase?: string): ParsedKey | KeyProblem {
  const key = utils.parseKey(text, passphrase);
  if (key instanceof Error) {
    return new KeyProblem(key.message);
  }
  return key.isPrivateKey() ? key : new KeyProblem("it is a public key");
}

function ofOpenSsl(pem: string, passphrase = ""): ParsedKey | KeyProblem {
  const key = createPrivateKey({ key: pem, passphrase });
  switch (key.asymmetricKeyType) {
    case "rsa":
      return parse(key.export({ format: "pem", type: "pkcs1" }).toString());
    case "ec":
      return parse(key.export({ format: "pem", type: "sec1" }).toString());
    case "ed25519":
      return parse(ed25519(key));
    case "dsa":
      return parse(dsa(key));
    default:
      return new KeyProblem(`SSH has no keys of the type ${key.asymmetricKeyType}`);
  }
}

function ed25519(key: KeyObject): string {
  const { x = "", d = "" } = key.export({ format: "jwk" });
  const [publicKey, seed] = [Buffer.from(x, "base64url"), Buffer.from(d, "base64url")];
  return plainContainer("ssh-ed25519", [publicKey], [publicKey, Buffer.concat([seed, publicKey])]);
}

function dsa(key: KeyObject): string {
  const numbers = integers(createPublicKey(key).export({ format: "der", type: "spki" }));
  const secret = integers(key.export({ format: "der", type: "pkcs8" })).slice(-1);
  return plainContainer("ssh-dss", numbers, [...numbers, ...secret]);
}

/** Lists the integers in DER, which have the same bytes in SSH, in their order. */
function integers(der: Buffer): Buffer[] {
  const [SEQUENCE, INTEGER, BIT_STRING, OCTET_STRING] = [0x30, 0x02, 0x03, 0x04];
  const found: Buffer[] = [];
  for (let at = 0; at < der.length; ) {
    const tag = der.readUInt8(at);
    const short = der.readUInt8(at + 1);
    const size = short < 0x80 ? 0 : short & 0x7f;
    const start = at + 2 + size;
    const end = start + (size === 0 ? short : der.readUIntBE(at + 2, size));
    if (tag === INTEGER) {
      found.push(der.subarray(start, end));
    } else if (tag === SEQUENCE || tag === OCTET_STRING) {
      found.push(...integers(der.subarray(start, end)));
    } else if (tag === BIT_STRING) {
      found.push(...integers(der.subarray(start + 1, end))); // begins with a count of bits
    }
    at = end;
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
  const count = Buffer.from([0, 0, 0, 1]);
  const parts = [...["none", "none", ""].map(lengthPrefixed), count, ...[publicKey, secret].map(lengthPrefixed)];
  return `-----BEGIN ${OPENSSH}-----\n${Buffer.concat([Buffer.from(MAGIC), ...parts]).toString("base64")}\n-----END ${OPENSSH}-----`;
}

/** A key in OpenSSH's own form. */
interface Container {
  readonly cipher: string;
  readonly encrypted: boolean;
  readonly kdf: Buffer;
  readonly publicKey: Buffer;
  readonly secret: Buffer;
}

/** Parses a container; `undefined` when it is damaged. ssh2 then reports what is wrong. */
function readContainer(pem: string): Container | undefined {
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
    return { cipher, encrypted: cipher !== "none", kdf, publicKey: next(), secret: next() };
  } catch {
    return undefined;
  }
}

/** Decrypts {@link CHACHA}. */
function decrypt({ kdf, publicKey, secret }: Container, passphrase: string): string {
  const saltLength = kdf.readUInt32BE(0);
  const salt = kdf.subarray(4, 4 + saltLength);
  const key = Buffer.alloc(64); // the second half encrypts lengths of packets, and a key has none
  const phrase = Buffer.from(passphrase);
  pbkdf(phrase, phrase.length, salt, salt.length, key, key.length, kdf.readUInt32BE(4 + saltLength));
  const blockOne = Buffer.from([1, ...Buffer.alloc(15)]);
  const plain = createDecipheriv("chacha20", key.subarray(0, 32), blockOne).update(secret);
  if (plain.readUInt32BE(0) !== plain.readUInt32BE(4)) {
    throw new Error("the numbers at its beginning differ");
  }
  return pemOf(publicKey, plain);
}
