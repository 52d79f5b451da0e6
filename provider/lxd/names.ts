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

/** Name of a project; the one that always exists by default. */
export const projectSchema = objectNameSchema.default("default");
