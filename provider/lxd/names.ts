import { isIPv4 } from "node:net";
import * as z from "zod";

/** Name of a profile, pool, network or project: it becomes one segment of a URL and a line of `lxc list`. */
export const objectNameSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    "is not a valid name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
  );

/**
 * Name of an instance: a host name.
 * @see https://github.com/canonical/lxd/blob/main/shared/validate/validate.go IsHostname
 */
export const instanceNameSchema = z
  .string()
  .regex(
    /^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/,
    "is not a valid instance name: 1 to 63 letters, digits and dashes, beginning with a letter and not ending with a dash",
  );

/** Name of an image's alias: one segment of a URL, in which LXD also allows slashes and other scripts. */
export const imageAliasSchema = z
  .string()
  .regex(
    /^(?!\.{1,2}$)[^\s?#%\p{Control}\p{Surrogate}]+$/u,
    'is not a valid alias: it must not be empty, "." or "..", or have spaces, control characters, ?, # or %',
  );

/** Name of a project; the one that always exists by default. */
export const projectSchema = objectNameSchema.default("default");

/** Name of a cluster member: a host name, as a rule its own. */
export const memberNameSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/,
    "is not a valid member name: 1 to 63 letters, digits, dots and dashes, beginning and ending with a letter or digit",
  )
  .refine((name) => name !== "none", 'must not be "none", which LXD keeps for instances without a member');

/**
 * Where a member is found by the others: an IP address or DNS name, with the port. 8443 is LXD's own default.
 */
export const memberAddressSchema = z
  .string()
  .refine((text) => !/^(\*|::|\[::\]|0\.0\.0\.0)?(:\d+)?$/.test(text), {
    error: 'must be one address of the host, such as "192.168.1.102", not a wildcard',
    abort: true,
  })
  .refine(
    (text) =>
      /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?$/.test(text) &&
      !isMistypedIPv4(text.replace(/:\d+$/, "")) &&
      Number(/:(\d+)$/.exec(text.replace(/\]$/, ""))?.[1] ?? 0) <= 65535,
    'is not an address such as "192.168.1.102" or "192.168.1.102:8443"',
  )
  .transform((text) => (/:\d{1,5}$/.test(text) && !text.endsWith("]") ? text : `${text}:8443`));

/** Digits and dots that are not an address would otherwise pass for a DNS name. */
function isMistypedIPv4(text: string): boolean {
  return /^\d+(\.\d+)+$/.test(text) && !isIPv4(text);
}
