import type { Input, Output } from "@pulumi/pulumi";

/** How to reach a host by SSH; the same object feeds `@pulumi/command`'s remote commands. */
export interface ConnectionArgs extends ProxyConnectionArgs {
  /** A jump host through which the host is reached. One hop. */
  proxy?: Input<ProxyConnectionArgs>;
}

/**
 * How to reach a jump host, and all of a connection but its jump host.
 *
 * Credentials by reference (`privateKeyPath`, an agent, the environment) are read when they are needed and never stored; they
 * can be rotated without a plan.
 */
export interface ProxyConnectionArgs {
  /** Host name or IP address. */
  host: Input<string>;
  /** Port of sshd. @default 22 */
  port?: Input<number>;
  /** User to log in as. Another one than root needs `sudo` without a password. @default "root" */
  user?: Input<string>;
  /** Password, also the answer to keyboard-interactive prompts. Kept as a secret. */
  password?: Input<string>;
  /** Contents of a private key; tried before the password. Kept as a secret. */
  privateKey?: Input<string>;
  /** Path of a private key file on the machine that runs Pulumi; `~` is the home directory. Only the path is kept. */
  privateKeyPath?: Input<string>;
  /** Passphrase of the private key. Kept as a secret. */
  privateKeyPassword?: Input<string>;
  /** Socket of an SSH agent. @default the environment's SSH_AUTH_SOCK */
  agentSocketPath?: Input<string>;
  /** The host's public key in the form of authorized_keys, such as `ssh-ed25519 AAAA...`. @default what known_hosts says */
  hostKey?: Input<string>;
  /** `insecure` accepts any host key when `hostKey` is not given. @default "known-hosts" */
  hostKeyPolicy?: Input<"known-hosts" | "insecure">;
  /** How often dialling may fail before a create, update or delete gives up; -1 for no limit. @default 10 */
  dialErrorLimit?: Input<number>;
  /** Seconds for one dial; 0 for no limit. @default 15 */
  perDialTimeout?: Input<number>;
}

/** Where the API of a cluster, or of one standalone server, is found. */
export interface ClusterConnectionArgs {
  /** Hosts of the cluster, in the order in which they are tried: when one is down, the next is used. */
  endpoints: Input<Input<ConnectionArgs>[]>;
  /**
   * Which cluster it is: the SHA-256 of its certificate, `certificate_fingerprint` in `lxc info`. A host that does not present it is passed over with a
   * warning. `LxdCluster.connection` has it, and each `LxdClusterMember` tells it. @default what was found when the resource was made, kept in state
   */
  certificateFingerprint?: Input<string | undefined>;
}

/**
 * A cluster, or one standalone server: an `LxdCluster`, an `LxdClusterMember` or an `LxdNode` as it is, or plain connection data, such as the
 * output of another stack. What is given a resource waits for it.
 */
export type ClusterInput = Input<ClusterConnectionArgs> | { readonly asCluster: Output<ClusterConnectionArgs> };

/** A value of LXD's config; numbers and booleans become the strings that LXD keeps. */
export type ConfigValue = string | number | boolean;

/** A config map, such as `{"limits.cpu": 2}`. */
export type ConfigArgs = Record<string, Input<ConfigValue>>;

/** Devices by name, each a map of its options, such as `{root: {type: "disk", path: "/", pool: "default"}}`. */
export type DevicesArgs = Record<string, Input<ConfigArgs>>;
