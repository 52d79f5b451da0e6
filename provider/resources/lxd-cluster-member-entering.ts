/** Makes a host a member: it bootstraps a cluster when none exists yet, and joins the existing one otherwise. */
import type { Context, SshConnection } from "../engine/lifecycle";
import { askLxd, standingOf } from "../host/half-joined";
import { describeMissingDrivers, refuseMissingOnHost } from "../host/member-values";
import { noteHttpsAddress } from "../host/notes";
import { finishReset, hasLeftoverClusterCertificate, resetLxd } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { forgetPresented } from "../lxd/client/presented";
import { bootstrapCluster, type Member, memberConfigKeys, untilOnline } from "../lxd/cluster/cluster";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { removeRemains } from "../lxd/cluster/half-joins";
import { failedJoin, joinByPassword, joinCluster, mintJoinToken } from "../lxd/cluster/join";
import {
  howToWipe,
  type JoinContext,
  refuseAllEvacuated,
  refuseOtherName,
  refuseToJoin,
  whyNoTrustPassword,
} from "../lxd/cluster/join-preflight";
import { describeAbsent, type MemberConfig, workOutMemberConfig } from "../lxd/cluster/member-config";
import { untilSettled } from "../lxd/cluster/restarts";
import { type ManualRole, whyNoRoles } from "../lxd/cluster/roles";
import { clusterAddress, getServer, serverConfig, setServerConfig } from "../lxd/server";
import { FailedError, fallback, hasCode, havingChanged, RefusedError } from "../support/errors";
import { findWayIn, type Membership } from "./lxd-cluster-member-finding";

/** A host that is to be a member. */
export interface NewMember extends Membership {
  /** Address for the other members. */
  readonly address: string;
  /** The host's values for pools and networks. */
  readonly memberConfig: MemberConfig;
  /** The cluster's password, for a host that joins by it instead of a token. */
  readonly trustPassword?: string | undefined;
  /** The roles that a person assigns to it; absent when they stay as they are. */
  readonly manualRoles?: readonly ManualRole[] | undefined;
}

interface Entered {
  readonly cluster: LxdClient;
  readonly member: Member;
}

/** What the cluster, or the host that will be one, would refuse. Nothing while there is none that answers. */
export async function foreseenRefusals(context: Context, wanted: NewMember): Promise<string[]> {
  const { name, cluster, connection, trustPassword, manualRoles } = wanted;
  if (trustPassword === undefined && manualRoles === undefined) {
    return [];
  }
  const lxd = await context.lxd(cluster ?? connection).catch(fallback(undefined, "refused", "transport", "timeout"));
  const reasons =
    lxd === undefined
      ? []
      : [trustPassword === undefined ? undefined : await whyNoTrustPassword(lxd), await whyNoRoles(lxd, manualRoles)];
  return reasons.flatMap((reason) =>
    reason === undefined ? [] : [`Member "${name}": ${reason}. Unless that changes before, pulumi up will refuse this`],
  );
}

/**
 * Refuses roles that the server does not have.
 * @throws RefusedError, naming them.
 */
export async function refuseMissingRoles(
  lxd: LxdClient,
  { name, manualRoles }: Pick<NewMember, "name" | "manualRoles">,
): Promise<void> {
  const why = await whyNoRoles(lxd, manualRoles);
  if (why !== undefined) {
    throw new RefusedError(`Member "${name}": ${why}`);
  }
}

/**
 * Makes the host a member. Does nothing when it is one.
 * @param known - The cluster that it was a member of, if any.
 */
export async function enter(context: Context, wanted: NewMember, known?: string): Promise<Entered> {
  const ssh = await context.host(wanted.connection);
  const isReset = await finishReset(ssh, context, []);
  return isReset ? havingChanged(() => enterFrom(context, ssh, wanted, known)) : enterFrom(context, ssh, wanted, known);
}

async function enterFrom(context: Context, ssh: SshConnection, wanted: NewMember, known: string | undefined): Promise<Entered> {
  const host = await context.lxd(wanted.connection);
  forgetPresented(host.endpoint);
  const connection = wanted.cluster ?? (await findWayIn(context, host, wanted, known));
  await refuseMissingRoles(host, wanted);
  if (connection === undefined) {
    await bootstrap(context, ssh, host, wanted);
    return { cluster: host, member: await untilOnline(host, wanted.name) };
  }
  const cluster = await context.lxd(connection);
  await join(context, ssh, host, cluster, wanted);
  return { cluster, member: await untilOnline(cluster, wanted.name) };
}

