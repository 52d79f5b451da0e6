import type { Input } from "@pulumi/pulumi";

/** Image of an instance, by alias or fingerprint: one of the cluster's own or one of an image server. */
export interface ImageSourceArgs {
  /** Alias of the image, such as `"24.04"`. */
  alias?: Input<string>;
  /** SHA-256 fingerprint of the image. */
  fingerprint?: Input<string>;
  /**
   * URL of the image server from which LXD downloads the image, such as `https://cloud-images.ubuntu.com/releases/`.
   * @default the cluster's own images
   */
  server?: Input<string>;
  /**
   * Protocol of the image server. `"lxd"` and `"incus"` are the API of another server, as the server that downloads the image calls it.
   * @default "simplestreams"
   */
  protocol?: Input<"simplestreams" | "lxd" | "incus">;
}

/** Values of the root disk that differ from the profiles. */
export interface RootDiskArgs {
  /**
   * Size, such as `"20GiB"`. The disk of a virtual machine can only grow, and grows when the virtual machine starts.
   * @default the profiles' size
   */
  size?: Input<string>;
  /** Storage pool. It cannot change once the instance exists. @default the profiles' pool */
  pool?: Input<string>;
}

/**
 * How a member is chosen for a new instance. Members that are not Online or take no instances (`scheduler.instance`), and those
 * without a storage pool or network of the instance, room for its root disk, or the image's architecture, are left out. Among equal
 * members, the first by name is chosen. Labels are in the config key `user.placement` of an instance or its profiles, separated by
 * commas, and count within a project.
 */
export interface PlacementArgs {
  /**
   * What decides: `roundRobin` takes the member with the fewest instances of the same project and labels; `leastInstances` that with the
   * fewest instances of all projects; `leastMemory` and `leastCpu` that with the smallest part of its memory or CPUs in use. The last two
   * need a server that reports it (API extension `cluster_member_state`).
   * @default "leastInstances"
   */
  policy?: Input<"roundRobin" | "leastInstances" | "leastMemory" | "leastCpu">;
  /**
   * Whether a failure domain with fewer instances of the same project and labels is preferred, before the policy decides within it.
   * @default false
   */
  spreadFailureDomains?: Input<boolean>;
  /**
   * Label: only a member with an instance of that label is taken. The first instance of a label that it has itself can be on any member.
   * @default none
   */
  affinity?: Input<string>;
  /** Label: no member with an instance of that label is taken. @default none */
  antiAffinity?: Input<string>;
}

/** Texts for cloud-init. They may be secrets. */
export interface CloudInitArgs {
  /** User data. Text that begins with `#cloud-config` must be YAML. */
  userData?: Input<string>;
  /** Vendor data: defaults that user data overrides. */
  vendorData?: Input<string>;
  /** Network configuration in YAML, version 1 or 2. */
  networkConfig?: Input<string>;
}

/**
 * A condition to wait for: the instance runs; LXD's agent answers in it (a container needs none); the device `nic` has an address
 * (found by its MAC address, whatever the guest calls the interface); cloud-init has finished; a command succeeds in the
 * instance.
 */
export type WaitConditionArgs =
  | { for: "running" | "agent" | "cloud-init" }
  | { for: "ipv4" | "ipv6"; nic: Input<string> }
  | { for: "command"; command: Input<Input<string>[]> };

/** Addresses of one network device. */
export interface NicAddresses {
  /** Global IPv4 addresses. */
  readonly ipv4: string[];
  /** Global IPv6 addresses. */
  readonly ipv6: string[];
}
