import assert from "node:assert/strict";
import * as z from "zod";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../../provider/resources/lxd-network-acl";
import { Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({
  description: z.string(),
  config: z.record(z.string(), z.string()),
  ingress: z.array(z.record(z.string(), z.string())),
  egress: z.array(z.record(z.string(), z.string())),
  used_by: z.array(z.string()),
});

const HTTP = { action: "allow", protocol: "tcp", destinationPort: 80 };

describe("LxdNetworkAcl", () => {
  let server: SimulatedCluster;
  let acl: Managed;

  const args = (more: object = {}): object => ({ cluster: server.cluster, name: "web", ingress: [HTTP], ...more });
  const live = async () => (await server.byHand()).find("/1.0/network-acls/web", shown);
  const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}): Promise<void> => {
    await (await server.byHand()).change(method, path, { body });
  };

  beforeEach(async () => {
    server = await startStandalone();
    acl = new Managed(networkAclLifecycle as never, "web");
  });

  afterEach(async () => {
    const { defects } = server.lab;
    await server.stop();
    assert.deepEqual(defects, []);
  });

  it("is made with its rules in LXD's form, marked as its own, and then left alone", async () => {
    const given = args({
      description: "web servers",
      egress: [{ action: "drop", protocol: "icmp4", icmpType: 8, icmpCode: 0, state: "logged", description: "ping" }],
      config: { "user.team": "a" },
    });
    assert.equal(await acl.up(given), "created");
    const { ingress, egress, config, description } = (await live()) ?? assert.fail();
    assert.deepEqual(ingress, [{ action: "allow", protocol: "tcp", destination_port: "80", state: "enabled" }]);
    const icmp = { protocol: "icmp4", icmp_type: "8", icmp_code: "0" };
    assert.deepEqual(egress, [{ action: "drop", ...icmp, description: "ping", state: "logged" }]);
    const { "user.pulumi.urn": mark, ...others } = config;
    assert.deepEqual([others, description], [{ "user.team": "a" }, "web servers"]);
    assert.match(mark ?? "", /::web \[[0-9a-f]{16}\]$/);
    const since = server.lab.requests.length;
    assert.equal(await acl.up(given), "same");
    assert.deepEqual(server.lab.mutations(since), []);
  });

  it("is the same in another order of rules and of lists, and in another spelling of addresses", async () => {
    const rule = { action: "drop", source: "10.0.0.1, fd00:0::1", description: " x " };
    await acl.up(args({ ingress: [rule, HTTP] }));
    const other = { ...rule, source: "fd00::1,10.0.0.1", description: "x" };
    assert.equal(await acl.up(args({ ingress: [HTTP, other] })), "same");
    assert.equal(await acl.up(args({ ingress: [HTTP, { ...other, source: "fd00::1" }] })), "updated");
  });

  it("repairs rules that were changed, and shows those that it keeps in the program's spelling", async () => {
    await acl.up(args({ ingress: [{ ...HTTP, source: "10.0.0.1, 10.0.0.2" }, { action: "drop" }] }));
    const { config = {}, ingress = [] } = (await live()) ?? {};
    const strange = { action: "reject", protocol: "udp", destination_port: "53", state: "enabled" };
    await byHand("PUT", "/1.0/network-acls/web", { config, ingress: [strange, ...ingress.slice(0, 1)] });
    assert.equal(
      await acl.preview(args({ ingress: [{ ...HTTP, source: "10.0.0.1, 10.0.0.2" }, { action: "drop" }] })),
      "updated",
    );
    assert.deepEqual(acl.inState("ingress"), [
      { action: "allow", protocol: "tcp", destinationPort: "80", source: "10.0.0.1, 10.0.0.2", state: "enabled" },
      { action: "reject", protocol: "udp", destinationPort: "53", state: "enabled" },
    ]);
    await acl.up(args({ ingress: [{ ...HTTP, source: "10.0.0.1, 10.0.0.2" }, { action: "drop" }] }));
    assert.deepEqual((await live())?.ingress, ingress);
  });

  it("is not removed while a network or another ACL uses it, and these are named", async () => {
    await acl.up(args());
    const network = new Managed(networkLifecycle as never, "webbr0");
    const config = { "ipv4.address": "10.20.0.1/24", "ipv6.address": "none" };
    await network.up({ cluster: server.cluster, name: "webbr0", config: { ...config, "security.acls": "web" } });
    await byHand("POST", "/1.0/network-acls", { name: "db", ingress: [{ action: "allow", source: "web", state: "enabled" }] });
    assert.deepEqual((await live())?.used_by, ["/1.0/networks/webbr0", "/1.0/network-acls/db"]);
    await assert.rejects(
      acl.destroy(),
      /Network ACL "web" on .* was not removed, because it is used by network webbr0, network-acl db\. Remove it from/,
    );
    await network.up({ cluster: server.cluster, name: "webbr0", config });
    await byHand("DELETE", "/1.0/network-acls/db");
    await acl.destroy();
    assert.equal(await live(), undefined);
  });

  it("is looked for before a network is created with it, because LXD would leave the network with an error", async () => {
    const network = new Managed(networkLifecycle as never, "webbr0");
    const given = { cluster: server.cluster, name: "webbr0", config: { "security.acls": "web, db" } };
    await acl.up(args());
    await assert.rejects(
      network.up(given),
      /Network "webbr0" cannot be created: there is no network ACL "db", which config has in security\.acls/,
    );
    assert.equal(await (await server.byHand()).find("/1.0/networks/webbr0", z.unknown()), undefined);
  });

  it("is replaced under another name, and the preview says that a user of it prevents that", async () => {
    await acl.up(args());
    await acl.preview(args({ name: "www" }));
    assert.match(
      acl.warnings.join("\n"),
      /replacement, because name changes\. Network ACL "web" will be removed.*refused while it is in use/,
    );
    assert.equal(await acl.up(args({ name: "www" })), "replaced");
    assert.equal(await live(), undefined);
  });

  it("is not taken from others without adopt, and then keeps what means the same", async () => {
    const rule = { action: "allow", protocol: "tcp", destination_port: "80", state: "enabled" };
    await byHand("POST", "/1.0/network-acls", { name: "web", ingress: [rule] });
    await assert.rejects(
      acl.up(args()),
      /Network ACL "web" already exists on .* it was not made by Pulumi \(1 ingress and 0 egress rules; used by nothing\)\. Set adopt/,
    );
    assert.equal(await acl.up(args({ adopt: true })), "created");
    assert.match((await live())?.config["user.pulumi.urn"] ?? "", /::web \[/);
  });

  it("changes its rules only while all members of a cluster that has a bridge with it are there", async () => {
    await server.stop();
    server = await startTwoMembers();
    await acl.up(args());
    const network = new Managed(networkLifecycle as never, "webbr0");
    await network.up({ cluster: server.cluster, name: "webbr0", config: { "security.acls": "web" } });
    await server.lab.host("bcn1").powerOff();
    await assert.rejects(acl.up(args({ ingress: [] })), /peer node 192\.168\.1\.101:8443 is down/);
    assert.equal((await live())?.ingress.length, 1);
  });

  const faults: [what: string, more: object, fault: RegExp][] = [
    ["a name that may be an address", { name: "10.0.0.1" }, /^name is not a valid name of an ACL/],
    ["a name that is only digits", { name: "123" }, /^name is not a valid name of an ACL/],
    ["an unknown action", { ingress: [{ action: "accept" }] }, /^ingress\.0\.action must be .*"allow"/],
    ["a field of LXD", { ingress: [{ ...HTTP, destination_port: "80" }] }, /^ingress\.0\.destination_port .*destinationPort/],
    [
      "ports without a protocol",
      { ingress: [{ action: "allow", destinationPort: 80 }] },
      /^ingress\.0\.destinationPort is possible only with protocol "tcp" or "udp"$/,
    ],
    [
      "ports of ICMP",
      { egress: [{ action: "allow", protocol: "icmp4", sourcePort: 80 }] },
      /^egress\.0\.sourcePort is possible only with/,
    ],
    [
      "an impossible port",
      { ingress: [{ ...HTTP, destinationPort: 65536 }] },
      /^ingress\.0\.destinationPort is not a list of ports/,
    ],
    [
      "a reversed range of ports",
      { ingress: [{ ...HTTP, destinationPort: "90-80" }] },
      /^ingress\.0\.destinationPort is not a list of ports/,
    ],
    [
      "ICMP fields of TCP",
      { ingress: [{ ...HTTP, icmpType: 8 }] },
      /^ingress\.0\.icmpType is possible only with protocol "icmp4" or "icmp6"$/,
    ],
    [
      "an impossible ICMP code",
      { ingress: [{ action: "drop", protocol: "icmp6", icmpCode: 256 }] },
      /^ingress\.0\.icmpCode is not a number from 0 to 255$/,
    ],
    [
      "a mistyped address",
      { ingress: [{ action: "drop", source: "10.0.0.256" }] },
      /^ingress\.0\.source contains "10\.0\.0\.256", which is not an IP address.*nor the name of an ACL/,
    ],
    [
      "a mistyped network",
      { egress: [{ action: "drop", source: "10.0.0.0/33" }] },
      /^egress\.0\.source contains "10\.0\.0\.0\/33", which is not/,
    ],
    [
      "a name where LXD has none",
      { ingress: [{ action: "drop", destination: "@internal" }] },
      /^ingress\.0\.destination contains "@internal": in ingress rules, only source may contain names/,
    ],
    [
      "two families",
      { ingress: [{ action: "drop", source: "10.0.0.1", destination: "fd00::1" }] },
      /^ingress\.0\.destination must contain addresses of the same family/,
    ],
    [
      "addresses that the protocol does not have",
      { ingress: [{ action: "drop", protocol: "icmp6", source: "10.0.0.1" }] },
      /^ingress\.0\.source contains IPv4 addresses, which protocol "icmp6" does not have$/,
    ],
    [
      "the same rule twice",
      { ingress: [{ action: "drop", source: "10.0.0.1,10.0.0.2" }, HTTP, { action: "drop", source: "10.0.0.1, 10.0.0.2" }] },
      /^ingress\.2 is the same rule as ingress\.0$/,
    ],
    [
      "config other than the user's",
      { config: { "limits.memory": "1GiB" } },
      /^config\.limits\.memory cannot be set here\. Possible are keys that begin with "user\."/,
    ],
    ["the owner's mark", { config: { "user.pulumi.urn": "x" } }, /^config\.user\.pulumi\.urn cannot be set/],
  ];
  for (const [what, more, fault] of faults) {
    it(`tells in check of ${what}`, async () => {
      const found = await acl.faults(args(more));
      assert.equal(found.length, 1, found.join("\n"));
      assert.match(found[0] ?? "", fault);
    });
  }

  it("accepts every form of a subject", async () => {
    const source =
      "10.0.0.1,10.0.0.0/8,10.0.0.1-10.0.0.9,fd00::1,fd00::/8,fd00::1-fd00::9,@internal,#external,web,@uplink/peer,$servers";
    assert.deepEqual(
      await acl.faults(args({ ingress: [{ action: "drop", source }], egress: [{ action: "drop", destination: source }] })),
      [],
    );
  });
});
