/**
 * What Pulumi.<stack>.yaml may hold. Structure, names and references are judged here, where a message can name the config key; what a
 * single value means to LXD is judged by the resource that gets it, in the same preview.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";

const name = z.string().min(1);
const configMap = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));
const addressWithPrefix = z.union([z.cidrv4(), z.cidrv6()], {
  error: 'is not an address with its prefix, such as "192.168.1.100/24"',
});
const address = z.union([z.ipv4(), z.ipv6()], { error: "is not an IP address" });

const jumpHost = {
  port: z.number().exactOptional(),
  user: z.string().exactOptional(),
  password: z.string().exactOptional(),
  privateKey: z.string().exactOptional(),
  privateKeyPath: z.string().exactOptional(),
  privateKeyPassword: z.string().exactOptional(),
  agentSocketPath: z.string().exactOptional(),
  hostKey: z.string().exactOptional(),
  hostKeyPolicy: z.enum(["known-hosts", "insecure"]).exactOptional(),
  dialErrorLimit: z.number().exactOptional(),
  perDialTimeout: z.number().exactOptional(),
};
const connection = z.strictObject({
  ...jumpHost,
  host: z.string().exactOptional(),
  proxy: z.strictObject({ ...jumpHost, host: z.string() }).exactOptional(),
});

const install = z.union([
  z.literal(false),
  z.discriminatedUnion(
    "method",
    [
      z.strictObject({ method: z.literal("deb"), packages: z.array(name).exactOptional() }),
      z.strictObject({
        method: z.literal("snap"),
        channel: z.string().exactOptional(),
        cohort: z.boolean().exactOptional(),
        hold: z.boolean().exactOptional(),
        revision: z.number().exactOptional(),
      }),
    ],
    'must be "deb" or "snap"; or install is false',
  ),
]);

const node = z.strictObject({
  install: install.exactOptional(),
  config: configMap.exactOptional(),
  resetPolicy: z.array(z.enum(["instances", "custom-volumes", "images", "storage-pools", "networks", "cluster"])).exactOptional(),
  adopt: z.boolean().exactOptional(),
});

const member = z.strictObject({
  memberConfig: z
    .strictObject({ pools: z.record(name, configMap).exactOptional(), networks: z.record(name, configMap).exactOptional() })
    .exactOptional(),
  failureDomain: z.string().exactOptional(),
  config: configMap.exactOptional(),
  adopt: z.boolean().exactOptional(),
});

const host = z
  .strictObject({
    name,
    address: z.string().min(1),
    connection: connection.default({}),
    prepare: z.array(z.string().min(1)).default([]),
    node: node.exactOptional(),
    member: member.exactOptional(),
  })
  .transform((given) => ({ ...given, connection: { ...given.connection, host: given.connection.host ?? given.address } }));

const pool = z.strictObject({
  driver: z.enum(["dir", "btrfs", "zfs", "lvm"]),
  description: z.string().exactOptional(),
  config: configMap.exactOptional(),
  memberConfig: z.record(name, configMap).exactOptional(),
  adopt: z.boolean().exactOptional(),
});

const network = z.strictObject({
  description: z.string().exactOptional(),
  config: configMap.exactOptional(),
  memberConfig: z.record(name, configMap).exactOptional(),
  adopt: z.boolean().exactOptional(),
});

const imageSource = z.strictObject({
  alias: name.exactOptional(),
  fingerprint: name.exactOptional(),
  server: z.string().exactOptional(),
  protocol: z.enum(["simplestreams", "lxd"]).exactOptional(),
});

const image = z.strictObject({
  metadataPath: z.string().exactOptional(),
  rootfsPath: z.string().exactOptional(),
  source: imageSource.exactOptional(),
  instanceType: z.enum(["container", "virtual-machine"]).exactOptional(),
  properties: configMap.exactOptional(),
  adopt: z.boolean().exactOptional(),
});

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

/** The public keys in a file: one a line. */
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
    name,
    uid: z.number().exactOptional(),
    home: z.string().exactOptional(),
    shell: z.string().exactOptional(),
    groups: z.array(name).exactOptional(),
    sudo: z.enum(["none", "password", "passwordless"]).exactOptional(),
    authorizedKeys: z.array(z.string()).exactOptional(),
    authorizedKeyFiles: z.array(keyFile).exactOptional(),
    authorizedKeysMode: z.enum(["exclusive", "additive"]).exactOptional(),
    passwordHash: z.string().exactOptional(),
    homeOnDelete: z.enum(["keep", "remove"]).exactOptional(),
    adopt: z.boolean().exactOptional(),
  })
  .transform(({ authorizedKeyFiles, ...given }) =>
    authorizedKeyFiles === undefined
      ? given
      : { ...given, authorizedKeys: [...(given.authorizedKeys ?? []), ...authorizedKeyFiles.flat()] },
  );

const waitFor = z.discriminatedUnion(
  "for",
  [
    z.strictObject({ for: z.enum(["running", "agent", "cloud-init"]) }),
    z.strictObject({ for: z.enum(["ipv4", "ipv6"]), nic: name }),
    z.strictObject({ for: z.literal("command"), command: z.array(z.string()).min(1) }),
  ],
  'must be "running", "agent", "cloud-init", "ipv4", "ipv6" or "command"',
);

/** One GPU: by its PCI address, its number, or what it is. */
const gpu = z
  .strictObject({
    pci: z.string().exactOptional(),
    id: z.string().exactOptional(),
    vendorid: z.string().exactOptional(),
    productid: z.string().exactOptional(),
  })
  .refine((given) => Object.keys(given).length > 0, "needs pci, id, vendorid or productid: a device is one GPU");

const vmSettings = z.strictObject({
  instanceType: z.enum(["virtual-machine", "container"]).exactOptional(),
  description: z.string().exactOptional(),
  image: imageSource.exactOptional(),
  target: name.exactOptional(),
  profiles: z.array(name).exactOptional(),
  cpu: z.union([z.number(), z.string()]).exactOptional(),
  memory: z.string().exactOptional(),
  rootDisk: z.strictObject({ size: z.string().exactOptional(), pool: name.exactOptional() }).exactOptional(),
  network: z.record(name, guestInterface).exactOptional(),
  devices: z.record(name, configMap).exactOptional(),
  gpus: z.array(gpu).exactOptional(),
  config: configMap.exactOptional(),
  cloudInit: z.strictObject({ userData: z.string().exactOptional(), vendorData: z.string().exactOptional() }).exactOptional(),
  running: z.boolean().exactOptional(),
  waitFor: z.array(waitFor).exactOptional(),
  allowRestart: z.union([z.boolean(), z.literal("force")]).exactOptional(),
  adopt: z.boolean().exactOptional(),
  users: z.array(user).exactOptional(),
});

/** The config of a stack, by its keys without the project's name. */
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
