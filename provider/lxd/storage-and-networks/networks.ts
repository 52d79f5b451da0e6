import { BlockList } from "node:net";
import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import type { LxdClient } from "../client/client";
import type { Servers } from "../cluster/servers";
import { sameConfigValue } from "../config";
import { type Identity, memberObjectSchema, nameOf, namesOf, type ObjectRef, type ObjectType, viewsOf } from "./member-objects";
import { findNetworkAcl } from "./network-acls";
import { configOfMember, faultsOfKeys, type KeyFault, type WantedConfig } from "./object-config";

/** Keys that accept "auto", which LXD replaces with its choice. */
const CHOSEN_BY_LXD = /^(ipv[46]\.address|fan\.underlay_subnet)$/;

/** Types of networks. */
export const NETWORK_TYPES = ["bridge", "physical", "macvlan", "sriov", "ovn"] as const;

export type NetworkType = (typeof NETWORK_TYPES)[number];

/** The member-specific keys that a type has. An OVN network has none: it spans all members. */
const MEMBER_KEYS: Readonly<Record<NetworkType, readonly string[]>> = {
  bridge: ["bridge.external_interfaces", "bgp.ipv4.nexthop", "bgp.ipv6.nexthop"],
  physical: ["parent"],
  macvlan: ["parent"],
  sriov: ["parent"],
  ovn: [],
};

/** `/1.0/networks`: https://documentation.ubuntu.com/lxd/latest/explanation/networks/ */
export const NETWORKS: ObjectType = {
  noun: "Network",
  collection: "/1.0/networks",
  memberKeys: [...new Set(Object.values(MEMBER_KEYS).flat())],
  creationKeys: [],
  isDefinedOnMembers: (identity) => !("type" in identity && identity.type === "ovn"),
  satisfies: (key, wanted, live) =>
    sameConfigValue(key, wanted, live) ||
    (wanted === "auto" && CHOSEN_BY_LXD.test(key) && live !== undefined && live !== "" && live !== "none"),
  valueFault,
  describe({ type, config, used_by }) {
    const addresses = ["ipv4.address", "ipv6.address"].flatMap((key) => (config?.[key] ? [`${key} ${config[key]}`] : []));
    return `${[`type ${type}`, ...addresses].join(", ")}; used by ${used_by?.length ?? 0} objects`;
  },
  refuseConfig: refuseOverlap,
  refuseOccupied: refuseHostInterface,
  async refuseCreate(lxd, { ref, identity, ...wanted }, servers) {
    refuseMissingParent(ref, servers, identity, wanted);
    await refuseMissingAcl(lxd, ref, wanted.config["security.acls"] ?? "");
  },
};

export function network(project: string, name: string): ObjectRef {
  return { type: NETWORKS, name, project };
}

/** Returns what is wrong with a network's member-specific keys for its type. */
export function faultsOfType({ type, ...wanted }: WantedConfig & { type: NetworkType }): KeyFault[] {
  const own = MEMBER_KEYS[type];
  const foreign = faultsOfKeys(wanted, (key) =>
    NETWORKS.memberKeys.includes(key) && !own.includes(key) ? `is no key of a network of type ${type}` : undefined,
  );
  const hasParent = [wanted.config, ...Object.values(wanted.memberConfig)].some((keys) => (keys["parent"] ?? "") !== "");
  return own.includes("parent") && !hasParent
    ? [...foreign, { property: "config.parent", reason: `is missing: the host's interface that a network of type ${type} is on` }]
    : foreign;
}

/**
 * Refuses a creation without the interface of some member. LXD defines such a network, and then fails on that member alone.
 * @throws RefusedError that names the members.
 */
function refuseMissingParent(ref: ObjectRef, servers: Servers, identity: Identity, wanted: WantedConfig): void {
  const isOnParent = "type" in identity && MEMBER_KEYS[identity.type as NetworkType].includes("parent");
  const without = namesOf(servers).filter((member) => (configOfMember(NETWORKS, wanted, member)["parent"] ?? "") === "");
  const [first] = without;
  if (isOnParent && first !== undefined) {
    throw new RefusedError(
      `${nameOf(ref)} needs an interface on each member, and has none for ${without.join(", ")}. Give config.parent for all members, ` +
        `or memberConfig: { ${JSON.stringify(first)}: { parent: "..." } }`,
    );
  }
}

