import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { HostArgs } from "../../../cli/arguments";
import type { ClusterStatus, InstanceStatus, MemberStatus, ObjectStatus } from "../../../cli/status/contents";
import { readFacts } from "../../../cli/verify";
import { staticAddressesOf } from "../../../cli/verify/addresses";
import { rowsOf } from "../../../cli/verify/checks";
import type { Ending, Facts, GuestFact, InstanceFact } from "../../../cli/verify/facts";
import { endingsIn, reportOn } from "../../../cli/verify/guest-commands";
import { guestRows } from "../../../cli/verify/guests";
import { instanceRows } from "../../../cli/verify/instances";
import { memberRows } from "../../../cli/verify/members";
import { objectRows } from "../../../cli/verify/objects";
import { peerOf, reachRows } from "../../../cli/verify/reach";
import type { Row } from "../../../cli/verify/rows";
import { describeRows, hasPassed } from "../../../cli/verify/text";
import { networkFiles } from "../../../lab/simulated/guest";
import { OWNER_KEY } from "../../../provider/lxd/config";
import { type SimulatedCluster, startMembers, startStandalone } from "../resources/simulated-cluster";

const URN = "urn:pulumi:prod::shop::pulumi-nodejs:dynamic/lxd:LxdVm::web";
const CLAIM = "0123456789abcdef";

/** The shells that guests use as sh, if this machine has them. */
const SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["sh"]].filter(([program = ""]) =>
  (process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, program))),
);

/** `RESULT check, on: found`, and the fix of a failed check. */
function told(rows: readonly Row[]): string[] {
  return rows.map(
    ({ result, check, on, found, fix }) => `${result} ${check}, ${on}: ${found}${fix === undefined ? "" : ` | ${fix}`}`,
  );
}

function member(name: string, changed: Partial<MemberStatus> = {}): MemberStatus {
  return { name, status: "Online", isDown: false, message: "", address: "", roles: ["database"], ...changed };
}

function statusWith(changed: Partial<ClusterStatus> = {}): ClusterStatus {
  return {
    ...{ title: "LXD 5.0.2", host: "root@bcn2", client: "lxc", clustered: true, quorum: undefined },
    members: [member("bcn2"), member("bcn1"), member("bcn3")],
    ...{ pools: [], networks: [], instances: [], operations: [], unfinished: [] },
    ...changed,
  };
}

function factsWith(changed: Partial<Facts> = {}): Facts {
  const status = changed.status ?? statusWith();
  const versions = Object.fromEntries(status.members.map(({ name }) => [name, { value: "5.0.2" }]));
  return {
    ...{ status, versions, space: [], interfaces: [], profiles: [], instances: [], ping: false },
    networks: { default: { lxdbr0: { type: "bridge" }, lan: { type: "macvlan" } } },
    ...changed,
  };
}

const ok: Ending = { exitCode: 0, stdout: "" };
const ROUTES = Object.values(networkFiles({ leases: new Map([["eth0", { ipv4: "10.0.0.2" }]]) } as never)).join("");

function guestWith(
  commands: Partial<Record<"cloudInit" | "system" | "failedUnits" | "routes" | "ping", Ending>> = {},
): GuestFact {
  return {
    commands: {
      value: {
        cloudInit: { exitCode: 0, stdout: "status: done\ndetail:\nDataSourceLXD" },
        system: { exitCode: 0, stdout: "running" },
        failedUnits: ok,
        routes: { exitCode: 0, stdout: ROUTES },
        ...commands,
      },
    },
    nameServers: { value: ["10.0.0.1"] },
    users: [],
  };
}

interface Changed extends Partial<Omit<InstanceFact, "status">> {
  readonly status?: Partial<InstanceStatus>;
}

function instance(name: string, { status, ...changed }: Changed = {}): InstanceFact {
  return {
    status: {
      ...{ project: "default", name, type: "container", status: "Running", member: "bcn2", origin: undefined },
      ...{ addresses: [], nics: [], users: [], mark: undefined, ...status },
    },
    ...{ config: {}, devices: { eth0: { type: "nic", network: "lxdbr0" } }, hasState: true, processes: 10 },
    addresses: { eth0: ["10.0.0.2"] },
    guest: guestWith(),
    ...changed,
  };
}

