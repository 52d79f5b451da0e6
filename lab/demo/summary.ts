import type { StateResource } from "./pulumi";

interface Vm {
  name: string;
  location: string;
  status: string;
  addresses: Record<string, { ipv4: string[] }>;
}

interface Member {
  name: string;
  address: string;
  status: string;
  roles: string[];
}

interface User {
  instance: string;
  name: string;
  sudo: string;
}

/** The cluster as a text for the screen. */
export function summary(resources: readonly StateResource[]): string {
  const users = outputsOf<User>(resources, "VmUser");
  const members = outputsOf<Member>(resources, "LxdClusterMember").map(({ name, address, status, roles }) => [
    name,
    address,
    status,
    roles.join(", "),
  ]);
  const vms = outputsOf<Vm>(resources, "LxdVm").map(({ name, location, status, addresses }) => [
    name,
    location,
    status,
    Object.entries(addresses)
      .map(([nic, { ipv4 }]) => `${nic} ${ipv4.join(" ") || "-"}`)
      .join(", "),
    users
      .filter(({ instance }) => instance === name)
      .map((user) => `${user.name} (sudo: ${user.sudo})`)
      .join(", "),
  ]);
  return [
    ...table(["MEMBER", "ADDRESS", "STATUS", "ROLES"], members),
    "",
    ...table(["VM", "MEMBER", "STATE", "ADDRESSES", "USERS"], vms),
  ].join("\n");
}

/** The user and the LAN address for a login to a VM. */
export function loginOf(resources: readonly StateResource[], vm: string): { user: string; address: string } {
  const found = outputsOf<Vm>(resources, "LxdVm").find(({ name }) => name === vm);
  const user = outputsOf<User>(resources, "VmUser").find(({ instance }) => instance === vm);
  const address = found?.addresses["eth1"]?.ipv4[0];
  if (user === undefined || address === undefined) {
    const names = outputsOf<Vm>(resources, "LxdVm").map(({ name }) => name);
    throw new Error(`There is no VM "${vm}" with a user and a LAN address. The VMs are: ${names.join(", ") || "none"}.`);
  }
  return { user: user.name, address };
}

function outputsOf<Outputs extends { name: string }>(resources: readonly StateResource[], kind: string): Outputs[] {
  const ofKind = resources.filter(({ type }) => type.endsWith(`/lxd:${kind}`)).map(({ outputs }) => outputs as Outputs);
  return ofKind.sort((a, b) => a.name.localeCompare(b.name));
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines.map((line) => `  ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}`.trimEnd());
}
