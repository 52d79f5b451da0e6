/** What is unfinished in a cluster, or not as it should be, and what ends it. Pure. */
import { EVACUATED } from "../../provider/lxd/cluster/cluster";
import { type Mark, ownerOf } from "../../provider/lxd/ownership";
import { type ClusterStatus, type InstanceStatus, type MemberStatus, named, type ObjectStatus } from "./contents";

export function unfinishedIn(found: Omit<ClusterStatus, "unfinished">): string[] {
  const { members, quorum, pools, networks, instances, operations } = found;
  const down = new Set(members.flatMap(({ name, isDown }) => (isDown ? [name] : [])));
  return [
    ...members.flatMap((member) => ofMember(member, found.client)),
    ...(quorum === undefined ? [] : [quorum]),
    ...pools.flatMap((each) => ofObject("Storage pool", each, down)),
    ...networks.flatMap((each) => ofObject("Network", each, down)),
    ...instances.flatMap((each) => ofInstance(each, down)),
    ...operations.map(({ description, since }) => `"${description}" runs since ${since}`),
  ];
}

function ofMember({ name, status, isDown, message }: MemberStatus, client: string): string[] {
  if (isDown) {
    return [`Member ${name} is down${message === "" ? "" : `: ${message}`}. Its instances are listed without their contents`];
  }
  if (status === EVACUATED) {
    return [`Member ${name} is evacuated. When its maintenance is over: ${client} cluster restore ${name}, or evacuated: false`];
  }
  if (status === "Blocked") {
    return [`Member ${name} waits until all members run the same version: upgrade the others`];
  }
  return status === "Online" ? [] : [`Member ${name} is ${status}: ${message}`];
}

function ofObject(noun: string, object: ObjectStatus, down: ReadonlySet<string>): string[] {
  const { statuses, mark } = object;
  const faults = Object.entries(statuses).filter(([member, status]) => status !== "Created" && !down.has(member));
  const what = `${noun} ${named(object)}`;
  const kinds = [...new Set(faults.map(([, status]) => status))];
  const where = kinds.map(
    (kind) => `${kind} on ${faults.flatMap(([member, status]) => (status === kind ? [member] : [])).join(", ")}`,
  );
  return [...(kinds.length === 0 ? [] : [`${what} is ${where.join("; ")}`]), ...ofMark(what, mark)];
}

function ofInstance(instance: InstanceStatus, down: ReadonlySet<string>): string[] {
  const { status, member, origin, mark } = instance;
  const what = `Instance ${named(instance)}`;
  return [
    ...(status === "Error" && !down.has(member) ? [`${what} on ${member} is in the status Error`] : []),
    ...(origin === undefined ? [] : [`${what} is ${origin === member ? "stopped" : `on ${member}`} until ${origin} is restored`]),
    ...ofMark(what, mark),
  ];
}

function ofMark(what: string, mark: Mark | undefined): string[] {
  if (mark?.isCreating !== true) {
    return [];
  }
  const { stack, project, name } = ownerOf(mark.urn);
  return [
    `${what} is not finished: pulumi up of stack "${stack ?? "?"}", project "${project ?? "?"}", continues with ${name ?? mark.urn}`,
  ];
}
