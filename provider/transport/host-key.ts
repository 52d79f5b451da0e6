import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ResolvedConnection } from "./connection";

/** What is known of a host's key before dialling. */
export interface HostKeyExpectation {
  /** Whether the key that the host presented (SSH wire form) is accepted. */
  accepts(presented: Buffer): boolean;
  /**
   * Key types to request: first the known ones, then all others, so that a changed key can be shown. `undefined` for no
   * preference.
   */
  readonly types: string[] | undefined;
  /** Why a key was refused, and the cure. */
  refusal(presented: Buffer): string;
}

interface KnownKey {
  readonly type: string;
  readonly key: Buffer;
  readonly revoked: boolean;
}

/** Reads what the connection, or otherwise the user's known_hosts files, say about the key of a host. */
export function expectedHostKey(connection: ResolvedConnection): HostKeyExpectation {
  if (connection.hostKeyPolicy === "insecure" && connection.hostKey === undefined) {
    return { accepts: () => true, types: undefined, refusal: () => "" };
  }
  const place = connection.port === 22 ? connection.host : `[${connection.host}]:${connection.port}`;
  const pinned = connection.hostKey === undefined ? undefined : parseKey(connection.hostKey);
  const known = pinned === undefined ? knownKeys(place, readKnownHosts()) : [pinned];
  const trusted = known.filter(({ revoked }) => !revoked);
  const isRevoked = (presented: Buffer): boolean => known.some(({ key, revoked }) => revoked && equal(key, presented));
  return {
    accepts: (presented) => trusted.some(({ key }) => equal(key, presented)) && !isRevoked(presented),
    types: trusted.length === 0 ? undefined : [...new Set([...trusted.flatMap(({ type }) => signatureTypes(type)), ...ANY_TYPE])],
    refusal: (presented) => {
      const shown = describeKey(presented);
      const expected = trusted.map(({ key }) => describeKey(key)).join(" or ");
      if (pinned !== undefined) {
        return (
          `the host presented the key ${shown}, which is not connection.hostKey (${expected}). If the host was reinstalled, set hostKey to its new ` +
          "key; if not, somebody may be between you and the host"
        );
      }
      if (isRevoked(presented)) {
        return `it presented the key ${shown}, which known_hosts marks as revoked. Give the host a new key, and do not use the old one`;
      }
      if (trusted.length === 0) {
        return (
          `its host key is not known: it presented ${shown}. Verify that key on the host's console (ssh-keygen -lf ` +
          "/etc/ssh/ssh_host_ed25519_key.pub), then give it as connection.hostKey or add the host to ~/.ssh/known_hosts " +
          `(ssh-keyscan ${connection.port === 22 ? "" : `-p ${connection.port} `}${connection.host})`
        );
      }
      return (
        `its host key has changed: it presented ${shown}, and known_hosts has another one (${expected}). If the host was reinstalled, remove the ` +
        `old key (ssh-keygen -R '${place}') and add the new one; if not, somebody may be between you and the host`
      );
    },
  };
}

/** Key types to request from a host that has no key of a known type any more. */
const ANY_TYPE = [
  ...["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"],
  ...["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
];

function describeKey(key: Buffer): string {
  return `${keyType(key)} ${fingerprint(key)}`;
}

/** SHA-256 fingerprint of a key in SSH wire form, as `ssh-keygen -l` prints it. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/, "")}`;
}

/** The keys in known_hosts text for a place (`host`, or `[host]:port` for a port other than 22). */
export function knownKeys(place: string, knownHosts: string): KnownKey[] {
  const name = place.toLowerCase(); // ssh writes names in lower case, also before it hashes them
  return knownHosts.split("\n").flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const marker = fields[0]?.startsWith("@") ? fields.shift() : undefined;
    const [patterns, type, base64] = fields;
    if (patterns === undefined || type === undefined || base64 === undefined || patterns.startsWith("#")) {
      return [];
    }
    if (marker === "@cert-authority" || !matches(name, patterns)) {
      return [];
    }
    return [{ type, key: Buffer.from(base64, "base64"), revoked: marker === "@revoked" }];
  });
}

function matches(place: string, patterns: string): boolean {
  if (patterns.startsWith("|1|")) {
    const [, , salt, hash] = patterns.split("|");
    const digest = createHmac("sha1", Buffer.from(salt ?? "", "base64"))
      .update(place)
      .digest();
    return equal(digest, Buffer.from(hash ?? "", "base64"));
  }
  const list = patterns.split(",");
  const glob = (pattern: string): boolean =>
    new RegExp(
      `^${pattern
        .replace(/[.+^${}()|[\]\\]/g, "\\$&")
        .replace(/\*/g, ".*")
        .replace(/\?/g, ".")}$`,
      "i",
    ).test(place);
  return (
    list.some((pattern) => !pattern.startsWith("!") && glob(pattern)) && !list.some((p) => p.startsWith("!") && glob(p.slice(1)))
  );
}

function readKnownHosts(): string {
  return [join(homedir(), ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"]
    .map((path) => {
      try {
        return readFileSync(path, "utf8");
      } catch {
        return ""; // without such a file no host is known; the refusal says so
      }
    })
    .join("\n");
}

function parseKey(text: string): KnownKey {
  const [type = "", base64 = ""] = text.trim().split(/\s+/);
  return { type, key: Buffer.from(base64, "base64"), revoked: false };
}

/** Signature types of a key type. An RSA key can also sign with SHA-2. */
function signatureTypes(type: string): string[] {
  return type === "ssh-rsa" ? ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"] : [type];
}

function keyType(key: Buffer): string {
  const length = key.length >= 4 ? key.readUInt32BE(0) : 0;
  return key.subarray(4, 4 + length).toString("latin1");
}

function equal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
