import type { SimulatedLab } from "../../lab/simulated";

const ADDRESSES = { bcn2: "192.168.1.102", bcn1: "192.168.1.101" };

/** Two simulated hosts on one network, without LXD. */
export const TWO_HOSTS = [
  { name: "bcn2", lanAddress: ADDRESSES.bcn2 },
  { name: "bcn1", lanAddress: ADDRESSES.bcn1 },
] as const;

/** {@link TWO_HOSTS} with LXD, in no cluster. */
export const TWO_SERVERS = TWO_HOSTS.map((host) => ({ ...host, lxd: "deb" as const }));

/** Arguments of the LxdClusterMember of one of {@link TWO_HOSTS}: bcn2 bootstraps the cluster, and bcn1 joins it. */
export function memberArgs(lab: SimulatedLab, name: keyof typeof ADDRESSES, more: object = {}): object {
  const cluster = { endpoints: [lab.host("bcn2").connection] };
  const joining = name === "bcn2" ? {} : { cluster };
  return { connection: lab.host(name).connection, name, address: ADDRESSES[name], ...joining, ...more };
}
