/** The status of a cluster as text. Pure. */
import { ownerOf } from "../../provider/lxd/ownership";
import { table } from "../table";
import { type ClusterStatus, named, type ObjectStatus, statusText, titleOf } from "./contents";

export function describeStatus(status: ClusterStatus): string {
  const { members, pools, networks, instances, unfinished } = status;
  const numberOn = (member: string): string => String(instances.filter((each) => each.member === member).length);
  const sections = [
    `${titleOf(status)}\n`,
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
  return [named(object), object.type, statusText(object), ownerIn(object.mark)];
}

function ownerIn(mark: ObjectStatus["mark"]): string {
  if (mark === undefined) {
    return "";
  }
  const { stack, project, name } = ownerOf(mark.urn);
  return name === undefined ? mark.urn : `${project}/${stack}: ${name}`;
}
