/**
 * A host's membership in a cluster: the first one bootstraps it, the others join.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/cluster_form/ (LXD 5.0 to 6)
 */
import { all, type CustomResourceOptions, type Output } from "@pulumi/pulumi";
import type * as z from "zod";
import { isSameHost } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, whenKnown } from "../engine/resource";
import { notCompared } from "../engine/state";
import { isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import type { ServerKind } from "../lxd/client/endpoint";
import { presentedBy } from "../lxd/client/presented";
import {
  changeMember,
  findMember,
  getMember,
  listMembers,
  listMembersShared,
  type Member,
  type MemberConfigKey,
} from "../lxd/cluster/cluster";
import { memberConfigFromKeys } from "../lxd/cluster/member-config";
import { describeQuorum } from "../lxd/cluster/quorum";
import { lossWhileDown } from "../lxd/cluster/quorum-guards";
import { isManualRole, withManualRoles } from "../lxd/cluster/roles";
import { type Config, forState, isServerMade, OWNER_KEY, ownerKey, sameConfig } from "../lxd/config";
import { sameListener } from "../lxd/meaning";
import { claim, isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import { getServer } from "../lxd/server";
import { sameSet } from "../support/equality";
import { havingChanged, IncompleteError, messageOf } from "../support/errors";
import type { ClusterConnectionArgs, ConnectionArgs } from "./common-args";
import { clusterMemberSchema, type LxdClusterMemberArgs } from "./lxd-cluster-member-args";
import { enter, foreseenRefusals, refuseMissingRoles } from "./lxd-cluster-member-entering";
import { evacuationWarnings, observeEvacuation, prepareEvacuation, wantedEvacuation } from "./lxd-cluster-member-evacuating";
import {
  clusterConnectionOf,
  clusterToReenter,
  findCluster,
  hostsOfMembers,
  ifReachable,
  throughAnother,
} from "./lxd-cluster-member-finding";
import {
  clean,
  isReinstalled,
  isToBeCleaned,
  leave,
  leavingWarnings,
  lossWarning,
  removeByForce,
} from "./lxd-cluster-member-leaving";

type Inputs = z.output<typeof clusterMemberSchema>;

interface Outputs {
  /** Absent in older states until the next refresh. */
  server: ServerKind;
  status: string;
  roles: string[];
  certificateFingerprint: string;
}

type State = Inputs & Outputs;

/** See {@link LxdClusterMember}. @internal */
export const clusterMemberLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdClusterMember",
  schemaVersion: 2,
  schema: clusterMemberSchema,
  configOf: "member",
  immutable: ["name", "address"],
  stableOutputs: { server: [], certificateFingerprint: [] },
  timeouts: { create: 600, read: 60, update: 600, delete: 600 },

  /** Version 1 stored `memberConfig` as LXD's list of keys. */
  upgrade(state) {
    const { memberConfig, ...rest } = state as unknown as Omit<State, "memberConfig"> & { memberConfig: MemberConfigKey[] };
    return { ...rest, memberConfig: memberConfigFromKeys(memberConfig) };
  },

  checkTogether({ cluster, peers, certificateFingerprint, trustPassword }) {
    const reason = "is only for the first member; for a member that joins, cluster contains it";
    return [
      ...(cluster === undefined && trustPassword !== undefined
        ? [{ property: "trustPassword", reason: "is only for a member that joins a cluster" }]
        : []),
      ...(cluster !== undefined && peers.length > 0 ? [{ property: "peers", reason }] : []),
      ...(cluster !== undefined && certificateFingerprint !== undefined ? [{ property: "certificateFingerprint", reason }] : []),
    ];
  },

  sameBy: {
    address: sameListener,
    config: sameConfig,
    evacuated: (observed, wanted) => (wanted === undefined ? observed !== true : observed === wanted),
    leaving: (known = "refuse", wanted = "refuse") => known === wanted,
    removal: (known = "leave", wanted = "leave") => known === wanted,
    cluster: (_observed, wanted, { certificateFingerprint: known }) => (wanted?.certificateFingerprint ?? known) === known,
    certificateFingerprint: (_observed, wanted, { certificateFingerprint: known }) => (wanted ?? known) === known,
    // It matters only when the host joins. A host that left joins again.
    memberConfig: (_observed, _wanted, { status }) => status !== LEFT && status !== REINSTALLED,
    trustPassword: notCompared,
    manualRoles: (known = [], wanted = []) => sameSet(known, wanted),
  },

  leftAsIs: ["description", "manualRoles"],

  replacementLoss: (state) =>
    `${nameOf(state)} will leave its cluster, and its host will be wiped, with its part of the storage pools and its cached images; then ` +
    `it joins again. pulumi up refuses this while the member has ${(state.leaving ?? "refuse") === "refuse" ? "instances or custom volumes" : "custom volumes, or instances that an evacuation does not move"}`,

  previewWarnings({ status, name, address: known }, { connection, removal, address }) {
    return [
      ...(sameListener(known, address)
        ? []
        : [
            `The address of ${name} for the other members cannot change while the cluster runs. To keep the member with all that it holds, change the ` +
              'address by hand first: see "A member with a new address" in docs/guide/recovery.md of pulumi-lxd-cluster',
          ]),
      ...(status === REINSTALLED
        ? [
            `${connection.host} no longer has its membership as ${name}: it was reinstalled, or wiped. pulumi up removes the old member, ` +
              `${removal === "force" ? "with all that it holds (removal: force)" : "if that is empty"}, and joins the host again, unless it is in another cluster now`,
          ]
        : []),
    ];
  },

  previewCreation: foreseenRefusals,

  async previewEffects(context, inputs, former) {
    const { name, address, peers } = former ?? inputs;
    const isReplaced = name !== inputs.name || !sameListener(address, inputs.address);
    const gone = peers.filter((peer) => !inputs.peers.some((each) => isSameHost(each, peer)));
    const isForced = inputs.removal === "force" && former?.removal !== "force";
    const { leaving = "refuse", evacuated } = former ?? {};
    const goal = isReplaced ? undefined : wantedEvacuation(inputs, evacuated);
    const unasked = { ...inputs, trustPassword: isReplaced ? inputs.trustPassword : undefined };
    const refusals = await foreseenRefusals(context, unasked);
    if (!isReplaced && gone.length === 0 && !isForced && (goal === undefined || goal === evacuated)) {
      return refusals;
    }
    const lxd = await context.lxd(clusterConnectionOf(inputs));
    const leavers = [
      ...(isReplaced ? [{ name, leaving }] : []),
      ...[...(await hostsOfMembers(context, lxd, gone)).keys()].map((peer) => ({ name: peer })),
    ];
    return [
      ...refusals,
      ...(await leavingWarnings(lxd, leavers)),
      ...(isReplaced ? [] : await evacuationWarnings(lxd, inputs, evacuated)),
      ...(goal === true && evacuated !== true ? await lossWhileDown(lxd, name) : []),
      ...(isForced ? [`${await lossWarning(lxd, name)}. It is removed so only while it does not answer`] : []),
    ];
  },

  async create(context, inputs) {
    const { cluster, member } = await enter(context, inputs, inputs.certificateFingerprint);
    const config = member.config ?? {};
    claim({
      what: nameOf(inputs),
      host: cluster.host,
      description: `${member.url}, ${member.status}`,
      config,
      urn: context.urn,
      adopt: inputs.adopt || config[OWNER_KEY] === undefined, // its LxdNode has allowed the use of the host
    });
    const outputs = await outputsOf(cluster, member);
    let failed = "its config could not be set";
    try {
      await configure(cluster, inputs, context.mark);
      if (inputs.evacuated !== undefined) {
        failed = "it could not be evacuated or restored";
        await (await prepareEvacuation(context, cluster, inputs, undefined))();
        outputs.status = (await getMember(cluster, inputs.name)).status;
      }
    } catch (error) {
      const message = `${inputs.name} is a member, but ${failed}: ${messageOf(error)}`;
      throw new IncompleteError(inputs.name, outputs, message, { cause: error });
    }
    return { id: inputs.name, outputs };
  },

  async read(context, _id, state) {
    const cluster = await findCluster(context, state, listMembersShared);
    if (cluster?.member !== undefined) {
      const { lxd, member } = cluster;
      const outputs = await outputsOf(lxd, member);
      const status = (await isReinstalled(context, member, state.connection, outputs.certificateFingerprint))
        ? REINSTALLED
        : outputs.status;
      const quorum = member.isDown && status !== REINSTALLED ? describeQuorum(cluster.members) : undefined;
      if (quorum !== undefined) {
        context.warn(`${nameOf(state)} is offline. ${quorum}`);
      }
      const evacuation = await observeEvacuation(lxd, member, state.evacuated);
      return {
        inputs: { ...fromApi(member, state), ...evacuation },
        outputs: { ...outputs, status },
        mark: member.config?.[OWNER_KEY],
      };
    }
    // A first member without state would be created again, and might bootstrap a second cluster.
    const isFirst = state.cluster === undefined && cluster !== undefined;
    return (await isToBeCleaned(context, state)) || (isFirst && (await ifReachable(context, state.connection)) !== undefined)
      ? {
          inputs: {},
          outputs: { server: state.server, status: LEFT, roles: [], certificateFingerprint: state.certificateFingerprint },
        }
      : undefined;
  },

  async update(context, id, state, wanted) {
    const inputs = { ...wanted, certificateFingerprint: wanted.certificateFingerprint ?? state.certificateFingerprint };
    if (state.status === LEFT) {
      const ours = await isResetUnfinished(await context.host(inputs.connection), context.deadline);
      const known = ours ? undefined : inputs.certificateFingerprint;
      const cluster = ours ? undefined : await clusterToReenter(context, inputs); // throws before anything is wiped
      await clean(context, formerMember(state), false, cluster);
      await havingChanged(() => enter(context, inputs, known));
    } else if (state.status === REINSTALLED) {
      const join = (): Promise<unknown> => enter(context, inputs, inputs.certificateFingerprint);
      await ((await forgetIfForced(context, inputs)) ? havingChanged(join) : join());
    }
    const lxd = await context.lxd(clusterConnectionOf(inputs));
    const member = await findMember(lxd, inputs.name);
    if (member === undefined) {
      // The member was removed and no refresh has seen that: pulumi up --refresh=false.
      const status = (await isToBeCleaned(context, state)) ? LEFT : REINSTALLED;
      return this.update(context, id, { ...state, status }, wanted);
    }
    refuseTakenOver(nameOf(inputs), lxd.host, member.config?.[OWNER_KEY], context);
    const evacuate = await prepareEvacuation(context, lxd, inputs, state.evacuated);
    await configure(lxd, inputs, context.mark);
    await evacuate();
    return outputsOf(lxd, await getMember(lxd, inputs.name));
  },

  async mark(context, _id, state) {
    if (state.status === LEFT) {
      return;
    }
    const lxd = await context.lxd(clusterConnectionOf(state));
    await changeMember(lxd, state.name, (member) => {
      refuseTakenOver(nameOf(state), lxd.host, member.config?.[OWNER_KEY], context);
      return { ...member, config: { ...member.config, ...ownerKey(context.mark) } };
    });
  },

  async delete(context, _id, state) {
    const cluster = await findCluster(context, state, listMembers);
    if (cluster?.member === undefined) {
      return clean(context, formerMember(state), false, cluster?.lxd);
    }
    const { lxd, members, member } = cluster;
    if (isLeftToOthers(nameOf(state), lxd.host, member.config?.[OWNER_KEY], context)) {
      return;
    }
    const through = members.length > 1 ? await throughAnother(context, lxd, state) : lxd;
    const { fingerprint } = await presentedBy(lxd.endpoint, context.deadline);
    const { leaving = "refuse", removal = "leave" } = state;
    const host = await leave(context, through, member, members, state.connection, { leaving, removal });
    if (host !== "dead") {
      await havingChanged(() => clean(context, formerMember(state, fingerprint), host === "member", through));
    }
  },
};

/** Status of a host that left its cluster and was not cleaned because of an interruption. LXD has no such status. */
const LEFT = "Left";

/** Status of a member that the cluster reports as offline while its host answers and has no membership. */
const REINSTALLED = "Reinstalled";

function nameOf({ name }: Pick<Inputs, "name">): string {
  return `Member "${name}"`;
}

/** Removes the old member of a host that was reinstalled, with all that it held, if the program says so. Returns whether it did. */
async function forgetIfForced(context: Context, inputs: Inputs): Promise<boolean> {
  const lxd = inputs.removal === "force" ? await clusterToReenter(context, inputs) : undefined;
  const member = lxd && (await findMember(lxd, inputs.name));
  const fingerprint = lxd && (await presentedBy(lxd.endpoint, context.deadline)).fingerprint;
  const isLost = member && fingerprint !== undefined && (await isReinstalled(context, member, inputs.connection, fingerprint));
  if (lxd === undefined || fingerprint === undefined || isLost !== true) {
    return false;
  }
  await removeByForce(context, lxd, member, inputs.connection, fingerprint);
  return true;
}

/** Writes the member's failure domain, description, roles and config if they differ. */
async function configure(lxd: LxdClient, inputs: Inputs, mark: string): Promise<void> {
  await refuseMissingRoles(lxd, inputs);
  await changeMember(lxd, inputs.name, (member) => {
    const live = member.config ?? {};
    const kept = Object.fromEntries(Object.entries(live).filter(([key]) => isServerMade(key)));
    const config: Config = { ...kept, ...inputs.config, ...ownerKey(mark) };
    const { failureDomain: failure_domain, description = member.description } = inputs;
    const known = member.roles ?? [];
    const roles = inputs.manualRoles === undefined ? known : withManualRoles(known, inputs.manualRoles);
    const isSame =
      member.failure_domain === failure_domain &&
      member.description === description &&
      sameSet(known, roles) &&
      sameConfig(live, config);
    return isSame && live[OWNER_KEY] === config[OWNER_KEY]
      ? undefined
      : { ...member, roles, failure_domain, description, config };
  });
}

/**
 * Returns the member as state describes it.
 * @param found - The certificate that its cluster presents, used when state does not know it.
 */
function formerMember(state: State, found?: string): Parameters<typeof clean>[1] {
  const { connection, name, address } = state;
  return { connection, name, address, certificateFingerprint: clusterConnectionOf(state).certificateFingerprint ?? found };
}

/** Returns the inputs that the cluster reports for a member. */
function fromApi(member: Member, state: State): Partial<Inputs> {
  const address = member.url.replace(/^https:\/\//, "");
  return {
    address: sameListener(address, state.address) ? state.address : address,
    failureDomain: member.failure_domain,
    description: member.description,
    manualRoles: (member.roles ?? []).filter(isManualRole),
    config: forState(state.config, member.config ?? {}),
  };
}

async function outputsOf(lxd: LxdClient, member: Member): Promise<Outputs> {
  const { environment } = await getServer(lxd);
  return {
    server: lxd.names.server,
    status: member.status,
    roles: member.roles ?? [],
    certificateFingerprint: environment.certificate_fingerprint,
  };
}

/**
 * A member of a cluster of LXD or Incus.
 *
 * @example
 * ```typescript
 * const first = new LxdClusterMember("bcn2", { connection: bcn2.connection, name: "bcn2", address: "192.168.1.102" });
 * new LxdClusterMember("bcn1", {
 *   connection: bcn1.connection,
 *   name: "bcn1",
 *   address: "192.168.1.101",
 *   cluster: first,
 * });
 * ```
 */
export class LxdClusterMember extends LxdResource {
  /** How to reach the member's host. Depends on the membership: a resource that uses it waits until the host is a member. */
  declare readonly connection: Output<ConnectionArgs>;
  /** Name of the member. */
  declare readonly name: Output<string>;
  /** Address of the member with its port, such as "192.168.1.102:8443". */
  declare readonly address: Output<string>;
  /** Failure domain of the member. */
  declare readonly failureDomain: Output<string>;
  /** Purpose of the member, if the program gives it. */
  declare readonly description: Output<string | undefined>;
  /**
   * Status at the last refresh: "Online", "Offline", "Evacuated" or "Blocked"; "Left" when its removal was interrupted or
   * somebody removed it from the cluster, and its host is not cleaned yet (for the first member, also when its host was
   * reinstalled); "Reinstalled" when the cluster reports it as offline while its host answers and has no membership.
   */
  declare readonly status: Output<string>;
  /** The server of the cluster, the same on all members: "lxd" or "incus". */
  declare readonly server: Output<"lxd" | "incus">;
  /** Roles of the member, such as "database-leader". LXD assigns and moves those of its database. */
  declare readonly roles: Output<string[]>;
  /** Identity of the member's cluster: the SHA-256 of the cluster's certificate. Pass it on together with the endpoints. */
  declare readonly certificateFingerprint: Output<string>;

  constructor(name: string, args: LxdClusterMemberArgs, opts?: CustomResourceOptions) {
    super("LxdClusterMember", name, { ...args }, ["server", "status", "roles", "certificateFingerprint"], opts);
  }

  /** The cluster, reached through this member, for `cluster` of other resources. A preview knows it before the member exists. */
  get asCluster(): Output<ClusterConnectionArgs> {
    return all([this.connection, whenKnown(this.certificateFingerprint)]).apply(([connection, certificateFingerprint]) => ({
      endpoints: [connection],
      ...(certificateFingerprint !== undefined && { certificateFingerprint }),
    }));
  }
}