describe("The checks of members", () => {
  const rowsWith = (changed: Partial<ClusterStatus>, versions: Facts["versions"] = {}): string[] => {
    const status = statusWith(changed);
    const all = Object.fromEntries(status.members.map(({ name }) => [name, { value: "5.0.2" }]));
    return told(memberRows({ status, versions: { ...all, ...versions } }));
  };

  it("pass for members that are Online, with one version and three voters", () => {
    assert.deepEqual(rowsWith({}), [
      "passed member, bcn2: Online",
      "passed member, bcn1: Online",
      "passed member, bcn3: Online",
      "passed version, bcn2, bcn1, bcn3: 5.0.2",
      "passed database, cluster: 3: bcn2, bcn1, bcn3",
    ]);
  });

  for (const [what, changed, expected] of [
    [
      "an evacuated member",
      member("bcn1", { status: "Evacuated" }),
      "passed member, bcn1: Evacuated, until lxc cluster restore bcn1",
    ],
    [
      "a member that is down",
      member("bcn1", { status: "Offline", isDown: true, message: "no heartbeat" }),
      "failed member, bcn1: Offline: no heartbeat | Start the host and its server. If it is lost: lxc cluster remove --force bcn1",
    ],
    [
      "an evacuated member that is down",
      member("bcn1", { status: "Evacuated, down", isDown: true }),
      "failed member, bcn1: Evacuated, down | Start the host and its server. If it is lost: lxc cluster remove --force bcn1",
    ],
    [
      "a member that waits for the upgrade of others",
      member("bcn1", { status: "Blocked" }),
      "failed member, bcn1: Blocked | Upgrade the other members to the same version",
    ],
  ] as const) {
    it(`judge ${what}`, () => {
      assert.equal(rowsWith({ members: [changed] })[0], expected);
    });
  }

  it("fail for two versions, and do not take silence for a version", () => {
    const rows = rowsWith({}, { bcn1: { value: "5.21.3" }, bcn3: { why: "it is busy" } });
    assert.deepEqual(rows.slice(3, 5), [
      "failed version, bcn2, bcn1: 5.0.2 (bcn2), 5.21.3 (bcn1) | Upgrade the members with the older version: until then, they may wait for each other",
      "not checked version, bcn3: it is busy",
    ]);
  });

  it("say of two members that the loss of the voter is the loss of the API, and pass", () => {
    const members = [member("bcn2", { roles: ["database-leader", "database"] }), member("bcn1", { roles: ["database-standby"] })];
    assert.equal(rowsWith({ members }).at(-1), "passed database, cluster: bcn2; without it, no member's API answers");
  });

  it("fail for an even number of voters, and for a voter that is down", () => {
    const two = [member("bcn2"), member("bcn1"), member("bcn3", { roles: [] })];
    assert.match(rowsWith({ members: two }).at(-1) ?? "", /^failed database, cluster: 2: bcn2, bcn1 \| .*cluster\.max_voters/);
    const down = [member("bcn2"), member("bcn1"), member("bcn3", { status: "Offline", isDown: true })];
    assert.match(
      rowsWith({ members: down, quorum: "2 of 3 voters" }).at(-1) ?? "",
      /^failed database, cluster: 2 of 3 voters \| Start bcn3; /,
    );
  });

  it("have no database on a standalone server", () => {
    assert.deepEqual(rowsWith({ clustered: false, members: [member("bcn2", { roles: [] })] }), ["passed member, bcn2: Online"]);
  });
});

