/**
 * A network forward: an address outside a network whose traffic LXD sends to addresses in the network.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/network_forwards/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output, Unwrap } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { getServers } from "../lxd/cluster/servers";
import { forState, marked, sameConfig, serverMadeIn, userConfigSchema } from "../lxd/config";
import { sameAddresses } from "../lxd/meaning";
import { memberNameSchema, networkNameSchema, projectSchema } from "../lxd/names";
import {
  faultsOfPorts,
  forwardAddressSchema,
  forwardPortSchema,
  mergedPorts,
  observedPorts,
  samePorts,
} from "../lxd/storage-and-networks/forward-ports";
import { findManaged, nameOf as nameOfObject } from "../lxd/storage-and-networks/member-objects";
import {
  createNetworkForward,
  deleteNetworkForward,
  type ForwardRef,
  type FoundNetworkForward,
  findNetworkForward,
  findNetworkForwardShared,
  replaceNetworkForward,
} from "../lxd/storage-and-networks/network-forwards";
import { network as networkRef } from "../lxd/storage-and-networks/networks";
import { RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const networkForwardSchema = z.strictObject({
  ...inCluster,
  network: networkNameSchema,
  project: projectSchema,
  listenAddress: forwardAddressSchema,
  target: memberNameSchema.optional(),
  description: z.string().default(""),
  config: userConfigSchema("target_address").default({}),
  ports: z.array(forwardPortSchema).default([]),
  adopt: z.boolean().default(false),
});

/** Ports of a forward that have a target of their own. */
export interface NetworkForwardPortArgs {
  /** Protocol. */
  protocol: Input<"tcp" | "udp">;
  /** Ports and ranges of ports, separated by commas: `80,443,8000-8099`. Each port of a protocol has one place in a forward. */
  listenPort: Input<string | number>;
  /** One port for all of `listenPort`, or as many as `listenPort` has, in the same order. @default the ports of `listenPort` */
  targetPort?: Input<string | number>;
  /** Address in the network, of the same family as `listenAddress`. */
  targetAddress: Input<string>;
  /** Purpose of the ports. */
  description?: Input<string>;
}

