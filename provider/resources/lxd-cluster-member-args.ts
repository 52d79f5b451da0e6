/** Arguments of a host's membership in a cluster. */
import type { Input } from "@pulumi/pulumi";
import * as z from "zod";
import { connectionsSchema, onHost } from "../engine/connection-inputs";
import type { TimeoutArgs } from "../engine/resource";
import { clusterConnectionSchema, fingerprintSchema } from "../lxd/client/cluster-connection";
import { EVACUATION_MODES } from "../lxd/cluster/departures";
import { memberConfigSchema } from "../lxd/cluster/member-config";
import { faultOfRole, MANUAL_ROLES } from "../lxd/cluster/roles";
import { configSchema } from "../lxd/config";
import { memberAddressSchema, memberNameSchema } from "../lxd/names";
import type { ClusterInput, ConfigArgs, ConnectionArgs } from "./common-args";

/** Inputs of {@link LxdClusterMember}. @internal */
export const clusterMemberSchema = z.strictObject({
  ...onHost,
  name: memberNameSchema,
  address: memberAddressSchema,
  cluster: clusterConnectionSchema.optional(),
  peers: connectionsSchema.default([]),
  certificateFingerprint: fingerprintSchema.optional(),
  trustPassword: z.string().min(1).optional(),
  memberConfig: memberConfigSchema.default({}),
  failureDomain: z.string().min(1).default("default"),
  description: z.string().optional(),
  config: configSchema.default({}),
  manualRoles: z.array(z.enum(MANUAL_ROLES, { error: ({ input }) => faultOfRole(input) })).optional(),
  evacuated: z.boolean().optional(),
  leaving: z.enum(["refuse", ...EVACUATION_MODES]).optional(),
  removal: z.enum(["leave", "force"]).optional(),
  adopt: z.boolean().default(false),
});

/**
 * A member's own values for the member-specific keys of the cluster's pools and networks. An empty value is the driver's default.
 */
export interface MemberConfigArgs {
  /** Config by name of the pool, such as `{ default: { source: "/dev/nvme1n1" } }`. @default {} */
  pools?: Input<Record<string, Input<ConfigArgs>>>;
  /** Config by name of the network, such as `{ uplink: { parent: "eth1" } }`. @default {} */
  networks?: Input<Record<string, Input<ConfigArgs>>>;
}

/** Arguments of {@link LxdClusterMember}. */
export interface LxdClusterMemberArgs {
  /** How to reach the host that becomes a member. */
  connection: Input<ConnectionArgs>;
  /** Name of the member. Another name replaces the member. */
  name: Input<string>;
  /**
   * Address for the other members: an IP address or DNS name, with a port unless it is 8443 (`fd00::2`, `[fd00::2]:8444`). No wildcard.
   * It may be on another network than the host's `core.https_address`, at which clients reach it. Another address replaces the member.
   */
  address: Input<string>;
  /** The cluster to join, by members that are already in it. @default none: the host becomes the first member of a new cluster */
  cluster?: ClusterInput;
  /**
   * For the first member: the hosts of the other members. If the first member is no longer in its cluster, it finds the cluster
   * through them and joins it instead of bootstrapping a second one. Without state, it bootstraps only when all of them answer
   * and none is in a cluster of this stack; they need no LXD for that. It leaves the cluster through one of them.
   * @default []
   */
  peers?: Input<Input<ConnectionArgs>[]>;
  /**
   * For the first member: the identity of its cluster, the SHA-256 of the cluster's certificate. State keeps the fingerprint
   * found when the cluster is made; give it to confirm a renewed certificate. For other members it is part of `cluster`.
   * @default the fingerprint in state
   */
  certificateFingerprint?: Input<string>;
  /**
   * The cluster's trust password (`core.trust_password`), by which the host joins. The cluster's certificate is read over SSH. LXD before 6.1 has
   * such a password, Incus has none. State keeps it as a secret. It is used only when the host joins.
   * @default none: the host joins by a token that is made for it, used once, and never stored
   */
  trustPassword?: Input<string>;
  /**
   * This member's values for member-specific keys of the cluster's pools and networks, used when the host joins. A value that is
   * not given is derived from an existing member. A value that only a person can know, such as the disk to use, must be given:
   * without it the join is refused.
   * @default {}
   */
  memberConfig?: Input<MemberConfigArgs>;
  /** Failure domain of the member: members of one domain are expected to fail together. @default "default" */
  failureDomain?: Input<string>;
  /** Purpose of the member. @default what the cluster has */
  description?: Input<string>;
  /** The member's own config, such as `scheduler.instance`. @default {} */
  config?: Input<ConfigArgs>;
  /**
   * Roles that a person assigns, all of them: `event-hub` relays events, `ovn-chassis` takes OVN's uplink traffic, `control-plane` (LXD from 6.8 on)
   * may vote in the database, `database-client` (Incus after 6.0) never does. The server assigns the others, such as `database-leader`: see `roles`.
   * @default what the cluster has
   */
  manualRoles?: Input<Input<"event-hub" | "ovn-chassis" | "control-plane" | "database-client">[]>;
  /**
   * Whether the member is evacuated: its instances are moved to other members, or stopped where they cannot be moved, and none is started
   * there. `false`, or taking `true` back, restores it: the instances come back. A preview says what becomes of them. `leaving` says how they
   * leave.
   * @default not managed: an evacuation by hand is shown as `status`, and stays
   */
  evacuated?: Input<boolean>;
  /**
   * What becomes of the member's instances when it is removed from the cluster. `refuse` does not remove it while it has any. All others evacuate
   * it first, and refuse before anything is moved if something would stay on it: `auto` does with each instance what its key `cluster.evacuate`
   * says, `migrate` moves all of them, stopped meanwhile, `live-migrate` moves them while they run, and `stop` stops them, which is only for
   * `evacuated`. Custom volumes are not moved. A server without the API extension `clustering_evacuation_mode` evacuates as `auto`. For `evacuated`,
   * `refuse` is `auto`. A removal uses the value of the last `pulumi up`.
   * @default "refuse"
   */
  leaving?: Input<"refuse" | "auto" | "migrate" | "live-migrate" | "stop">;
  /**
   * `force` removes a member without its host, together with its instances and volumes, which are lost: only while the cluster reports the member
   * as offline and it does not answer. A warning names what is lost, and the host is not touched. A member that answers leaves as always. A removal
   * uses the value of the last `pulumi up`, so apply the change first, which needs no answer of the member: `pulumi up --target URN`.
   * @default "leave"
   */
  removal?: Input<"leave" | "force">;
  /**
   * Take over a membership that belongs to another stack. A membership without a mark does not need this: the host's LxdNode
   * decides whether the host may be managed.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for read, 600 for all others */
  timeouts?: Input<TimeoutArgs>;
}