/** Keys that hold an address with its prefix length. */
const ADDRESS_KEYS: Readonly<Record<string, { cidr: z.ZodType; problem: string }>> = {
  "ipv4.address": {
    cidr: z.cidrv4(),
    problem: 'is not an IPv4 address with its prefix length, such as "10.10.10.1/24", nor "auto" or "none"',
  },
  "ipv6.address": {
    cidr: z.cidrv6(),
    problem: 'is not an IPv6 address with its prefix length, such as "fd42:10::1/64", nor "auto" or "none"',
  },
};

function valueFault(key: string, value: string): string | undefined {
  if (value === "") {
    return undefined;
  }
  const address = ADDRESS_KEYS[key];
  if (address !== undefined && value !== "auto" && value !== "none" && !address.cidr.safeParse(value).success) {
    return address.problem;
  }
  if (/^ipv[46]\.(nat|dhcp|dhcp\.stateful|firewall|routing)$/.test(key)) {
    return /^(true|false|1|0|yes|no|on|off)$/i.test(value) ? undefined : 'must be "true" or "false"';
  }
  return undefined;
}

/**
 * LXD makes a second bridge with the subnet of another one, and each host then has two routes to the same addresses.
 * @throws RefusedError that names the other bridge. Not for a subnet that the network has already.
 */
async function refuseOverlap(lxd: LxdClient, ref: ObjectRef, identity: Identity, { config }: WantedConfig): Promise<void> {
  const given = ["ipv4.address", "ipv6.address"].filter((key) => (config[key] ?? "").includes("/"));
  if (given.length === 0 || !("type" in identity && identity.type === "bridge")) {
    return;
  }
  const all = await lxd.get(NETWORKS.collection, listOf(memberObjectSchema), { project: ref.project, recursion: 1 });
  const live = all.find(({ name }) => name === ref.name)?.config ?? {};
  const others = all.filter(({ name, managed, type }) => managed && type === "bridge" && name !== ref.name);
  for (const key of given.filter((each) => !sameConfigValue(each, config[each], live[each]))) {
    const taken = others.find((other) => overlaps(config[key] ?? "", other.config?.[key] ?? ""));
    if (taken !== undefined) {
      throw new RefusedError(
        `${nameOf(ref)} cannot have ${config[key]} (config.${key}): the network "${taken.name}" has ${taken.config?.[key]}, and the subnets of two ` +
          "bridges must not overlap. Choose another subnet",
      );
    }
  }
}

/** Whether two subnets have an address in common. False for what is no subnet, such as "none". */
function overlaps(a: string, b: string): boolean {
  const contains = (outer: string, inner: string): boolean => {
    const [address = "", prefix = ""] = outer.split("/");
    const family = address.includes(":") ? "ipv6" : "ipv4";
    const list = new BlockList();
    list.addSubnet(address, Number(prefix), family);
    return list.check(inner.split("/")[0] ?? "", family);
  };
  const areSubnets = [z.cidrv4(), z.cidrv6()].some((cidr) => cidr.safeParse(a).success && cidr.safeParse(b).success);
  return areSubnets && (contains(a, b) || contains(b, a));
}

/**
 * LXD looks for the ACLs while it creates the network, and leaves it with an error.
 * @throws RefusedError when one does not exist.
 */
async function refuseMissingAcl(lxd: LxdClient, ref: ObjectRef, acls: string): Promise<void> {
  const { project = "default" } = ref;
  for (const name of acls.split(",").flatMap((each) => (each.trim() === "" ? [] : [each.trim()]))) {
    if ((await findNetworkAcl(lxd, project, name)) === undefined) {
      throw new RefusedError(
        `${nameOf(ref)} cannot be created: there is no network ACL "${name}", which config has in security.acls. ` +
          "Create it first, and give its name as an output (acl.name), so that the network waits for it",
      );
    }
  }
}

/**
 * LXD gives a network of another type than bridge the name of any interface, and then takes what uses the interface for users of
 * the network.
 * @throws RefusedError when a member has an interface of that name that LXD does not manage.
 */
async function refuseHostInterface(lxd: LxdClient, ref: ObjectRef, servers: Servers): Promise<void> {
  for (const [member, { value }] of await viewsOf(lxd, ref, servers)) {
    if (!value.managed) {
      throw new RefusedError(
        `${nameOf(ref)} cannot be created: ${member} has an interface "${ref.name}" (${value.type}) that ${lxd.names.name} does not manage. ` +
          `Choose another name, or remove the interface. To use the interface unchanged, give profiles a nic with parent: "${ref.name}"`,
      );
    }
  }
}
