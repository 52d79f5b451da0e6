/** Input properties whose value is a secret, wherever they stand. */
const SECRET_PROPERTIES: ReadonlySet<string> = new Set(["password", "privateKey", "privateKeyPassword", "passwordHash"]);

/** A join token: base64 of a JSON object that holds a secret. */
const JOIN_TOKEN = /\beyJ[A-Za-z0-9+/_-]{40,}=*/g;
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g;

/** `text` without the secrets that `properties` hold, and without anything that looks like a key or a join token. */
export function redact(text: string, properties: unknown): string {
  let safe = text.replace(PRIVATE_KEY, "[private key]").replace(JOIN_TOKEN, "[token]");
  // The longest first: a shorter one may be its beginning.
  for (const secret of secretsIn(properties).sort((a, b) => b.length - a.length)) {
    safe = safe.replaceAll(secret, "[secret]");
  }
  return safe;
}

function secretsIn(value: unknown): string[] {
  if (Array.isArray(value)) {
    return value.flatMap(secretsIn);
  }
  if (value === null || typeof value !== "object") {
    return [];
  }
  return Object.entries(value).flatMap(([name, member]) =>
    SECRET_PROPERTIES.has(name) && typeof member === "string" && member.length >= 4 ? [member] : secretsIn(member),
  );
}
