/**
 * A network that LXD manages on all members of a cluster.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/networks/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { type Config, isServerMade } from "../lxd/config";
import { networkNameSchema, projectSchema } from "../lxd/names";
import { nameOf } from "../lxd/storage-and-networks/member-objects";
import { faultsOfType, NETWORK_TYPES, NETWORKS, type NetworkType, network } from "../lxd/storage-and-networks/networks";
import { mayBeSecret } from "../support/secrets";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { explainNetworkFailure } from "./lxd-network-failure";
import { type MemberObjectOutputs, memberObjectInputs, memberObjectLifecycle } from "./member-object";

/** Inputs of {@link LxdNetwork}. @internal */
export const networkSchema = z.strictObject({
  ...memberObjectInputs(NETWORKS),
  name: networkNameSchema,
  project: projectSchema,
  type: z.enum(NETWORK_TYPES, `must be one of ${NETWORK_TYPES.join(", ")}`).default("bridge"),
});

/** Arguments of {@link LxdNetwork}. */
export interface LxdNetworkArgs {
  /** The cluster, or standalone server, that the network belongs to. */
  cluster: ClusterInput;
  /** Name of the network, and of a bridge on each host: 2 to 15 characters. Another name replaces the network. */
  name: Input<string>;
  /**
   * Type of the network. Another type replaces it.
   * - `bridge`: each member has a bridge of its own, with the same addresses and no connection between the members.
   * - `physical`, `macvlan`, `sriov`: on an interface of each host, `parent` in `config` or `memberConfig`.
   * - `ovn`: spans all members; the hosts need OVN, and `config` a `network` for the uplink.
   * @default "bridge"
   */
  type?: Input<"bridge" | "physical" | "macvlan" | "sriov" | "ovn">;
  /** Project of the network. @default "default" */
  project?: Input<string>;
  /** Purpose of the network. @default "" */
  description?: Input<string>;
  /**
   * Config of the network, such as `{"ipv4.address": "10.10.10.1/24", "ipv4.nat": true}`. For a key that is not given or is
   * `auto`, LXD chooses a value once; `effectiveConfig` contains it. Member-specific keys given here apply to every member:
   * `parent`, `bridge.external_interfaces`, `bgp.ipv4.nexthop`, `bgp.ipv6.nexthop`. Keys that are not given are neither changed nor shown
   * as drift. A key that is removed from here is unset, except a member-specific one.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /** Config that differs on a member, by the member's name. @default {} */
  memberConfig?: Input<Record<string, Input<ConfigArgs>>>;
  /** Take over a network of that name and type that others made in LXD. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 300 for create and update, 120 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof networkSchema>;

type Outputs = MemberObjectOutputs & { effectiveConfig: Config };

/** See {@link LxdNetwork}. Ignores whether a bridge is up: a bridge that no instance uses is down. @internal */
export const networkLifecycle = memberObjectLifecycle<Inputs, Outputs>({
  kind: "LxdNetwork",
  // Version 1 has bridges, and does not say so.
  schemaVersion: 2,
  upgrade: (state) => ({ type: "bridge", ...state }) as Inputs & Outputs,
  schema: networkSchema,
  configOf: "network",
  immutable: ["name", "project", "type"],
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },
  refOf: ({ project, name }) => network(project, name),
  identity: ({ type }) => ({ type }),

  checkTogether: faultsOfType,

  explainFailure: explainNetworkFailure,

  replacementLoss: ({ project, name }) =>
    `${nameOf(network(project, name))} will be removed with its leases, its forwards and the addresses that were chosen for it, then created again. That is refused ` +
    "while an instance or a profile uses it",

  // A network of a type that this library does not make shows as a difference.
  observedInputs: ({ type }) => ({ type: type as NetworkType }),
  outputsOf({ config }) {
    const shown = Object.entries(config ?? {}).filter(([key, value]) => !isServerMade(key) && !mayBeSecret(key, value));
    return { effectiveConfig: Object.fromEntries(shown) };
  },
});

/**
 * A network that LXD manages on all members of a cluster, or on one standalone server.
 *
 * @example
 * ```typescript
 * new LxdNetwork("lxdbr0", {
 *   cluster,
 *   name: "lxdbr0",
 *   config: { "ipv4.address": "10.10.10.1/24", "ipv4.nat": true, "ipv6.address": "none" },
 * });
 * // Instances on the LAN, without a bridge on the hosts.
 * new LxdNetwork("lan", {
 *   cluster,
 *   name: "lan",
 *   type: "macvlan",
 *   config: { parent: "eno1" },
 *   memberConfig: { bcn1: { parent: "enp3s0" } },
 * });
 * ```
 */
export class LxdNetwork extends LxdResource {
  /** Name of the network. */
  declare readonly name: Output<string>;
  /** Project of the network. */
  declare readonly project: Output<string>;
  /** Type of the network. */
  declare readonly type: Output<"bridge" | "physical" | "macvlan" | "sriov" | "ovn">;
  /** Purpose of the network. */
  declare readonly description: Output<string>;
  /** Config, limited to the keys that were given. */
  declare readonly config: Output<Record<string, string>>;
  /** Config that differs on a member, by the member's name. */
  declare readonly memberConfig: Output<Record<string, Record<string, string>>>;
  /**
   * LXD's status of the network: `Created`, or `Pending` or `Errored` when it is not finished. It does not say whether the network is up: a
   * bridge that no instance uses is down, which is normal.
   */
  declare readonly status: Output<string>;
  /** Status of the network on each member; the member's own status when the member does not answer. */
  declare readonly memberStatus: Output<Record<string, string>>;
  /** All effective config with LXD's choices, without possible secrets such as passwords and `user.` keys. */
  declare readonly effectiveConfig: Output<Record<string, string>>;

  constructor(name: string, args: LxdNetworkArgs, opts?: CustomResourceOptions) {
    super("LxdNetwork", name, { ...args }, ["status", "memberStatus", "effectiveConfig"], opts);
  }
}