describe("The checks of pools, networks and devices", () => {
  const object = (name: string, statuses: Record<string, string>, changed: Partial<ObjectStatus> = {}): ObjectStatus => ({
    ...{ project: "default", name, type: "dir", statuses, mark: undefined },
    ...changed,
  });
  const created = { bcn2: "Created", bcn1: "Created" };

  it("pass for what is Created everywhere", () => {
    const status = statusWith({ pools: [object("local", created)], networks: [object("lxdbr0", created)] });
    assert.deepEqual(told(objectRows(factsWith({ status }))), ["passed pool, local: Created", "passed network, lxdbr0: Created"]);
  });

  it("fail for a part that is not Created, with the stack that finishes it or the commands", () => {
    const pending = { bcn2: "Created", bcn1: "Pending" };
    const mark = { urn: URN.replace("::web", "::local"), claim: CLAIM, isCreating: false };
    const status = statusWith({
      pools: [object("local", pending, { mark })],
      networks: [object("net", pending, { project: "shop" })],
    });
    assert.deepEqual(told(objectRows(factsWith({ status }))), [
      'failed pool, local: Created (bcn2), Pending (bcn1) | pulumi up of stack "prod", project "shop", finishes it, or says what is in the way',
      "failed network, shop/net: Created (bcn2), Pending (bcn1) | lxc network show net --target bcn1 --project shop shows that part. " +
        "Create it without --target once every member has its part, or remove it: lxc network delete net --project shop",
    ]);
  });

  it("do not judge the part of a member that is down", () => {
    const members = [member("bcn2"), member("bcn1", { status: "Offline", isDown: true })];
    const status = statusWith({ members, pools: [object("local", { bcn2: "Created", bcn1: "Offline" })] });
    assert.deepEqual(told(objectRows(factsWith({ status }))), [
      "not checked pool, local: bcn1 is down: Created (bcn2), Offline (bcn1)",
    ]);
  });

  it("fail for a pool that is 90 % full, and have no row where the server tells no size", () => {
    const on = { pool: "local", member: "bcn2" };
    const gib = 2 ** 30;
    const space = [
      { ...on, space: { value: { used: 8.9 * gib, total: 10 * gib } } },
      { ...on, space: { value: { used: 9 * gib, total: 10 * gib } } },
      { ...on, space: { value: { used: 0, total: 0 } } },
      { ...on, space: { why: "the pool is busy" } },
    ];
    assert.deepEqual(told(objectRows(factsWith({ space }))), [
      "passed space, local on bcn2: 89 % of 10.0 GiB",
      "failed space, local on bcn2: 90 % of 10.0 GiB | Enlarge it, or remove what is not needed: lxc storage volume list local, lxc image list",
      "not checked space, local on bcn2: the pool is busy",
    ]);
  });

  it("judge an interface of a host only where a running instance is on it", () => {
    const br0 = { eth0: { type: "nic", nictype: "bridged", parent: "br0" } };
    const instances = [
      instance("web1", { devices: br0 }),
      instance("web2", { devices: br0, status: { member: "bcn1", status: "Stopped" } }),
    ];
    const interfaces = ["bcn2", "bcn1", "bcn3"].map((on) => ({ name: "br0", member: on, state: { value: "down" } }));
    assert.deepEqual(told(objectRows(factsWith({ instances, interfaces }))), [
      "failed interface, br0 on bcn2: down | On bcn2: ip link set br0 up; see the host's network configuration",
      "passed devices, profiles, instances: pools, networks and interfaces are there",
    ]);
    const up = [{ name: "br0", member: "bcn2", state: { value: "up" } }];
    assert.equal(told(objectRows(factsWith({ instances, interfaces: up })))[0], "passed interface, br0 on bcn2: up");
    const silent = [{ name: "br0", member: "bcn2", state: { why: "bcn2 is busy" } }];
    assert.equal(
      told(objectRows(factsWith({ instances, interfaces: silent })))[0],
      "not checked interface, br0 on bcn2: bcn2 is busy",
    );
  });

  it("leave out an interface that its instance takes from the host", () => {
    const devices = { eth0: { type: "nic", nictype: "physical", parent: "enp3s0" } };
    const interfaces = [{ name: "enp3s0", member: "bcn2", state: { value: undefined } }];
    assert(hasPassed(objectRows(factsWith({ instances: [instance("web1", { devices })], interfaces }))));
  });

  it("judge a bridge that LXD manages in the same way", () => {
    const interfaces = ["bcn2", "bcn1"].map((on) => ({ name: "lxdbr0", member: on, state: { value: "down" } }));
    const [row, ...others] = told(objectRows(factsWith({ instances: [instance("web1")], interfaces })));
    assert.match(row ?? "", /^failed interface, lxdbr0 on bcn2: down/);
    assert.equal(others.length, 1);
  });

  it("fail for devices that name what is not there", () => {
    const devices = {
      root: { type: "disk", path: "/", pool: "gone" },
      eth0: { type: "nic", network: "gone0" },
      eth1: { type: "nic", nictype: "bridged", parent: "br7" },
    };
    const interfaces = [
      { name: "br7", member: "bcn2", state: { value: undefined } },
      { name: "br7", member: "bcn1", state: { value: "up" } },
    ];
    const facts = factsWith({ interfaces, profiles: [{ project: "default", name: "web", devices }] });
    assert.deepEqual(
      told(objectRows(facts)).map((row) => row.split(" | ")[0]),
      [
        "failed devices, profile web: root names the pool gone, which is not there",
        "failed devices, profile web: eth0 names the network gone0, which is not there",
      ],
      "a profile may be for instances of some members",
    );
    const stopped = instance("web1", { devices: { eth1: devices.eth1 }, status: { status: "Stopped" } });
    assert.deepEqual(told(objectRows(factsWith({ interfaces, instances: [stopped] }))), [
      "failed devices, instance web1: eth1 names the interface br7, which is not on bcn2 | Create the interface on the host, or change the device eth1: " +
        "lxc config device, lxc profile device",
    ]);
  });
});

