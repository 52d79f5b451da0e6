import { isIPv4, isIPv6 } from "node:net";
import * as z from "zod";

/**
 * Follows LXD's naming rules. An existing object must be nameable: otherwise a program that adopts it would remove it.
 * test/contract/lxd/names.ts checks each rule against LXD. Only control characters are refused in addition, to protect terminals.
 */
const named = (what: string, forbidden: RegExp, rule: string) =>
  z
    .string()
    .refine(
      (text) =>
        text !== "" && text !== "." && text !== ".." && !/[\p{Control}\p{Surrogate}]/u.test(text) && !forbidden.test(text),
      `is not a valid ${what}: it must not be empty, "." or "..", or have control characters or ${rule}`,
    );

const spelled = (pattern: RegExp, problem: string) => z.string().regex(pattern, problem);

export const profileNameSchema = named("name of a profile", /\//, "slashes");

export const poolNameSchema = named("name of a storage pool", /[/\s]/, "slashes or spaces");

/** Name of a custom volume. A slash would begin the name of a snapshot. */
export const volumeNameSchema = named("name of a storage volume", /\//, "slashes");

/** Name of a bridge, which is a network interface of each host. */
export const networkNameSchema = spelled(
  /^(?!\.{1,2}$)[A-Za-z0-9._-]{2,15}$/,
  "is not a valid name of a network interface: 2 to 15 letters, digits, dots, dashes and underscores",
);

/**
 * A host name. LXD 5.0 of Debian 12 refuses one that begins with a digit; later ones refuse only a number.
 * @see https://github.com/canonical/lxd/blob/main/shared/validate/validate.go IsHostname
 */
const HOST_NAME = /^(?!\d+$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

export const instanceNameSchema = spelled(
  HOST_NAME,
  "is not a valid instance name: 1 to 63 letters, digits and dashes, not only digits, and no dash at either end",
);

/** Name of a network ACL: a host name, so that rules that refer to it do not mistake it for an address. */
export const aclNameSchema = spelled(
  HOST_NAME,
  "is not a valid name of an ACL: 1 to 63 letters, digits and dashes, not only digits, and no dash at either end",
);

/** Name of an image alias: one segment of a URL. LXD also allows slashes and non-Latin scripts. */
export const imageAliasSchema = named("alias", /^$/, "lone surrogates");

export const projectNameSchema = named("name of a project", /[/\s_'"]/, "slashes, spaces, underscores or quotes");

/** Defaults to the project that always exists. */
export const projectSchema = projectNameSchema.default("default");

/**
 * Name of a cluster member: a host name, usually the member's own. LXD accepts any name, but then does not find a member whose name a URL
 * encodes. `@` begins the name of a group.
 */
export const memberNameSchema = spelled(
  /^(?!\.{1,2}$)(?!@)[A-Za-z0-9._~@:+-]+$/,
  "is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @",
).refine((name) => name !== "none", 'must not be "none", which stands for instances without a member');

/** Name of a group of cluster members. LXD takes no underscores, Incus 7 does. */
export const clusterGroupNameSchema = named("name of a cluster group", /[/ '"]/, "slashes, spaces or quotes");

/** Name of a client in the trust store. */
export const certificateNameSchema = named("name of a certificate", /^$/, "lone surrogates").refine(
  (name) => !name.startsWith("urn:pulumi:"),
  "begins with urn:pulumi:, as the mark of a create does",
);

/** Placement of an instance: a member, or `@` and the name of a group. */
export const targetSchema = z.union([memberNameSchema, named("group", /[/ '"]/, "spaces").regex(/^@./)], {
  error: "is neither the name of a member nor @group",
});

/** Name of a device. LXD allows letters, digits, and / : _ . - in them. Incus 7 allows more, but no slashes. */
export const deviceNameSchema = named(
  "device name",
  /^\.|[\s"'$&*+?`]|^.{65}/u,
  "spaces, quotes or any of $ & * + ?, begin with a dot, or be longer than 64 characters",
);

/** Key of a config or device: one that LXD or Incus defines, or one whose suffix they leave to the user. */
export const configKeySchema = spelled(
  /^([A-Za-z0-9][A-Za-z0-9_.:/-]*|(user|environment|cloud-init\.ssh-keys|bgp\.peers|tunnel|linux\.sysctl|systemd\.credential(-binary)?)\.[^\p{Control}\p{Surrogate}]*)$/u,
  "is not a config key such as limits.cpu",
);

/** Every address of a host, with or without a port. */
const WILDCARD = /^(\*|\[?[0:]+\]?|0\.0\.0\.0)?(:\d{1,5})?$/;

/** Whether a server can listen on this: an address as in {@link memberAddressSchema}, or every address. */
export function isListener(text: string): boolean {
  return WILDCARD.test(text) || isMemberAddress(text);
}

/**
 * Address of a member for the other members: an IP address or DNS name, with the port. LXD's default port is 8443. An IPv6 address is in
 * brackets if it has a port: `fd00::2:8444` is an address without a port, as LXD reads it.
 */
export const memberAddressSchema = z
  .string()
  .refine((text) => !WILDCARD.test(text), {
    error: 'must be one address of the host, such as "192.168.1.102", not a wildcard',
    abort: true,
  })
  .refine(isMemberAddress, 'is not an address such as "192.168.1.102", "192.168.1.102:8443" or "[fd00::2]:8443"')
  .transform(withPort);

function isMemberAddress(text: string): boolean {
  const [, host = "", port = "0"] = isIPv6(text) ? [text, text] : (/^(.*?)(?::(\d{1,5}))?$/.exec(text) ?? []);
  const bracketed = /^\[(.*)\]$/.exec(host)?.[1] ?? host;
  const isV6 = isIPv6(bracketed) && !bracketed.includes("%"); // LXD accepts no interface
  return (isV6 || (/^[A-Za-z0-9.-]+$/.test(host) && !isMistypedIPv4(host))) && Number(port) <= 65535;
}

function withPort(address: string): string {
  if (isIPv6(address)) {
    return `[${address}]:8443`;
  }
  return /:\d+$/.test(address) ? address : `${address}:8443`;
}

/** Finds digits and dots that are no IPv4 address. They would otherwise pass as a DNS name. */
function isMistypedIPv4(text: string): boolean {
  return /^\d+(\.\d+)+$/.test(text) && !isIPv4(text);
}
