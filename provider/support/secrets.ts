/** Decides what is a secret: for state, messages, what is copied into outputs, and programs that the command writes. */

/** Properties that hold only a secret, at any depth. */
const CREDENTIALS: ReadonlySet<string> = new Set([
  "password",
  "privateKey",
  "privateKeyPassword",
  "passwordHash",
  "trustPassword",
]);

/**
 * Properties and config keys whose value may be a secret: free text of the user, and what LXD names as a secret, such as
 * `loki.auth.password`. `user.pulumi.*` belongs to this library.
 */
const NAMES =
  /^(userData|vendorData|networkConfig|stdin|acme\.provider\.environment|(cloud-init|environment|systemd\.credential(-binary)?)\..*|user\.(?!pulumi\.).*|.*(password|passwd|passphrase|secret|token|credentials?|(private|secret|api)[._-]?key))$/i;

/** Hashes of crypt(3), private keys, a login in an address, and values that a text itself names as secret. */
const TEXTS =
  /\$(1|2[abxy]?|5|6|7|y|gy|argon2\w*)\$[^\s"']{8,}|PRIVATE KEY-----|:\/\/[^\s/@:]*:[^\s/@]+@|(passw(or)?d|secret|token)["']?\s*[:=]/i;

/** The name of a member for {@link mayBeSecret}: all variables of an environment may be secrets. */
export function nameWithin(parent: string, name: string): string {
  return parent === "environment" ? `environment.${name}` : name;
}

export function isCredential(name: string): boolean {
  return CREDENTIALS.has(name);
}

/**
 * Whether a value must not be shown or copied, and is kept as a secret: it is one or may be one. Pulumi does not report to a
 * provider what a program marked as secret.
 * @param name - Of a property, or a key of LXD's config.
 * @param value - Checked when the name does not decide.
 */
export function mayBeSecret(name: string, value?: unknown): boolean {
  return CREDENTIALS.has(name) || NAMES.test(name) || (typeof value === "string" && TEXTS.test(value));
}
