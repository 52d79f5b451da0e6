import type { Input } from "@pulumi/pulumi";

/** What an instance is made from: an alias or a fingerprint, in the cluster or of an image server. */
export interface ImageSourceArgs {
  /** Alias, such as `"24.04"`. */
  alias?: Input<string>;
  /** SHA-256 fingerprint. */
  fingerprint?: Input<string>;
  /** Image server from which LXD downloads it, such as `https://cloud-images.ubuntu.com/releases/`. @default the cluster's own images */
  server?: Input<string>;
  /** What the server speaks. @default "simplestreams" */
  protocol?: Input<"simplestreams" | "lxd">;
}

/** What is different about the root disk than in the profiles. */
export interface RootDiskArgs {
  /** Size such as `"20GiB"`. A virtual machine's can only grow, and does so when it starts. */
  size?: Input<string>;
  /** Storage pool, fixed once the instance is made. */
  pool?: Input<string>;
}

/** Texts for cloud-init; they may be secrets. */
export interface CloudInitArgs {
  /** User data. One that begins with `#cloud-config` must be YAML. */
  userData?: Input<string>;
  /** Vendor data: defaults that user data overrides. */
  vendorData?: Input<string>;
  /** Network configuration in YAML, version 1 or 2. */
  networkConfig?: Input<string>;
}

/**
 * Something to wait for: that it runs; that LXD's agent in it answers (a container needs none); an address on the device `nic`
 * (by its MAC address, whatever the guest calls it); the end of cloud-init; a command that succeeds in it.
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
