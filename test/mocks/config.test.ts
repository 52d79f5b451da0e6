import assert from "node:assert/strict";
import { isSecret, output, RunError } from "@pulumi/pulumi";
import { parseConfig } from "../../stacks/config";

const HOSTS = [
  { name: "bcn2", address: "192.168.1.102" },
  { name: "bcn1", address: "192.168.1.101" },
];

/** Parses what a stack's file would hold, on top of two good hosts. */
function parse(config: Record<string, unknown>) {
  const entries = Object.entries({ hosts: HOSTS, ...config });
  return parseConfig(
    "lxd-cluster",
    Object.fromEntries(
      entries.map(([key, value]) => [`lxd-cluster:${key}`, typeof value === "string" ? value : JSON.stringify(value)]),
    ),
  );
}

describe("the config of a stack", () => {
  it("takes a group of members as the target of VMs", () => {
    const vms = [{ name: "a", target: "@web", image: { alias: "debian-12" } }];
    assert.equal(parse({ vmDefaults: { target: "@all" }, vms }).vms[0]?.target, "@web");
  });

  it("needs no more than hosts, and reaches each by its address", () => {
    const { hosts, vms, pools } = parse({});
    assert.deepEqual(
      hosts.map(({ connection }) => connection),
      [{ host: "192.168.1.102" }, { host: "192.168.1.101" }],
    );
    assert.deepEqual([vms, pools], [[], {}]);
  });

  for (const [address, host] of [
    ["192.168.1.102:8444", "192.168.1.102"],
    ["bcn2.example.org:8443", "bcn2.example.org"],
    ["fd00::2", "fd00::2"],
    ["[fd00::2]", "fd00::2"],
    ["[fd00::2]:8443", "fd00::2"],
  ] as const) {
    it(`reaches a host with the address ${address} at ${host}`, () => {
      assert.equal(parse({ hosts: [{ name: "Beta-2", address }] }).hosts[0]?.connection.host, host);
    });
  }

  it("takes Incus as the server of hosts, with a repository", () => {
    const repository = { uris: ["https://deb.debian.org/debian"], suites: ["trixie-backports"], components: ["main"] };
    const install = {
      method: "deb",
      server: "incus",
      serverPackage: "incus-base",
      repository,
      targetRelease: "trixie-backports",
    };
    assert.deepEqual(parse({ hosts: [{ ...HOSTS[0], node: { install } }] }).hosts[0]?.node?.install, install);
  });

  it("leaves keys of other projects and of providers alone", () => {
    assert.equal(parseConfig("lxd-cluster", { "lxd-cluster:hosts": JSON.stringify(HOSTS), "aws:region": "x" }).hosts.length, 2);
  });

  const image = { alias: "debian-12" };
  const prepared = { ...HOSTS[0], prepare: ["true"] };
  const refusals: [string, Record<string, unknown>, string][] = [
    ["no hosts", { hosts: [] }, "hosts must name at least one host"],
    ["text in place of hosts", { hosts: "bcn2" }, "hosts must be of type array"],
    ["an unknown key", { hots: [] }, "hots is not a known key; see the comments in Pulumi.lab.yaml"],
    [
      "an unknown key of a host",
      { hosts: [{ ...HOSTS[0], adress: "x" }] },
      "hosts[0].adress is not a known key; see the comments in Pulumi.lab.yaml",
    ],
    ["a host without an address", { hosts: [{ name: "bcn2" }] }, "hosts[0].address is missing"],
    [
      "the snap of Incus",
      { hosts: [{ ...HOSTS[0], node: { install: { method: "snap", server: "incus" } } }] },
      'hosts[0].node.install.server must be "lxd"',
    ],
    [
      "an address that is none",
      { hosts: [{ ...HOSTS[0], address: "192.168.1.300" }] },
      'hosts[0].address is not an address such as "192.168.1.102", "192.168.1.102:8443" or "[fd00::2]:8443"',
    ],
    [
      "a host whose name cannot be a member's",
      { hosts: [{ ...HOSTS[0], name: "bcn 2" }] },
      "hosts[0].name is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @",
    ],
    [
      "hosts with one name",
      { hosts: [HOSTS[0], { ...HOSTS[1], name: "bcn2" }] },
      'hosts[1].name "bcn2" is also the name of another host',
    ],
    [
      "hosts with one address",
      { hosts: [HOSTS[0], { ...HOSTS[1], address: "192.168.1.102" }] },
      'hosts[1].address "192.168.1.102" is also the address of another host',
    ],
    [
      "a way to install that does not exist",
      { hosts: [{ ...HOSTS[0], node: { install: { method: "flatpak" } } }] },
      'hosts[0].node.install.method must be "deb" or "snap"',
    ],
    [
      "what is no name of a driver",
      { pools: { default: { driver: "a tape" } } },
      'pools.default.driver must be the name of a storage driver, such as "btrfs"',
    ],
    [
      "to wait for an address without saying where",
      { vmDefaults: { waitFor: [{ for: "ipv4" }] } },
      "vmDefaults.waitFor[0].nic is missing",
    ],
    [
      "commands for a host whose key is not known",
      { hosts: [prepared] },
      "hosts[0].connection.hostKey is required with prepare: @pulumi/command runs these commands, and it does not read known_hosts. " +
        "Give the verified output of ssh-keyscan -t ed25519 192.168.1.102, or set hostKeyPolicy: insecure",
    ],
    [
      "a pool on a member that is not a host",
      { pools: { default: { driver: "zfs", memberConfig: { bcn9: { size: "1GiB" } } } } },
      'pools.default.memberConfig.bcn9 "bcn9" is not one of the hosts (bcn2, bcn1)',
    ],
    [
      "a VM on a member that is not a host",
      { vms: [{ name: "dns1", image, target: "bcn9" }] },
      'vms[0].target "bcn9" is not one of the hosts (bcn2, bcn1)',
    ],
    ["a VM without an image", { vms: [{ name: "dns1" }] }, "vms[0].image is missing, here and in vmDefaults"],
    [
      "VMs with one name",
      { vmDefaults: { image }, vms: [{ name: "a" }, { name: "a" }] },
      'vms[1].name "a" is also the name of another instance',
    ],
    [
      "an address without its prefix",
      { vms: [{ name: "dns1", image, network: { eth1: { addresses: ["192.168.1.100"] } } }] },
      'vms[0].network.eth1.addresses[0] is not an address with its prefix, such as "192.168.1.100/24"',
    ],
    [
      "a key file that is not there",
      { vmDefaults: { users: [{ name: "thinkube", authorizedKeyFiles: ["/nowhere/id.pub"] }] } },
      "vmDefaults.users[0].authorizedKeyFiles[0] /nowhere/id.pub cannot be read (ENOENT). Make a key with ssh-keygen -t ed25519, or name another file",
    ],
  ];
  for (const [what, config, message] of refusals) {
    it(`refuses ${what}, and says where and what to do`, () => {
      assert.throws(
        () => parse(config),
        (error) => {
          assert.ok(RunError.isInstance(error));
          assert.equal(
            error.message,
            `The config of this stack (Pulumi.<stack>.yaml) is not usable:\n  - lxd-cluster:${message}`,
          );
          return true;
        },
      );
    });
  }

  it("tells all that is wrong at once", () => {
    assert.throws(() => parse({ hots: [], vms: [{ name: "a", image: 5 }] }), {
      message: /lxd-cluster:vms\[0\]\.image must be of type object\n {2}- lxd-cluster:hots is not a known key/,
    });
  });

  it("keeps a secret a secret, in each text of the user that stands below a key with one", async () => {
    const waitFor = [{ for: "command", command: ["login", "x"] }];
    const vms = [
      {
        name: "a",
        cloudInit: { userData: "#cloud-config" },
        config: { "environment.TOKEN": "x" },
        image: { alias: "b" },
        waitFor,
      },
    ];
    const connection = { host: "192.168.1.102", hostKey: "ssh-ed25519 AAAA" };
    const hosts = [
      { name: "bcn2", address: "192.168.1.102", connection, prepare: ["register --token x"], node: { config: { "a.b": "x" } } },
    ];
    const entries = { "p:vms": JSON.stringify(vms), "p:hosts": JSON.stringify(hosts) };
    const config = parseConfig("p", entries, (key) => key.startsWith("p:"));
    const [[vm], [host]] = [config.vms, config.hosts];
    const [wait] = vm?.waitFor ?? [];
    const commands = wait?.for === "command" ? wait.command : [];
    const texts = [
      vm?.cloudInit?.userData,
      vm?.config?.["environment.TOKEN"],
      ...commands,
      ...(host?.prepare ?? []),
      host?.node?.config?.["a.b"],
    ];
    assert.equal(texts.length, 6);
    for (const text of texts) {
      assert.equal(await isSecret(output(text)), true);
    }
    assert.equal(vm?.name, "a");
    assert.equal(host?.name, "bcn2");
    const [plain] = parseConfig("p", entries).vms;
    assert.equal(plain?.cloudInit?.userData, "#cloud-config");
  });
});
