import { hasCode } from "../../support/errors";
import { isServerFailure } from "./transient-failures";

/** What to do about a cluster whose database has no quorum. Its members then answer without it, fail, or are silent, by version and moment. */
export const QUORUM_REMEDY =
  "A cluster answers only while more than half of the voters of its database are online (quorum): bring the other hosts back. If they are lost " +
  "for good, see docs/guide/recovery.md of pulumi-lxd-cluster";

interface Questions {
  readonly title: string;
  /** Whether it failed, where it otherwise was silent. */
  readonly isFailing: boolean;
  readonly members: Promise<unknown>;
  readonly itself: Promise<{ readonly server_clustered: boolean }>;
}

/**
 * What the error of a server says about the quorum: to list the members needs it, to tell who one is does not. A member that was started
 * without it tells neither.
 */
export async function noteOfQuorum({ title, isFailing, ...questions }: Questions): Promise<string> {
  const [members, itself] = await Promise.allSettled([questions.members, questions.itself]);
  if (members.status === "fulfilled" || !(isServerFailure(members.reason) || hasCode(members.reason, "timeout"))) {
    return "";
  }
  if (itself.status === "rejected") {
    return isFailing ? `. If ${title} is in a cluster: ${QUORUM_REMEDY}` : "";
  }
  return itself.value.server_clustered ? `. ${title} is in a cluster whose database does not answer. ${QUORUM_REMEDY}` : "";
}
