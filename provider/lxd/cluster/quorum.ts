/**
 * Voters of the cluster's database. While more than half of them are online, they have a leader and the API answers, on every member. Without
 * that quorum no member's API works; instances keep running.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/clustering/ (LXD 5.0 to 6)
 */
import type { Member } from "./cluster";

/** What the rules need to know of a member. */
export type QuorumMember = Pick<Member, "server_name" | "isDown" | "roles">;

/** The voters of a cluster. Evacuated members still vote, while their hosts are up. */
export interface Quorum {
  /** Name of the member that leads; absent when none is reported. */
  readonly leader?: string;
  readonly voters: readonly string[];
  readonly onlineVoters: readonly string[];
  /** Whether more than half of the voters are online, so that the API works. */
  readonly hasQuorum: boolean;
  /** How many further voters may fail together. */
  readonly mayFail: number;
}

/** Below this number of members, LXD has the leader as the only voter. */
const SMALLEST_WITH_MAJORITY = 3;

/** LXD's default of `cluster.max_voters`. */
export const DEFAULT_MAX_VOTERS = 3;

const LEADER = "database-leader";

/** From LXD 6.8 on, the leader does not have the role of a voter besides its own, and that role has another name. */
const VOTER_ROLES: readonly string[] = [LEADER, "database", "database-voter"];

export function isLeader({ roles }: Pick<QuorumMember, "roles">): boolean {
  return roles?.includes(LEADER) ?? false;
}

export function isVoter({ roles }: Pick<QuorumMember, "roles">): boolean {
  return roles?.some((role) => VOTER_ROLES.includes(role)) ?? false;
}

export function quorumOf(members: readonly QuorumMember[]): Quorum {
  const voters = members.filter(isVoter);
  return withVoters(voters, members.find(isLeader)?.server_name);
}

function withVoters(voters: readonly QuorumMember[], leader?: string): Quorum {
  const online = voters.filter(({ isDown }) => !isDown);
  const needed = Math.floor(voters.length / 2) + 1;
  return {
    ...(leader !== undefined && { leader }),
    voters: voters.map(({ server_name }) => server_name),
    onlineVoters: online.map(({ server_name }) => server_name),
    hasQuorum: online.length >= needed,
    mayFail: Math.max(0, online.length - needed),
  };
}

/** The quorum at the moment when a member goes down. LXD replaces a lost voter later, if there is a quorum and a member that does not vote yet. */
export function quorumWithout(members: readonly QuorumMember[], name: string): Quorum {
  return quorumOf(members.map((member) => (member.server_name === name ? { ...member, isDown: true } : member)));
}

/**
 * The quorum at the moment when members have left. LXD removes a voter before it chooses another one, except for the leader of two members,
 * which first makes the other one a voter.
 */
export function quorumAfterLeaving(members: readonly QuorumMember[], names: readonly string[]): Quorum {
  const rest = members.filter(({ server_name }) => !names.includes(server_name));
  const voters = rest.filter(isVoter);
  const promoted = rest.find(({ isDown }) => !isDown) ?? rest[0];
  return withVoters(voters.length > 0 || promoted === undefined ? voters : [promoted], rest.find(isLeader)?.server_name);
}

/** How many voters LXD chooses among this number of online members. */
export function votersAmong(members: number, maxVoters: number): number {
  return members < SMALLEST_WITH_MAJORITY ? Math.min(1, members) : Math.min(members, maxVoters);
}

/** How many voters of that many may fail together. */
function failuresOf(voters: number): number {
  return Math.max(0, Math.ceil(voters / 2) - 1);
}

function numberOnline({ voters, onlineVoters }: Quorum): string {
  return `${onlineVoters.length} of ${voters.length} voters of its database online`;
}

/** Describes a cluster with a voter that is offline: what may still fail. `undefined` while all voters are online. */
export function describeQuorum(members: readonly QuorumMember[]): string | undefined {
  const quorum = quorumOf(members);
  const { voters, onlineVoters, hasQuorum, mayFail } = quorum;
  if (onlineVoters.length === voters.length) {
    return undefined;
  }
  if (!hasQuorum) {
    return `The cluster has ${numberOnline(quorum)}, which is no quorum: no member's API answers`;
  }
  const which = onlineVoters.length === 1 ? `${onlineVoters[0]} fails` : `one of ${onlineVoters.join(", ")} fails`;
  return mayFail > 0
    ? `The cluster has ${numberOnline(quorum)}, of which ${mayFail} may fail`
    : `The cluster has ${numberOnline(quorum)}: if ${which}, no member's API answers`;
}

/** Describes what the cluster loses while a member is down, as a sentence; `undefined` when a further member may fail meanwhile. */
export function describeLossWhileDown(members: readonly QuorumMember[], name: string): string | undefined {
  const member = members.find(({ server_name }) => server_name === name);
  if (members.length < 2 || member === undefined || !isVoter(member)) {
    return undefined;
  }
  const { voters, onlineVoters, hasQuorum, mayFail } = quorumWithout(members, name);
  if (!hasQuorum) {
    const others =
      onlineVoters.length === 0
        ? "the only voter"
        : `a voter, and only ${onlineVoters.join(", ")} of ${voters.length} would be online`;
    return `While ${name} is down, no member's API answers: ${name} is ${others}`;
  }
  return mayFail > 0 ? undefined : `While ${name} is down, no other voter may fail: ${onlineVoters.join(", ")}`;
}

/** Describes what the cluster loses when members leave, as sentences. */
export function describeLeaving(members: readonly QuorumMember[], names: readonly string[], maxVoters: number): string[] {
  const leaving = members.filter(({ server_name }) => names.includes(server_name));
  const rest = members.length - leaving.length;
  if (leaving.length === 0 || rest === 0) {
    return [];
  }
  const left = leaving.map(({ server_name }) => server_name).join(", ");
  const after = quorumAfterLeaving(members, names);
  if (!after.hasQuorum) {
    return [`Without ${left} the cluster would have ${numberOnline(after)}, which is no quorum`];
  }
  const leader = leaving.find(isLeader);
  const voters = votersAmong(rest, maxVoters);
  const [may, might] = [failuresOf(voters), failuresOf(votersAmong(members.length, maxVoters))];
  return [
    ...(leader === undefined ? [] : [`${leader.server_name} leads the cluster. Another member leads it when it has left`]),
    ...(may >= might
      ? []
      : [
          may === 0
            ? `Without ${left} the cluster has ${rest === 1 ? "one member" : "two members, of which one votes"}: if that one fails, no member's API answers`
            : `Without ${left} the cluster has ${voters} voters, of which ${may} may fail, instead of ${might}`,
        ]),
  ];
}
