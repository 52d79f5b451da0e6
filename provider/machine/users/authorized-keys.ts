/** `ssh-dss` is no longer accepted by sshd. */
const KEY_TYPES: ReadonlySet<string> = new Set([
  "ssh-ed25519",
  "ssh-rsa",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "sk-ssh-ed25519@openssh.com",
  "sk-ecdsa-sha2-nistp256@openssh.com",
]);

/** One option of sshd(8), such as `no-pty` or `command="echo \"hi\""`. */
const OPTION = String.raw`[A-Za-z0-9-]+(="([^"\\]|\\.)*")?`;
const LEADING_OPTIONS = new RegExp(`^${OPTION}(,${OPTION})*[ \\t]+`);

/**
 * What is wrong with a line of authorized_keys, or `undefined` when sshd accepts it: optional options, a type, base64 that
 * contains the same type, an optional comment.
 * @see https://man.openbsd.org/sshd.8#AUTHORIZED_KEYS_FILE_FORMAT
 */
export function faultOfPublicKey(line: string): string | undefined {
  if (line.includes("PRIVATE KEY")) {
    return "contains a private key; give the public one (the file that ends in .pub)";
  }
  if (/[\n\r\0]/.test(line)) {
    return "has several lines; give each key as a separate element";
  }
  const key = KEY_TYPES.has(line.split(/[ \t]/, 1)[0] ?? "") ? line : line.replace(LEADING_OPTIONS, "");
  const [type = "", blob = ""] = key.split(/[ \t]+/);
  if (!KEY_TYPES.has(type)) {
    return `is not a public key such as "ssh-ed25519 AAAA... name"; known types are ${[...KEY_TYPES].join(", ")}`;
  }
  const bytes = Buffer.from(blob, "base64");
  if (blob === "" || bytes.toString("base64").replace(/=+$/, "") !== blob.replace(/=+$/, "")) {
    return `is damaged: what follows ${type} is not base64`;
  }
  const length = bytes.length >= 4 ? bytes.readUInt32BE(0) : 0;
  const inner = bytes.subarray(4, 4 + length).toString("latin1");
  if (inner !== type) {
    return `is damaged: it says ${type}, but the key is not of that type`;
  }
  return isWhole(bytes) ? undefined : "is damaged: the key is cut off";
}

function isWhole(bytes: Buffer): boolean {
  let at = 0;
  let fields = 0;
  while (at + 4 <= bytes.length) {
    at += 4 + bytes.readUInt32BE(at);
    fields += 1;
  }
  return at === bytes.length && fields >= 2;
}

export function parseAuthorizedKeys(content: string): string[] {
  return content
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

export function onlyKeys(keys: readonly string[]): string {
  return [...new Set(keys)].map((key) => `${key}\n`).join("");
}

/** The file with keys added and removed. All other lines stay. */
export function withKeys(content: string, added: readonly string[], removed: readonly string[]): string {
  const lines = content.split("\n").filter((line) => line.trim() !== "");
  const kept = lines.filter((line) => added.includes(line.trim()) || !removed.includes(line.trim()));
  const present = parseAuthorizedKeys(kept.join("\n"));
  return [...kept, ...new Set(added.filter((key) => !present.includes(key)))].map((line) => `${line}\n`).join("");
}
