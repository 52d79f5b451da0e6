/**
 * What interrupted joins leave in a cluster. Rows of a server that never finished joining are harmless, because the next attempt replaces
 * them; these are not.
 * @see https://github.com/canonical/lxd/blob/main/lxd/cluster/membership.go for the order in which a join leaves its traces
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
 * Clears away what earlier attempts of a server to join have left in the cluster.
 * @returns What was there, a sentence each.
 * @throws RefusedError, before anything is cleared away, when it is not certain that it is nothing but that.
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

/** Makes sure that a token is of no more use. Not if LXD cannot say so: the reason why it was to be revoked is worth more. */
export async function isRevoked(lxd: LxdClient, token: JoinToken): Promise<boolean> {
  try {
    await lxd.cancel({ id: token.operationId });
    return true;
  } catch (error) {
    return hasCode(error, "api") && /only running operations/i.test(replyOf(error)); // used up
  }
}

/** Whether a token waits with which a server of that name may join: the next token of the name makes it void. LXD still lists those that were revoked. */
async function hasJoinToken(lxd: LxdClient, name: string): Promise<boolean> {
  const operations = Object.values((await lxd.get("/1.0/operations", operationsSchema, { recursion: 1 })) ?? {}).flat();
  return operations.some(
    (operation) => operation?.class === "token" && operation.status_code < 200 && operation.metadata?.["serverName"] === name,
  );
}

/**
 * Takes an address that is no member's out of the replicas of the cluster's database, as `lxd cluster remove-raft-node` does. A join that
 * was interrupted late leaves it there, and every later one from that address would wait for nothing.
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
 * Takes former certificates of a server that is no member out of the cluster's trust: a join that was cut off leaves its own there, and a host
 * that was wiped since joins with another.
 * @returns Whether there were any, and LXD has let go of them; some versions do not.
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
 * Takes the joining server's certificate out of the cluster's trust when it is there under another name: a join that was refused for its
 * name leaves it so, and LXD would refuse every other name.
 * @throws FailedError when LXD does not let go of it.
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
