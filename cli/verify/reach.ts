/** Whether instances reach each other over the networks of the hosts. */
import { isRunning } from "../../provider/lxd/instances/instances";
import { named } from "../status/contents";
import type { Facts, InstanceFact, Peer } from "./facts";
import { checkOf, type Row } from "./rows";
import { commandFor } from "./texts";

const NO_PROGRAM = 127;

/**
 * Another running instance on another member, and its address on a network that both are on. That is an interface of the hosts, or a network
 * other than a bridge: a bridge that LXD manages is one of each member. The peers go around, so that not all instances ask the same one.
 */
export function peerOf(
  instance: InstanceFact,
  instances: readonly InstanceFact[],
  networks: Facts["networks"],
): Peer | undefined {
  const at = instances.indexOf(instance);
  const own = lansOf(instance, networks).map(({ lan }) => lan);
  for (const other of [...instances.slice(at + 1), ...instances.slice(0, Math.max(0, at))]) {
    if (isRunning(other.status) && other.status.member !== instance.status.member) {
      const shared = lansOf(other, networks).find(({ lan, addresses }) => own.includes(lan) && addresses.length > 0);
      const [address] = shared?.addresses ?? [];
      if (address !== undefined) {
        return { name: named(other.status), address };
      }
    }
  }
  return undefined;
}

function lansOf({ status, devices, addresses }: InstanceFact, networks: Facts["networks"]) {
  const managed = networks[status.project] ?? {};
  return Object.entries(devices).flatMap(([nic, { type, parent, network }]) => {
    const lan = parent ?? network;
    return type === "nic" && lan !== undefined && managed[lan]?.type !== "bridge"
      ? [{ lan, addresses: addresses[nic] ?? [] }]
      : [];
  });
}

export function reachRows({ ping, instances, status }: Pick<Facts, "ping" | "instances" | "status">): Row[] {
  if (!ping) {
    return [];
  }
  const rows = instances.flatMap((instance) => reachRow(instance, status.client));
  return rows.length > 0
    ? rows
    : [
        checkOf("ping", "cluster", "instances answer each other").notChecked(
          "no two running instances on different members have addresses on one network of the hosts",
        ),
      ];
}

function reachRow({ status, peer, guest }: InstanceFact, client: string): Row[] {
  if (peer === undefined || guest === undefined) {
    return [];
  }
  const check = checkOf("ping", named(status), `${peer.name} answers at ${peer.address}`);
  const { commands } = guest;
  if (commands.why !== undefined) {
    return [check.notChecked(commands.why)];
  }
  const { ping } = commands.value;
  if (ping === undefined || ping.exitCode === NO_PROGRAM) {
    return [check.notChecked("it has no ping")];
  }
  return [
    ping.exitCode === 0
      ? check.passed("answers")
      : check.failed(
          "no answer",
          `${commandFor(client, "exec", status, `ip route get ${peer.address}`)}; check the switch between the members, and the firewalls of the hosts and of ${peer.name}`,
        ),
  ];
}
