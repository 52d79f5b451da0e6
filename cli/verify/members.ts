import { EVACUATED } from "../../provider/lxd/cluster/cluster";
import { isVoter } from "../../provider/lxd/cluster/quorum";
import type { ClusterStatus, MemberStatus } from "../status/contents";
import type { Facts } from "./facts";
import { checkOf, type Row } from "./rows";

/** Members with which LXD has more than one voter. */
const MEMBERS_WITH_MAJORITY = 3;

export function memberRows({ status, versions }: Pick<Facts, "status" | "versions">): Row[] {
  const rows = status.members.map((member) => memberRow(member, status.client));
  return [...rows, ...versionRows(status, versions), ...(status.clustered ? [databaseRow(status)] : [])];
}

function memberRow({ name, status, isDown, message }: MemberStatus, client: string): Row {
  const check = checkOf("member", name, "Online");
  if (status === "Online") {
    return check.passed(status);
  }
  if (status === EVACUATED) {
    return check.passed(`${status}, until ${client} cluster restore ${name}`);
  }
  const found = message === "" ? status : `${status}: ${message}`;
  if (isDown) {
    return check.failed(found, `Start the host and its server. If it is lost: ${client} cluster remove --force ${name}`);
  }
  return check.failed(
    found,
    status === "Blocked"
      ? "Upgrade the other members to the same version"
      : `See ${client} cluster show ${name}, and the log of its server on the host`,
  );
}

/** One row for all members that told their version. */
function versionRows({ members }: ClusterStatus, versions: Facts["versions"]): Row[] {
  const expected = "the same on all members";
  const known = members.flatMap(({ name }) => {
    const answer = versions[name];
    return answer?.why === undefined && answer !== undefined ? [{ name, version: answer.value }] : [];
  });
  const unknown = members.flatMap(({ name, isDown }) => {
    const why = isDown ? `${name} is down` : versions[name]?.why;
    return why === undefined ? [] : [checkOf("version", name, expected).notChecked(why)];
  });
  if (members.length < 2 || known.length === 0) {
    return unknown;
  }
  const check = checkOf("version", known.map(({ name }) => name).join(", "), expected);
  const different = new Set(known.map(({ version }) => version));
  const found = [...different].map((version) => {
    const on = known.flatMap((each) => (each.version === version ? [each.name] : []));
    return different.size === 1 ? version : `${version} (${on.join(", ")})`;
  });
  return [
    different.size === 1
      ? check.passed(found.join(", "))
      : check.failed(found.join(", "), "Upgrade the members with the older version: until then, they may wait for each other"),
    ...unknown,
  ];
}

function databaseRow({ members, quorum, client }: ClusterStatus): Row {
  const voters = members.filter(({ roles }) => isVoter({ roles: [...roles] }));
  const names = voters.map(({ name }) => name).join(", ");
  if (members.length < MEMBERS_WITH_MAJORITY) {
    const [only = "none"] = voters.map(({ name }) => name);
    const check = checkOf("database", "cluster", "a voter");
    return voters.length === 0
      ? check.failed("none", `See ${client} cluster list`)
      : check.passed(members.length === 1 ? only : `${only}; without it, no member's API answers`);
  }
  const check = checkOf("database", "cluster", "3 or more voters, an odd number, all online");
  if (quorum !== undefined) {
    const down = voters.flatMap(({ name, isDown }) => (isDown ? [name] : []));
    return check.failed(quorum, `Start ${down.join(", ")}; another member may become a voter instead`);
  }
  return voters.length >= MEMBERS_WITH_MAJORITY && voters.length % 2 === 1
    ? check.passed(`${voters.length}: ${names}`)
    : check.failed(
        `${voters.length}: ${names || "none"}`,
        `The server chooses voters among the members that are Online, up to cluster.max_voters (3 by default): see ${client} cluster list`,
      );
}
