import type { StateResource } from "./pulumi";

interface Vm {
  name: string;
  addresses: Record<string, { ipv4: string[] }>;
}

interface User {
  instance: string;
  name: string;
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
