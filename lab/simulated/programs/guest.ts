/** The programs of a guest other than those for files and accounts. */
import { type Guest, networkFiles } from "../guest";
import { failure, ok, type Programs, parseArguments } from "../machine";
import { accountPrograms, killProcesses, visudo } from "./accounts";
import { filePrograms } from "./files";
import { openrcPrograms } from "./openrc";
import { packagePrograms } from "./packages";

/** Programs of a guest. */
export const guestPrograms: Programs<Guest> = {
  ...(filePrograms as Programs<Guest>),
  ...(accountPrograms as Programs<Guest>),
  ...(packagePrograms as Programs<Guest>),
  visudo,
  cat: (run) => {
    const network = networkFiles(run.machine.instance);
    return run.args.length > 0 && run.args.every((path) => path in network)
      ? ok(run.args.map((path) => network[path] ?? "").join(""))
      : (((packagePrograms as Programs<Guest>)["cat"] ?? (filePrograms as Programs<Guest>)["cat"])?.(run) ?? failure(1, "cat"));
  },
  ping: ({ machine, args }) => {
    const { operands } = parseArguments(args, { valued: ["-c", "-W"] });
    const [address = ""] = operands;
    const { database } = machine.instance.member.daemon;
    const answers = [...database.instances.values()].some(
      ({ status, leases }) =>
        status === "Running" && [...leases.values()].some(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address),
    );
    return answers
      ? ok(`PING ${address} 56 data bytes\n1 packets transmitted, 1 received, 0% packet loss\n`)
      : { ...failure(1, ""), stdout: `PING ${address} 56 data bytes\n1 packets transmitted, 0 received, 100% packet loss\n` };
  },
  env: ({ env }) =>
    ok(
      Object.entries(env)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    ),
  hostname: ({ machine }) => ok(`${machine.name}\n`),
  uname: () => ok("Linux\n"),
  which: ({ args }) => {
    const found = args.filter((program) => program in guestPrograms);
    return {
      exitCode: found.length === args.length ? 0 : 1,
      stdout: found.map((program) => `/usr/bin/${program}\n`).join(""),
      stderr: "",
    };
  },
  "cloud-init": ({ machine }) => {
    const { foundByCloudInit, member } = machine.instance;
    if (member.daemon.behaviour.server === "incus") {
      return foundByCloudInit
        ? ok(
            "status: done\nboot_status_code: enabled-by-generator\ndetail:\nDataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud-net]\n",
          )
        : ok("status: disabled\nboot_status_code: disabled-by-generator\ndetail:\nCloud-init disabled by cloud-init-generator\n");
    }
    const source = foundByCloudInit ? "DataSourceLXD" : "DataSourceNone";
    return ok(`status: done\nboot_status_code: enabled-by-generator\ndetail:\n${source}\n`);
  },
  ...(openrcPrograms as Programs<Guest>),
  systemctl: ({ machine, args }) => machine.units.systemctl(args),
  journalctl: ({ machine, args }) => machine.units.journalctl(args),
  loginctl: () => ok(),
  pkill: killProcesses,
};
