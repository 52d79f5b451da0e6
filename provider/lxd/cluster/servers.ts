import type { LxdClient } from "../client/client";
import { getServer } from "../server";
import { isNotClustered, listMembers, listMembersShared, type Member } from "./cluster";

/** The servers that answer as one: the members of a cluster, or a single standalone server. */
export interface Servers {
  /** Whether they are a cluster, if only of one member. Only then does LXD know targets. */
  readonly clustered: boolean;
  readonly members: readonly Pick<Member, "server_name" | "status">[];
}

/** Who answers. A standalone server is a list of one, by its own name. */
export function getServers(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, listMembers);
}

/** {@link getServers}, with a list of members that all reads of this process share. */
export function getServersShared(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, listMembersShared);
}

async function serversOf(lxd: LxdClient, list: typeof listMembers): Promise<Servers> {
  try {
    return { clustered: true, members: await list(lxd) };
  } catch (error) {
    if (!isNotClustered(error)) {
      throw error;
    }
    const { server_name } = (await getServer(lxd)).environment;
    return { clustered: false, members: [{ server_name, status: "Online" }] };
  }
}
