/**
 * The schema of Pulumi.<stack>.yaml. The library's own schemas check the resources' arguments here, where a message can name the
 * config key. The resources get the arguments as written.
 */
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import {
  clusterMemberSchema,
  imageSchema,
  networkSchema,
  nodeSchema,
  storagePoolSchema,
  vmSchema,
  vmUserSchema,
} from "../provider/schemas";

const name = z.string().min(1);
const configMap = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));
const addressWithPrefix = z.union([z.cidrv4(), z.cidrv6()], {
  error: 'is not an address with its prefix, such as "192.168.1.100/24"',
});
const address = z.union([z.ipv4(), z.ipv6()], { error: "is not an IP address" });

/** Input type of a schema, with absent instead of undefined properties. */
type Written<Value> = Value extends (infer Member)[]
  ? Written<Member>[]
  : Value extends object
    ? { [Key in keyof Value]: Written<Exclude<Value[Key], undefined>> }
    : Value;

type WrittenFields<Shape extends z.ZodRawShape> = {
  [Key in keyof Shape]: undefined extends z.input<Shape[Key]>
    ? z.ZodExactOptional<z.ZodType<Written<Exclude<z.input<Shape[Key]>, undefined>>>>
    : z.ZodType<Written<z.input<Shape[Key]>>>;
};

/** A schema of the library that only checks: the resource applies defaults and spellings. */
function asWritten<Schema extends z.core.$ZodType>(schema: Schema): z.ZodType<Written<z.input<Schema>>> {
  return z.custom<Written<z.input<Schema>>>().check(({ value, issues }) => {
    for (const issue of z.safeParse(schema, value).error?.issues ?? []) {
      issues.push({ ...issue, path: [...issue.path], input: value } as z.core.$ZodRawIssue);
    }
  });
}

/** The arguments of a resource, except those that the stack gives itself. */
function argumentsOf<Shape extends z.ZodRawShape, Own extends keyof Shape>(
  schema: z.ZodObject<Shape>,
  ...own: Own[]
): WrittenFields<Omit<Shape, Own>> {
  const fields = Object.entries(schema.shape).filter(([key]) => !own.includes(key as Own));
  return Object.fromEntries(
    fields.map(([key, field]) => {
      const written = asWritten(field);
      return [key, z.safeParse(field, undefined).success ? written.exactOptional() : written];
    }),
  ) as WrittenFields<Omit<Shape, Own>>;
}

const connection = z.strictObject({ ...argumentsOf(nodeSchema.shape.connection, "host"), host: z.string().exactOptional() });

const host = z
  .strictObject({
    name: asWritten(clusterMemberSchema.shape.name),
    address: asWritten(clusterMemberSchema.shape.address),
    connection: connection.default({}),
    prepare: z.array(z.string().min(1)).default([]),
    voterOnly: z.boolean().exactOptional(),
    node: z.strictObject(argumentsOf(nodeSchema, "connection")).exactOptional(),
    member: z
      .strictObject(
        argumentsOf(clusterMemberSchema, "connection", "name", "address", "cluster", "peers", "certificateFingerprint"),
      )
      .exactOptional(),
  })
  .transform((given) => ({
    ...given,
    connection: { ...given.connection, host: given.connection.host ?? hostOf(given.address) },
  }));

/** The host in an address, which may have a port, and brackets around an IPv6 address. */
function hostOf(address: string): string {
  return isIPv6(address) ? address : address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
}

const pool = z.strictObject(argumentsOf(storagePoolSchema, "cluster", "name"));
const network = z.strictObject(argumentsOf(networkSchema, "cluster", "name"));
const image = z.strictObject(argumentsOf(imageSchema, "cluster", "aliases", "sourceFingerprint"));

const profiles = z.strictObject({
  networks: z
    .strictObject({ name: name.exactOptional(), network: name.exactOptional(), bridge: name.exactOptional() })
    .exactOptional(),
  resources: z
    .strictObject({
      name: name.exactOptional(),
      cpu: z.union([z.number(), z.string()]).exactOptional(),
      memory: z.string().exactOptional(),
      pool: name.exactOptional(),
      diskSize: z.string().exactOptional(),
      config: configMap.exactOptional(),
    })
    .exactOptional(),
  gpu: z.strictObject({ name: name.exactOptional(), config: configMap.exactOptional() }).exactOptional(),
});

const guestInterface = z.strictObject({
  dhcp4: z.boolean().exactOptional(),
  dhcp6: z.boolean().exactOptional(),
  addresses: z.array(addressWithPrefix).exactOptional(),
  gateway4: z.ipv4("is not an IPv4 address").exactOptional(),
  routes: z.array(z.strictObject({ to: addressWithPrefix, via: address })).exactOptional(),
  nameservers: z.array(address).exactOptional(),
  searchDomains: z.array(z.string()).exactOptional(),
  optional: z.boolean().exactOptional(),
});

/** The public keys in a file, one per line. */
const keyFile = z
  .string()
  .min(1)
  .transform((path, context) => {
    try {
      const text = readFileSync(path.startsWith("~/") ? join(homedir(), path.slice(1)) : path, "utf8");
      return text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      context.addIssue({
        code: "custom",
        message: `${path} cannot be read (${code}). Make a key with ssh-keygen -t ed25519, or name another file`,
      });
      return z.NEVER;
    }
  });

const user = z
  .strictObject({
    ...argumentsOf(vmUserSchema, "cluster", "instance", "project", "name"),
    name,
    authorizedKeyFiles: z.array(keyFile).exactOptional(),
  })
  .transform(({ authorizedKeyFiles, ...given }) =>
    authorizedKeyFiles === undefined
      ? given
      : { ...given, authorizedKeys: [...(given.authorizedKeys ?? []), ...authorizedKeyFiles.flat()] },
  );

/** One GPU, by its PCI address, number, vendor or product. */
const gpu = z
  .strictObject({
    pci: z.string().exactOptional(),
    id: z.string().exactOptional(),
    vendorid: z.string().exactOptional(),
    productid: z.string().exactOptional(),
  })
  .refine((given) => Object.keys(given).length > 0, "needs pci, id, vendorid or productid: a device is one GPU");

const vmSettings = z.strictObject({
  ...argumentsOf(vmSchema, "cluster", "name", "project"),
  image: asWritten(vmSchema.shape.image).exactOptional(),
  network: z.record(name, guestInterface).exactOptional(),
  gpus: z.array(gpu).exactOptional(),
  users: z.array(user).exactOptional(),
});

/** The config of a stack, by keys without the project's name. */
export const stackSchema = z.strictObject({
  hosts: z.array(host).min(1, "must name at least one host"),
  pools: z.record(name, pool).default({}),
  networks: z.record(name, network).default({}),
  images: z.record(name, image).default({}),
  profiles: profiles.default({}),
  vmDefaults: vmSettings.default({}),
  vms: z.array(z.strictObject({ ...vmSettings.shape, name })).default([]),
});

/** The config of a stack as the program uses it. */
export type StackConfig = z.output<typeof stackSchema>;
