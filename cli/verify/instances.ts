/** What LXD tells of instances. */
import { isRunning, isStopped, nicsOf } from "../../provider/lxd/instances/instances";
import { named } from "../status/contents";
import { canonical, staticAddressesOf } from "./addresses";
import type { Facts, InstanceFact } from "./facts";
import { type Check, checkOf, type Row } from "./rows";
import { commandFor } from "./texts";

export function instanceRows({ status, processes, ...fact }: InstanceFact, { members, client }: Facts["status"]): Row[] {
  const on = named(status);
  const check = checkOf("instance", on, startsWithHost(fact) ? "Running (boot.autostart)" : "Running or stopped");
  if (members.some(({ name, isDown }) => isDown && name === status.member)) {
    return [check.notChecked(`${status.member} is down`)];
  }
  if (!isRunning(status)) {
    return [stoppedRow({ status, ...fact }, check, client)];
  }
  const agent = checkOf("agent", on, "answers");
  if (!fact.hasState) {
    const why = "its state did not come in time";
    return [check.passed(status.status), ...(hasNics(fact) ? [checkOf("address", on, "an address").notChecked(why)] : [])];
  }
  const isVm = status.type === "virtual-machine";
  const answers = !isVm || processes >= 0;
  return [
    check.passed(status.status),
    ...(isVm
      ? [
          answers
            ? agent.passed("answers")
            : agent.failed(
                "does not answer",
                `${commandFor(client, "console", status)}: wait until it has booted; install lxd-agent or incus-agent in it, or ${commandFor(client, "restart", status)}`,
              ),
        ]
      : []),
    ...(hasNics(fact) ? addressRows({ status, processes, ...fact }, client, answers) : []),
  ];
}

function startsWithHost({ config }: Pick<InstanceFact, "config">): boolean {
  return ["true", "1", "yes", "on"].includes(config["boot.autostart"] ?? "");
}

function stoppedRow({ status, config }: Pick<InstanceFact, "status" | "config">, check: Check, client: string): Row {
  if (isStopped(status)) {
    if (status.origin !== undefined) {
      return check.passed(`${status.status}, until ${status.origin} is restored`);
    }
    return startsWithHost({ config })
      ? check.failed(status.status, `${commandFor(client, "start", status)}, or unset boot.autostart`)
      : check.passed(status.status);
  }
  const start = commandFor(client, "start", status);
  const log = commandFor(client, "info", status);
  return check.failed(status.status, status.status === "Frozen" ? start : `${log} --show-log tells why`);
}

/** Loopback and link-local addresses do not count: see `addressesOf`. */
function addressRows({ status, config, devices, addresses }: InstanceFact, client: string, answers: boolean): Row[] {
  const on = named(status);
  const all = Object.values(addresses).flat();
  const found = all.join(", ") || "none";
  const wanted = staticAddressesOf({ config, devices });
  const missing = wanted.filter((address) => !all.some((each) => canonical(each) === address));
  const check = checkOf("address", on, "an IPv4 or global IPv6 address");
  const fixed = checkOf("static address", on, wanted.join(", "));
  // Without the agent LXD knows no more than the leases of its own bridges.
  const why = "the agent does not answer";
  const look = commandFor(client, "exec", status, "ip address");
  return [
    all.length > 0
      ? check.passed(found)
      : answers
        ? check.failed(found, `${look} shows its interfaces. Check DHCP on its network, or give it a static address`)
        : check.notChecked(why),
    ...(wanted.length === 0
      ? []
      : [
          missing.length === 0
            ? fixed.passed(found)
            : answers
              ? fixed.failed(
                  found,
                  `${look} shows its interfaces. cloud-init applies its network config on the first boot: ${commandFor(client, "exec", status, "cloud-init status --long")}`,
                )
              : fixed.notChecked(why),
        ]),
  ];
}

export function hasNics({ devices }: Pick<InstanceFact, "devices">): boolean {
  return nicsOf({ expanded_devices: devices }).length > 0;
}
