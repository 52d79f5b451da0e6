/** Schemas of what describes a user. Every value ends up in account files, or on a command line. */
import * as z from "zod";
import { faultOfPublicKey } from "./authorized-keys";

/** Names that useradd(8) accepts for a user or group. */
const NAME = /^[a-z_][a-z0-9_-]{0,31}$/;
const NAME_RULE = "1 to 32 lower-case letters, digits, dashes and underscores, beginning with a letter or underscore";

export const userNameSchema = z
  .string()
  .regex(NAME, `is not a valid user name: ${NAME_RULE}`)
  .refine((name) => name !== "root", "must not be root, which cannot be managed; create another user with sudo");

export const groupNameSchema = z.string().regex(NAME, `is not a valid group name: ${NAME_RULE}`);

export const passwordHashSchema = z
  .string()
  .regex(
    /^\$[a-z0-9]+\$[!-9;-~]{8,}$/,
    "is not a hash of crypt(3) such as mkpasswd and openssl passwd -6 make; the password itself does not belong here",
  );

export const pathSchema = z
  .string()
  .regex(/^(\/[A-Za-z0-9._+-]+)+$/, "is not an absolute path of letters, digits, dots, dashes and underscores")
  .refine((path) => !path.split("/").some((part) => part === "." || part === ".."), 'must not go through "." or ".."');

export const publicKeySchema = z
  .string()
  .transform((line) => line.trim())
  .superRefine((line, issues) => {
    const message = faultOfPublicKey(line);
    if (message !== undefined) {
      issues.addIssue({ code: "custom", message });
    }
  });
