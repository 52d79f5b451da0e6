/** What was asked inside running instances. */
import { CLOUD_INIT_TEXT } from "../../provider/lxd/config";
import { cloudInitVerdict } from "../../provider/lxd/instances/wait";
import { named } from "../status/contents";
import type { Ending, GuestFact, InstanceFact } from "./facts";
import { hasNics } from "./instances";
import { checkOf, type Row } from "./rows";
import { commandFor } from "./texts";

/** Exit codes of a shell and of timeout(1). */
const NO_PROGRAM = 127;
const TOO_LATE = 124;

const MOST_CHARACTERS = 200;

export function guestRows(instance: InstanceFact, client: string): Row[] {
  const { status, guest } = instance;
  if (guest === undefined) {
    return [];
  }
  const on = named(status);
  const { commands } = guest;
  const inside =
    commands.why !== undefined
      ? [checkOf("system", on, "running").notChecked(commands.why)]
      : [
          ...cloudInitRow(instance, commands.value.cloudInit, client),
          ...systemRow(instance, commands.value.system, commands.value.failedUnits, client),
          ...(hasNics(instance) ? [routeRow(instance, commands.value.routes, client)] : []),
        ];
  return [
    ...inside,
    ...(hasNics(instance) ? [nameServerRow(instance, guest, client)] : []),
    ...userRows(instance, guest, client),
  ];
}

/** None where the program is not installed. */
function cloudInitRow({ status, config }: InstanceFact, { exitCode, stdout }: Ending, client: string): Row[] {
  const check = checkOf("cloud-init", named(status), "done");
  if (exitCode === NO_PROGRAM) {
    return [];
  }
  if (exitCode === TOO_LATE) {
    return [check.notChecked("cloud-init status does not end")];
  }
  const verdict = cloudInitVerdict({ exitCode, stdout, stderr: "" });
  const log = `${commandFor(client, "exec", status, "cat /var/log/cloud-init-output.log")}; then correct its user data`;
  switch (verdict.end) {
    case "pending":
      return [check.notChecked(`not yet: ${verdict.seen}`)];
    case "failed":
      return [check.failed(`error${detailOf(stdout)}`, log)];
    case "no-data": {
      const ignored = Object.keys(config).filter((key) => CLOUD_INIT_TEXT.test(key));
      return [
        ignored.length === 0
          ? check.passed("done, without data")
          : check.failed(
              `did not find ${ignored.join(", ")}`,
              `${commandFor(client, "restart", status)}, so that it looks again`,
            ),
      ];
    }
    case "degraded":
      return [check.passed(`done, degraded${detailOf(stdout)}`)];
    case "done":
      return [check.passed("done")];
  }
}

/** What `cloud-init status --long` says of errors, in one line. */
function detailOf(stdout: string): string {
  const [, text = ""] = /^(?:detail|errors|recoverable_errors):([^]*)$/m.exec(stdout) ?? [];
  const line = text.replace(/\s+/g, " ").trim();
  return line === "" ? "" : `: ${line.slice(0, MOST_CHARACTERS)}`;
}

/** None where systemd does not run. */
function systemRow({ status }: InstanceFact, { exitCode, stdout }: Ending, units: Ending, client: string): Row[] {
  const check = checkOf("system", named(status), "running");
  const state = stdout.trim();
  if (exitCode === NO_PROGRAM || state === "offline") {
    return [];
  }
  if (exitCode === TOO_LATE || state === "" || state === "unknown") {
    return [check.notChecked("systemctl is-system-running does not answer")];
  }
  switch (state) {
    case "running":
      return [check.passed(state)];
    case "initializing":
    case "starting":
      return [check.notChecked(`not yet: it is ${state}`)];
    default: {
      const failed = units.stdout.split("\n").flatMap((line) => /^[●*\s]*(\S+)/.exec(line)?.[1] ?? []);
      const look = failed.length === 0 ? "systemctl list-jobs" : `journalctl -b -u ${failed[0]}`;
      return [
        check.failed(failed.length === 0 ? state : `${state}: ${failed.join(", ")}`, commandFor(client, "exec", status, look)),
      ];
    }
  }
}