/** Makes the host the first member. Does nothing when it is one. */
async function bootstrap(context: Context, ssh: SshConnection, lxd: LxdClient, { name, address }: NewMember): Promise<void> {
  const server = await getServer(lxd);
  if (server.environment.server_clustered) {
    refuseOtherName(lxd, server, name);
    return;
  }
  if (await hasLeftoverClusterCertificate(ssh, lxd.endpoint.socket.packaging, context.deadline)) {
    throw new RefusedError(
      `${ssh.name} keeps the certificate of an interrupted join, which makes ${lxd.names.name} refuse to bootstrap a cluster. ` +
        `Start from an empty server: ${howToWipe(["cluster"])}`,
    );
  }
  context.progress(`bootstrapping the cluster on ${lxd.host}`);
  await noteHttpsAddress(ssh, server, address, context.deadline);
  const own = serverConfig(server)["core.https_address"] ?? "";
  await setServerConfig(lxd, { "core.https_address": own || address, "cluster.https_address": address });
  await bootstrapCluster(lxd, name);
  forgetPresented(lxd.endpoint);
}

/** Makes the host a further member. Does nothing when it is one. Clears what an interrupted attempt left. */
async function join(context: Context, ssh: SshConnection, host: LxdClient, cluster: LxdClient, wanted: NewMember): Promise<void> {
  const { name, address } = wanted;
  await untilSettled(cluster);
  const [asked, target] = [await askLxd(host), await getServer(cluster)];
  const observed = { host, ssh, joining: asked, cluster, target, deadline: context.deadline, urn: context.urn };
  const { standing, holds } = await standingOf(observed, name, address);
  if (asked !== undefined && standing === "member") {
    refuseOtherName(host, asked, name);
    return;
  }
  const go = async (): Promise<void> => {
    const joinContext: JoinContext = { host, joining: await getServer(host), cluster, target };
    await refuseToJoin(joinContext, holds, name, address);
    const noPassword = wanted.trustPassword === undefined ? undefined : await whyNoTrustPassword(cluster);
    if (noPassword !== undefined) {
      throw new RefusedError(`${name} (${host.host}) cannot join by trustPassword: ${noPassword}`);
    }
    await withClusterLock(cluster, () => joinAs(context, ssh, joinContext, wanted));
  };
  if (standing !== "stranded") {
    await go();
    return;
  }
  context.warn(
    `${host.title} was left half joined, or its member was removed by force. The cluster does not list it and it holds no data, so it is ` +
      "wiped and joins again",
  );
  await resetLxd(ssh, host.endpoint.socket.packaging, context, asked);
  await havingChanged(go);
}

/** Joins the host, once it is known that the host may join. */
async function joinAs(context: Context, ssh: SshConnection, joinContext: JoinContext, wanted: NewMember): Promise<void> {
  const { name, address } = wanted;
  const { host, joining, cluster, target } = joinContext;
  const { certificate, certificate_fingerprint, server_name: inviting } = target.environment;
  const keys = await memberConfigKeys(cluster);
  const memberConfig = await workOutMemberConfig(cluster, keys, wanted.memberConfig, name, inviting);
  await refuseMissingOnHost(joinContext, ssh, memberConfig, wanted.memberConfig, context.deadline);
  [...describeAbsent(keys, wanted.memberConfig), ...(await describeMissingDrivers(joinContext))].forEach(context.warn);
  if (wanted.trustPassword === undefined) {
    await refuseAllEvacuated(cluster, name);
  }
  for (const cleared of await removeRemains(joinContext, name, address)) {
    context.warn(cleared);
  }
  await noteHttpsAddress(ssh, joining, address, context.deadline);
  context.progress(`joining ${name} to the cluster of ${inviting}`);
  const { trustPassword } = wanted;
  const trust =
    trustPassword === undefined
      ? { token: await mintJoinToken(cluster, name) }
      : { token: undefined, trustPassword, clusterAddress: clusterAddress(target) };
  const { token } = trust;
  try {
    if (token !== undefined && token.fingerprint !== certificate_fingerprint) {
      throw new FailedError(`the join token is for another certificate than the one that ${cluster.host} presents`);
    }
    const joins = { name, address, certificate, memberConfig };
    await (trust.token === undefined ? joinByPassword(host, { ...joins, ...trust }) : joinCluster(host, { ...joins, ...trust }));
  } catch (error) {
    if (hasCode(error, "lost") && (await askLxd(host))?.environment.server_clustered !== false) {
      return; // the caller checks the membership next
    }
    throw await failedJoin(error, { name, host: host.host, cluster, token });
  } finally {
    forgetPresented(host.endpoint);
  }
}
