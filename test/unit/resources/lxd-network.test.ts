import assert from "node:assert/strict";
import * as z from "zod";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({ config: z.record(z.string(), z.string()), description: z.string(), status: z.string() });

describe("LxdNetwork", () => {
  let two: SimulatedCluster;
  let network: Managed;

  beforeEach(async () => {
    two = await startTwoMembers();
    network = new Managed(networkLifecycle, "bridge");
  });
  afterEach(() => two.stop());

  const addresses = { "ipv4.address": "10.10.10.1/24", "ipv4.nat": true, "ipv6.address": "none" };
  const args = (more: object = {}) => ({ cluster: two.cluster, name: "lxdbr0", config: addresses, ...more });
  const live = async (target?: string) => (await two.byHand()).get("/1.0/networks/lxdbr0", shown, { target });
  const put = async (config: Record<string, string>, target?: string) =>
    (await two.byHand()).change("PUT", "/1.0/networks/lxdbr0", { query: { target }, body: { description: "", config } });

  it("is defined on each member, created on all, and unchanged by a second up", async () => {
    assert.equal(await network.up(args()), "created");
    assert.deepEqual(network.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
    const before = two.lab.requests.length;
    assert.equal(await network.up(args()), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("outputs the addresses that LXD chose, without drift", async () => {
    const given = args({ config: { "ipv4.address": "auto" } });
    await network.up(given);
    const effective = z.record(z.string(), z.string()).parse(network.inState("effectiveConfig"));
    assert.match(effective["ipv4.address"] ?? "", /^10\.[\d.]+\/24$/);
    assert.match(effective["ipv6.address"] ?? "", /^fd42:/);
    assert.equal(await network.up(given), "same");
  });

  it("keeps its address when LXD is to choose one", async () => {
    await network.up(args());
    await network.up(args({ config: { "ipv4.address": "auto", "ipv6.address": "none" } }));
    assert.equal((await live()).config["ipv4.address"], "10.10.10.1/24");
  });

  it("repairs a key that was changed manually, and keeps keys that the program does not set", async () => {
    await network.up(args());
    await put({ ...(await live()).config, "ipv4.nat": "false", "dns.domain": "hand" });
    assert.equal(await network.up(args()), "updated");
    assert.equal((await live()).config["ipv4.nat"], "true");
    assert.equal((await live()).config["dns.domain"], "hand");
  });

  describe("with the subnet of another bridge", () => {
    const other = (address: string, more: object = {}) => ({
      cluster: two.cluster,
      name: "br2",
      config: { "ipv4.address": address, "ipv6.address": "none", ...more },
    });
    const overlap =
      /Network "br2" cannot have 10\.10\.\d+\.\d+\/\d+ \(config\.ipv4\.address\): the network "lxdbr0" has 10\.10\.10\.1\/24/;

    beforeEach(() => network.up(args()));

    for (const address of ["10.10.10.1/24", "10.10.0.1/16", "10.10.10.129/25"]) {
      it(`is refused, also in the preview: ${address}`, async () => {
        const second = new Managed(networkLifecycle, "second");
        await second.preview(other(address));
        assert.match(second.notes.join("\n"), overlap);
        await assert.rejects(second.up(other(address)), overlap);
        assert.equal(second.state, undefined);
        await second.up(other("10.10.11.1/24"));
        await second.preview(other(address));
        assert.match(second.warnings.join("\n"), overlap);
        await assert.rejects(second.up(other(address)), overlap);
      });
    }

    it("is left as it is when it was there before", async () => {
      for (const member of ["bcn2", "bcn1"]) {
        await two.lab.byHand("bcn2", "POST", `/1.0/networks?target=${member}`, { name: "br2" });
      }
      await two.lab.byHand("bcn2", "POST", "/1.0/networks", { name: "br2", config: other("10.10.10.1/24").config });
      const second = new Managed(networkLifecycle, "second");
      await second.up({ ...other("10.10.10.1/24"), description: "mine", adopt: true });
      assert.deepEqual(second.inState("description"), "mine");
    });
  });

  it("repairs a key of one member without losing the keys of all", async () => {
    const given = args({ memberConfig: { bcn1: { "bridge.external_interfaces": "eth1" } } });
    two.lab.host("bcn1").interfaces.set("eth1", { type: "physical", hwaddr: "00:16:3e:00:00:99", addresses: [] });
    await network.up(given);
    await put({ ...(await live("bcn1")).config, "bridge.external_interfaces": "" }, "bcn1");
    assert.equal(await network.up(given), "updated");
    assert.equal((await live("bcn1")).config["bridge.external_interfaces"], "eth1");
    assert.equal((await live()).config["ipv4.address"], "10.10.10.1/24");
    assert.equal(await network.up(given), "same");
  });

  it("gives a member's key in config to every member, and repairs it on one", async () => {
    const given = args({ config: { "ipv4.address": "10.10.10.1/24", "bridge.external_interfaces": "eth1" } });
    for (const { interfaces } of two.lab.hosts) {
      interfaces.set("eth1", { type: "physical", hwaddr: "00:16:3e:00:00:99", addresses: [] });
    }
    await network.up(given);
    assert.equal((await live("bcn2")).config["bridge.external_interfaces"], "eth1");
    await put({ ...(await live("bcn1")).config, "bridge.external_interfaces": "" }, "bcn1");
    assert.equal(await network.preview(given), "updated");
    assert.deepEqual(network.inState("memberConfig"), { bcn1: { "bridge.external_interfaces": "" } });
    assert.equal(await network.up(given), "updated");
    assert.equal((await live("bcn1")).config["bridge.external_interfaces"], "eth1");
    assert.equal((await live()).config["ipv4.address"], "10.10.10.1/24");
    assert.equal(await network.up(given), "same");
  });

  it("continues from members on which it is only defined", async () => {
    two.lab.faults.add({
      when: { method: "POST", path: /^\/1\.0\/networks\?project=default$/, nth: 1 },
      effect: { status: 500, error: "Failed to create it" },
    });
    await assert.rejects(
      network.up(args()),
      /Network "lxdbr0" could not be created on bcn2, bcn1\. LXD on .* says: Failed to create it/,
    );
    assert.equal(network.inState("status"), "Pending");
    assert.equal(await network.up(args()), "updated");
    assert.equal((await live()).config["ipv4.address"], "10.10.10.1/24");
  });

  it("starts again where an attempt created nothing, because LXD would keep the config of that attempt", async () => {
    const given = args({ memberConfig: { bcn2: { "bridge.external_interfaces": "eth7" } } });
    await assert.rejects(network.up(given), /could not be created on bcn2, bcn1\. LXD on .* says: .*eth7/);
    assert.equal(network.inState("status"), "Errored");
    assert.equal(await network.up(args({ config: { "ipv4.address": "10.20.20.1/24" } })), "updated");
    assert.equal((await live()).config["ipv4.address"], "10.20.20.1/24");
    assert.equal((await live()).status, "Created");
  });

  it("refuses the name of an interface that a host already has, before anything is created", async () => {
    two.lab.host("bcn2").interfaces.set("wan0", { type: "bridge", hwaddr: "00:16:3e:00:00:98", addresses: [] });
    const before = two.lab.requests.length;
    await network.preview(args({ name: "wan0" }));
    assert.match(network.notes.join("\n"), /pulumi up will refuse this, .*bcn2 has an interface "wan0" \(bridge\)/);
    await assert.rejects(network.up(args({ name: "wan0" })), /bcn2 has an interface "wan0" \(bridge\) that LXD does not manage/);
    assert.deepEqual(two.lab.mutations(before), []);
  });

  for (const port of [53, 67]) {
    it(`names the process that has the port ${port} on the member that fails, and is completed when it has ended`, async () => {
      const { listeners } = two.lab.host("bcn1");
      listeners.push({ process: "named", pid: 812, address: "0.0.0.0", port });
      const message = new RegExp(
        `could not be created on bcn1; it is created on bcn2\\. .*Address already in use.* continues from here\\. On bcn1, named \\(pid 812\\) listens on 0\\.0\\.0\\.0:${port}$`,
      );
      await assert.rejects(network.up(args()), message);
      assert.match(String(network.inState("unfinished")), /named \(pid 812\)/);
      listeners.pop();
      assert.equal(await network.up(args()), "updated");
      assert.equal(network.inState("status"), "Created");
    });
  }

  it("says what to run on a member whose host it cannot ask", async () => {
    two.lab.host("bcn1").listeners.push({ process: "named", pid: 812, address: "0.0.0.0", port: 53 });
    const [first] = two.cluster.endpoints;
    await assert.rejects(
      network.up(args({ cluster: { endpoints: [first] } })),
      /To see what is in the way on bcn1, run there as root: ip -details address show; ss -lntup$/,
    );
  });

  it("tells the server's own failure, and keeps what exists in state, when nothing more can be found out", async () => {
    two.lab.host("bcn1").listeners.push({ process: "named", pid: 812, address: "0.0.0.0", port: 53 });
    two.lab.faults.add({ when: { host: "bcn1", exec: /ss / }, effect: { status: 127, error: "ss: not found" } });
    await assert.rejects(network.up(args()), /Address already in use.*To see what is in the way on bcn1, run there as root/);
    assert.equal(network.inState("status"), "Errored");
  });

  it("names what is in the way of a change, which the server refuses", async () => {
    await network.up(args());
    two.lab.host("bcn2").listeners.push({ process: "named", pid: 812, address: "0.0.0.0", port: 53 });
    two.lab.faults.add({
      when: { method: "PUT", path: /^\/1\.0\/networks\/lxdbr0/ },
      effect: { status: 500, error: "It failed" },
    });
    await assert.rejects(
      network.up(args({ config: { ...addresses, "ipv4.address": "10.10.11.1/24" } })),
      /It failed\. On bcn2, named \(pid 812\) listens on 0\.0\.0\.0:53$/,
    );
  });

  describe("changed, when the server fails at it", () => {
    const other = (more: object = {}) => args({ config: { ...addresses, "ipv4.nat": false }, ...more });
    const failing = (nth?: number, status = 500) =>
      two.lab.faults.add({
        when: { method: "PUT", path: /^\/1\.0\/networks\/lxdbr0/, ...(nth !== undefined && { nth }) },
        effect: { status, error: "It failed" },
      });

    beforeEach(() => network.up(args()));

    it("is changed again while nothing on the hosts is in its way", async () => {
      const fault = failing(1);
      assert.equal(await network.up(other()), "updated");
      assert.equal((await live()).config["ipv4.nat"], "false");
      assert.equal(fault.matches, 2);
      assert.match(network.progress.join("\n"), /sending the change again/);
      assert.equal(await network.up(other()), "same");
    });

    it("is not changed for ever", async () => {
      const fault = failing();
      await assert.rejects(
        network.up(other()),
        /It failed\. It was sent 3 times, and nothing is in its way on the hosts of its members$/,
      );
      assert.equal(fault.matches, 3);
      assert.equal((await live()).config["ipv4.nat"], "true");
      fault.remove();
      assert.equal(await network.up(other()), "updated");
    });

    it("is changed once when something is in its way, when a host cannot be asked, and when the server refuses", async () => {
      const [first] = two.cluster.endpoints;
      const { listeners } = two.lab.host("bcn1");
      listeners.push({ process: "named", pid: 812, address: "0.0.0.0", port: 53 });
      const cases: [number, object, RegExp][] = [
        [500, other(), /On bcn1, named \(pid 812\) listens on 0\.0\.0\.0:53$/],
        [500, other({ cluster: { endpoints: [first] } }), /To see what is in the way on bcn1, run there as root: /],
        [400, other(), /It failed$/],
      ];
      for (const [status, given, message] of cases) {
        const fault = failing(undefined, status);
        await assert.rejects(network.up(given), message);
        assert.equal(fault.matches, 1, String(message));
        fault.remove();
        listeners.length = 0;
      }
    });

    it("is told to have no DNS and DHCP on a member where the server has not started it again", async () => {
      failing();
      const { interfaces } = two.lab.host("bcn1");
      const bridge = interfaces.get("lxdbr0");
      assert.ok(bridge?.dnsmasqPid);
      interfaces.set("lxdbr0", { ...bridge, dnsmasqPid: undefined });
      await assert.rejects(
        network.up(other()),
        /sent 3 times, .*\. On bcn1, nothing listens for DNS and DHCP on the bridge until a change of it succeeds$/,
      );
    });
  });

  it("refuses a network that others created, and adopts it with adopt", async () => {
    await network.up(args());
    const other = new Managed(networkLifecycle, "other");
    await assert.rejects(other.up(args()), /Network "lxdbr0" already exists .* belongs to the Pulumi resource "bridge"/);
    assert.equal(await other.up(args({ adopt: true })), "created");
  });

  it("is removed, and a second removal succeeds", async () => {
    await network.up(args());
    const { state } = network;
    await network.destroy();
    network.state = state;
    await assert.doesNotReject(network.destroy());
  });

  it("refuses when a member is offline, before it is half created", async () => {
    await two.lab.host("bcn1").powerOff();
    await assert.rejects(network.up(args()), /created on all members at once, and bcn1 is offline/);
    assert.equal(network.state, undefined);
  });

  describe("on an interface of each host", () => {
    const onInterface = (more: object = {}) => ({
      cluster: two.cluster,
      name: "lan",
      type: "macvlan",
      config: { parent: "eth0" },
      ...more,
    });
    const parents = async (): Promise<unknown[]> =>
      Promise.all(
        ["bcn2", "bcn1"].map(
          async (target) => (await (await two.byHand()).get("/1.0/networks/lan", shown, { target })).config["parent"],
        ),
      );

    it("gets each member's own interface, and follows a change of it", async () => {
      assert.equal(await network.up(onInterface({ memberConfig: { bcn1: { parent: "br0" } } })), "created");
      assert.deepEqual(await parents(), ["eth0", "br0"]);
      assert.equal(await network.up(onInterface({ config: { parent: "br0" } })), "updated");
      assert.deepEqual(await parents(), ["br0", "br0"]);
      assert.equal(await network.up(onInterface({ config: { parent: "br0" } })), "same");
    });

    it("is not begun when a member has no interface for it", async () => {
      const before = two.lab.requests.length;
      const given = onInterface({ config: {}, memberConfig: { bcn2: { parent: "eth0" } } });
      await assert.rejects(
        network.up(given),
        /Network "lan" needs an interface on each member, and has none for bcn1\. Give config\.parent for all members, or memberConfig: \{ "bcn1": \{ parent: "\.\.\." \} \}/,
      );
      assert.deepEqual(two.lab.mutations(before), []);
    });

    it("is completed when the missing interface is there, or another one is given", async () => {
      const given = onInterface({ memberConfig: { bcn1: { parent: "eth7" } } });
      await assert.rejects(
        network.up(given),
        /could not be created on bcn1; it is created on bcn2\. .*Parent interface "eth7" not found.*On bcn1, there is no interface "eth7": it has lo, eth0, br0$/,
      );
      assert.equal(network.inState("status"), "Errored");
      assert.equal(await network.up(onInterface({ memberConfig: { bcn1: { parent: "br0" } } })), "updated");
      assert.deepEqual(await parents(), ["eth0", "br0"]);
      assert.equal(network.inState("status"), "Created");
    });

    it("is replaced by a bridge, and not by drift", async () => {
      await network.up(onInterface());
      assert.equal(await network.preview({ ...args(), name: "lan" }), "replaced");
    });
  });

  it("of type ovn spans the members: it is created once, and completed by the next up", async () => {
    const given = { cluster: two.cluster, name: "inner", type: "ovn", config: { network: "none" } };
    const before = two.lab.requests.length;
    assert.equal(await network.up(given), "created");
    assert.deepEqual(
      two.lab
        .mutations(before)
        .filter(({ method }) => method === "POST")
        .map(({ path }) => path),
      ["/1.0/networks?project=default"],
    );
    assert.equal(await network.up(given), "same");
  });

  it("of version 1 is a bridge", () => {
    assert.equal(networkLifecycle.upgrade?.({ name: "lxdbr0" }, 1).type, "bridge");
  });

  for (const [title, wrong, message] of [
    ["an unknown type", { type: "vlan" }, /^type must be one of bridge, physical, macvlan, sriov, ovn/],
    [
      "a network without the interface that it is on",
      { type: "macvlan", config: {} },
      /^config\.parent is missing: the host's interface/,
    ],
    ["the interface of a bridge", { config: { parent: "eth0" } }, /^config\.parent is no key of a network of type bridge/],
    [
      "a port of a bridge on a network that is none",
      { type: "physical", config: { parent: "eth0" }, memberConfig: { bcn1: { "bridge.external_interfaces": "eth1" } } },
      /^memberConfig\.bcn1\.bridge\.external_interfaces is no key of a network of type physical/,
    ],
    [
      "a name that is too long for an interface",
      { name: "much-too-long-a-name" },
      /^name is not a valid name of a network interface/,
    ],
    [
      "an address without its prefix length",
      { config: { "ipv4.address": "10.0.0.1" } },
      /^config\.ipv4\.address is not an IPv4 address with its prefix length/,
    ],
    ["an IPv4 address for IPv6", { config: { "ipv6.address": "10.0.0.1/24" } }, /^config\.ipv6\.address is not an IPv6 address/],
    ["a prefix that is too long", { config: { "ipv4.address": "10.0.0.1/33" } }, /^config\.ipv4\.address is not an IPv4 address/],
    ["what is neither yes nor no", { config: { "ipv4.nat": "perhaps" } }, /^config\.ipv4\.nat must be "true" or "false"/],
    [
      "a common key in memberConfig",
      { memberConfig: { bcn1: { "ipv4.nat": true } } },
      /^memberConfig\.bcn1\.ipv4\.nat has one value for all members/,
    ],
  ] as const) {
    it(`refuses ${title} in check`, async () => {
      const faults = await network.faults(args(wrong));
      assert.equal(faults.length, 1, faults.join("\n"));
      assert.match(faults[0] ?? "", message);
    });
  }
});
