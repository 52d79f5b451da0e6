import { DEBIAN_SERVERS, type DebianServer, FLAVOUR_NAMES, type FlavourName, type Release } from "../debian-servers";

/** The server that the hosts of a lab can install, and the Debian release that they run. */
export interface Flavour extends DebianServer {
  readonly name: FlavourName;
  readonly release: Release;
  /** Whether the server comes from the release's backports. */
  readonly backports: boolean;
  /** Whether a host also has the server of the release's backports, in a repository that apt does not read: a newer version for upgrades. */
  readonly hasNewer?: boolean;
  /** Further packages that a host can install. */
  readonly otherPackages: readonly string[];
}

const COMMON = ["dnsmasq-base", "btrfs-progs", "curl", "jq"];

const LXD = {
  ...DEBIAN_SERVERS.lxd,
  backports: false,
  otherPackages: ["lxd-agent", "iptables", "snapd", "squashfuse", "fuse3", ...COMMON],
};

const INCUS = { ...DEBIAN_SERVERS.incus, otherPackages: ["nftables", ...COMMON] };

/** The servers that Debian has. LXD 5.21 and later are in no Debian release; the simulator stands for them. */
const FLAVOURS: Readonly<Record<FlavourName, Flavour>> = {
  // LXD 5.0.2
  "bookworm-lxd": { name: "bookworm-lxd", release: "bookworm", ...LXD },
  // LXD 5.0.2+git20231211, which reports 5.0.2 and has 16 API extensions more
  "trixie-lxd": { name: "trixie-lxd", release: "trixie", ...LXD },
  // Incus 6.0, and 7.0 for upgrades
  "trixie-incus": { name: "trixie-incus", release: "trixie", backports: false, hasNewer: true, ...INCUS },
  // Incus 7.0
  "trixie-incus7": { name: "trixie-incus7", release: "trixie", backports: true, ...INCUS },
};

export const DEFAULT_FLAVOUR: FlavourName = "bookworm-lxd";

/** `LxdNode.install` for the flavour's server. */
export function installOf({ server }: Flavour) {
  return server === "lxd" ? ({ method: "deb" } as const) : ({ method: "deb", server, serverPackage: INCUS.package } as const);
}

/**
 * The flavour of this name.
 * @throws Error if there is none.
 */
export function flavourOf(name: string): Flavour {
  const known = FLAVOUR_NAMES.find((each) => each === name);
  if (known === undefined) throw new Error(`The lab has no flavour "${name}". It has: ${FLAVOUR_NAMES.join(", ")}.`);
  return FLAVOURS[known];
}