describe("The checks of an instance", () => {
  const rows = (changed: Changed = {}, status = statusWith()): string[] => told(instanceRows(instance("web1", changed), status));

  it("pass for one that runs with an address", () => {
    assert.deepEqual(rows(), ["passed instance, web1: Running", "passed address, web1: 10.0.0.2"]);
    assert.deepEqual(rows({ addresses: { eth0: ["fd42::2"] } }).at(-1), "passed address, web1: fd42::2");
    assert.deepEqual(rows({ devices: {}, addresses: {} }), ["passed instance, web1: Running"]);
  });

  it("fail for one without an address", () => {
    assert.match(
      rows({ addresses: { eth0: [] } }).at(-1) ?? "",
      /^failed address, web1: none \| lxc exec web1 -- ip address shows/,
    );
  });

  it("do not take a state that did not come for the absence of an address", () => {
    assert.equal(
      rows({ hasState: false, addresses: {}, processes: -1 }).at(-1),
      "not checked address, web1: its state did not come in time",
    );
  });

  for (const [what, changed, expected] of [
    ["Error", { status: "Error" }, "failed instance, web1: Error | lxc info web1 --show-log tells why"],
    ["Frozen", { status: "Frozen", project: "shop" }, "failed instance, shop/web1: Frozen | lxc start web1 --project shop"],
    ["stopped", { status: "Stopped" }, "passed instance, web1: Stopped"],
    ["stopped by an evacuation", { status: "Stopped", origin: "bcn2" }, "passed instance, web1: Stopped, until bcn2 is restored"],
  ] as const) {
    it(`judge one that is ${what}`, () => {
      assert.deepEqual(rows({ status: changed }), [expected]);
    });
  }

  it("fail for one that is stopped and starts with its host", () => {
    assert.deepEqual(rows({ status: { status: "Stopped" }, config: { "boot.autostart": "true" } }), [
      "failed instance, web1: Stopped | lxc start web1, or unset boot.autostart",
    ]);
  });

  it("are not made while its member is down", () => {
    const down = statusWith({ members: [member("bcn2", { isDown: true })] });
    assert.deepEqual(rows({ status: { status: "Error" } }, down), ["not checked instance, web1: bcn2 is down"]);
  });

  it("fail for a virtual machine whose agent does not answer, of which LXD knows no address", () => {
    const vm = { status: { type: "virtual-machine" } };
    assert.equal(rows(vm)[1], "passed agent, web1: answers");
    const silent = rows({ ...vm, processes: -1, addresses: { eth0: [] } });
    assert.match(silent[1] ?? "", /^failed agent, web1: does not answer \| lxc console web1: /);
    assert.equal(silent[2], "not checked address, web1: the agent does not answer");
  });

  it("compare its static addresses, of NICs and of cloud-init's network config", () => {
    const config = {
      "cloud-init.network-config": "version: 2\nethernets:\n  eth0:\n    addresses: [192.168.1.100/24, 'FD42:0::5/64']\n",
    };
    assert.equal(
      rows({ config, addresses: { eth0: ["192.168.1.100", "fd42::5"] } }).at(-1),
      "passed static address, web1: 192.168.1.100, fd42::5",
    );
    assert.match(rows({ config }).at(-1) ?? "", /^failed static address, web1: 10\.0\.0\.2 \| /);
    const devices = { eth0: { type: "nic", network: "lxdbr0", "ipv4.address": "10.0.0.9", "ipv6.address": "none" } };
    assert.match(rows({ devices }).at(-1) ?? "", /^failed static address, web1: 10\.0\.0\.2 \| /);
  });

  it("find static addresses in both versions of the network config, and none in what is no config", () => {
    const inConfig = (text: string): string[] => staticAddressesOf({ config: { "user.network-config": text }, devices: {} });
    const subnets = "subnets: [{type: static, address: 10.0.0.5/24}, {type: dhcp}]";
    assert.deepEqual(inConfig(`version: 1\nconfig:\n  - type: physical\n    ${subnets}\n`), ["10.0.0.5"]);
    assert.deepEqual(inConfig("network:\n  version: 2\n  bridges: {br0: {addresses: [10.0.0.6/24]}}\n"), ["10.0.0.6"]);
    assert.deepEqual(inConfig("ethernets: {eth0: {dhcp4: true}}"), []);
    assert.deepEqual(inConfig("{{ not yaml"), []);
    assert.deepEqual(inConfig(""), []);
  });
});

