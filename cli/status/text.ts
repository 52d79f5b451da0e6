/** The status of a cluster as text. Pure. */
import { ownerOf } from "../../provider/lxd/ownership";
import { type ClusterStatus, named, type ObjectStatus } from "./contents";

export function describeStatus(status: ClusterStatus): string {
  const { title, host, clustered, members, pools, networks, instances, unfinished } = status;
  const size = members.length === 1 ? "one member" : `${members.length} members`;
  const place = clustered ? `a cluster of ${size}, asked on ${host}` : `a standalone server on ${host}`;
  const numberOn = (member: string): string => String(instances.filter((each) => each.member === member).length);
  const sections = [
    `${title}, ${place}\n`,
    table(
      ["MEMBER", "STATUS", "ADDRESS", "ROLES", "INSTANCES"],
      members.map(({ name, status, address, roles }) => [name, status, address, roles.join(", "), numberOn(name)]),
    ),
    table(["POOL", "DRIVER", "STATUS", "OWNER"], pools.map(rowOf)),
    table(["NETWORK", "TYPE", "STATUS", "OWNER"], networks.map(rowOf)),
    table(
      ["INSTANCE", "TYPE", "STATUS", "MEMBER", "ADDRESSES", "USERS", "OWNER"],
      instances.map(({ type, status, member, addresses, users, mark, ...which }) => [
        ...[named(which), type, status, member],
        ...[addresses.join(", "), users.join(", "), ownerIn(mark)],
      ]),
    ),
    unfinished.length === 0 ? "Nothing is unfinished.\n" : `Unfinished:\n${unfinished.map((each) => `  - ${each}\n`).join("")}`,
  ];
  return sections.filter((text) => text !== "").join("\n");
}

function rowOf(object: ObjectStatus): string[] {
  return [named(object), object.type, statusOf(object), ownerIn(object.mark)];
}

/** One status where all members have the same. */
function statusOf({ statuses }: Pick<ObjectStatus, "statuses">): string {
  const entries = Object.entries(statuses);
  const [first] = Object.values(statuses);
  return first !== undefined && entries.every(([, status]) => status === first)
    ? first
    : entries.map(([member, status]) => `${status} (${member})`).join(", ");
}

function ownerIn(mark: ObjectStatus["mark"]): string {
  if (mark === undefined) {
    return "";
  }
  const { stack, project, name } = ownerOf(mark.urn);
  return name === undefined ? mark.urn : `${project}/${stack}: ${name}`;
}

/** Columns of equal width under a heading; `-` for what is empty. Nothing without rows. */
function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) {
    return "";
  }
  const all = [heading, ...rows.map((row) => row.map((cell) => cell || "-"))];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
