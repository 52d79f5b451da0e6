import type { Input, Output } from "@pulumi/pulumi";

/** How to reach a host by SSH. `@pulumi/command`'s remote commands take the same object. */
export interface ConnectionArgs extends ProxyConnectionArgs {
  /** Jump host for the connection. One hop. @default none: the host is dialled directly */
  proxy?: Input<ProxyConnectionArgs>;
}

/**
 * How to reach a jump host: all of a connection except a further jump host.
 *
 * The library reads credentials by reference (`privateKeyPath`, an agent, the environment) when it needs them and never stores
 * them. You can rotate them without a plan.
 */
export interface ProxyConnectionArgs {
  /** Host name or IP address. */
  host: Input<string>;
  /** Port of sshd. @default 22 */
  port?: Input<number>;
  /** User to log in as. A user other than root needs `sudo` without a password. @default "root" */
  user?: Input<string>;
  /** Password, also sent as the answer to keyboard-interactive prompts. State keeps it as a secret. */
  password?: Input<string>;
  /** Contents of a private key. Tried before the password. State keeps it as a secret. */
  privateKey?: Input<string>;
  /** Path of a private key file on the machine that runs Pulumi; `~` is the home directory. State keeps only the path. */
  privateKeyPath?: Input<string>;
  /** Passphrase of the private key. State keeps it as a secret. */
  privateKeyPassword?: Input<string>;
  /** Path of the socket of an SSH agent. @default the environment's SSH_AUTH_SOCK */
  agentSocketPath?: Input<string>;
  /** The host's public key in the format of authorized_keys, such as `ssh-ed25519 AAAA...`. @default the keys in known_hosts */
  hostKey?: Input<string>;
  /** `insecure` accepts any host key when `hostKey` is not given. @default "known-hosts" */
  hostKeyPolicy?: Input<"known-hosts" | "insecure">;
  /** Number of failed dials after which a create, update or delete gives up; -1 for no limit. @default 10 */
  dialErrorLimit?: Input<number>;
  /** Time limit of one dial in seconds; 0 for no limit. @default 15 */
  perDialTimeout?: Input<number>;
}

/** How to reach the API of a cluster or of one standalone server. */
export interface ClusterConnectionArgs {
  /** Hosts of the cluster, in the order in which they are tried. When one is down, the next is used. */
  endpoints: Input<Input<ConnectionArgs>[]>;
  /**
   * Identity of the cluster: the SHA-256 of its certificate, `certificate_fingerprint` in `lxc info`. A host that does not
   * present it is skipped with a warning. `LxdCluster.connection` contains it, and each `LxdClusterMember` has it as an output.
   * @default the fingerprint found when the resource was created, kept in state
   */
  certificateFingerprint?: Input<string | undefined>;
}

/**
 * A cluster or one standalone server: an `LxdCluster`, an `LxdClusterMember` or an `LxdNode`, or plain connection data, such as
 * the output of another stack. A resource that is given another resource here waits for it.
 */
export type ClusterInput = Input<ClusterConnectionArgs> | { readonly asCluster: Output<ClusterConnectionArgs> };

/** A value of LXD's config. Numbers and booleans become the strings that LXD stores. */
export type ConfigValue = string | number | boolean;

/** A config map, such as `{"limits.cpu": 2}`. */
export type ConfigArgs = Record<string, Input<ConfigValue>>;

/** Devices by name, each a map of its options, such as `{root: {type: "disk", path: "/", pool: "default"}}`. */
export type DevicesArgs = Record<string, Input<ConfigArgs>>;

/** Arguments that say which guest. */
export interface InInstanceArgs {
  /** The cluster, or standalone server, that the instance belongs to. */
  cluster: ClusterInput;
  /** Name of the instance: a virtual machine with LXD's agent, or a container. It must run while something in it is changed. */
  instance: Input<string>;
  /** Project of the instance. @default "default" */
  project?: Input<string>;
}

/** Arguments that say which host. */
export interface OnHostArgs {
  /** How to reach the host by SSH. */
  connection: Input<ConnectionArgs>;
}
