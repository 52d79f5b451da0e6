import type { LxdClient } from "../client/client";
import { getServer } from "../server";
import { ifClustered, listMembersShared, type Member } from "./cluster";
import { membersOnceHeard } from "./heartbeats";

/** Servers that answer as one: the members of a cluster, or a single standalone server. */
export interface Servers {
  /** Whether they are a cluster, even one of a single member. Only a cluster accepts targets. */
  readonly clustered: boolean;
  readonly members: readonly Pick<Member, "server_name" | "status" | "isDown">[];
}

/**
 * Lists the servers for a change, which LXD makes on those that it considers online. A standalone server is a list of one, under
 * its own name.
 */
export function getServers(lxd: LxdClient): Promise<Servers> {
  return serversOf(lxd, membersOnceHeard(lxd));
}

/** {@link getServers} for a read: does not wait for members, and uses a list that all reads of this process share. */
export function getServersShared(lxd: LxdClient): Promise<Servers> {
  return serversOf(
    lxd,
    membersOnceHeard(lxd, listMembersShared, () => []),
  );
}

async function serversOf(lxd: LxdClient, members: Promise<Member[]>): Promise<Servers> {
  const clustered = await ifClustered(lxd, members);
  if (clustered !== undefined) {
    return { clustered: true, members: clustered };
  }
  const { server_name } = (await getServer(lxd)).environment;
  return { clustered: false, members: [{ server_name, status: "Online", isDown: false }] };
}
