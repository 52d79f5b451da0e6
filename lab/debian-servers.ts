/** The servers that Debian has, and their names there: the same on real and simulated hosts. */

/** A Debian release that hosts run. */
export type Release = "bookworm" | "trixie";

/** One server as Debian packages it. */
export interface DebianServer {
  readonly server: "lxd" | "incus";
  /** Its name in messages. */
  readonly product: "LXD" | "Incus";
  /** Packages that bring its daemon; each is enough. */
  readonly packages: readonly string[];
  /** The one that the labs install. */
  readonly package: string;
  /** Its command-line client. */
  readonly client: "lxc" | "incus";
  /** The command that initializes it, with subcommands such as `init` and `waitready`. */
  readonly admin: readonly string[];
  /** The daemon's program. */
  readonly daemon: string;
  readonly dataDirectory: string;
  /** Names of its systemd units: socket and service. */
  readonly units: readonly [socket: string, service: string];
  /** Name of the systemd unit that starts instances at boot, and stops them at shutdown. */
  readonly startupUnit: string;
}

const LXD = {
  server: "lxd",
  product: "LXD",
  packages: ["lxd"],
  package: "lxd",
  client: "lxc",
  admin: ["lxd"],
  daemon: "/usr/bin/lxd",
  dataDirectory: "/var/lib/lxd",
  units: ["lxd.socket", "lxd.service"],
  startupUnit: "lxd-containers.service",
} as const satisfies DebianServer;

const INCUS = {
  server: "incus",
  product: "Incus",
  packages: ["incus-base", "incus"],
  // The daemon without QEMU: 28 MB instead of 56. The lab's hosts run containers only.
  package: "incus-base",
  client: "incus",
  admin: ["incus", "admin"],
  daemon: "/usr/libexec/incus/incusd",
  dataDirectory: "/var/lib/incus",
  units: ["incus.socket", "incus.service"],
  startupUnit: "incus-startup.service",
} as const satisfies DebianServer;

export const DEBIAN_SERVERS = { lxd: LXD, incus: INCUS } as const;

/** A server of Debian by its release: what `--flavour` of the lab takes. */
export const FLAVOUR_NAMES = ["bookworm-lxd", "trixie-lxd", "trixie-incus", "trixie-incus7"] as const;
export type FlavourName = (typeof FLAVOUR_NAMES)[number];
