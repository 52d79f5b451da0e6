/**
 * A host's membership in a cluster: the first one bootstraps it, the others join.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_form/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { onHost } from "../engine/bookkeeping";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { askLxd, standingOf, startAnew } from "../host/half-joined";
import { noteHttpsAddress } from "../host/https-address";
import { finishReset, hasLeftoverClusterCertificate, isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { type ClusterConnection, clusterConnectionSchema } from "../lxd/client/cluster-connection";
import {
  bootstrapCluster,
  getMember,
  isNotClustered,
  joinCluster,
  listMembers,
  listMembersShared,
  type Member,
  memberConfigKeys,
  memberConfigSchema,
  mintJoinToken,
  putMember,
  removeMember,
  untilOnline,
} from "../lxd/cluster/cluster";
import { exclusively } from "../lxd/cluster/exclusive";
import { clearTraces, isRevoked } from "../lxd/cluster/half-joins";
import { explainJoinFailure } from "../lxd/cluster/join-failures";
import { howToWipe, type Meeting, refuseOtherName, refuseToJoin } from "../lxd/cluster/join-preflight";
import { workOutMemberConfig } from "../lxd/cluster/member-config";
import { type Config, configSchema, inWordsOf, isServerMade, OWNER_KEY, sameConfig } from "../lxd/config";
import { describeInventory, takeInventory } from "../lxd/inventory";
import { memberAddressSchema, memberNameSchema } from "../lxd/names";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import { getServer, serverConfig, setServerConfig } from "../lxd/server";
import { until } from "../support/deadline";
import { hasCode, IncompleteError, isNotFound, messageOf, RefusedError } from "../support/errors";
import type { ClusterConnectionArgs, ConfigArgs, ConnectionArgs } from "./common-args";
import { clean, isToBeCleaned } from "./lxd-cluster-member-leaving";

/** Inputs of {@link LxdClusterMember}. */
const clusterMemberSchema = z.strictObject({
  ...onHost,
  name: memberNameSchema,
  address: memberAddressSchema,
  cluster: clusterConnectionSchema.optional(),
  memberConfig: z.array(z.strictObject(memberConfigSchema.shape)).default([]),
  failureDomain: z.string().min(1).default("default"),
  config: configSchema.default({}),
  adopt: z.boolean().default(false),
});

/** The value that this member brings for one member-specific key of a pool or network that the cluster has. */
export interface MemberConfigArgs {
  /** What has the key. */
  entity: Input<"storage-pool" | "network">;
  /** Name of the pool or network. */
  name: Input<string>;
  /** Such as `source`, `size` or `parent`. */
  key: Input<string>;
  /** The value; empty for the driver's default. */
  value: Input<string>;
}

/** Arguments of {@link LxdClusterMember}. */
export interface LxdClusterMemberArgs {
  /** How to reach the host that becomes a member. */
  connection: Input<ConnectionArgs>;
  /** Name of the member. */
  name: Input<string>;
  /** Where the other members find it: an IP address or DNS name, with a port when it is not 8443. No wildcard. */
  address: Input<string>;
  /** The cluster to join, through members that are in it already. @default none: the host becomes the first member of a new cluster */
  cluster?: Input<ClusterConnectionArgs>;
  /**
   * This member's values for member-specific keys of the cluster's pools and networks. What is not given is worked out from a member
   * that is there already; where only a person can know, such as which disk to use, the join is refused until it is given.
   * @default []
   */
  memberConfig?: Input<Input<MemberConfigArgs>[]>;
  /** Members of one failure domain are expected to fail together. @default "default" */
  failureDomain?: Input<string>;
  /** The member's own config, such as `scheduler.instance`. @default {} */
  config?: Input<ConfigArgs>;
  /**
   * Take over a membership that belongs to another stack. One that nobody has marked as his needs no such leave: whether its host may
   * be managed is for its LxdNode to say. @default false
   */
  adopt?: Input<boolean>;
  /** Seconds for each call. */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof clusterMemberSchema>;

interface Outputs {
  status: string;
  roles: string[];
  certificateFingerprint: string;
}

type State = Inputs & Outputs;

/** See {@link LxdClusterMember}. */
export const clusterMemberLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdClusterMember",
  schemaVersion: 1,
  schema: clusterMemberSchema,
  immutable: ["name", "address"],
  lasting: { certificateFingerprint: [] },
  timeouts: { create: 600, read: 60, update: 120, delete: 600 },

