import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { getServer } from "../server";
import { isNotClustered, listMembers, listMembersShared, type Member } from "./cluster";
import { offlineOf } from "./heartbeats";

/** The servers that answer as one: the members of a cluster, or a single standalone server. */
export interface Servers {
  /** Whether they are a cluster, if only of one member. Only then does LXD know targets. */
  readonly clustered: boolean;
  readonly members: readonly Pick<Member, "server_name" | "status">[];
}

/** Who is there for a change, which LXD makes on those that it takes for online. A standalone server is a list of one, by its own name. */
export function getServers(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, async () => {
    const members = await withoutDoubtOf(lxd, await listMembers(lxd));
    const isLate = members.some(({ status }) => status === "Offline") && (await offlineOf(lxd, members)).length === 0;
    return isLate ? listMembers(lxd) : members;
  });
}

/** {@link getServers} for a read, which takes them as they are, with a list of members that all reads of this process share. */
export function getServersShared(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, listMembersShared);
}

async function serversOf(lxd: LxdClient, list: typeof listMembers): Promise<Servers> {
  try {
    return { clustered: true, members: await withoutDoubtOf(lxd, await list(lxd)) };
  } catch (error) {
    if (!isNotClustered(error)) {
      throw error;
    }
    const { server_name } = (await getServer(lxd)).environment;
    return { clustered: false, members: [{ server_name, status: "Online" }] };
  }
}

/**
 * Whoever answers is not offline: LXD judges by heartbeats, also of itself, and those are late while they wait for a member that is gone.
 */
async function withoutDoubtOf(lxd: LxdClient, members: Member[]): Promise<Member[]> {
  if (members.every(({ status }) => status !== "Offline")) {
    return members;
  }
  const { name } = await presentedBy(lxd.endpoint, lxd.deadline);
  return members.map((member) =>
    member.server_name === name && member.status === "Offline" ? { ...member, status: "Online" } : member,
  );
}
