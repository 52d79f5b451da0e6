import type { LxdClient } from "../client/client";
import { getServer } from "../server";
import { isNotClustered, listMembersShared, type Member } from "./cluster";
import { membersOnceHeard } from "./heartbeats";

/** The servers that answer as one: the members of a cluster, or a single standalone server. */
export interface Servers {
  /** Whether they are a cluster, if only of one member. Only then does LXD know targets. */
  readonly clustered: boolean;
  readonly members: readonly Pick<Member, "server_name" | "status">[];
}

/** Who is there for a change, which LXD makes on those that it takes for online. A standalone server is a list of one, by its own name. */
export function getServers(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, membersOnceHeard(lxd));
}

/** {@link getServers} for a read, which takes them as they are, with a list of members that all reads of this process share. */
export function getServersShared(lxd: LxdClient): Promise<Servers> {
  return serversOf(
    lxd,
    membersOnceHeard(lxd, listMembersShared, () => []),
  );
}

async function serversOf(lxd: LxdClient, members: Promise<Member[]>): Promise<Servers> {
  try {
    return { clustered: true, members: await members };
  } catch (error) {
    if (!isNotClustered(error)) {
      throw error;
    }
    const { server_name } = (await getServer(lxd)).environment;
    return { clustered: false, members: [{ server_name, status: "Online" }] };
  }
}
