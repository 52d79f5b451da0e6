/** Keeps a cluster from losing the quorum of its database by what this library does. */
import { RefusedError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { getServerShared, serverConfig } from "../server";
import { listMembers, listMembersShared, type Member } from "./cluster";
import { offlineOf } from "./heartbeats";
import { DEFAULT_MAX_VOTERS, describeLeaving, describeLossWhileDown, isLeader, isVoter, quorumAfterLeaving } from "./quorum";

/** Returns the preview's warnings for the cluster's database, for members that are about to leave. */
export async function quorumWarnings(lxd: LxdClient, names: readonly string[]): Promise<string[]> {
  const [members, server] = await Promise.all([listMembersShared(lxd), getServerShared(lxd)]);
  return describeLeaving(members, names, Number(serverConfig(server)["cluster.max_voters"] ?? DEFAULT_MAX_VOTERS));
}

/** Returns the preview's warning for a member that is evacuated, after which a host is often switched off: its vote stays there. */
export async function lossWhileDown(lxd: LxdClient, name: string): Promise<string[]> {
  const loss = describeLossWhileDown(await listMembersShared(lxd), name);
  return loss === undefined ? [] : [`An evacuation moves no vote of the cluster's database. ${loss}`];
}

/**
 * LXD removes any member that answers, although the voters that stay may be no majority. Then no member's API answers any more.
 * @throws RefusedError when that is so.
 */
export async function refuseLossOfQuorum(lxd: LxdClient, name: string): Promise<void> {
  const listed = await listMembers(lxd);
  if (quorumAfterLeaving(listed, [name]).hasQuorum) {
    return;
  }
  const offline = await offlineOf(
    lxd,
    listed.filter(({ server_name }) => server_name !== name),
  );
  const members = listed.map((member) => ({ ...member, isDown: offline.includes(member.server_name) }));
  const { voters, onlineVoters, hasQuorum } = quorumAfterLeaving(members, [name]);
  if (!hasQuorum) {
    throw new RefusedError(
      `Member ${name} cannot leave its cluster: of the voters that stay (${voters.join(", ")}) ${onlineVoters.length} would be online, which is ` +
        `no quorum, and no member's API would answer. Nothing was changed. Bring ${offline.join(", ")} back. If a host will never return, remove it ` +
        `first: ${lxd.names.client} cluster remove --force NAME`,
    );
  }
}

/**
 * A wiped voter stays in the database's list of voters. Members that leave are no longer in it.
 * @throws RefusedError for a voter of a cluster with other members.
 */
export function refuseWipeOfVoter(lxd: LxdClient, members: readonly Member[], name: string): void {
  const member = members.find(({ server_name }) => server_name === name);
  if (members.length < 2 || member === undefined || !isVoter(member)) {
    return;
  }
  const { client } = lxd.names;
  throw new RefusedError(
    `${lxd.title} ${isLeader(member) ? "leads" : "is a voter of"} its cluster, with the members ${members.map(({ server_name }) => server_name).join(", ")}. ` +
      "Wiping it could leave the others without a quorum of their database, so resetPolicy does not. Nothing was changed. " +
      `Remove it from that cluster first: ${client} cluster remove ${name} on another member, which chooses another voter, then pulumi up. ` +
      `If the others are lost: ${client} cluster remove --force NAME for each of them`,
  );
}
