/**
 * Remains of interrupted joins that block the next attempt. Rows of a server that never finished joining are harmless, because
 * the next attempt replaces them.
 * @see https://github.com/canonical/lxd/blob/main/lxd/cluster/membership.go for the order in which a join leaves its traces
 */
import * as z from "zod";
import { FailedError, fallback, hasCode, replyOf } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient } from "../client/client";
import { operationsSchema } from "../client/operations";
import { forgetMember } from "./cluster";
import { findStaleMember, type JoinContext } from "./join-preflight";

const trustedSchema = z.looseObject({ name: z.string(), type: z.string(), fingerprint: z.string() });

type Trusted = z.output<typeof trustedSchema>;

/**
 * Removes what a server's earlier attempts to join have left in the cluster and in its own trust store.
 * @returns A sentence for each thing removed.
 * @throws RefusedError, before any removal, when something else might be affected.
 */
export async function removeRemains({ host, joining, cluster }: JoinContext, name: string, address: string): Promise<string[]> {
  const cleared: string[] = [];
  const stale = await findStaleMember(cluster, name, address);
  if (stale !== undefined) {
    await forgetMember(cluster, stale);
    cleared.push(`The empty member "${stale}", left by an earlier attempt to join, was removed`);
  }
  // As `lxd cluster remove-raft-node` does. With the replica, every later join from that address would hang.
  if (await isDone(cluster.change("DELETE", api`/internal/cluster/raft-node/${address}`))) {
    cleared.push(`A replica of the cluster's database at ${address}, left by an interrupted join of ${name}, was removed`);
  }
  const trusted = await trustedServers(cluster);
  const { certificate_fingerprint: own } = joining.environment;
  // A host that was wiped since its interrupted join has another certificate. Some versions refuse to remove the former one.
  const former = trusted.filter((each) => each.name === name && each.fingerprint !== own);
  if (former.length > 0 && (await isDone(distrust(cluster, former)))) {
    cleared.push(`A former certificate of ${name}, left by an interrupted join, was removed from the cluster's trust store`);
  }
  const renamed = trusted.find((each) => each.name !== name && each.fingerprint === own);
  if (renamed !== undefined) {
    await forgetOtherName(cluster, renamed, host, name);
    cleared.push(
      `The certificate of ${host.host} was removed from the cluster's trust store: a refused join had left it there as "${renamed.name}"`,
    );
  }
  // A join copies the cluster's certificates first. LXD 5.0 does not join while it has one of them.
  const copied = (await trustedServers(host)).filter((own) => trusted.some((each) => each.fingerprint === own.fingerprint));
  if (copied.length > 0 && (await isDone(distrust(host, copied)))) {
    cleared.push(
      `The cluster's certificates, left by an interrupted join of ${name}, were removed from the trust store of ${host.host}`,
    );
  }
  if (await hasJoinToken(cluster, name)) {
    cleared.push(
      `A join token for ${name} existed, from an interrupted attempt or from "${cluster.names.client} cluster add ${name}". It is now invalid`,
    );
  }
  return cleared;
}

/** The trusted certificates of members, and of servers that began to join. */
async function trustedServers(lxd: LxdClient): Promise<Trusted[]> {
  const certificates = await lxd.get("/1.0/certificates", listOf(trustedSchema), { recursion: 1 });
  return certificates.filter(({ type }) => type === "server");
}

/**
 * Whether an unused token exists with which a server of that name may join. The next token of that name invalidates it. LXD still
 * lists revoked tokens.
 */
async function hasJoinToken(lxd: LxdClient, name: string): Promise<boolean> {
  const operations = await lxd.get("/1.0/operations", operationsSchema, { recursion: 1 });
  return operations.some(
    (operation) => operation.class === "token" && operation.status_code < 200 && operation.metadata?.["serverName"] === name,
  );
}

/** Whether LXD made a removal. `false` when it refused it, or had nothing to remove. */
function isDone(removal: Promise<unknown>): Promise<boolean> {
  return removal.then(() => true).catch(fallback(false, "api"));
}

async function distrust(lxd: LxdClient, certificates: readonly Trusted[]): Promise<void> {
  for (const { fingerprint } of certificates) {
    await lxd.remove(api`/1.0/certificates/${fingerprint}`);
  }
}

/**
 * Removes the joining server's certificate from the cluster's trust when it is there under another name. A join that was refused
 * for its name leaves it there, and LXD would then refuse every other name.
 */
async function forgetOtherName(lxd: LxdClient, other: Trusted, { host, names }: LxdClient, name: string): Promise<void> {
  try {
    await distrust(lxd, [other]);
  } catch (error) {
    if (!hasCode(error, "api")) {
      throw error;
    }
    throw new FailedError(
      `The cluster at ${lxd.host} trusts the certificate of ${host} as "${other.name}", from an earlier attempt to join, so it refuses the name ` +
        `"${name}", and ${names.name} did not remove that certificate: ${replyOf(error)}. Use the name "${other.name}", or reinstall ` +
        `${names.name} on the host, which gives it a new certificate (${names.purge}, then pulumi up)`,
      { cause: error },
    );
  }
}