/** Arguments of {@link LxdNetworkForward}. */
export interface LxdNetworkForwardArgs {
  /** The cluster, or standalone server, that the network belongs to. */
  cluster: ClusterInput;
  /** Name of the network. Another network replaces the forward. */
  network: Input<string>;
  /** Project of the network. @default "default" */
  project?: Input<string>;
  /**
   * IPv4 or IPv6 address whose traffic is forwarded. LXD gives it to no interface: the network outside must send its traffic to the host.
   * Another address replaces the forward.
   */
  listenAddress: Input<string>;
  /**
   * Member that forwards. Required for a bridge of a cluster, because each member has its own bridge; another member may have a forward
   * with the same address. Not possible on a standalone server. Another member replaces the forward.
   */
  target?: Input<string>;
  /** Purpose of the forward. @default "" */
  description?: Input<string>;
  /**
   * `target_address`, which gets all traffic that `ports` do not have, and keys that begin with `user.`. Keys that are not given are
   * removed. @default {}
   */
  config?: Input<ConfigArgs>;
  /** Ports with targets of their own. Their order does not matter. @default [] */
  ports?: Input<Input<NetworkForwardPortArgs>[]>;
  /** Take over a forward of that address that others made. It is removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for every call */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof networkForwardSchema>;

/** See {@link LxdNetworkForward}. @internal */
export const networkForwardLifecycle = markedObjectLifecycle<Inputs, object, FoundNetworkForward>({
  kind: "LxdNetworkForward",
  schemaVersion: 1,
  schema: networkForwardSchema,
  immutable: ["network", "project", "listenAddress", "target"],
  timeouts: { create: 60, read: 60, update: 60, delete: 60 },
  checkTogether: ({ listenAddress, config, ports }) =>
    faultsOfPorts({ listenAddress, target: config["target_address"] || undefined }, ports),
  sameBy: { listenAddress: sameAddresses, config: sameConfig, ports: samePorts },
  replacementLoss: (state) => `${nameOf(state)} will be removed, then created again. Nothing is forwarded meanwhile`,

  nameOf,
  idOf: ({ project, network, listenAddress, target }) =>
    [project, network, listenAddress, ...(target === undefined ? [] : [target])].join("/"),
  find: findNetworkForward,
  findShared: findNetworkForwardShared,
  describe: ({ config, ports }) => `${ports.length} entries in ports, target_address ${config?.["target_address"] ?? "none"}`,
  refuseOther(lxd, { location }, inputs) {
    if (inputs.target === undefined && isMember(location)) {
      throw new RefusedError(
        `${nameOf(inputs)} exists on ${lxd.host} for member ${location}. Set target: "${location}" to mean this one`,
      );
    }
  },
  observe: (_lxd, { description, config, ports }, state) =>
    Promise.resolve({
      inputs: { description, config: forState(state.config, config ?? {}), ports: observedPorts(state.ports, ports) },
      outputs: {},
    }),

  async save(context, lxd, inputs, found) {
    const { description, config, ports } = inputs;
    if (found === undefined) {
      await refuseWrongPlace(lxd, inputs);
      const body = { description, config: marked(config, context.mark), ports: mergedPorts(ports, []) };
      await createNetworkForward(lxd, inputs, body);
      return {};
    }
    await replaceNetworkForward(lxd, placeOf(inputs, found), found, (live) => ({
      description,
      config: { ...serverMadeIn(live.config), ...marked(config, context.mark) },
      ports: mergedPorts(ports, live.ports),
    }));
    return {};
  },

  writeMark: (lxd, state, found, mark) =>
    replaceNetworkForward(lxd, placeOf(state, found), found, ({ description, config, ports }) => ({
      ...{ description, ports },
      config: marked(config ?? {}, mark),
    })),

  remove: (_context, lxd, state, found) => deleteNetworkForward(lxd, placeOf(state, found)),
});

function nameOf({ project, network, listenAddress, target }: ForwardRef): string {
  const of = `network "${network}"${project === "default" ? "" : ` of project "${project}"`}`;
  return `Forward ${listenAddress} of ${of}${target === undefined ? "" : ` on ${target}`}`;
}

function isMember(location: string): boolean {
  return location !== "" && location !== "none";
}

/** A server that was in no cluster when the forward was made may be a member by now, and others then change nothing of its bridge. */
function placeOf(ref: ForwardRef, { value: { location } }: FoundNetworkForward): ForwardRef {
  return { ...ref, target: isMember(location) ? location : ref.target };
}

/**
 * Checks that the network exists, and that it takes the target.
 * @throws RefusedError when it does not.
 */
async function refuseWrongPlace(lxd: LxdClient, inputs: Inputs): Promise<void> {
  const { project, network, target } = inputs;
  const ref = networkRef(project, network);
  const [found, { clustered, members }] = await Promise.all([findManaged(lxd, ref), getServers(lxd)]);
  const names = members.map(({ server_name }) => server_name);
  const reason = (): string | undefined => {
    if (found === undefined) {
      return `${nameOfObject(ref)} does not exist on ${lxd.host}. Create it first, and give its name as an output, so that the forward waits for it`;
    }
    if (found.value.type === "bridge" && clustered) {
      const isMember = target !== undefined && names.includes(target);
      return isMember ? undefined : `each member has its own bridge. Set target to one of ${names.join(", ")}`;
    }
    if (target === undefined) {
      return undefined;
    }
    return clustered
      ? `a network of type ${found.value.type} has its forwards on all members. Leave out target`
      : `${lxd.host} is in no cluster. Leave out target`;
  };
  const why = reason();
  if (why !== undefined) {
    throw new RefusedError(`${nameOf(inputs)} cannot be created: ${why}`);
  }
}

/**
 * A forward of a network: traffic to an address outside reaches instances inside.
 *
 * @example
 * ```typescript
 * const shop = new LxdNetwork("shopbr0", {
 *   cluster,
 *   name: "shopbr0",
 *   config: { "ipv4.address": "10.30.0.1/24", "ipv4.nat": true, "ipv6.address": "none" },
 * });
 * new LxdNetworkForward("shop", {
 *   cluster,
 *   network: shop.name,
 *   target: "bcn2",
 *   listenAddress: "192.168.1.200",
 *   ports: [{ protocol: "tcp", listenPort: "80,443", targetAddress: "10.30.0.10" }],
 * });
 * ```
 */
export class LxdNetworkForward extends LxdResource {
  /** Name of the network. */
  declare readonly network: Output<string>;
  /** Project of the network. */
  declare readonly project: Output<string>;
  /** Address whose traffic is forwarded. */
  declare readonly listenAddress: Output<string>;
  /** Member that forwards. */
  declare readonly target: Output<string | undefined>;
  /** Purpose of the forward. */
  declare readonly description: Output<string>;
  /** Config, without what this package adds. */
  declare readonly config: Output<Record<string, string>>;
  /** Ports with targets of their own. */
  declare readonly ports: Output<Unwrap<NetworkForwardPortArgs>[]>;

  constructor(name: string, args: LxdNetworkForwardArgs, opts?: CustomResourceOptions) {
    super("LxdNetworkForward", name, { ...args }, [], opts);
  }
}
