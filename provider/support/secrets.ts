/**
 * What is a secret. This is the only place that decides it: for state, messages, what is copied into outputs, and programs that are
 * written by the command.
 */

/** Properties that hold nothing but a secret, wherever they stand. */
const CREDENTIALS: ReadonlySet<string> = new Set(["password", "privateKey", "privateKeyPassword", "passwordHash"]);

/**
 * Properties and config keys whose value may be a secret: free text of the user, and what LXD calls so, such as `loki.auth.password`.
 * `user.pulumi.*` is ours.
 */
const NAMES =
  /^(userData|vendorData|networkConfig|acme\.provider\.environment|(cloud-init|environment|systemd\.credential(-binary)?)\..*|user\.(?!pulumi\.).*|.*(password|passwd|passphrase|secret|token|credentials?|(private|secret|api)[._-]?key))$/i;

/** Hashes of crypt(3), private keys, a login in an address, and what a text calls so itself. */
const TEXTS =
  /\$(1|2[abxy]?|5|6|7|y|gy|argon2\w*)\$[^\s"']{8,}|PRIVATE KEY-----|:\/\/[^\s/@:]*:[^\s/@]+@|(passw(or)?d|secret|token)["']?\s*[:=]/i;

/** Whether the value of a property is certainly a secret, however short it is. */
export function isCredential(name: string): boolean {
  return CREDENTIALS.has(name);
}

/**
 * Whether a value is not to be shown or copied, and is kept as a secret: it is one, or may well be one. Pulumi does not tell a provider
 * what a program marked as secret.
 * @param name - Of a property, or a key of LXD's config.
 * @param value - What is looked at when the name says nothing.
 */
export function mayBeSecret(name: string, value?: unknown): boolean {
  return CREDENTIALS.has(name) || NAMES.test(name) || (typeof value === "string" && TEXTS.test(value));
}
