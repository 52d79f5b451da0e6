/**
 * An ACL: rules for the traffic of the networks that name it in `security.acls`.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/network_acls/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output, Unwrap } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { forState, marked, sameConfig, serverMadeIn, userConfigSchema } from "../lxd/config";
import { describeUser } from "../lxd/in-use";
import { aclNameSchema, projectSchema } from "../lxd/names";
import { observedRules, rulesSchema, sameRules, toLive } from "../lxd/storage-and-networks/acl-rules";
import {
  createNetworkAcl,
  deleteNetworkAcl,
  type FoundNetworkAcl,
  findNetworkAcl,
  findNetworkAclShared,
  replaceNetworkAcl,
} from "../lxd/storage-and-networks/network-acls";
import { RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const networkAclSchema = z.strictObject({
  ...inCluster,
  name: aclNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  ingress: rulesSchema("ingress").default([]),
  egress: rulesSchema("egress").default([]),
  config: userConfigSchema().default({}),
  adopt: z.boolean().default(false),
});

/** A rule of an ACL. A field that is not given matches everything. */
export interface NetworkAclRuleArgs {
  /**
   * `allow`, `reject` (the sender is told) or `drop`. All `drop` rules apply before all `reject` rules, and these before all `allow`
   * rules. Incus also has `allow-stateless` for OVN networks, which tracks no connections.
   */
  action: Input<"allow" | "allow-stateless" | "drop" | "reject">;
  /**
   * Addresses (`10.0.0.9`), networks (`10.0.0.0/8`) and ranges (`10.0.0.1-10.0.0.9`), separated by commas. In an ingress rule also names
   * of ACLs, and the names with an at sign that LXD has for OVN networks.
   */
  source?: Input<string>;
  /** Like `source`. Names are possible in an egress rule. */
  destination?: Input<string>;
  /** Protocol. @default any protocol */
  protocol?: Input<"tcp" | "udp" | "icmp4" | "icmp6">;
  /** Ports and ranges of ports, separated by commas: `80,443,8000-8099`. Only for `tcp` and `udp`. */
  sourcePort?: Input<string | number>;
  /** Ports and ranges of ports, separated by commas: `80,443,8000-8099`. Only for `tcp` and `udp`. */
  destinationPort?: Input<string | number>;
  /** Type of an ICMP message: 0 to 255. Only for `icmp4` and `icmp6`. */
  icmpType?: Input<string | number>;
  /** Code of an ICMP message: 0 to 255. Only for `icmp4` and `icmp6`. */
  icmpCode?: Input<string | number>;
  /** Purpose of the rule. */
  description?: Input<string>;
  /** `logged` also writes matching packets to the log of the host. @default "enabled" */
  state?: Input<"enabled" | "disabled" | "logged">;
}

