import { until } from "../../support/deadline";
import { hasCode } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { forgetMember, ifClustered, listMembers, removeMember } from "./cluster";
import { throughRestart } from "./restarts";

/**
 * Removes an empty member, and waits until the cluster no longer lists it.
 * @param isLost - Whether its host has no membership any more, and so cannot take part in the removal.
 */
export async function removeAndWait(lxd: LxdClient, name: string, isLost: boolean): Promise<void> {
  await (isLost ? forgetMember(lxd, name) : removeThrough(lxd, name));
  await until(lxd.deadline, async (report) => {
    report(`${lxd.title} still lists ${name} as a member`);
    return (await isListed(lxd, name)) ? undefined : true;
  });
}

/** When the request goes to the member itself, because no other one is known, its daemon ends during it. */
async function removeThrough(lxd: LxdClient, name: string): Promise<void> {
  try {
    await removeMember(lxd, name);
  } catch (error) {
    const wentAway = hasCode(error, "transport")
      ? lxd.endpoint.isOpen()
      : hasCode(error, "lost") || (await lxd.isInNoCluster(error)) === true;
    const isItself = wentAway && (await presentedBy(lxd.endpoint, lxd.deadline)).name === name;
    if (!isItself || (await isListed(lxd, name))) {
      throw error;
    }
  }
}

/** `false` also when the answering server, which may be the removed one, is in no cluster. */
async function isListed(lxd: LxdClient, name: string): Promise<boolean> {
  const members = await ifClustered(
    lxd,
    throughRestart(lxd, () => listMembers(lxd)),
  );
  return members?.some(({ server_name }) => server_name === name) ?? false;
}
