import assert from "node:assert/strict";
import * as z from "zod";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { networkForwardLifecycle } from "../../../provider/resources/lxd-network-forward";
import { Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({
  location: z.string(),
  description: z.string(),
  config: z.record(z.string(), z.string()),
  ports: z.array(z.record(z.string(), z.unknown())),
});

const FORWARDS = "/1.0/networks/shopbr0/forwards";
const HTTP = { protocol: "tcp", listenPort: 80, targetAddress: "10.30.0.10" };

describe("LxdNetworkForward", () => {
  let server: SimulatedCluster;
  let network: Managed;
  let forward: Managed;

  const args = (more: object = {}): object => ({
    cluster: server.cluster,
    network: "shopbr0",
    listenAddress: "192.0.2.1",
    ports: [HTTP],
    ...more,
  });
  const live = async (target?: string) => (await server.byHand()).find(`${FORWARDS}/192.0.2.1`, shown, { target });
  const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}, target?: string): Promise<void> => {
    await (await server.byHand()).change(method, path, { body, query: { target } });
  };
  const begin = async (starting: Promise<SimulatedCluster>): Promise<void> => {
    server = await starting;
    network = new Managed(networkLifecycle as never, "shopbr0");
    forward = new Managed(networkForwardLifecycle as never, "shop");
    const config = { "ipv4.address": "10.30.0.1/24", "ipv6.address": "fd00:30::1/64" };
    await network.up({ cluster: server.cluster, name: "shopbr0", config });
  };

  afterEach(async () => {
    const { defects } = server.lab;
    await server.stop();
    assert.deepEqual(defects, []);
  });

  describe("of a standalone server", () => {
    beforeEach(() => begin(startStandalone()));

    it("is made with its ports in LXD's form, marked as its own, and then left alone", async () => {
      const given = args({ description: "the shop", config: { target_address: "10.30.0.9", "user.team": "a" } });
      assert.equal(await forward.up(given), "created");
      const { location, description, config, ports } = (await live()) ?? assert.fail();
      const { "user.pulumi.urn": mark, ...others } = config;
      assert.deepEqual([location, description, others], ["none", "the shop", { target_address: "10.30.0.9", "user.team": "a" }]);
      assert.deepEqual(ports, [
        { protocol: "tcp", listen_port: "80", target_port: "", target_address: "10.30.0.10", description: "" },
      ]);
      assert.match(mark ?? "", /::shop \[[0-9a-f]{16}\]$/);
      const since = server.lab.requests.length;
      assert.equal(await forward.up(given), "same");
      assert.deepEqual(server.lab.mutations(since), []);
    });

    it("is the same in another order of ports and in another spelling", async () => {
      const dns = { protocol: "udp", listenPort: "53, 54", targetAddress: "10.30.0.11", description: " dns " };
      await forward.up(args({ ports: [HTTP, dns] }));
      const other = { ...dns, listenPort: "53,54", description: "dns" };
      assert.equal(await forward.up(args({ ports: [other, HTTP] })), "same");
      assert.equal(await forward.up(args({ ports: [{ ...other, listenPort: "54,53" }, HTTP] })), "updated");
      assert.deepEqual((await live())?.ports[0]?.["listen_port"], "54,53");
    });

    it("has an IPv6 address in any spelling", async () => {
      const port = { protocol: "tcp", listenPort: 80, targetAddress: "fd00:30:0::10" };
      await forward.up(args({ listenAddress: "2001:DB8:0::1", ports: [port] }));
      const found = await (await server.byHand()).find(`${FORWARDS}/${encodeURIComponent("2001:db8::1")}`, shown);
      assert.ok(found);
      assert.equal(await forward.up(args({ listenAddress: "2001:db8::1", ports: [port] })), "same");
      await forward.destroy();
    });

    it("is replaced for another address, and the preview says so", async () => {
      await forward.up(args());
      await forward.preview(args({ listenAddress: "192.0.2.2" }));
      assert.match(
        forward.warnings.join("\n"),
        /replacement, because listenAddress changes\. Forward 192\.0\.2\.1 of network "shopbr0" will be/,
      );
      assert.equal(await forward.up(args({ listenAddress: "192.0.2.2" })), "replaced");
      assert.equal(await live(), undefined);
    });

    it("has no target", async () => {
      await assert.rejects(
        forward.up(args({ target: "bcn2" })),
        /Forward .* cannot be created: root@.* is in no cluster\. Leave out target/,
      );
    });

    it("needs its network", async () => {
      await assert.rejects(
        forward.up(args({ network: "nope" })),
        /cannot be created: Network "nope" does not exist on .*\. Create it first, and give its name as an output/,
      );
    });

    it("is gone with its network, and made again", async () => {
      await forward.up(args());
      await byHand("DELETE", "/1.0/networks/shopbr0");
      await network.up({ cluster: server.cluster, name: "shopbr0", config: { "ipv4.address": "10.30.0.1/24" } });
      assert.equal(await forward.up(args()), "created");
    });

    it("is not taken from others without adopt", async () => {
      await byHand("POST", FORWARDS, { listen_address: "192.0.2.1", config: { target_address: "10.30.0.9" } });
      await assert.rejects(
        forward.up(args()),
        /Forward 192\.0\.2\.1 of network "shopbr0" already exists on .* it was not made by Pulumi \(0 entries in ports, target_address 10\.30\.0\.9\)/,
      );
      assert.equal(await forward.up(args({ adopt: true })), "created");
      assert.deepEqual(Object.keys((await live())?.config ?? {}), ["user.pulumi.urn"]);
    });
  });

  describe("of a cluster", () => {
    beforeEach(() => begin(startTwoMembers()));

    it("is one of its member, beside one of another member with the same address", async () => {
      await byHand("POST", FORWARDS, { listen_address: "192.0.2.1", description: "theirs" }, "bcn2");
      assert.equal(await forward.up(args({ target: "bcn1" })), "created");
      assert.equal(await forward.up(args({ target: "bcn1", description: "ours" })), "updated");
      assert.deepEqual([(await live("bcn1"))?.description, (await live("bcn2"))?.description], ["ours", "theirs"]);
      await forward.destroy();
      assert.equal(await live("bcn1"), undefined);
      assert.equal((await live("bcn2"))?.description, "theirs");
    });

    it("needs a target that is a member", async () => {
      const why = /cannot be created: each member has its own bridge\. Set target to one of bcn2, bcn1/;
      await assert.rejects(forward.up(args()), why);
      await assert.rejects(forward.up(args({ target: "nobody" })), why);
      assert.equal(await live(), undefined);
    });

    it("is not taken for one of any member when the program names none", async () => {
      await byHand("POST", FORWARDS, { listen_address: "192.0.2.1" }, "bcn1");
      await assert.rejects(
        forward.up(args({ adopt: true })),
        /exists on .* for member bcn1\. Set target: "bcn1" to mean this one/,
      );
    });

    it("stays in state while its member is down, and is an error to change", async () => {
      await forward.up(args({ target: "bcn1" }));
      await server.lab.host("bcn1").powerOff();
      assert.equal(await forward.up(args({ target: "bcn1" })), "same");
      await assert.rejects(forward.up(args({ target: "bcn1", description: "new" })), /bcn1|event connection|offline/i);
    });
  });

  describe("in check", () => {
    beforeEach(() => begin(startStandalone()));

    const faults: [what: string, more: object, fault: RegExp][] = [
      ["an address with a prefix", { listenAddress: "192.0.2.1/32" }, /^listenAddress is not an IPv4 or IPv6 address$/],
      [
        "an unknown key",
        { config: { "limits.memory": "1GiB" } },
        /^config\.limits\.memory cannot be set here\. Possible are target_address and keys/,
      ],
      [
        "a target of another family",
        { config: { target_address: "fd00::1" } },
        /^config\.target_address must be an IPv4 address, as listenAddress is$/,
      ],
      [
        "ports of another family",
        { ports: [{ ...HTTP, targetAddress: "fd00::1" }] },
        /^ports\.0\.targetAddress must be an IPv4 address/,
      ],
      ["an unknown protocol", { ports: [{ ...HTTP, protocol: "icmp" }] }, /^ports\.0\.protocol must be .*"tcp"/],
      ["no target", { ports: [{ protocol: "tcp", listenPort: 80 }] }, /^ports\.0\.targetAddress is required/],
      ["an impossible port", { ports: [{ ...HTTP, listenPort: 65536 }] }, /^ports\.0\.listenPort is not a list of ports/],
      ["a reversed range", { ports: [{ ...HTTP, listenPort: "90-80" }] }, /^ports\.0\.listenPort is not a list of ports/],
      [
        "a port twice",
        { ports: [{ ...HTTP, listenPort: "70-90" }, HTTP] },
        /^ports\.1\.listenPort has port 80 of tcp, which ports\.0\.listenPort has already$/,
      ],
      [
        "target ports that do not match",
        { ports: [{ ...HTTP, listenPort: "80-82", targetPort: "90-91" }] },
        /^ports\.0\.targetPort has 2 ports, and listenPort has 3\./,
      ],
      [
        "the default target twice",
        { config: { target_address: "10.30.0.10" } },
        /^ports\.0\.targetAddress is the target_address of config already/,
      ],
    ];
    for (const [what, more, fault] of faults) {
      it(`tells of ${what}`, async () => {
        const found = await forward.faults(args(more));
        assert.equal(found.length, 1, found.join("\n"));
        assert.match(found[0] ?? "", fault);
      });
    }

    it("accepts the same port of two protocols, and one target for many ports", async () => {
      const ports = [
        { ...HTTP, listenPort: "80,8000-8002", targetPort: 8080 },
        { ...HTTP, protocol: "udp" },
      ];
      assert.deepEqual(await forward.faults(args({ ports })), []);
    });
  });
});