  /** `memberConfig` matters at the moment of joining alone. */
  diff(state, inputs) {
    const changed: (keyof Inputs)[] = [];
    for (const key of ["name", "address", "failureDomain"] as const) {
      if (state[key] !== inputs[key]) {
        changed.push(key);
      }
    }
    if (!sameConfig(state.config, inputs.config)) {
      changed.push("config");
    }
    if (state.status === LEFT) {
      changed.push("memberConfig"); // it joins anew
    }
    return changed;
  },

  async create(context, inputs) {
    const { cluster, member } = await enter(context, inputs);
    const config = member.config ?? {};
    claim({
      what: nameOf(inputs),
      host: cluster.host,
      description: `${member.url}, ${member.status}`,
      config,
      urn: context.urn,
      adopt: inputs.adopt || config[OWNER_KEY] === undefined, // whoever joined it was let in by its node
    });
    const outputs = await outputsOf(cluster, member);
    try {
      await configure(cluster, inputs, context.urn);
    } catch (error) {
      throw new IncompleteError(
        inputs.name,
        outputs,
        `${inputs.name} is a member, but its config could not be set: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
    return { id: inputs.name, outputs };
  },

  async read(context, _id, state) {
    const cluster = await clusterOf(context, state, listMembersShared);
    const member = cluster?.members.find(({ server_name }) => server_name === state.name);
    if (cluster !== undefined && member !== undefined) {
      const outputs = await outputsOf(cluster.lxd, member);
      return { inputs: fromApi(member, state), outputs, mark: member.config?.[OWNER_KEY] };
    }
    return (await isToBeCleaned(context, state))
      ? { inputs: inputsOf(state), outputs: { ...outputsInState(state), status: LEFT, roles: [] } }
      : undefined;
  },

  sought: () => ({}),

  async update(context, _id, state, inputs) {
    if (state.status === LEFT) {
      await clean(context, state, false);
      await enter(context, inputs);
    }
    const lxd = await context.lxd(throughCluster(inputs));
    const { value: member } = await getMember(lxd, inputs.name);
    refuseTakenOver(nameOf(inputs), lxd.host, member.config?.[OWNER_KEY], context);
    await configure(lxd, inputs, context.urn);
    return outputsOf(lxd, (await getMember(lxd, inputs.name)).value);
  },

  async delete(context, _id, state) {
    const cluster = await clusterOf(context, state, listMembers);
    const member = cluster?.members.find(({ server_name }) => server_name === state.name);
    if (cluster !== undefined && member !== undefined) {
      if (isLeftToOthers(nameOf(state), cluster.lxd.host, member.config?.[OWNER_KEY], context)) {
        return;
      }
      await leave(context, cluster.lxd, member, cluster.members);
    }
    await clean(context, state, member !== undefined);
  },
};

/** Status of a host that has left its cluster, and is not cleaned yet because that was interrupted. LXD has no word for it. */
const LEFT = "Left";

/** The cluster and its members; `undefined` where LXD is in no cluster. */
async function clusterOf(
  context: Context,
  at: Inputs,
  list: (lxd: LxdClient) => Promise<Member[]>,
): Promise<{ lxd: LxdClient; members: Member[] } | undefined> {
  try {
    const lxd = await context.lxd(throughCluster(at));
    return { lxd, members: await list(lxd) };
  } catch (error) {
    // The first member is asked itself, and cannot answer while it is wiped.
    const isWiped = async (): Promise<boolean> => isResetUnfinished(await context.host(at.connection), context.deadline);
    if (isNotClustered(error) || (hasCode(error, "refused") && at.cluster === undefined && (await isWiped()))) {
      return undefined;
    }
    throw error;
  }
}

/** Makes the host a member. Already being one is done. */
async function enter(context: Context, inputs: Inputs): Promise<{ cluster: LxdClient; member: Member }> {
  await finishReset(await context.host(inputs.connection), context.deadline);
  const host = await context.lxd(inputs.connection);
  const cluster = inputs.cluster === undefined ? host : await context.lxd(inputs.cluster);
  if (inputs.cluster === undefined) {
    await bootstrap(context, host, inputs);
  } else {
    await join(context, host, cluster, inputs);
  }
  return { cluster, member: await untilOnline(cluster, inputs.name, context.deadline) };
}

function nameOf({ name }: Pick<Inputs, "name">): string {
  return `Member "${name}"`;
}

/** Makes the host the first member. Already being it is done. */
async function bootstrap(context: Context, lxd: LxdClient, inputs: Inputs): Promise<void> {
  const server = await getServer(lxd);
  if (server.environment.server_clustered) {
    refuseOtherName(lxd, server, inputs.name);
    return;
  }
  const ssh = await context.host(inputs.connection);
  if (await hasLeftoverClusterCertificate(ssh, lxd.endpoint.socket.packaging, context.deadline)) {
    throw new RefusedError(
      `${ssh.name} keeps the certificate of an interrupted join, which makes LXD refuse to bootstrap a cluster. ` +
        `Start from an empty LXD: ${howToWipe(["cluster"])}`,
    );
  }
  context.progress(`bootstrapping the cluster on ${lxd.host}`);
  await noteHttpsAddress(ssh, server, inputs.address, context.deadline);
  const own = serverConfig(server)["core.https_address"] ?? "";
  await setServerConfig(lxd, { "core.https_address": own || inputs.address, "cluster.https_address": inputs.address });
  await bootstrapCluster(lxd, inputs.name);
}

/** Makes the host a further member. Already being one is done; what an interrupted attempt left is cleared away. */
async function join(context: Context, host: LxdClient, cluster: LxdClient, inputs: Inputs): Promise<void> {
  const { name, address } = inputs;
  const { deadline } = context;
  const ssh = await context.host(inputs.connection);
  const [asked, target] = [await askLxd(host, deadline), await getServer(cluster)];
  const { standing, holds } = await standingOf({ host, ssh, joining: asked, cluster, target, deadline }, name, address);
  if (asked !== undefined && standing === "member") {
    refuseOtherName(host, asked, name);
    return;
  }
  if (standing === "stranded") {
    context.warn(
      `LXD on ${host.host} was left half joined, or its member was removed by force. The cluster does not know it and nothing of value is on ` +
        `it, so it is wiped and joins anew`,
    );
    await startAnew(host, ssh, asked, deadline);
  }
  const meeting: Meeting = { host, joining: await getServer(host), cluster, target };
  refuseToJoin(meeting, holds, name, address);
  await noteHttpsAddress(ssh, meeting.joining, address, deadline);
  const { certificate, certificate_fingerprint, server_name: inviting } = target.environment;
  await exclusively(cluster, async () => {
    for (const cleared of await clearTraces(meeting, name, address, deadline)) {
      context.warn(cleared);
    }
    const keys = await memberConfigKeys(cluster);
    const memberConfig = await workOutMemberConfig(cluster, keys, inputs.memberConfig, name, inviting);
    context.progress(`joining ${name} to the cluster of ${inviting}`);
    const token = await mintJoinToken(cluster, name);
    try {
      if (token.fingerprint !== certificate_fingerprint) {
        throw new RefusedError(`the join token is for another certificate than the one that ${cluster.host} presents`);
      }
      await joinCluster(host, { name, address, token, certificate, memberConfig });
    } catch (error) {
      if (isNotFound(error)) {
        return; // LXD has forgotten the finished operation; whether the member is there is seen next
      }
      throw explainJoinFailure(error, name, host.host, await isRevoked(cluster, token));
    }
  });
}

/** Writes the member's failure domain and config, when they are not so already. */
async function configure(lxd: LxdClient, inputs: Inputs, urn: string): Promise<void> {
  const { value: member, etag } = await getMember(lxd, inputs.name);
  const live = member.config ?? {};
  const kept = Object.fromEntries(Object.entries(live).filter(([key]) => isServerMade(key)));
  const config: Config = { ...kept, ...inputs.config, ...(urn === "" ? {} : { [OWNER_KEY]: urn }) };
  if (member.failure_domain !== inputs.failureDomain || !sameConfig(live, config) || live[OWNER_KEY] !== config[OWNER_KEY]) {
    await putMember(lxd, { ...member, failure_domain: inputs.failureDomain, config }, etag);
  }
}

/** Takes an empty member out of its cluster. The last one is only checked: it ceases to be one when its host is cleaned. */
async function leave(context: Context, lxd: LxdClient, member: Member, members: readonly Member[]): Promise<void> {
  const name = member.server_name;
  const { instances, "custom-volumes": volumes } = await takeInventory(lxd, name);
  if (instances !== undefined || volumes !== undefined) {
    throw new RefusedError(
      `Member ${name} is not empty: ${describeInventory({ ...(instances && { instances }), ...(volumes && { "custom-volumes": volumes }) })}. ` +
        `Move them away (lxc cluster evacuate ${name} moves what can be moved) or remove them; nothing was changed`,
    );
  }
  if (members.length === 1) {
    return;
  }
  if (member.status === "Offline") {
    throw new RefusedError(
      `Member ${name} is offline (${member.message}), so it cannot leave its cluster. Bring it back, or, if it will never return: ` +
        `lxc cluster remove --force ${name}, then pulumi refresh`,
    );
  }
  await exclusively(lxd, async () => {
    context.progress(`removing ${name} from the cluster`);
    await removeMember(lxd, name);
    await until(context.deadline, async (report) => {
      const left = (await listMembers(lxd)).every(({ server_name }) => server_name !== name);
      report(`the cluster still lists ${name}`);
      return left ? true : undefined;
    });
  });
}

/** The cluster's API: through the members it was joined by, or, for the first member, its own. */
function throughCluster({ cluster, connection }: Inputs): ClusterConnection {
  return cluster ?? { endpoints: [connection] };
}

function inputsOf(state: State): Inputs {
  const { connection, name, address, cluster, memberConfig, failureDomain, config, adopt, timeouts } = state;
  return { connection, name, address, cluster, memberConfig, failureDomain, config, adopt, timeouts };
}

function outputsInState({ status, roles, certificateFingerprint }: State): Outputs {
  return { status, roles, certificateFingerprint };
}

/** What the cluster tells of a member, as inputs. */
function fromApi(member: Member, state: State): Inputs {
  return {
    ...inputsOf(state),
    address: member.url.replace(/^https:\/\//, ""),
    failureDomain: member.failure_domain,
    config: inWordsOf(state.config, member.config ?? {}),
  };
}

async function outputsOf(lxd: LxdClient, member: Member): Promise<Outputs> {
  const { environment } = await getServer(lxd);
  return { status: member.status, roles: member.roles ?? [], certificateFingerprint: environment.certificate_fingerprint };
}

/**
 * A member of an LXD cluster.
 *
 * @example
 * ```typescript
 * const first = new LxdClusterMember("bcn2", { connection: bcn2.connection, name: "bcn2", address: "192.168.1.102" });
 * new LxdClusterMember("bcn1", {
 *   connection: bcn1.connection,
 *   name: "bcn1",
 *   address: "192.168.1.101",
 *   cluster: { endpoints: [first.connection] },
 * });
 * ```
 */
export class LxdClusterMember extends LxdResource {
  /** How the member's host is reached. Depends on the membership, so that what uses it waits until the host is a member. */
  declare readonly connection: Output<ConnectionArgs>;
  /** Name of the member. */
  declare readonly name: Output<string>;
  /** With its port, such as "192.168.1.102:8443". */
  declare readonly address: Output<string>;
  /** Members of one failure domain are expected to fail together. */
  declare readonly failureDomain: Output<string>;
  /**
   * As of the last refresh: "Online", "Offline", "Evacuated" or "Blocked"; "Left" when its removal was interrupted, or somebody has
   * removed it from the cluster, and its host is not cleaned yet.
   */
  declare readonly status: Output<string>;
  /** Such as "database-leader"; LXD assigns and moves them itself. */
  declare readonly roles: Output<string[]>;
  /** SHA-256 of the cluster's certificate. */
  declare readonly certificateFingerprint: Output<string>;

  constructor(name: string, args: LxdClusterMemberArgs, opts?: CustomResourceOptions) {
    super("LxdClusterMember", name, { ...args }, ["status", "roles", "certificateFingerprint"], opts);
  }
}
