/** Pools, networks, and what devices name. */
import { isRunning } from "../../provider/lxd/instances/instances";
import { ownerOf } from "../../provider/lxd/ownership";
import { type ClusterStatus, named, type ObjectStatus, statusText } from "../status/contents";
import type { Facts, InterfaceFact } from "./facts";
import { checkOf, type Row } from "./rows";

const FULL = 0.9;

export function objectRows(facts: Facts): Row[] {
  const { pools, networks } = facts.status;
  return [
    ...pools.map((pool) => createdRow("pool", pool, facts.status)),
    ...facts.space.flatMap((each) => spaceRow(each, facts.status.client)),
    ...networks.map((network) => createdRow("network", network, facts.status)),
    ...interfaceRows(facts),
    ...deviceRows(facts),
  ];
}

function createdRow(noun: "pool" | "network", object: ObjectStatus, { members, client }: ClusterStatus): Row {
  const check = checkOf(noun, named(object), "Created on every member");
  const down = members.flatMap(({ name, isDown }) => (isDown ? [name] : []));
  const faults = Object.entries(object.statuses).filter(([member, status]) => status !== "Created" && !down.includes(member));
  const found = statusText(object);
  if (faults.length > 0) {
    const { stack, project } = object.mark === undefined ? {} : ownerOf(object.mark.urn);
    const inProject = object.project === "default" ? "" : ` --project ${object.project}`;
    const command = `${client} ${noun === "pool" ? "storage" : "network"}`;
    const member = faults[0]?.[0] ?? "";
    return check.failed(
      found,
      stack === undefined || project === undefined
        ? `${command} show ${object.name} --target ${member}${inProject} shows that part. Create it without --target once every member has its part, or remove it: ${command} delete ${object.name}${inProject}`
        : `pulumi up of stack "${stack}", project "${project}", finishes it, or says what is in the way`,
    );
  }
  return down.length > 0
    ? check.notChecked(`${down.join(", ")} ${down.length === 1 ? "is" : "are"} down: ${found}`)
    : check.passed(found);
}

function spaceRow({ pool, member, space }: Facts["space"][number], client: string): Row[] {
  const check = checkOf("space", `${pool} on ${member}`, "less than 90 % used");
  if (space.why !== undefined) {
    return [check.notChecked(space.why)];
  }
  const { used, total } = space.value;
  if (total === 0) {
    return [];
  }
  const found = `${Math.floor((100 * used) / total)} % of ${(total / 2 ** 30).toFixed(1)} GiB`;
  return [
    used / total < FULL
      ? check.passed(found)
      : check.failed(
          found,
          `Enlarge it, or remove what is not needed: ${client} storage volume list ${pool}, ${client} image list`,
        ),
  ];
}

/**
 * An interface of a host is judged only on members where a running instance is on it: a bridge without any has no carrier, and is down
 * rightly.
 */
function interfaceRows({ interfaces, instances, networks }: Facts): Row[] {
  return interfaces.flatMap(({ name, member, state }) => {
    const users = instances.filter(
      ({ status, devices }) =>
        status.member === member && isRunning(status) && namesIn(networks[status.project] ?? {}, devices).includes(name),
    );
    if (users.length === 0) {
      return [];
    }
    const check = checkOf("interface", `${name} on ${member}`, `up, for ${listed(users.map(({ status }) => named(status)))}`);
    if (state.why !== undefined) {
      return [check.notChecked(state.why)];
    }
    return [
      state.value === "up"
        ? check.passed("up")
        : check.failed(state.value ?? "not there", `On ${member}: ip link set ${name} up; see the host's network configuration`),
    ];
  });
}

/**
 * Interfaces of the host that NICs are on: what they name as parent, and the managed bridges. Without those of `physical`, which leave the host
 * for a running instance.
 */
export function namesIn(
  networks: Readonly<Record<string, { readonly type: string }>>,
  devices: Facts["instances"][number]["devices"],
): string[] {
  return Object.values(devices).flatMap(({ type, nictype, parent, network = "" }) => {
    if (type !== "nic" || nictype === "physical") {
      return [];
    }
    return parent ?? (networks[network]?.type === "bridge" ? [network] : []);
  });
}

/** One row in all when everything that devices name is there. */
function deviceRows(facts: Facts): Row[] {
  const { profiles, instances, interfaces, status } = facts;
  const down = new Set(status.members.flatMap(({ name, isDown }) => (isDown ? [name] : [])));
  const rows = [
    ...profiles.flatMap((profile) =>
      missingIn(facts, `profile ${named(profile)}`, profile, (name) => interfaces.filter((each) => each.name === name)),
    ),
    ...instances
      .filter((each) => !down.has(each.status.member))
      .flatMap(({ status: { project, name, member }, devices }) =>
        missingIn(facts, `instance ${named({ project, name })}`, { project, devices }, (parent) =>
          interfaces.filter((each) => each.name === parent && each.member === member),
        ),
      ),
  ];
  const check = checkOf("devices", "profiles, instances", "name what is there");
  return rows.length > 0 || profiles.length + instances.length === 0
    ? rows
    : [check.passed("pools, networks and interfaces are there")];
}

/** @param partsOf - Where an interface could be. */
function missingIn(
  { networks, status: { pools, client } }: Facts,
  on: string,
  { project, devices }: Pick<Facts["profiles"][number], "project" | "devices">,
  partsOf: (parent: string) => readonly InterfaceFact[],
): Row[] {
  return Object.entries(devices).flatMap(([device, { type, nictype, pool, network, parent }]) => {
    const check = checkOf("devices", on, "names what is there");
    const fix = (what: string): string =>
      `Create the ${what}, or change the device ${device}: ${client} config device, ${client} profile device`;
    if (type === "disk" && pool !== undefined && !pools.some(({ name }) => name === pool)) {
      return [check.failed(`${device} names the pool ${pool}, which is not there`, fix("pool"))];
    }
    if (type === "nic" && network !== undefined && networks[project]?.[network] === undefined) {
      return [check.failed(`${device} names the network ${network}, which is not there`, fix("network"))];
    }
    const parts = type === "nic" && nictype !== "physical" && parent !== undefined ? partsOf(parent) : [];
    const unknown = parts.find(({ state }) => state.why !== undefined);
    if (parts.some(({ state }) => state.why === undefined && state.value !== undefined) || parts.length === 0) {
      return [];
    }
    return [
      unknown?.state.why === undefined
        ? check.failed(
            `${device} names the interface ${parent}, which is not on ${parts.map(({ member }) => member).join(", ")}`,
            fix("interface on the host"),
          )
        : check.notChecked(unknown.state.why),
    ];
  });
}

function listed(names: readonly string[]): string {
  const most = 3;
  return names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
}
