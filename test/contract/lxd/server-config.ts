import assert from "node:assert/strict";
import { serverKeyScopes } from "../../../provider/lxd/config-keys";
import { getServer, serverConfig, setServerConfig } from "../../../provider/lxd/server";
import { recordsIn, toConfig } from "../../../provider/lxd/server-config/server-config";
import { type ContractLab, refused } from "./harness";

/** Keys of the config: those of the cluster, which all members have, and each member's own. */
export function serverConfigContract(lab: () => ContractLab): void {
  const configOf = async (target?: string, which: "primary" | "secondary" = "primary"): Promise<Record<string, string>> =>
    serverConfig(await getServer(await lab().lxd(which), target));
  const set = async (config: Record<string, string>, target?: string): Promise<void> =>
    setServerConfig(await lab().lxd(), config, target);

  describe("the config of a server in a cluster", () => {
    it("has keys of the cluster on all members, and others on one", async () => {
      const { secondary } = lab().harness;
      await set({ "images.auto_update_interval": "24" });
      await set({ "core.debug_address": "127.0.0.1:8444" }, secondary.name);
      assert.equal((await configOf(undefined, "secondary"))["images.auto_update_interval"], "24");
      assert.deepEqual(
        [(await configOf())["core.debug_address"], (await configOf(secondary.name))["core.debug_address"]],
        [undefined, "127.0.0.1:8444"],
      );
      await set({ "core.debug_address": "" }, secondary.name);
      assert.equal((await configOf(secondary.name))["core.debug_address"], undefined);
    });

    it("shows a value that is the server's default only on newer servers", async () => {
      await set({ "images.auto_update_interval": "6", "cluster.offline_threshold": "20", "cluster.max_voters": "3" });
      const config = await configOf();
      assert.deepEqual(
        ["images.auto_update_interval", "cluster.offline_threshold", "cluster.max_voters"].map((key) => config[key]),
        lab().server.showsDefaults ? ["6", "20", "3"] : [undefined, undefined, undefined],
      );
      await set({ "images.auto_update_interval": "", "cluster.offline_threshold": "", "cluster.max_voters": "" });
    });

    const invalid: [key: string, value: string, reply: RegExp][] = [
      ["cluster.max_voters", "4", /cluster\.max_voters.*odd number equal to or higher than 3/],
      ["cluster.max_voters", "-3", /cluster\.max_voters.*odd number equal to or higher than 3/],
      ["cluster.max_standby", "6", /cluster\.max_standby.*between 0 and 5/],
      ["cluster.offline_threshold", "10", /cluster\.offline_threshold.*greater than '?10/],
      ["cluster.images_minimal_replica", "0", /cluster\.images_minimal_replica.*nvalid value for image replica count/],
      ["images.auto_update_interval", "often", /images\.auto_update_interval.*invalid integer/],
      ["cluster.nope", "1", /cluster\.nope.*unknown key/i],
    ];
    for (const [key, value, reply] of invalid) {
      it(`refuses ${key} ${value}, with all else in the request`, async () => {
        await refused(set({ "user.contract": "1", [key]: value }), 400, reply);
        assert.equal((await configOf())["user.contract"], undefined);
      });
    }

    it("refuses another address of the cluster", async () => {
      const change = set({ "cluster.https_address": "192.168.1.199:8443" });
      await refused(change, 500, /Changing cluster\.https_address is currently not supported/);
    });

    it("keeps its own keys when it refuses others", async () => {
      for (const { name, address } of [lab().harness.primary, lab().harness.secondary]) {
        await refused(set({ "cluster.nope": "1" }, name), 400, /unknown key/i);
        assert.equal((await configOf(name))["cluster.https_address"], address);
      }
    });

    it("takes another address of the API, also any and none, while it is reached by its socket", async () => {
      const { "core.https_address": before = "" } = await configOf();
      for (const address of [":8443", "", before]) {
        await set({ "core.https_address": address });
        assert.equal((await configOf())["core.https_address"] ?? "", address);
        assert.equal(
          (await configOf(lab().harness.secondary.name, "primary"))["cluster.https_address"],
          lab().harness.secondary.address,
        );
      }
    });

    it("keeps records of this package", async () => {
      const record = {
        at: "user.pulumi.config.0123456789abcdef",
        mark: 'urn:pulumi:dev::shop::t::"n" [0123456789abcdef creating]',
        former: {
          config: { "cluster.max_voters": "", "core.proxy_ignore_hosts": "ä\n" },
          memberConfig: { "a b": { "core.debug_address": ":1" } },
        },
      };
      await set(toConfig([record]));
      assert.deepEqual(recordsIn(new Map([["", await configOf()]])), [record]);
      const theirs = await configOf(undefined, "secondary");
      assert.deepEqual(recordsIn(new Map([["", theirs]])), [record], JSON.stringify(theirs));
      await set(toConfig([{ ...record, former: { config: {}, memberConfig: {} } }]));
      assert.deepEqual(recordsIn(new Map([["", await configOf()]])), []);
    });

    it("does not tell a password for trust, where it has one", async () => {
      const { trustPassword } = lab().server;
      if (trustPassword) {
        await set({ "core.trust_password": "hunter22" });
        assert.equal((await configOf())["core.trust_password"], "true");
        await set({ "core.trust_password": "" });
        assert.equal((await configOf())["core.trust_password"], undefined);
      } else {
        await refused(set({ "core.trust_password": "hunter22" }), 400, /unknown key/i);
      }
    });

    it("has keys of which the metadata tells the scope, if it does", async () => {
      const scopeOf = await serverKeyScopes(await lab().lxd());
      const keys = ["cluster.max_voters", "core.https_address", "core.bgp_asn", "core.bgp_routerid", "storage.images_volume"];
      const told = lab().server.tellsKeysOf.includes("server") ? ["global", "local", "global", "local", "local"] : [];
      assert.deepEqual(
        keys.map(scopeOf).filter((scope) => scope !== undefined),
        told,
      );
    });
  });
}