describe("The checks inside an instance", () => {
  const rows = (guest: GuestFact, changed: Changed = {}): string[] =>
    told(guestRows(instance("web1", { ...changed, guest }), "lxc"));
  const rowWith = (commands: Parameters<typeof guestWith>[0], check: string, changed: Changed = {}): string | undefined =>
    rows(guestWith(commands), changed).find((row) => row.includes(` ${check}, `));

  it("pass for a healthy one", () => {
    assert.deepEqual(rows(guestWith()), [
      "passed cloud-init, web1: done",
      "passed system, web1: running",
      "passed default route, web1: through eth0",
      "passed name server, web1: 10.0.0.1",
    ]);
  });

  it("have no route and no name server without a NIC", () => {
    assert.equal(rows(guestWith(), { devices: {} }).length, 2);
  });

  it("are not made when the instance does not answer", () => {
    const silent = { why: "it did not answer" };
    assert.deepEqual(rows({ commands: silent, nameServers: silent, users: [{ name: "alice", found: silent }] }), [
      "not checked system, web1: it did not answer",
      "not checked name server, web1: it did not answer",
      "not checked user, alice in web1: it did not answer",
    ]);
  });

  for (const [what, cloudInit, expected] of [
    ["is not installed", { exitCode: 127, stdout: "" }, undefined],
    ["does not end", { exitCode: 124, stdout: "" }, "not checked cloud-init, web1: cloud-init status does not end"],
    ["runs", { exitCode: 0, stdout: "status: running" }, "not checked cloud-init, web1: not yet: it is running"],
    [
      "has failed",
      { exitCode: 1, stdout: "status: error\ndetail:\n('scripts-user', 'exit 3')" },
      "failed cloud-init, web1: error: ('scripts-user', 'exit 3') | lxc exec web1 -- cat /var/log/cloud-init-output.log; then correct its user data",
    ],
    [
      "is degraded",
      { exitCode: 2, stdout: "status: degraded done\nrecoverable_errors:\nWARNING: an unknown key" },
      "passed cloud-init, web1: done, degraded: WARNING: an unknown key",
    ],
    [
      "had no data",
      { exitCode: 0, stdout: "status: done\ndetail:\nDataSourceNone" },
      "passed cloud-init, web1: done, without data",
    ],
  ] as const) {
    it(`judge cloud-init that ${what}`, () => {
      assert.equal(rowWith({ cloudInit }, "cloud-init"), expected);
    });
  }

  it("fail for cloud-init that did not find its data", () => {
    const cloudInit = { exitCode: 0, stdout: "status: disabled" };
    assert.equal(
      rowWith({ cloudInit }, "cloud-init", { config: { "cloud-init.user-data": "#cloud-config" } }),
      "failed cloud-init, web1: did not find cloud-init.user-data | lxc restart web1, so that it looks again",
    );
  });

  for (const [system, expected] of [
    [{ exitCode: 127, stdout: "" }, undefined],
    [{ exitCode: 1, stdout: "offline" }, undefined],
    [{ exitCode: 124, stdout: "" }, "not checked system, web1: systemctl is-system-running does not answer"],
    [{ exitCode: 1, stdout: "starting" }, "not checked system, web1: not yet: it is starting"],
    [{ exitCode: 1, stdout: "maintenance" }, "failed system, web1: maintenance | lxc exec web1 -- systemctl list-jobs"],
  ] as const) {
    it(`judge a system that is "${system.stdout}", exit code ${system.exitCode}`, () => {
      assert.equal(rowWith({ system }, "system"), expected);
    });
  }

  it("name the units that have failed", () => {
    const failedUnits = { exitCode: 0, stdout: "a.service loaded failed failed A\nb.service loaded failed failed B" };
    assert.equal(
      rowWith({ system: { exitCode: 1, stdout: "degraded" }, failedUnits }, "system"),
      "failed system, web1: degraded: a.service, b.service | lxc exec web1 -- journalctl -b -u a.service",
    );
  });

  it("fail without a default route, and do not take an unreadable table for an empty one", () => {
    const header = ROUTES.split("\n")[0] ?? "";
    const v6 = (flags: string, device: string): string =>
      `${"0".repeat(32)} 00 ${"0".repeat(32)} 00 ${"0".repeat(32)} 00000400 00000001 00000000 ${flags} ${device.padStart(8)}`;
    const judged = (...lines: string[]): string | undefined =>
      rowWith({ routes: { exitCode: 0, stdout: [header, ...lines].join("\n") } }, "default route");
    assert.match(judged() ?? "", /^failed default route, web1: none \| lxc exec web1 -- ip route\. /);
    assert.match(judged("eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0") ?? "", /^failed /);
    assert.match(judged(v6("00000201", "eth0")) ?? "", /^failed /, "an unreachable route");
    assert.match(judged(v6("00000001", "lo")) ?? "", /^failed /);
    assert.match(judged(v6("00200200", "lo")) ?? "", /^failed /, "the kernel's own route that rejects");
    assert.equal(judged(v6("00000003", "enp5s0")), "passed default route, web1: through enp5s0");
    assert.equal(
      rowWith({ routes: { exitCode: 1, stdout: "" } }, "default route"),
      "not checked default route, web1: /proc/net/route cannot be read",
    );
  });

  it("fail without a name server", () => {
    const row = rows({ ...guestWith(), nameServers: { value: [] } }).at(-1);
    assert.match(row ?? "", /^failed name server, web1: none \| lxc exec web1 -- cat \/etc\/resolv\.conf\. /);
  });

  it("judge the users that resources own", () => {
    const sudo = { type: "file", uid: 0, mode: 0o440 };
    const users = [
      { name: "alice", found: { value: { exists: true, sudo } } },
      { name: "bob", found: { value: { exists: false } } },
      {
        name: "carol",
        found: {
          value: {
            exists: true,
            sudo: { ...sudo, mode: 0o666 },
            obstacle: { path: "/home/carol", fact: "belongs to user bob", cure: "chown carol /home/carol" },
          },
        },
      },
    ];
    assert.deepEqual(rows({ ...guestWith(), users }).slice(4), [
      "passed user, alice in web1: there",
      "passed sudo, alice in web1: mode 440",
      "passed keys, alice in web1: accepted",
      "failed user, bob in web1: not in /etc/passwd | pulumi refresh, then pulumi up of the stack that owns it creates it again",
      "passed user, carol in web1: there",
      "failed sudo, carol in web1: file of uid 0, mode 666 | lxc exec web1 -- chown root:root /etc/sudoers.d/carol; " +
        "lxc exec web1 -- chmod 440 /etc/sudoers.d/carol",
      "failed keys, carol in web1: /home/carol belongs to user bob | In web1: chown carol /home/carol",
    ]);
  });

  it("take the ends of commands apart, whatever they print", () => {
    assert.deepEqual(endingsIn("0\n a\n 1\n \n127\n \n"), [
      { exitCode: 0, stdout: "a\n1\n" },
      { exitCode: 127, stdout: "" },
    ]);
  });
});