function routeRow({ status }: InstanceFact, { stdout }: Ending, client: string): Row {
  const check = checkOf("default route", named(status), "one");
  if (!/^Iface\s/m.test(stdout)) {
    return check.notChecked("/proc/net/route cannot be read");
  }
  const found = defaultRoutesIn(stdout);
  const look = commandFor(client, "exec", status, "ip route");
  return found.length > 0
    ? check.passed(`through ${found.join(", ")}`)
    : check.failed("none", `${look}. Set a gateway in its network config, or let its network give one by DHCP`);
}

/** Bits of a route's flags: it is in use; it rejects packets. */
const UP = 0x1;
const REJECTS = 0x200;

/**
 * Interfaces of the default routes in `/proc/net/route` and `/proc/net/ipv6_route`: proc_pid_net(5). A line of the first has interface,
 * destination, gateway, flags and, as the eighth word, the mask; one of the second has destination, length of the prefix, and at the end flags
 * and interface.
 */
function defaultRoutesIn(text: string): string[] {
  const interfaces = text.split("\n").flatMap((line) => {
    const words = line.trim().split(/\s+/);
    const isV6 = words.length === 10 && /^[0-9a-f]{32}$/.test(words[0] ?? "");
    const [device, flags] = isV6 ? [words[9], words[8]] : [words[0], words[3]];
    const isDefault = isV6
      ? /^0+$/.test(words[0] ?? "") && words[1] === "00"
      : words[1] === "00000000" && words[7] === "00000000";
    const bits = Number.parseInt(flags ?? "", 16);
    return isDefault && device !== undefined && device !== "lo" && (bits & UP) !== 0 && (bits & REJECTS) === 0 ? [device] : [];
  });
  return [...new Set(interfaces)];
}

function nameServerRow({ status }: InstanceFact, { nameServers }: GuestFact, client: string): Row {
  const check = checkOf("name server", named(status), "one or more");
  if (nameServers.why !== undefined) {
    return check.notChecked(nameServers.why);
  }
  const look = commandFor(client, "exec", status, "cat /etc/resolv.conf");
  return nameServers.value.length > 0
    ? check.passed(nameServers.value.join(", "))
    : check.failed(
        "none",
        `${look}. Give it nameservers in its network config or by DHCP. systemd-networkd passes them on to systemd-resolved only: install that`,
      );
}

function userRows({ status }: InstanceFact, { users }: GuestFact, client: string): Row[] {
  return users.flatMap(({ name, found }) => {
    const on = `${name} in ${named(status)}`;
    const user = checkOf("user", on, "there");
    if (found.why !== undefined) {
      return [user.notChecked(found.why)];
    }
    const { exists, sudo, obstacle } = found.value;
    if (!exists) {
      return [user.failed("not in /etc/passwd", "pulumi refresh, then pulumi up of the stack that owns it creates it again")];
    }
    const rights = checkOf("sudo", on, "a file of root that no other can write");
    const keys = checkOf("keys", on, "accepted by sshd");
    const path = `/etc/sudoers.d/${name}`;
    const isSafe = sudo?.type === "file" && sudo.uid === 0 && (sudo.mode & 0o022) === 0;
    return [
      user.passed("there"),
      ...(sudo === undefined
        ? []
        : [
            isSafe
              ? rights.passed(`mode ${sudo.mode.toString(8)}`)
              : rights.failed(
                  `${sudo.type} of uid ${sudo.uid}, mode ${sudo.mode.toString(8)}`,
                  `${commandFor(client, "exec", status, `chown root:root ${path}`)}; ${commandFor(client, "exec", status, `chmod 440 ${path}`)}`,
                ),
          ]),
      obstacle === undefined
        ? keys.passed("accepted")
        : keys.failed(`${obstacle.path} ${obstacle.fact}`, `In ${named(status)}: ${obstacle.cure}`),
    ];
  });
}
