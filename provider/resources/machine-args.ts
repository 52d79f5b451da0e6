/** Schemas of what kinds on a machine have in common. Every value ends up on a command line, or is a path of the machine. */
import * as z from "zod";

/** Files that have a resource of their own, or programs that keep several of them equal. */
const ACCOUNTS = ["passwd", "shadow", "group", "gshadow"].flatMap((name) => [`/etc/${name}`, `/etc/${name}-`]);

const UNNATURAL = /^\/(proc|sys|dev)(\/|$)/;

/** Absolute path of a file of a machine. */
export const filePathSchema = z
  .string()
  .regex(/^\/\P{Cc}*$/u, "is not an absolute path")
  .refine((path) => path.length <= 4000 && path.split("/").every((part) => Buffer.byteLength(part) <= 200), "is too long")
  .refine(
    (path) =>
      path !== "/" &&
      path
        .split("/")
        .slice(1)
        .every((part) => part !== "" && part !== "." && part !== ".."),
    'must have no empty part, ".", or ".."',
  )
  .refine(
    (path) => !ACCOUNTS.includes(path),
    "holds accounts, which programs keep equal in several files; use VmUser or HostUser",
  )
  .refine((path) => !UNNATURAL.test(path), "is made by the kernel, and is no file that can be kept");

/** A word of a command line. */
export const noNul = z.string().refine((text) => !text.includes("\0"), "must have no NUL character");

/** Program and arguments. */
export const argvSchema = z
  .array(noNul)
  .min(1, "must name a program")
  .refine(([program = ""]) => program !== "" && !program.startsWith("-"), "must begin with a program, not with an option");

/** A user or group: its name, or its number. */
export const ownerSchema = z.union(
  [z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/), z.int().min(0).max(4_294_967_294)],
  'is neither a name nor a number: give "www-data", or 33',
);

/** Name of a unit of an init system, with or without its type. */
export const unitSchema = z
  .string()
  .regex(/^[A-Za-z0-9_:\\][A-Za-z0-9_:.\\@-]{0,239}$/, 'is not the name of a unit, such as "nginx" or "fstrim.timer"')
  .refine((unit) => !/@(\.|$)/.test(unit), 'names a template. Name an instance of it, such as "app@1.service"');
