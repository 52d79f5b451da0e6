/** How a server is installed: arguments of LxdNode and LxdCluster. */
import type { Input } from "@pulumi/pulumi";

/** A repository for apt, with the fields of sources.list(5). It is the host's file `pulumi-lxd-cluster.sources`. */
export interface AptRepositoryArgs {
  /** Addresses of the repository, such as `https://deb.debian.org/debian`. */
  uris: string[];
  /** Releases, such as `trixie-backports`. */
  suites: string[];
  /** Sections, such as `main`. None for a suite that is a directory: one that ends with "/". @default [] */
  components?: string[];
  /**
   * The public key of the repository as text ("-----BEGIN PGP PUBLIC KEY BLOCK-----"), or the path of a keyring on the host.
   * @default the keys that apt on the host trusts
   */
  signedBy?: string;
}

/** How LXD or Incus is installed on a host. */
export type InstallArgs =
  | {
      method: "deb";
      /** The server. A host that has the other one is refused, and so is a member that joins a cluster of the other one. @default "lxd" */
      server?: "lxd" | "incus";
      /**
       * For `server: "incus"`, the package with the daemon. `incus-base` has no QEMU, for hosts that run only containers; a host
       * that has `incus` satisfies it too.
       * @default "incus"
       */
      serverPackage?: "incus" | "incus-base";
      /**
       * A repository that the host gets, for the packages and their upgrades. The file is written again when somebody changes it,
       * removed when this is removed from the program, and stays when the node is deleted.
       * @default the host's own package sources
       */
      repository?: AptRepositoryArgs;
      /**
       * The release from which packages are installed, as apt-get's `--target-release`, such as "trixie-backports". Later changes
       * do not affect what is installed.
       * @default apt's choice
       */
      targetRelease?: string;
      /**
       * Exact version of the package with the daemon, such as "5.0.2-5". A newer one upgrades the host; members of a cluster are upgraded one
       * after the other. An older one is refused.
       * @default apt's choice, and later upgrades by apt are not undone
       */
      version?: string;
      /**
       * Evacuate a member of a cluster before its upgrade, and restore it after that: its instances move away and back, stopped meanwhile unless they
       * move live, or are stopped and started, as `cluster.evacuate` of each one says. Without it, they keep running where they are while the daemon
       * restarts. A member that somebody else evacuated stays so.
       * @default false
       */
      evacuate?: boolean;
      /**
       * Hold the package with the daemon (`apt-mark hold`): neither apt nor unattended-upgrades upgrades it, and `pulumi up` still does. `false`
       * releases it. A hold that the program no longer asks for is released, also when the node is deleted.
       * @default true with `version`, otherwise what the host has
       */
      hold?: boolean;
      /** Further packages that the storage drivers need, such as `btrfs-progs`. @default [] */
      packages?: string[];
    }
  | {
      method: "snap";
      /** Incus has no snap. @default "lxd" */
      server?: "lxd";
      /** Track, risk and branch, as in the snap store. @default "5.21/stable" */
      channel?: string;
      /** Use the revision of the cohort: all hosts get the same one, also during a progressive release. @default true */
      cohort?: boolean;
      /** Hold the snap: snapd does not refresh it automatically. @default true */
      hold?: boolean;
      /**
       * Exact revision, such as the output `revision` of a member's LxdNode: a host that joins needs the cluster's revision. The
       * store must have released it to a channel, for the host's architecture.
       * @default the channel's revision
       */
      revision?: Input<number | undefined>;
      /**
       * Evacuate a member of a cluster before its upgrade, and restore it after that: its instances move away and back, stopped meanwhile unless they
       * move live, or are stopped and started, as `cluster.evacuate` of each one says. Without it, they keep running where they are while the daemon
       * restarts. A member that somebody else evacuated stays so.
       * @default false
       */
      evacuate?: boolean;
    };
