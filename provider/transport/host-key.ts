import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ResolvedConnection } from "./connection";

export interface HostKeyExpectation {
  /** Key types to request: first the known ones, then all others, so that a changed key can be shown. `undefined` for no preference. */
  readonly types: string[] | undefined;
  /** Why the key that the host presented (SSH wire form) is refused, and the cure. `undefined` for an accepted key. */
  refusal(presented: Buffer): string | undefined;
}

interface KnownKey {
  readonly type: string;
  readonly key: Buffer;
  readonly revoked: boolean;
}

/** Reads what the connection, or otherwise the user's known_hosts files, say about the key of a host. */
export function expectedHostKey({ host, port, hostKey, hostKeyPolicy }: ResolvedConnection): HostKeyExpectation {
  if (hostKeyPolicy === "insecure" && hostKey === undefined) {
    return { types: undefined, refusal: () => undefined };
  }
  const place = port === 22 ? host : `[${host}]:${port}`;
  const known = knownKeys(place, hostKey === undefined ? readKnownHosts() : `* ${hostKey}`);
  const trusted = known.filter(({ revoked }) => !revoked);
  const expected = trusted.map(({ key }) => describeKey(key)).join(" or ");
  return {
    types: trusted.length === 0 ? undefined : [...new Set([...trusted.flatMap(({ type }) => signatureTypes(type)), ...ANY_TYPE])],
    refusal: (presented) => {
      const shown = describeKey(presented);
      const same = known.filter(({ key }) => key.equals(presented));
      if (same.some(({ revoked }) => revoked)) {
        return `it presented the key ${shown}, which known_hosts marks as revoked. Give the host a new key, and do not use the old one`;
      }
      if (same.length > 0) {
        return undefined;
      }
      if (hostKey !== undefined) {
        return (
          `the host presented the key ${shown}, which is not connection.hostKey (${expected}). If the host was reinstalled, set hostKey to its new ` +
          "key; if not, somebody may be between you and the host"
        );
      }
      if (trusted.length === 0) {
        return (
          `its host key is not known: it presented ${shown}. Verify that key on the host's console (ssh-keygen -lf ` +
          "/etc/ssh/ssh_host_ed25519_key.pub), then give it as connection.hostKey or add the host to ~/.ssh/known_hosts " +
          `(ssh-keyscan ${port === 22 ? "" : `-p ${port} `}${host})`
        );
      }
      return (
        `its host key has changed: it presented ${shown}, and known_hosts has another one (${expected}). If the host was reinstalled, remove the ` +
        `old key (ssh-keygen -R '${place}') and add the new one; if not, somebody may be between you and the host`
      );
    },
  };
}

/** For a host that has no key of a known type any more. */
const ANY_TYPE = [
  ...["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"],
  ...["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
];

function describeKey(key: Buffer): string {
  const length = key.length >= 4 ? key.readUInt32BE(0) : 0;
  return `${key.subarray(4, 4 + length).toString("latin1")} ${fingerprint(key)}`;
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
    return digest.equals(Buffer.from(hash ?? "", "base64"));
  }
  const list = patterns.split(",");
  return (
    list.some((pattern) => glob(pattern).test(place)) && !list.some((p) => p.startsWith("!") && glob(p.slice(1)).test(place))
  );
}

function glob(pattern: string): RegExp {
  const literal = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`, "i");
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

/** Signature types of a key type. An RSA key can also sign with SHA-2. */
function signatureTypes(type: string): string[] {
  return type === "ssh-rsa" ? ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"] : [type];
}
