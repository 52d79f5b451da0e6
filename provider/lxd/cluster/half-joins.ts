/**
 * Remains of interrupted joins that block the next attempt. Rows of a server that never finished joining are harmless,
 * because the next attempt replaces them.
 * @see https://github.com/canonical/lxd/blob/main/lxd/cluster/membership.go for the order in which a join leaves its
 * traces
 */
import * as z from "zod";
import type { Deadline } from "../../support/deadline";
import { FailedError, hasCode, replyOf } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { operationsSchema } from "../client/operations";
import { forgetMember, type JoinToken } from "./cluster";
import { findStaleMember, type JoinContext } from "./join-preflight";

const trustedSchema = z.looseObject({ name: z.string(), type: z.string(), fingerprint: z.string() });

type Trusted = z.output<typeof trustedSchema>;

/**
 * Removes what a server's earlier attempts to join have left in the cluster.
 * @returns A sentence for each thing removed.
 * @throws RefusedError, before any removal, when something else might be affected.
 */
export async function clearTraces(
  { host, joining, cluster }: JoinContext,
  name: string,
  address: string,
  deadline: Deadline,
): Promise<string[]> {
  const cleared: string[] = [];
  const stale = await findStaleMember(cluster, name, address, deadline);
  if (stale !== undefined) {
    await forgetMember(cluster, stale);
    cleared.push(`The empty member "${stale}" that an earlier attempt left is removed; its host joins anew`);
  }
  if (await forgetReplica(cluster, address)) {
    cleared.push(`A replica of the cluster's database at ${address}, from a join of ${name} that was cut off, is removed`);
  }
  const trusted = await cluster.get("/1.0/certificates", z.array(trustedSchema), { recursion: 1 });
  const { certificate_fingerprint: own } = joining.environment;
  const former = trusted.filter((each) => each.type === "server" && each.name === name && each.fingerprint !== own);
  if (await forgetFormerCertificates(cluster, former)) {
    cleared.push(`The cluster no longer trusts a former certificate of ${name}, from a join that was cut off`);
  }
  const renamed = trusted.find((each) => each.type === "server" && each.name !== name && each.fingerprint === own);
  if (renamed !== undefined) {
    await forgetOtherName(cluster, renamed, host.host, name);
    cleared.push(
      `The cluster no longer trusts ${host.host} as "${renamed.name}", the name of an attempt to join that was refused`,
    );
  }
  if (await hasJoinToken(cluster, name)) {
    cleared.push(
      `A join token for ${name} was there, from an attempt that was cut off, or from "lxc cluster add ${name}". It is void from now on`,
    );
  }
  return cleared;
}

/**
 * Revokes a token. Returns whether it is now unusable. Returns `false` when LXD cannot confirm this, because the reason
 * for the revocation matters more than a second error.
 */
export async function isRevoked(lxd: LxdClient, token: JoinToken): Promise<boolean> {
  try {
    await lxd.cancel({ id: token.operationId });
    return true;
  } catch (error) {
    return hasCode(error, "api") && /only running operations/i.test(replyOf(error)); // used up
  }
}

/**
 * Whether an unused token exists with which a server of that name may join. The next token of that name invalidates it.
 * LXD still lists revoked tokens.
 */
async function hasJoinToken(lxd: LxdClient, name: string): Promise<boolean> {
  const operations = Object.values((await lxd.get("/1.0/operations", operationsSchema, { recursion: 1 })) ?? {}).flat();
  return operations.some(
    (operation) => operation?.class === "token" && operation.status_code < 200 && operation.metadata?.["serverName"] === name,
  );
}

/**
 * Removes an address that belongs to no member from the replicas of the cluster's database, as `lxd cluster
 * remove-raft-node` does. A join that was interrupted late leaves it there, and every later join from that address
 * would hang.
 * @returns Whether it was there.
 */
async function forgetReplica(lxd: LxdClient, address: string): Promise<boolean> {
  try {
    await lxd.change("DELETE", api`/internal/cluster/raft-node/${address}`);
    return true;
  } catch (error) {
    if (hasCode(error, "api")) {
      return false; // `No raft node with address ...`
    }
    throw error;
  }
}

/**
 * Removes former certificates of a server that is not a member from the cluster's trust. An interrupted join leaves its
 * certificate there, and a host that was wiped since joins with another.
 * @returns Whether there were any and LXD removed them; some versions refuse.
 */
async function forgetFormerCertificates(lxd: LxdClient, former: readonly Trusted[]): Promise<boolean> {
  try {
    for (const { fingerprint } of former) {
      await lxd.remove(api`/1.0/certificates/${fingerprint}`);
    }
  } catch (error) {
    if (hasCode(error, "api")) {
      return false;
    }
    throw error;
  }
  return former.length > 0;
}

/**
 * Removes the joining server's certificate from the cluster's trust when it is there under another name. A join that
 * was refused for its name leaves it there, and LXD would then refuse every other name.
 * @throws FailedError when LXD does not remove it.
 */
async function forgetOtherName(lxd: LxdClient, other: Trusted, host: string, name: string): Promise<void> {
  try {
    await lxd.remove(api`/1.0/certificates/${other.fingerprint}`);
  } catch (error) {
    if (!hasCode(error, "api")) {
      throw error;
    }
    throw new FailedError(
      `The cluster at ${lxd.host} trusts the certificate of ${host} as "${other.name}", from an attempt to join under that name, and would refuse ` +
        `"${name}": ${replyOf(error)}. Use that name, or take LXD off the host (snap remove --purge lxd), so that it comes back with a new certificate`,
      { cause: error },
    );
  }
}
