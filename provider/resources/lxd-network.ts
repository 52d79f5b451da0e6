/**
 * A bridge that LXD manages on all members of a cluster. Each member has its own: the same addresses, and no connection between
 * members.
 * @see https://documentation.ubuntu.com/lxd/latest/reference/network_bridge/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { getServers, getServersShared, type Servers } from "../lxd/cluster/servers";
import { type Config, configSchema, isServerMade, OWNER_KEY, sameConfig } from "../lxd/config";
import { memberNameSchema, networkNameSchema, projectSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import {
  changeObject,
  deleteObject,
  type Found,
  findObject,
  findObjectShared,
  type MemberObject,
  markObject,
  misplaced,
  namedKeys,
  namedMemberKeys,
  nameOf,
  refuseUnknownMembers,
  sameMemberConfig,
  statusesOf,
  viewsOf,
} from "../lxd/storage-and-networks/member-objects";
import { NETWORKS, network, networkValueFault, refuseHostInterface } from "../lxd/storage-and-networks/networks";
import { createObject, describeUnfinished, isUnfinished } from "../lxd/storage-and-networks/two-phase";
import { IncompleteError, RefusedError } from "../support/errors";
import { mayBeSecret } from "../support/secrets";
import type { ClusterInput, ConfigArgs } from "./common-args";

const networkConfigSchema = configSchema.superRefine((config, context) => {
  for (const [key, value] of Object.entries(config)) {
    const message = misplaced(NETWORKS, key, "config") ?? networkValueFault(key, value);
    if (message !== undefined) {
      context.addIssue({ code: "custom", path: [key], message });
    }
  }
});

const networkMemberConfigSchema = configSchema.superRefine((config, context) => {
  for (const key of Object.keys(config)) {
    const message = misplaced(NETWORKS, key, "memberConfig");
    if (message !== undefined) {
      context.addIssue({ code: "custom", path: [key], message });
    }
  }
});

/** Inputs of {@link LxdNetwork}. */
const networkSchema = z.strictObject({
  ...inCluster,
  name: networkNameSchema,
  project: projectSchema,
  description: z.string().default(""),
  config: networkConfigSchema.default({}),
  memberConfig: z.record(memberNameSchema, networkMemberConfigSchema).default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdNetwork}. */
export interface LxdNetworkArgs {
  /** The cluster, or standalone server, that the network belongs to. */
  cluster: ClusterInput;
  /** Name of the bridge, as each host has it: 2 to 15 characters. */
  name: Input<string>;
  /** Project of the network. @default "default" */
  project?: Input<string>;
  /** What the network is for. @default "" */
  description?: Input<string>;
  /**
   * Config of the network, such as `{"ipv4.address": "10.10.10.1/24", "ipv4.nat": true}`. What is not given, or given as `auto`, LXD
   * chooses once; `effectiveConfig` tells. Keys that are not given here are LXD's: neither changed nor shown as drift. A key that is
   * taken out is unset.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /** What each member has for itself, by its name: `bridge.external_interfaces`, `bgp.ipv4.nexthop`, `bgp.ipv6.nexthop`. @default {} */
  memberConfig?: Input<Record<string, Input<ConfigArgs>>>;
  /** Take over a bridge of that name that others made in LXD. It is then removed with this resource. @default false */
  adopt?: Input<boolean>;
  /** Seconds for each call. */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof networkSchema>;

interface Outputs {
  /** LXD's status of the network: `Created`, or `Pending` or `Errored` when it is not finished. */
  status: string;
  /** Status on each member; that of the member itself when it cannot be asked. */
  memberStatus: Record<string, string>;
  /** All config that is in effect, with what LXD chose. */
  effectiveConfig: Config;
}

type State = Inputs & Outputs;

/**
 * See {@link LxdNetwork}. Whether the bridge is up is not looked at: one that no instance uses is down, and that is no fault.
 * @internal
 */
export const networkLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdNetwork",
  schemaVersion: 1,
  schema: networkSchema,
  immutable: ["name", "project"],
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },

  sameBy: {
    // A network that is not finished has none of its config in effect.
    config: (observed, wanted, { status }) => sameConfig(observed, wanted) && status !== "Pending" && status !== "Errored",
    memberConfig: sameMemberConfig,
  },

  replacementLoss: ({ project, name }) =>
    `${nameOf(network(project, name))} will be removed, with its leases and the addresses that LXD chose for it; then it is made again. LXD ` +
    "refuses that as long as an instance or a profile uses it",

  async create(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    return withClusterLock(lxd, async () => {
      const subject = network(inputs.project, inputs.name);
      const found = await findManaged(lxd, inputs);
      if (found === undefined) {
        await refuseHostInterface(lxd, subject, await getServers(lxd));
      } else {
        if (found.value.type !== "bridge") {
          throw new RefusedError(
            `${nameOf(subject)} already exists on ${lxd.host}, of type ${found.value.type} instead of bridge. Choose another name, or remove it first`,
          );
        }
        // One that is only defined bears no owner's mark yet, and nothing is lost by finishing it.
        if (found.value.status !== "Pending") {
          claim({
            what: nameOf(subject),
            host: lxd.host,
            description: describe(found.value),
            config: found.value.config ?? {},
            urn: context.urn,
            adopt: inputs.adopt,
          });
        }
      }
      return { id: `${inputs.project}/${inputs.name}`, outputs: await ensure(context, lxd, inputs, found, []) };
    });
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const subject = network(state.project, state.name);
    const found = await findObjectShared(lxd, subject);
    if (found === undefined || !found.managed) {
      return undefined;
    }
    const servers = await getServersShared(lxd);
    const views = await viewsOf(lxd, subject, servers);
    return { inputs: fromApi(found, views, state), outputs: outputsOf(found, servers, views), mark: found.config?.[OWNER_KEY] };
  },

  async update(context, _id, state, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    return withClusterLock(lxd, async () => {
      const found = await findManaged(lxd, inputs);
      if (found === undefined) {
        throw new RefusedError(
          `${nameOf(network(inputs.project, inputs.name))} no longer exists on ${lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
        );
      }
      refuseTakenOver(nameOf(network(inputs.project, inputs.name)), lxd.host, found.value.config?.[OWNER_KEY], context);
      const dropped = Object.keys(state.config).filter((key) => !(key in inputs.config));
      return ensure(context, lxd, inputs, found, dropped);
    });
  },

  async mark(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const subject = network(state.project, state.name);
      const found = await findManaged(lxd, state);
      if (found !== undefined) {
        refuseTakenOver(nameOf(subject), lxd.host, found.value.config?.[OWNER_KEY], context);
        await markObject(lxd, subject, found, context.mark);
      }
    });
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const subject = network(state.project, state.name);
      const found = await findManaged(lxd, state);
      if (found !== undefined && !isLeftToOthers(nameOf(subject), lxd.host, found.value.config?.[OWNER_KEY], context)) {
        await deleteObject(lxd, subject);
      }
    });
  },
};

/** The network as LXD manages it; an interface of the host of that name is none. */
async function findManaged(lxd: LxdClient, { project, name }: Pick<Inputs, "project" | "name">): Promise<Found | undefined> {
  const found = await findObject(lxd, network(project, name));
  return found?.value.managed === true ? found : undefined;
}

/** Makes the network what it is to be, from whatever it is. */
async function ensure(
  context: Context,
  lxd: LxdClient,
  inputs: Inputs,
  before: Found | undefined,
  dropped: readonly string[],
): Promise<Outputs> {
  const subject = network(inputs.project, inputs.name);
  const { description, config, memberConfig } = inputs;
  const servers = await getServers(lxd);
  refuseUnknownMembers(lxd, subject, servers, memberConfig);
  if (isUnfinished(before)) {
    try {
      const creation = { subject, identity: { type: "bridge" }, description, config, memberConfig, mark: context.mark };
      await createObject(lxd, servers, creation, before, (text) => context.progress(text));
    } catch (error) {
      const left = await describeUnfinished(lxd, servers, subject, error);
      if (left === undefined) {
        throw error;
      }
      const outputs = outputsOf(left.found.value, servers, left.views);
      throw new IncompleteError(`${inputs.project}/${inputs.name}`, outputs, left.message, { cause: error });
    }
  }
  const made = await findManaged(lxd, inputs);
  if (made === undefined) {
    throw new RefusedError(`${nameOf(subject)} was removed from ${lxd.host} by someone else while it was worked on`);
  }
  await changeObject(lxd, subject, servers, made, { description, config, dropped, memberConfig, mark: context.mark });
  const after = (await findManaged(lxd, inputs)) ?? made;
  return outputsOf(after.value, servers, await viewsOf(lxd, subject, servers));
}

/** What LXD tells, in the words of the state where they mean the same. */
function fromApi(found: MemberObject, views: ReadonlyMap<string, Found>, state: State): Partial<Inputs> {
  return {
    description: found.description,
    config: namedKeys(NETWORKS, state.config, found.config ?? {}),
    memberConfig: namedMemberKeys(NETWORKS, state.memberConfig, views),
  };
}

function outputsOf(found: MemberObject, servers: Servers, views: ReadonlyMap<string, Found>): Outputs {
  const shown = Object.entries(found.config ?? {}).filter(([key, value]) => !isServerMade(key) && !mayBeSecret(key, value));
  return { status: found.status, memberStatus: statusesOf(servers, views), effectiveConfig: Object.fromEntries(shown) };
}

function describe({ config, used_by }: MemberObject): string {
  const addresses = ["ipv4.address", "ipv6.address"].map((key) => `${key} ${config?.[key] ?? "none"}`);
  return `${addresses.join(", ")}; used by ${used_by?.length ?? 0} objects`;
}

/**
 * A bridge that LXD manages on all members of a cluster, or on one standalone server.
 *
 * @example
 * ```typescript
 * new LxdNetwork("lxdbr0", {
 *   cluster,
 *   name: "lxdbr0",
 *   config: { "ipv4.address": "10.10.10.1/24", "ipv4.nat": true, "ipv6.address": "none" },
 * });
 * ```
 */
export class LxdNetwork extends LxdResource {
  /** Name, as LXD has it. */
  declare readonly name: Output<string>;
  /** Project that it is in. */
  declare readonly project: Output<string>;
  /** What it is for. */
  declare readonly description: Output<string>;
  /** Config, as far as it was given. */
  declare readonly config: Output<Record<string, string>>;
  /** What members have for themselves, as far as it was given. */
  declare readonly memberConfig: Output<Record<string, Record<string, string>>>;
  /** LXD's status of the network: `Created`, or `Pending` or `Errored` when it is not finished. */
  declare readonly status: Output<string>;
  /** Status on each member; that of the member itself when it cannot be asked. */
  declare readonly memberStatus: Output<Record<string, string>>;
  /** All config that is in effect, with what LXD chose, without what may be a secret, such as passwords and `user.` keys. */
  declare readonly effectiveConfig: Output<Record<string, string>>;

  constructor(name: string, args: LxdNetworkArgs, opts?: CustomResourceOptions) {
    super("LxdNetwork", name, { ...args }, ["status", "memberStatus", "effectiveConfig"], opts);
  }
}