for (const [shell = "", ...options] of SHELLS) {
  describe(`The report on commands, by ${[shell, ...options].join(" ")}`, () => {
    const report = (commands: readonly (readonly string[])[]): Ending[] => {
      const [, , ...words] = reportOn(commands);
      return endingsIn(spawnSync(shell, [...options, "-c", ...words], { encoding: "utf8" }).stdout);
    };

    it("has the exit code and the output of each, whatever its words and lines are", () => {
      const words = ["a b", "it's", '"$HOME"', "`id`", "*", "", "-n", "ä;|&<>()#~!", "${1}", "\\\\", "7", "8", "9"];
      assert.deepEqual(
        report([["printf", "%s|", ...words], ["sh", "-c", "echo 7; echo; echo ' x'; echo err >&2; exit 3"], ["false"]]),
        [
          { exitCode: 0, stdout: words.map((word) => `${word}|`).join("") },
          { exitCode: 3, stdout: "7\n\n x" },
          { exitCode: 1, stdout: "" },
        ],
      );
    });

    it("tells a program that is not there, and ends one that reads its input", () => {
      assert.deepEqual(
        report([["no-such-program"], ["cat"]]).map(({ exitCode }) => exitCode),
        [127, 0],
      );
    });
  });
}

describe("The pings", () => {
  const { networks } = factsWith();
  const lan = { eth1: { type: "nic", nictype: "bridged", parent: "br0" } };
  const at = (name: string, on: string, devices: InstanceFact["devices"] = lan, address = `192.168.1.${name.length}`) =>
    instance(name, { devices, addresses: { eth1: [address], eth0: ["10.0.0.2"] }, status: { member: on } });

  it("go to an instance on another member, around, over a network of the hosts", () => {
    const all = [at("a", "bcn2"), at("bb", "bcn2"), at("ccc", "bcn1"), at("dddd", "bcn1")];
    assert.deepEqual(
      all.map((each) => peerOf(each, all, networks)?.name),
      ["ccc", "ccc", "a", "a"],
    );
    const bridge = { eth0: { type: "nic", network: "lxdbr0" } };
    const apart = [at("a", "bcn2", bridge), at("bb", "bcn1", bridge)];
    assert.deepEqual(
      apart.map((each) => peerOf(each, apart, networks)),
      [undefined, undefined],
    );
    const shared = [
      at("a", "bcn2", { eth1: { type: "nic", network: "lan" } }),
      at("bb", "bcn1", { eth1: { type: "nic", network: "lan" } }),
    ];
    assert.deepEqual(
      shared.map((each) => peerOf(each, shared, networks)?.address),
      ["192.168.1.2", "192.168.1.1"],
    );
  });

  it("are judged by their answer; without ping they are not made", () => {
    const peer = { name: "bb", address: "192.168.1.2" };
    const judged = (ping: Ending): string[] =>
      told(reachRows(factsWith({ ping: true, instances: [instance("a", { peer, guest: guestWith({ ping }) })] })));
    assert.deepEqual(judged(ok), ["passed ping, a: answers"]);
    assert.match(
      judged({ exitCode: 1, stdout: "" })[0] ?? "",
      /^failed ping, a: no answer \| lxc exec a -- ip route get 192\.168\.1\.2; /,
    );
    assert.deepEqual(judged({ exitCode: 127, stdout: "" }), ["not checked ping, a: it has no ping"]);
    assert.deepEqual(reachRows(factsWith({ ping: false, instances: [instance("a", { peer })] })), []);
  });

  it("are said not to be made when there are no two instances to ask", () => {
    assert.match(told(reachRows(factsWith({ ping: true })))[0] ?? "", /^not checked ping, cluster: no two running instances /);
  });
});

