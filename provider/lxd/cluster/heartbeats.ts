/**
 * Members send heartbeats every ten seconds. LXD reports a member as offline when it has received none for twenty seconds. This
 * includes a member that has just booted, or whose heartbeat is late because a host is busy. Such a member answers requests.
 */
import { tryUntil } from "../../support/deadline";
import type { LxdClient } from "../client/client";
import { getServer, serverConfig } from "../server";
import { listMembers, type Member } from "./cluster";

/** LXD itself waits ten seconds for a connection to a member, and then answers that there is none. */
const ANSWER_SECONDS = 15;

/** `cluster.offline_threshold` in seconds, unless it is set, and the time between two heartbeats. */
const [OFFLINE_SECONDS, HEARTBEAT_INTERVAL] = [20, 10];

/** On busy hosts, more than one heartbeat may be necessary. */
const HEARTBEAT_SECONDS = 60;

type Listed = Pick<Member, "server_name" | "isDown">;

/**
 * Lists the members. Waits for needed members that answer although LXD has missed their heartbeats.
 * @param needed - Selects these members. @default all
 */
export async function membersOnceHeard(
  lxd: LxdClient,
  list = listMembers,
  needed: (members: Member[]) => Member[] = (members) => members,
): Promise<Member[]> {
  const members = await list(lxd);
  const awaited = needed(members);
  const isLate = offlineIn(awaited).length > 0 && (await offlineOf(lxd, awaited)).length === 0;
  return isLate ? listMembers(lxd) : members;
}

/**
 * Returns the names of those given members that LXD reports as offline. When all of them answer, gives LXD time to receive their
 * heartbeats. When one does not answer, does not wait for the others.
 */
export async function offlineOf(lxd: LxdClient, members: readonly Listed[]): Promise<string[]> {
  let offline = offlineIn(members);
  const answering = await Promise.all(offline.map((name) => answers(lxd, name)));
  if (offline.length === 0 || answering.includes(false)) {
    return offline;
  }
  const asked = offline;
  const patience = lxd.deadline.atMostHalf(
    HEARTBEAT_SECONDS,
    `waiting until ${lxd.title} receives heartbeats of ${asked.join(", ")}`,
  );
  await tryUntil(lxd.deadline, patience, async (report) => {
    offline = offlineIn(await listMembers(lxd)).filter((name) => asked.includes(name));
    report(`${lxd.title} reports ${offline.join(", ")} as offline, although each of them answers`);
    return offline.length === 0 ? true : undefined;
  });
  return offline;
}

/**
 * Returns the names of those given members that are down. Each one is asked, because one that has just lost its power still counts as online. A
 * silent one gets the time after which LXD itself misses its heartbeats. Until then it may have answered: LXD closes its connections to a member
 * when a heartbeat is late. One that waits for other members after its upgrade is silent too, and its heartbeats go on.
 */
export async function downOf(lxd: LxdClient, members: readonly Listed[]): Promise<string[]> {
  const names = members.map(({ server_name }) => server_name);
  let silent = await silentOf(lxd, names);
  if (silent.length > 0) {
    const seconds = (await offlineThreshold(lxd)) + HEARTBEAT_INTERVAL;
    const patience = lxd.deadline.atMostHalf(
      seconds,
      `waiting until ${lxd.title} hears of ${silent.join(", ")} or misses heartbeats`,
    );
    await tryUntil(lxd.deadline, patience, async (report) => {
      report(`${silent.join(", ")} did not answer`);
      silent = await silentOf(lxd, silent);
      return silent.length === 0 ? true : undefined;
    });
  }
  return offlineOf(
    lxd,
    (await listMembers(lxd)).filter(({ server_name }) => names.includes(server_name)),
  );
}

/** Seconds after which LXD misses the heartbeats of a member. */
async function offlineThreshold(lxd: LxdClient): Promise<number> {
  return Number(serverConfig(await getServer(lxd))["cluster.offline_threshold"] ?? OFFLINE_SECONDS);
}

async function silentOf(lxd: LxdClient, names: readonly string[]): Promise<string[]> {
  const answering = await Promise.all(names.map((name) => answers(lxd, name)));
  return names.filter((_name, index) => answering[index] === false);
}

/**
 * Whether a member answers through the member of `lxd`, whatever status that one reports.
 * @param ask - Request to send, such as one that callers share. @default getServer
 */
export async function answers(lxd: LxdClient, name: string, ask = getServer): Promise<boolean> {
  const patience = lxd.deadline.atMostHalf(ANSWER_SECONDS, `asking whether ${name} answers`);
  try {
    await ask(lxd.within(patience).impatient, name);
    return true;
  } catch {
    lxd.deadline.check(`asking whether ${name} answers`);
    return false;
  }
}

function offlineIn(members: readonly Listed[]): string[] {
  return members.filter(({ isDown }) => isDown).map(({ server_name }) => server_name);
}
