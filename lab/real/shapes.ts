import { BlockList, isIPv4, isIPv6 } from "node:net";

/** A host of the lab: its name and its address on the lab's network. */
export interface HostAddress {
  readonly name: string;
  readonly address: string;
}

/** A network between the hosts alone. */
export interface LabNetwork {
  /** Name of the hosts' interfaces on it. */
  readonly name: string;
  /** The part of the addresses that the hosts share, such as "10.55.60". The last number is that of the host's first address. */
  readonly prefix: string;
}

/** Hosts of the default shape that can be given by name alone. */
export const KNOWN_HOSTS: readonly HostAddress[] = [
  { name: "bcn2", address: "192.168.1.102" },
  { name: "bcn1", address: "192.168.1.101" },
  { name: "bcn3", address: "192.168.1.103" },
];

/** The workstation's own address on the network of the default shape. */
export const WORKSTATION_ADDRESS = "192.168.1.10";

/** Name of a shape: what `--shape` takes. */
export const SHAPE_NAMES = ["lan", "strict"] as const;
export type ShapeName = (typeof SHAPE_NAMES)[number];

/** How the hosts of a lab are named, addressed and set up, whatever server they can install. */
export interface Shape {
  readonly name: ShapeName;
  /** Hosts that can be given by name alone; others are written as `name=address`. */
  readonly knownHosts: readonly HostAddress[];
  readonly defaultHosts: readonly string[];
  /** The workstation's own address on the lab's network. */
  readonly workstation: string;
  /** Prefix length of the lab's network. */
  readonly prefixLength: number;
  /** The user that logs in to the hosts. root may log in only if it is root; any other becomes root by sudo. */
  readonly user: "root" | "operator";
  /** File mode mask of SSH sessions and of sudo, in octal. Default: Debian's own. */
  readonly umask?: string;
  /** Locale of the hosts, in which their programs print messages. Default: none. */
  readonly locale?: string;
}

const SHAPES: Readonly<Record<ShapeName, Shape>> = {
  lan: {
    name: "lan",
    knownHosts: KNOWN_HOSTS,
    defaultHosts: ["bcn2", "bcn1"],
    workstation: WORKSTATION_ADDRESS,
    prefixLength: 24,
    user: "root",
  },
  // The network between the hosts has no IPv4.
  strict: {
    name: "strict",
    knownHosts: [
      { name: "alpha", address: "fd00:c1a5:7e4::a1" },
      { name: "Beta-2", address: "fd00:c1a5:7e4::b2" },
      { name: "gamma", address: "fd00:c1a5:7e4::c3" },
    ],
    defaultHosts: ["alpha", "Beta-2"],
    workstation: "fd00:c1a5:7e4::10",
    prefixLength: 64,
    user: "operator",
    umask: "077",
    locale: "de_DE.UTF-8",
  },
};

export const DEFAULT_SHAPE: ShapeName = "lan";

/**
 * The shape of this name.
 * @throws Error if there is none.
 */
export function shapeOf(name: string): Shape {
  const known = SHAPE_NAMES.find((each) => each === name);
  if (known === undefined) throw new Error(`The lab has no shape "${name}". It has: ${SHAPE_NAMES.join(", ")}.`);
  return SHAPES[known];
}

/**
 * The host for a name that the shape knows, or for `name=address`.
 * @throws Error if the name is unknown and no address is given, or either is malformed.
 */
export function parseHost(text: string, shape: Shape): HostAddress {
  const [name = "", address] = text.split("=");
  if (!/^[A-Za-z][A-Za-z0-9-]{0,10}$/.test(name)) {
    throw new Error(`"${name}" cannot name a lab host: use at most 11 letters, digits and dashes.`);
  }
  if (address !== undefined) {
    if (!isInNetwork(address, shape)) {
      throw new Error(`Lab host ${name}: "${address}" is not in the network of ${shape.workstation}/${shape.prefixLength}.`);
    }
    return { name, address };
  }
  const known = shape.knownHosts.find((host) => host.name === name);
  if (known === undefined) {
    throw new Error(
      `Lab host ${name} has no known address; write ${name}=ADDRESS, in the network of ${shape.workstation}/${shape.prefixLength}.`,
    );
  }
  return known;
}

function isInNetwork(address: string, { workstation, prefixLength }: Shape): boolean {
  const family = (text: string) => (isIPv6(text) ? "ipv6" : "ipv4");
  if (!isIPv4(address) && !isIPv6(address)) return false;
  const network = new BlockList();
  network.addSubnet(workstation, prefixLength, family(workstation));
  return network.check(address, family(address));
}
