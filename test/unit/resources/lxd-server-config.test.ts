import assert from "node:assert/strict";
import { getServer, serverConfig, setServerConfig } from "../../../provider/lxd/server";
import { serverConfigLifecycle } from "../../../provider/resources/lxd-server-config";
import { killedAtTheEnd, Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

describe("LxdServerConfig", () => {
  let two: SimulatedCluster;
  let settings: Managed;

  const manage = (name = "settings", stack = "lab") => new Managed(serverConfigLifecycle as never, name, stack);
  const args = (config: object = {}, memberConfig: object = {}, more: object = {}): object => ({
    cluster: two.cluster,
    config,
    memberConfig,
    ...more,
  });
  const all = async (target?: string) => serverConfig(await getServer(await two.byHand(), target));
  /** The config without the records of this package. */
  const live = async (target?: string): Promise<Record<string, string>> =>
    Object.fromEntries(Object.entries(await all(target)).filter(([key]) => !/^user\.pulumi\.|https_address$/.test(key)));
  const records = async (): Promise<string[]> => Object.keys(await all()).filter((key) => key.startsWith("user.pulumi."));
  const byHand = async (config: Record<string, string>, target?: string): Promise<void> =>
    setServerConfig(await two.byHand(), config, target);

  beforeEach(async () => {
    two = await startTwoMembers();
    settings = manage();
  });

  afterEach(async () => {
    const { defects } = two.lab;
    await two.stop();
    assert.deepEqual(defects, []);
  });

  it("manages only the given keys, and a second up changes nothing", async () => {
    await byHand({ "core.proxy_http": "http://proxy:3128" });
    const given = args({ "images.auto_update_interval": 24 }, { bcn1: { "core.debug_address": "127.0.0.1:8444" } });
    assert.equal(await settings.up(given), "created");
    assert.deepEqual(await live("bcn2"), { "core.proxy_http": "http://proxy:3128", "images.auto_update_interval": "24" });
    assert.equal((await live("bcn1"))["core.debug_address"], "127.0.0.1:8444");
    const since = two.lab.requests.length;
    assert.equal(await settings.up(given), "same");
    assert.deepEqual(two.lab.mutations(since), []);
  });

  it("takes the server's own default, which that does not show, as what it is", async () => {
    const given = args({ "cluster.offline_threshold": 20, "cluster.max_voters": "" });
    await settings.up(given);
    assert.equal((await live())["cluster.offline_threshold"], undefined);
    assert.equal(await settings.up(given), "same");
    await byHand({ "cluster.offline_threshold": "30", "cluster.max_voters": "5" });
    assert.equal(await settings.preview(given), "updated");
    assert.deepEqual(settings.inState("config"), { "cluster.offline_threshold": "30", "cluster.max_voters": "5" });
    await settings.up(given);
    assert.deepEqual(await live(), {});
  });

  it("restores former values when keys are removed from the program, as the preview says, and when it is deleted", async () => {
    await byHand({ "cluster.max_voters": "5", "user.note": "mine" });
    await byHand({ "core.debug_address": "127.0.0.1:9000" }, "bcn1");
    const before = [await all("bcn2"), await all("bcn1")];
    const more = { adopt: true };
    await settings.up(
      args(
        { "cluster.max_voters": 7, "images.auto_update_interval": 24 },
        { bcn1: { "core.debug_address": "127.0.0.1:8444" }, bcn2: { "core.bgp_routerid": "10.0.0.1" } },
        more,
      ),
    );
    const fewer = args({ "images.auto_update_interval": 12 }, {}, more);
    await settings.preview(fewer);
    assert.deepEqual(settings.warnings.sort(), [
      'config.cluster.max_voters is no longer managed: its former value "5" is restored',
      'memberConfig.bcn1.core.debug_address is no longer managed: its former value "127.0.0.1:9000" is restored',
      "memberConfig.bcn2.core.bgp_routerid is no longer managed: it is unset, as it was before",
    ]);
    assert.equal(await settings.up(fewer), "updated");
    assert.deepEqual(await live("bcn2"), { "cluster.max_voters": "5", "user.note": "mine", "images.auto_update_interval": "12" });
    assert.equal((await live("bcn1"))["core.debug_address"], "127.0.0.1:9000");
    await settings.destroy();
    assert.deepEqual([await all("bcn2"), await all("bcn1")], before);
  });

  it("restores the value from before, also when somebody removed the key meanwhile or removed the record", async () => {
    await byHand({ "cluster.max_voters": "5" });
    const given = args({ "cluster.max_voters": 7 }, {}, { adopt: true });
    await settings.up(given);
    await byHand({ "cluster.max_voters": "" });
    await settings.preview(given);
    await byHand(Object.fromEntries((await records()).map((key) => [key, ""])));
    await settings.destroy();
    assert.deepEqual(await live(), { "cluster.max_voters": "5" });
  });

  it("refuses a key that has another value, and takes one that has the same", async () => {
    await byHand({ "cluster.max_voters": "5", "images.auto_update_interval": "24" });
    await assert.rejects(
      settings.up(args({ "cluster.max_voters": 7 })),
      /config\.cluster\.max_voters is already set to "5" on root@.*, and not by a resource that manages it\. Set adopt: true/,
    );
    assert.deepEqual(await records(), []);
    assert.equal(await settings.up(args({ "images.auto_update_interval": 24 })), "created");
    await settings.destroy();
    assert.deepEqual(await live(), { "cluster.max_voters": "5", "images.auto_update_interval": "24" });
  });

  it("refuses a key that another resource manages, of any stack, and takes it over with adopt", async () => {
    const given = args({ "cluster.max_voters": 7, "user.a": "1" });
    await manage("theirs", "prod").up(given);
    const other = manage("other");
    await other.up(args({ "images.auto_update_interval": 24 }));
    await assert.rejects(
      settings.up(args({ "cluster.max_voters": 5 })),
      /config\.cluster\.max_voters on .* belongs to the Pulumi resource "theirs" of stack "prod", project "tests"\. Remove it there, or set adopt/,
    );
    const taking = args({ "cluster.max_voters": 5 }, {}, { adopt: true });
    await settings.up(taking);
    assert.equal(await settings.up(taking), "same");
    await settings.destroy();
    // The value from before the first of them.
    assert.deepEqual(await live(), { "user.a": "1", "images.auto_update_interval": "24" });
  });

  it("reports a key that another resource took over, and no longer changes or restores it", async () => {
    const theirs = manage("theirs", "prod");
    const given = args({ "cluster.max_voters": 7, "user.a": "1" });
    await theirs.up(given);
    await settings.up(args({ "cluster.max_voters": 7 }, {}, { adopt: true }));
    assert.equal(await theirs.preview(given), "same");
    assert.match(theirs.warnings.join(), /it now belongs to the Pulumi resource "settings" of stack "lab"/);
    await assert.rejects(
      theirs.up(args({ "cluster.max_voters": 9, "user.a": "1" })),
      /config\.cluster\.max_voters on .* was not changed: it now belongs/,
    );
    await theirs.destroy();
    assert.match(
      theirs.warnings.at(-1) ?? "",
      /config\.cluster\.max_voters on .* stays as it is: it now belongs to the Pulumi resource "settings"/,
    );
    assert.deepEqual(await live(), { "cluster.max_voters": "7" });
    assert.equal(await settings.up(args({ "cluster.max_voters": 7 }, {}, { adopt: true })), "same");
  });

  it("is continued after a create that was killed, and knows the values from before that", async () => {
    await byHand({ "cluster.max_voters": "5" });
    const given = args({ "cluster.max_voters": 7 }, { bcn1: { "core.bgp_routerid": "10.0.0.1" } }, { adopt: true });
    const killed = new Managed(killedAtTheEnd(serverConfigLifecycle as never), "settings");
    await killed
      .up(args({ "images.auto_update_interval": 24 }, { bcn1: { "core.bgp_routerid": "10.0.0.1" } }))
      .catch(() => undefined);
    assert.equal((await records()).length, 1);
    assert.equal(
      await settings.up(args({ "images.auto_update_interval": 24 }, { bcn1: { "core.bgp_routerid": "10.0.0.1" } })),
      "created",
    );
    assert.equal((await records()).length, 1);
    await settings.up(given);
    await settings.destroy();
    assert.deepEqual(
      [await live("bcn2"), await live("bcn1"), await records()],
      [{ "cluster.max_voters": "5" }, { "cluster.max_voters": "5" }, []],
    );
  });

  it("writes a secret that the server does not tell, again only when the program changes it, and unsets it in the end", async () => {
    const given = (password: string) => args({ "core.trust_password": password, "loki.auth.password": `${password}-loki` });
    await settings.up(given("hunter22"));
    assert.equal((await live())["core.trust_password"], "true");
    assert.equal(await settings.up(given("hunter22")), "same");
    const since = two.lab.requests.length;
    assert.equal(await settings.up(given("hunter33")), "updated");
    assert.equal(two.lab.mutations(since).length, 1);
    assert.doesNotMatch(
      JSON.stringify(await records()) +
        JSON.stringify(Object.entries(await all()).filter(([key]) => key.startsWith("user.pulumi"))),
      /hunter/,
    );
    await settings.destroy();
    assert.deepEqual(await live(), {});
  });

  it("does not restore a secret that it could not read, and says so", async () => {
    await byHand({ "core.trust_password": "theirs" });
    await assert.rejects(
      settings.up(args({ "core.trust_password": "ours" })),
      /config\.core\.trust_password is already set on root@/,
    );
    await settings.up(args({ "core.trust_password": "ours" }, {}, { adopt: true }));
    await settings.destroy();
    assert.match(
      settings.warnings.join(),
      /config\.core\.trust_password is no longer managed: it is unset: its former value cannot be read/,
    );
    assert.deepEqual(await live(), {});
  });

  it("refuses a server that is no member, before anything is changed", async () => {
    await assert.rejects(
      settings.up(args({ "user.a": "1" }, { bcn9: { "core.bgp_routerid": "10.0.0.1" } })),
      /memberConfig names bcn9, which the cluster of .* does not have \(its members are bcn2, bcn1\)/,
    );
    assert.deepEqual(await live(), {});
  });

  it("refuses what a member that is off would have to take, and leaves alone what it has", async () => {
    const memberConfig = { bcn1: { "core.bgp_routerid": "10.0.0.1" } };
    await settings.up(args({ "user.a": "1" }, memberConfig));
    await two.lab.host("bcn1").powerOff();
    assert.equal(await settings.up(args({ "user.a": "2" }, memberConfig)), "updated");
    await assert.rejects(
      settings.up(args({ "user.a": "2" }, { bcn1: { "core.bgp_routerid": "10.0.0.9" } })),
      /Member "bcn1" is offline\. Its values cannot be written until it answers\. Nothing was changed/,
    );
    await assert.rejects(settings.destroy(), /Member "bcn1" is offline\. Its former values cannot be restored/);
  });

  it("gives the server's answer about a key that it does not have, and changes nothing", async () => {
    await assert.rejects(settings.up(args({ "core.nope": "1", "user.a": "1" })), /cannot set 'core\.nope' to '1': unknown key/);
    assert.deepEqual([await live(), await records()], [{}, []]);
  });

  it("manages a standalone server under its own name", async () => {
    const one = await startStandalone();
    const given = {
      cluster: one.cluster,
      config: { "user.a": "1" },
      memberConfig: { bcn2: { "core.bgp_routerid": "10.0.0.1" } },
    };
    await settings.up(given);
    assert.equal(await settings.up(given), "same");
    await settings.destroy();
    assert.deepEqual(serverConfig(await getServer(await one.byHand())), {});
    await one.stop();
  });

  it("reports in check what is wrong, by property", async () => {
    assert.deepEqual(
      await settings.faults(
        args(
          {
            "cluster.max_voters": 4,
            "cluster.max_standby": 6,
            "cluster.offline_threshold": "10",
            "cluster.images_minimal_replica": -2,
            "core.bgp_asn": "x",
            "core.https_address": ":8443",
          },
          { bcn1: { "core.bgp_routerid": "bcn1", "storage.images_volume": "images", "images.auto_update_interval": 1 } },
        ),
      ),
      [
        "config.cluster.max_voters must be an odd number of at least 3",
        "config.cluster.max_standby must be a whole number from 0 to 5",
        "config.cluster.offline_threshold must be a whole number of seconds of more than 10",
        "config.cluster.images_minimal_replica must be a whole number of at least 1, or -1 for all members",
        "config.core.bgp_asn must be a whole number from 0 to 4294967295",
        "config.core.https_address has a value for each member; set it in memberConfig",
        "memberConfig.bcn1.core.bgp_routerid must be an IPv4 address",
        "memberConfig.bcn1.storage.images_volume must name a pool and a volume, such as default/backups",
        "memberConfig.bcn1.images.auto_update_interval has one value for all members; set it in config",
      ],
    );
    for (const config of [{ "cluster.max_voters": -3 }, { "cluster.https_address": "10.0.0.1:8443" }, { "user.pulumi.x": "1" }]) {
      assert.equal((await settings.faults(args(config))).length, 1);
    }
  });
});

describe("LxdServerConfig in a preview", () => {
  it("says which keys the server has at another place, by the server's own metadata", async () => {
    const two = await startTwoMembers({ flavour: "trixie-incus7" });
    const settings = new Managed(serverConfigLifecycle as never, "settings");
    await settings.up({ cluster: two.cluster, config: { "user.a": "1" } });
    await settings.preview({
      cluster: two.cluster,
      config: { "user.a": "1", "clster.max_voters": "5" },
      memberConfig: { bcn9: {} },
    });
    assert.deepEqual(settings.warnings, [
      "config.clster.max_voters is not a key of this server; pulumi up will fail. Did you mean cluster.max_voters?",
      "bcn9 is no member of the cluster yet. Unless it joins before, pulumi up will refuse this",
    ]);
    await two.stop();
  });
});
