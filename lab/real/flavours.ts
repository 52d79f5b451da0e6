/** A Debian release that hosts run. */
export type Release = "bookworm" | "trixie";

/** The package that the hosts of a lab can install as their server, and the Debian release that they run. */
export interface Flavour {
  readonly name: FlavourName;
  readonly release: Release;
  /** Whether the server comes from the release's backports. */
  readonly backports: boolean;
  readonly server: "lxd" | "incus";
  /** Name of the server's package. */
  readonly package: string;
  /** The server's command-line client on a host. */
  readonly client: "lxc" | "incus";
  /** The command that initializes the server, with subcommands such as `init` and `waitready`. */
  readonly admin: readonly string[];
  /** The daemon's program. */
  readonly daemon: string;
  readonly dataDirectory: string;
  /** Names of the server's systemd units: socket and service. */
  readonly units: readonly [string, string];
  /** Name of the systemd unit that starts instances at boot. */
  readonly startupUnit: string;
  /** Further packages that a host can install. */
  readonly otherPackages: readonly string[];
}

const COMMON = ["dnsmasq-base", "btrfs-progs", "curl", "jq"];

const LXD = {
  backports: false,
  server: "lxd",
  package: "lxd",
  client: "lxc",
  admin: ["lxd"],
  daemon: "/usr/bin/lxd",
  dataDirectory: "/var/lib/lxd",
  units: ["lxd.socket", "lxd.service"],
  startupUnit: "lxd-containers.service",
  otherPackages: ["lxd-agent", "iptables", "snapd", "squashfuse", "fuse3", ...COMMON],
} as const;

const INCUS = {
  server: "incus",
  // The daemon without QEMU: 28 MB instead of 56. The lab's hosts run containers only.
  package: "incus-base",
  client: "incus",
  admin: ["incus", "admin"],
  daemon: "/usr/libexec/incus/incusd",
  dataDirectory: "/var/lib/incus",
  units: ["incus.socket", "incus.service"],
  startupUnit: "incus-startup.service",
  otherPackages: ["nftables", ...COMMON],
} as const;

/** Name of a flavour: what `--flavour` takes. */
export const FLAVOUR_NAMES = ["bookworm-lxd", "trixie-lxd", "trixie-incus", "trixie-incus7"] as const;
export type FlavourName = (typeof FLAVOUR_NAMES)[number];

/** The servers that Debian has. LXD 5.21 and later are in no Debian release; the simulator stands for them. */
const FLAVOURS: Readonly<Record<FlavourName, Flavour>> = {
  // LXD 5.0.2
  "bookworm-lxd": { name: "bookworm-lxd", release: "bookworm", ...LXD },
  // LXD 5.0.2+git20231211, which reports 5.0.2 and has 16 API extensions more
  "trixie-lxd": { name: "trixie-lxd", release: "trixie", ...LXD },
  // Incus 6.0
  "trixie-incus": { name: "trixie-incus", release: "trixie", backports: false, ...INCUS },
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