/** Arguments of {@link LxdNetworkAcl}. */
export interface LxdNetworkAclArgs {
  /** The cluster, or standalone server, that the ACL belongs to. */
  cluster: ClusterInput;
  /** Name of the ACL: letters, digits and dashes. Another name replaces the ACL, which LXD refuses while a network uses it. */
  name: Input<string>;
  /** Project of the ACL. @default "default" */
  project?: Input<string>;
  /** Purpose of the ACL. @default "" */
  description?: Input<string>;
  /** Rules for traffic to the instances of a network. Their order does not matter. @default [] */
  ingress?: Input<Input<NetworkAclRuleArgs>[]>;
  /** Rules for traffic from the instances of a network. Their order does not matter. @default [] */
  egress?: Input<Input<NetworkAclRuleArgs>[]>;
  /** Keys that begin with `user.`; an ACL has no others. Keys that are not given are removed. @default {} */
  config?: Input<ConfigArgs>;
  /** Take over an ACL of that name that others made. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for every call */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof networkAclSchema>;

/** See {@link LxdNetworkAcl}. @internal */
export const networkAclLifecycle = markedObjectLifecycle<Inputs, object, FoundNetworkAcl>({
  kind: "LxdNetworkAcl",
  schemaVersion: 1,
  schema: networkAclSchema,
  immutable: ["name", "project"],
  timeouts: { create: 60, read: 60, update: 60, delete: 60 },
  sameBy: { ingress: sameRules, egress: sameRules, config: sameConfig },
  replacementLoss: (state) =>
    `${nameOf(state)} will be removed, then created again. That is refused while it is in use: to rename it, add a second LxdNetworkAcl, ` +
    "change security.acls of its users, and remove the first one afterwards",

  nameOf,
  idOf: ({ project, name }) => `${project}/${name}`,
  find: (lxd, { project, name }) => findNetworkAcl(lxd, project, name),
  findShared: (lxd, { project, name }) => findNetworkAclShared(lxd, project, name),
  describe: ({ ingress, egress, used_by }) =>
    `${ingress.length} ingress and ${egress.length} egress rules; used by ${used_by.map(describeUser).join(", ") || "nothing"}`,
  observe: (_lxd, { description, ingress, egress, config }, state) =>
    Promise.resolve({
      inputs: {
        description,
        ingress: observedRules(state.ingress, ingress),
        egress: observedRules(state.egress, egress),
        config: forState(state.config, config ?? {}),
      },
      outputs: {},
    }),

  async save(context, lxd, { project, name, description, ingress, egress, config }, found) {
    const body = { description, ingress: ingress.map(toLive), egress: egress.map(toLive) };
    if (found === undefined) {
      await createNetworkAcl(lxd, project, name, { ...body, config: marked(config, context.mark) });
      return {};
    }
    await replaceNetworkAcl(lxd, project, found, (live) => ({
      ...body,
      config: { ...serverMadeIn(live.config), ...marked(config, context.mark) },
    }));
    return {};
  },

  writeMark: (lxd, { project }, found, mark) =>
    replaceNetworkAcl(lxd, project, found, ({ description, ingress, egress, config }) => ({
      ...{ description, ingress, egress },
      config: marked(config ?? {}, mark),
    })),

  async remove(_context, lxd, state, { value }) {
    if (value.used_by.length > 0) {
      throw new RefusedError(
        `${nameOf(state)} on ${lxd.host} was not removed, because it is used by ${value.used_by.map(describeUser).join(", ")}. ` +
          "Remove it from their security.acls, or from their rules, first",
      );
    }
    await deleteNetworkAcl(lxd, state.project, state.name);
  },
});

function nameOf({ project, name }: Pick<Inputs, "project" | "name">): string {
  return `Network ACL "${name}"${project === "default" ? "" : ` of project "${project}"`}`;
}

/**
 * An ACL of a cluster. A network uses it by its own config, where several are separated by commas. Traffic of that network that no rule
 * matches is rejected, in both directions, unless the network has `security.acls.default.ingress.action` and
 * `security.acls.default.egress.action`.
 *
 * @example
 * ```typescript
 * const web = new LxdNetworkAcl("web", {
 *   cluster,
 *   name: "web",
 *   ingress: [{ action: "allow", protocol: "tcp", destinationPort: "80,443" }],
 *   egress: [{ action: "allow" }],
 * });
 * new LxdNetwork("webbr0", {
 *   cluster,
 *   name: "webbr0",
 *   config: { "ipv4.address": "10.20.0.1/24", "ipv4.nat": true, "ipv6.address": "none", "security.acls": web.name },
 * });
 * ```
 */
export class LxdNetworkAcl extends LxdResource {
  /** Name of the ACL. */
  declare readonly name: Output<string>;
  /** Project of the ACL. */
  declare readonly project: Output<string>;
  /** Purpose of the ACL. */
  declare readonly description: Output<string>;
  /** Rules for traffic to the instances. */
  declare readonly ingress: Output<Unwrap<NetworkAclRuleArgs>[]>;
  /** Rules for traffic from the instances. */
  declare readonly egress: Output<Unwrap<NetworkAclRuleArgs>[]>;
  /** Config, without what this package adds. */
  declare readonly config: Output<Record<string, string>>;

  constructor(name: string, args: LxdNetworkAclArgs, opts?: CustomResourceOptions) {
    super("LxdNetworkAcl", name, { ...args }, [], opts);
  }
}