describe("The command verify on a cluster", () => {
  let three: SimulatedCluster;

  const read = async (ping = false, guest?: number): Promise<Row[]> => {
    const hosts = three.cluster.endpoints as unknown as HostArgs[];
    const limits = guest === undefined ? {} : { guest };
    return rowsOf(await readFacts({ hosts, ping }, () => undefined, limits));
  };
  const faults = async (ping?: boolean, guest?: number): Promise<string[]> =>
    told((await read(ping, guest)).filter(({ result }) => result !== "passed"));
  const byHand = (method: "POST" | "PATCH" | "PUT", path: string, body: object): Promise<unknown> =>
    three.lab.byHand("bcn2", method, path, body);
  const guestFiles = (name: string) => three.lab.guestFiles("bcn2", name);

  beforeEach(async () => {
    three = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    for (const [collection, body] of [
      ["/1.0/storage-pools", { name: "local", driver: "dir" }],
      ["/1.0/networks", { name: "lxdbr0", type: "bridge" }],
    ] as const) {
      for (const target of ["bcn2", "bcn1", "bcn3"]) {
        await byHand("POST", `${collection}?target=${target}`, body);
      }
      await byHand("POST", collection, body);
    }
    for (const [index, prefix] of ["web", "db", "app"].entries()) {
      const eth1 = { type: "nic", nictype: "bridged", parent: "br0", "ipv4.address": `192.168.1.${20 + index}` };
      const devices = {
        root: { type: "disk", path: "/", pool: "local" },
        eth0: { type: "nic", network: "lxdbr0" },
        eth1,
      };
      const config = { [OWNER_KEY]: `${URN} [${CLAIM}]` };
      three.lab.seedInstances(index + 1, { host: "bcn2", prefix, type: "container", devices, config });
    }
  });
  afterEach(async () => {
    assert.deepEqual(three.lab.defects, []);
    assert.deepEqual(three.lab.unknownGuestCommands, []);
    await three.stop();
  });

  /** A user as VmUser makes it. */
  async function addUser(): Promise<void> {
    const name = "alice";
    const config = { [`user.pulumi.user.${name}`]: `${URN}-alice [${CLAIM}]` };
    await byHand("PATCH", "/1.0/instances/web1", { config });
    const files = guestFiles("web1");
    files.writeFile("/etc/passwd", `${files.readText("/etc/passwd")}${name}:x:1000:1000::/home/${name}:/bin/bash\n`);
    files.makeDirectory(`/home/${name}`, { uid: 1000, gid: 1000, mode: 0o755 });
    files.makeDirectory(`/home/${name}/.ssh`, { uid: 1000, gid: 1000, mode: 0o700 });
    files.writeFile(`/home/${name}/.ssh/authorized_keys`, "ssh-ed25519 AAAA\n", { uid: 1000, gid: 1000, mode: 0o600 });
    files.writeFile(`/etc/sudoers.d/${name}`, `${name} ALL=(ALL:ALL) ALL\n`, { mode: 0o440 });
  }

  it("passes a healthy one, and changes nothing", async () => {
    await addUser();
    const since = three.lab.requests.length;
    const facts = await readFacts({ hosts: three.cluster.endpoints as unknown as HostArgs[], ping: true }, () => undefined);
    const rows = rowsOf(facts);
    const text = describeRows(facts.status, rows);
    assert(hasPassed(rows), text);
    assert.deepEqual(three.lab.mutations(since), []);
    const written = three.lab.requests.slice(since).filter(({ method, route }) => method !== "GET" && route !== "/internal/sql");
    assert.deepEqual(
      [...new Set(written.map(({ method, route }) => `${method} ${route}`))].filter(
        (request) => !/^(POST .*\/exec|DELETE .*\/logs\/.*)$/.test(request),
      ),
      [],
    );
    assert.equal(written.filter(({ method }) => method === "POST").length, 6, "one command in each instance");
    assert.match(
      text,
      /^LXD 5\.0\.2, a cluster of 3 members, asked on root@127\.0\.0\.1:\d+\n\nRESULT +CHECK +ON +EXPECTED +FOUND\n/,
    );
    for (const line of [
      /^ok +version +bcn2, bcn1, bcn3 +the same on all members +5\.0\.2$/m,
      /^ok +pool +local +Created on every member +Created$/m,
      /^ok +space +local on bcn3 +less than 90 % used +\d+ % of 30\.0 GiB$/m,
      /^ok +interface +br0 on bcn\d +up, for .*web1.* +up$/m,
      /^ok +static address +app3 +192\.168\.1\.22 +/m,
      /^ok +default route +db2 +one +through eth0, eth1$/m,
      /^ok +name server +web1 +one or more +192\.168\.1\.1$/m,
      /^ok +user +alice in web1 +there +there$/m,
      /^ok +sudo +alice in web1 .* mode 440$/m,
      /^ok +keys +alice in web1 +accepted by sshd +accepted$/m,
      /^ok +ping +web1 +\w+ answers at 192\.168\.1\.2\d +answers$/m,
      /\n\n\d+ checks: \d+ passed, 0 failed, 0 not checked\n$/,
    ]) {
      assert.match(text, line);
    }
    assert.doesNotMatch(text, /How to fix/);
  });

  it("names each fault with its fix: a pool's part, an instance without address, a user removed by hand", async () => {
    await addUser();
    await byHand("POST", "/1.0/storage-pools?target=bcn1", { name: "half", driver: "dir" });
    const { database } = three.lab.host("bcn2").daemon ?? assert.fail();
    database.instance("default", "db2").leases.clear();
    const files = guestFiles("web1");
    files.writeFile("/etc/passwd", files.readText("/etc/passwd").replace(/^alice.*\n/m, ""));
    const since = three.lab.requests.length;
    const rows = await read();
    assert(!hasPassed(rows));
    assert.deepEqual(three.lab.mutations(since), []);
    const text = describeRows(statusWith(), rows);
    const fixes = text.slice(text.indexOf("How to fix:"));
    for (const line of [
      / {2}- pool, half: lxc storage show half --target bcn2 shows that part\./,
      / {2}- address, db2: lxc exec db2 -- ip address shows its interfaces/,
      / {2}- static address, db2: /,
      / {2}- default route, db2: /,
      / {2}- user, alice in web1: pulumi refresh, then pulumi up/,
      /\n\d+ checks: \d+ passed, 5 failed, 0 not checked\n$/,
    ]) {
      assert.match(fixes, line);
    }
  });

  it("names a member that is down, and asks nothing there", async () => {
    three.lab.timings.missedMs = 0;
    await three.lab.host("bcn3").powerOff();
    const rows = await faults();
    assert.match(rows[0] ?? "", /^failed member, bcn3: Offline.* \| Start the host and its server\. /);
    assert.match(rows[1] ?? "", /^not checked version, bcn3: bcn3 is down$/);
    assert.match(rows[2] ?? "", /^failed database, cluster: The cluster has 2 of 3 voters .* \| Start bcn3; /);
    assert(rows.some((row) => /^not checked instance, \w+: bcn3 is down$/.test(row)));
    assert(
      rows.slice(3).every((row) => row.startsWith("not checked ") && row.includes("bcn3 is down")),
      rows.join("\n"),
    );
  });

  it("names an interface that is down below a running instance, and none that nothing uses", async () => {
    for (const host of ["bcn2", "bcn1", "bcn3"]) {
      const { interfaces } = three.lab.host(host);
      const br0 = interfaces.get("br0") ?? assert.fail();
      interfaces.set("br0", { ...br0, isDown: host === "bcn1" });
      interfaces.set("br9", { ...br0, isDown: true });
    }
    const rows = await faults();
    assert.equal(rows.length, 1, rows.join("\n"));
    assert.match(rows[0] ?? "", /^failed interface, br0 on bcn1: down \| On bcn1: ip link set br0 up/);
  });

  it("does not check an instance whose command does not end in time, and checks the others", async () => {
    three.lab.faults.add({ when: { method: "POST", path: /\/instances\/web1\/exec/ }, effect: "hang" });
    const rows = await faults(false, 1);
    assert.equal(rows.length, 2, rows.join("\n"));
    assert.match(rows[0] ?? "", /^not checked system, web1: Asking instance "web1" did not finish within 1 s/);
    assert.match(rows[1] ?? "", /^not checked name server, web1: /);
  });

  it("names each ping without an answer", async () => {
    three.lab.faults.add({ when: { guest: /^ping / }, effect: { status: 1, error: "" } });
    const rows = await faults(true);
    assert.equal(rows.length, 6, rows.join("\n"));
    assert(rows.every((row) => row.startsWith("failed ping, ")));
  });
});

describe("The command verify on a standalone server", () => {
  it("has no checks of a cluster", async () => {
    const one = await startStandalone();
    try {
      const facts = await readFacts({ hosts: one.cluster.endpoints as unknown as HostArgs[], ping: false }, () => undefined);
      assert.deepEqual(told(rowsOf(facts)), [
        "passed member, bcn2: Online",
        "passed devices, profiles, instances: pools, networks and interfaces are there",
      ]);
    } finally {
      await one.stop();
    }
  });
});
