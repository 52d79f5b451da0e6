import { FailedError, replyOf } from "../../support/errors";
import { howToWipe } from "./join-preflight";

/**
 * LXD's errors of a failed join, and their remedies. The wording differs slightly between versions ("Failed to",
 * "Failed ...ing").
 * @see https://github.com/canonical/lxd/blob/main/lxd/api_cluster.go clusterPutJoin
 */
const CURES: readonly (readonly [RegExp, string])[] = [
  [
    /No matching cluster join operation found|not authorized/i,
    "the join token was no longer valid; the next pulumi up mints a new one",
  ],
  [/Token has expired/i, "the join token expired; the next pulumi up mints a new one. Do the clocks of the hosts agree?"],
  [
    /certificate (isn't|is not) valid yet/i,
    "the host's clock was ahead of the cluster's when LXD was installed. Set the clocks right, wait, and run pulumi up again",
  ],
  [
    /different name .* already in trust store/i,
    "this host tried to join under another name before. Use that name, or remove its certificate from the cluster (lxc config trust list)",
  ],
  [/already has a member with (name|address)/i, "an earlier attempt left that member; remove it with lxc cluster remove --force"],
  [/joining server version (doesn't|does not) match/i, "all members need the same LXD version and API extensions"],
  [
    /member specific|Pool source cannot be changed|directory ".*" already exists/i,
    `an earlier attempt left a storage pool on the host. Wipe it: ${howToWipe(["storage-pools", "networks"])}`,
  ],
  [
    /(Missing|Mismatching) .*(storage pool|network|driver)/i,
    "the host's pools or networks do not fit the cluster's; see memberConfig",
  ],
  [
    /^The connection to .* broke/,
    "LXD on the host, or the host itself, went away in the middle; the next pulumi up clears up and goes on",
  ],
  [
    /context deadline exceeded|connect to cluster leader|i\/o timeout|no route to host|connection refused/i,
    "the hosts must reach each other on their cluster addresses (TCP 8443). LXD on the host may be half joined now: if it does not answer, " +
      howToWipe(["cluster"]),
  ],
];

/** Returns the error of a failed join, with LXD's reply and the remedy. */
export function explainJoinFailure(error: unknown, member: string, host: string, revoked: boolean): Error {
  const reply = replyOf(error);
  const cure = CURES.find(([pattern]) => pattern.test(reply))?.[1];
  return new FailedError(
    `${member} (${host}) did not join the cluster: ${reply}${cure === undefined ? "" : ` — ${cure}`}. ${
      revoked ? "The join token was revoked" : `Revoke its token, if it is still there: lxc cluster revoke-token ${member}`
    }`,
    { cause: error },
  );
}
