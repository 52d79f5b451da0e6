/**
 * Members tell of themselves every ten seconds, and LXD takes one for offline when it has not heard of it for twenty: also one that has just booted,
 * or whose heartbeat is late because a host is busy. Such a member answers when it is asked.
 */
import { until } from "../../support/deadline";
import { hasCode } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { presentedBy } from "../client/presented";
import { getServer } from "../server";
import { listMembers, type Member } from "./cluster";

/** LXD itself waits ten seconds for the way to a member, and then says that there is none. */
const ANSWER_SECONDS = 15;

/** On busy hosts it takes more than one heartbeat. */
const HEARTBEAT_SECONDS = 60;

/**
 * The members. Those that are needed, and that LXD has not heard of lately although they answer, are waited for.
 * @param needed - Which of them. @default all
 */
export async function membersOnceHeard(
  lxd: LxdClient,
  list = listMembers,
  needed: (members: Member[]) => Member[] = (members) => members,
): Promise<Member[]> {
  const members = await withoutDoubt(lxd, await list(lxd));
  const awaited = needed(members);
  const isLate = offlineIn(awaited).length > 0 && (await offlineOf(lxd, awaited)).length === 0;
  return isLate ? withoutDoubt(lxd, await listMembers(lxd)) : members;
}

/** The member that answers is not offline: LXD judges by heartbeats, also of itself, and those are late while they wait for a member that is gone. */
async function withoutDoubt(lxd: LxdClient, members: Member[]): Promise<Member[]> {
  if (offlineIn(members).length === 0) {
    return members;
  }
  const { name } = await presentedBy(lxd.endpoint, lxd.deadline);
  return members.map((member) =>
    member.server_name === name && member.status === "Offline" ? { ...member, status: "Online" } : member,
  );
}

/**
 * Names of those of the given members that LXD takes for offline. Where all of them answer, LXD is given the time to hear of them; where one does
 * not, the others are not waited for.
 */
export async function offlineOf(lxd: LxdClient, members: readonly Pick<Member, "server_name" | "status">[]): Promise<string[]> {
  let offline = offlineIn(members);
  const answering = await Promise.all(offline.map((name) => answers(lxd, name)));
  if (offline.length === 0 || answering.includes(false)) {
    return offline;
  }
  const asked = offline;
  const patience = lxd.deadline.atMostHalf(HEARTBEAT_SECONDS, `waiting until LXD on ${lxd.host} hears of ${asked.join(", ")}`);
  return until(patience, async (report) => {
    offline = offlineIn(await listMembers(lxd)).filter((name) => asked.includes(name));
    report(`LXD on ${lxd.host} takes ${offline.join(", ")} for offline, which answers`);
    return offline.length === 0 ? offline : undefined;
  }).catch((error: unknown) => {
    if (!hasCode(error, "timeout") || lxd.deadline.remainingMs === 0) {
      throw error;
    }
    return offline;
  });
}

/**
 * Whether a member answers, through the one that is asked and whatever that thinks of it.
 * @param ask - How, when others ask for the same.
 */
export async function answers(lxd: LxdClient, name: string, ask = getServer): Promise<boolean> {
  const patience = lxd.deadline.atMostHalf(ANSWER_SECONDS, `asking ${name} whether it is there`);
  try {
    await ask(lxd.within(patience).impatient, name);
    return true;
  } catch {
    lxd.deadline.check(`asking ${name} whether it is there`);
    return false;
  }
}

function offlineIn(members: readonly Pick<Member, "server_name" | "status">[]): string[] {
  return members.filter(({ status }) => status === "Offline").map(({ server_name }) => server_name);
}
