import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { mustRun, runCommand } from "./process";
import type { HostAddress, LabNetwork, Shape } from "./shapes";
import type { LabPlace } from "./state";

/** Folder where iproute2 keeps named network namespaces. */
export const NAMESPACE_FOLDER = "/run/netns";

/** A host's address on a further network. */
export function addressOn({ prefix }: LabNetwork, { address }: HostAddress): string {
  return `${prefix}.${address.slice(address.lastIndexOf(".") + 1)}`;
}

/** The bridge inside the switch's namespace that joins all hosts and the workstation. */
const SWITCH_BRIDGE = "lan";

/**
 * Creates the lab's switch and the workstation's network. No namespace of the lab has a route to anything outside it.
 */
export async function createSwitch(place: LabPlace, shape: Shape): Promise<void> {
  await mustRun(["ip", "netns", "add", place.switchNamespace]);
  await mustRun(["ip", "netns", "add", place.workstationNamespace]);
  await ipBatch(place.switchNamespace, [
    "link set lo up",
    `link add ${SWITCH_BRIDGE} type bridge stp_state 0 forward_delay 0`,
    `link set ${SWITCH_BRIDGE} up`,
    `link add workstation type veth peer name eth0 netns ${place.workstationNamespace}`,
    `link set workstation master ${SWITCH_BRIDGE} up`,
  ]);
  await ipBatch(place.workstationNamespace, [
    "link set lo up",
    `link set eth0 address ${hardwareAddress(shape.workstation)} up`,
    addAddress(shape.workstation, "eth0", shape),
  ]);
}

/**
 * Creates a host's network namespace and connects it to the switch. The host's address is on a bridge `br0` over its
 * link, so that guests with a NIC on `br0` are on the lab's network.
 */
export async function connectHost(place: LabPlace, shape: Shape, host: HostAddress): Promise<void> {
  const namespace = place.hostNamespace(host.name);
  await mustRun(["ip", "netns", "add", namespace]);
  await ipBatch(place.switchNamespace, [
    `link add ${host.name} type veth peer name eth0 netns ${namespace}`,
    `link set ${host.name} master ${SWITCH_BRIDGE} up`,
  ]);
  const address = hardwareAddress(host.address);
  await ipBatch(namespace, [
    "link set lo up",
    // A bridge without an explicit address takes the lowest of its ports', which changes with every guest.
    `link add br0 address ${address} type bridge stp_state 0 forward_delay 0`,
    `link set eth0 address ${address}`,
    "link set eth0 master br0 up",
    "link set br0 up",
    addAddress(host.address, "br0", shape),
  ]);
}

/** Adds a network's bridge to the switch. */
export async function createNetwork(place: LabPlace, { name }: LabNetwork): Promise<void> {
  await ipBatch(place.switchNamespace, [`link add ${name} type bridge stp_state 0 forward_delay 0`, `link set ${name} up`]);
}

/** Connects a host to a further network. */
export async function connectToNetwork(place: LabPlace, network: LabNetwork, host: HostAddress): Promise<void> {
  const namespace = place.hostNamespace(host.name);
  const port = portOf(network, host.name);
  await runCommand(["ip", "-n", place.switchNamespace, "link", "delete", port]); // as in disconnectHost
  await ipBatch(place.switchNamespace, [
    `link add ${port} type veth peer name ${network.name} netns ${namespace}`,
    `link set ${port} master ${network.name} up`,
  ]);
  await ipBatch(namespace, [`link set ${network.name} up`, `address add ${addressOn(network, host)}/24 dev ${network.name}`]);
}

/** Takes a network from the switch and from its hosts. */
export async function removeNetwork(place: LabPlace, network: LabNetwork, hosts: readonly HostAddress[]): Promise<void> {
  for (const { name } of hosts) {
    await runCommand(["ip", "-n", place.switchNamespace, "link", "delete", portOf(network, name)]); // a host that is off has none
  }
  await ipBatch(place.switchNamespace, [`link delete ${network.name}`]);
}

/** Name of the switch's port for a host on a further network. */
function portOf({ name }: LabNetwork, host: string): string {
  return `${host}.${name}`;
}

/** Disconnects a host and removes its network namespace. */
export async function disconnectHost(place: LabPlace, name: string): Promise<void> {
  await removeNamespace(place.hostNamespace(name));
  // The other end of the link stays until the kernel has removed the namespace; a new link needs the name now.
  await runCommand(["ip", "-n", place.switchNamespace, "link", "delete", name]);
}

/** Removes a named network namespace if it exists. */
export async function removeNamespace(name: string): Promise<void> {
  if (existsSync(join(NAMESPACE_FOLDER, name))) await mustRun(["ip", "netns", "delete", name]);
}

async function ipBatch(namespace: string, commands: readonly string[]): Promise<void> {
  await mustRun(["ip", "-n", namespace, "-batch", "-"], { stdin: `${commands.join("\n")}\n` });
}

function addAddress(address: string, device: string, { prefixLength }: Shape): string {
  // Without the search for duplicates, an IPv6 address can be used at once.
  return `address add ${address}/${prefixLength} dev ${device}${isIPv6(address) ? " nodad" : ""}`;
}

/** A locally administered hardware address that belongs to the IP address. */
function hardwareAddress(address: string): string {
  const bytes = createHash("sha256").update(address).digest("hex").match(/../g) ?? [];
  return ["02", "00", ...bytes.slice(0, 4)].join(":");
}
