/** What an adoption has found. */
import type { ServerNames } from "../../provider/lxd/client/endpoint";
import type { HostArgs } from "../arguments";

/** Kinds of resources, in the order in which a program has them. */
export const KINDS = [
  "LxdNode",
  "LxdClusterMember",
  "LxdClusterGroup",
  "LxdServerConfig",
  "LxdStoragePool",
  "LxdProject",
  "LxdTrustCertificate",
  "LxdStorageVolume",
  "LxdNetworkAcl",
  "LxdNetwork",
  "LxdNetworkForward",
  "LxdImage",
  "LxdProfile",
  "LxdVm",
] as const;

/** See {@link KINDS}. */
export type Kind = (typeof KINDS)[number];

/** An object and the arguments that describe its current state. */
export interface Taken {
  readonly kind: Kind;
  /** Name of the object in LXD; for an image, an alias. */
  readonly name: string;
  /** Project of the object; "default" for an object without one. */
  readonly project: string;
  /** Arguments without `cluster` and `connection`. */
  readonly args: Readonly<Record<string, unknown>>;
}

/** The contents of a cluster. */
export interface ClusterContents {
  readonly hosts: readonly { readonly name: string; readonly args: HostArgs }[];
  /** Names of the server, LXD or Incus. */
  readonly names: ServerNames;
  readonly taken: readonly Taken[];
  /** Objects that are not adopted, one sentence each. */
  readonly leftOut: readonly string[];
  /** Returns the project whose profiles, networks or images a project uses. */
  holderOf(project: string, feature: Feature): string;
}

/** What a project may have of its own. */
export type Feature = "profiles" | "networks" | "images" | "storage.volumes";
