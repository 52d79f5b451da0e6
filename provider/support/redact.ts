import { isCredential, mayBeSecret, nameWithin } from "./secrets";

/** Shorter texts cannot be distinguished from words. */
const SHORTEST_SECRET = 4;
const SHORTEST_PERHAPS_SECRET = 8;

/** A join token: base64 of a JSON object that holds a secret. */
const JOIN_TOKEN = /\beyJ[A-Za-z0-9+/_-]{40,}=*/g;
/** The secret of a token that is not encoded. */
const TOKEN_SECRET = /(\\*"secret\\*"\s*:\s*\\*")[^"\\]+/g;
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g;
/** `user:password@` of a URL, such as a proxy's. */
const URL_LOGIN = /(:\/\/)[^\s/@:]*:[^\s/@]+@/g;

const PASSWORD_HASH = /\$(?:1|2[abxy]?|5|6|7|y|gy)\$[A-Za-z0-9./=,$]{16,}/g;
/** A line of YAML, of an environment or of a program's settings. */
const ASSIGNMENT = /^(?:- )?["']?([\w.-]+)["']?\s*[:=]\s*(\S.*)$/;

/** `text` without the secrets that `properties` hold, and without anything that looks like a key or a join token. */
export function redact(text: string, properties: unknown): string {
  return redactor(properties)(text);
}

export function redactor(properties: unknown): (text: string) => string {
  const secrets = secretsIn(properties);
  return (text) => {
    const safe = text
      .replace(PRIVATE_KEY, "[private key]")
      .replace(JOIN_TOKEN, "[token]")
      .replace(TOKEN_SECRET, "$1[secret]")
      .replace(PASSWORD_HASH, "[secret]")
      .replace(URL_LOGIN, "$1[secret]@");
    const forms = new Set(secrets.filter(({ length }) => length <= text.length).flatMap(formsOf));
    // The longest first: a shorter one may be its beginning.
    return [...forms].sort((a, b) => b.length - a.length).reduce((sofar, form) => sofar.replaceAll(form, "[secret]"), safe);
  };
}

/** Collects the secrets without recursion, because the properties may be unchecked. */
function secretsIn(properties: unknown): string[] {
  const secrets: string[] = [];
  const open: { parent: string; value: unknown }[] = [{ parent: "", value: properties }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { parent, value } = next;
    for (const [key, member] of value !== null && typeof value === "object" ? Object.entries(value) : []) {
      const name = nameWithin(parent, key);
      if (typeof member !== "string") {
        open.push({ parent: key, value: member });
      } else if (isCredential(name)) {
        secrets.push(...(member.length >= SHORTEST_SECRET ? [member] : []));
      } else if (mayBeSecret(name, member)) {
        secrets.push(...perhapsSecret(member));
      }
    }
  }
  return secrets;
}

/** The text, each of its lines (a server may quote only one), and the values in them whose name marks a secret. */
function perhapsSecret(text: string): string[] {
  const lines = text.split("\n").map((line) => line.trim());
  const values = lines.flatMap((line) => {
    const [, name = "", value = ""] = ASSIGNMENT.exec(line) ?? [];
    return mayBeSecret(name) ? [value, value.replace(/^(["'])(.*)\1$/, "$2")] : [];
  });
  return [text, ...lines, ...values].filter(({ length }) => length >= SHORTEST_PERHAPS_SECRET);
}

/** How a server may quote a text: unchanged, as JSON of JavaScript or Go (which escapes more), twice so, in a URL. */
function formsOf(secret: string): string[] {
  const escaped = [json(secret), goJson(secret)];
  return [secret, ...escaped, ...escaped.flatMap((form) => [json(form), goJson(form)]), encodeURIComponent(wellFormed(secret))];
}

function json(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function goJson(text: string): string {
  return json(text).replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);
}

function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}
