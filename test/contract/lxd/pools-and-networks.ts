import assert from "node:assert/strict";
import * as z from "zod";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { getDiskBytes } from "../../../provider/lxd/server";
import { createObject } from "../../../provider/lxd/storage-and-networks/creation";
import {
  changeOnMember,
  deleteObject,
  findManagedShared,
  findObject,
  readOnMembers,
  statusesOf,
  viewsOf,
} from "../../../provider/lxd/storage-and-networks/member-objects";
import { network } from "../../../provider/lxd/storage-and-networks/networks";
import { membersWithout } from "../../../provider/lxd/storage-and-networks/storage-drivers";
import { pool } from "../../../provider/lxd/storage-and-networks/storage-pools";
import { type ContractLab, refused } from "./harness";

/** Storage pools and networks in a cluster of two. */
export function poolsAndNetworksContract(lab: () => ContractLab): void {
  const post = async (collection: string, body: object, target?: string): Promise<unknown> =>
    (await lab().lxd()).change("POST", collection, { query: { target }, body });
  const names = (): [string, string] => [lab().harness.primary.name, lab().harness.secondary.name];

  describe("a storage pool of two members", () => {
    const data = pool("data");
    const body = { name: "data", driver: "dir" };

    it("must be defined on each member, with that member's keys only", async () => {
      const [a, b] = names();
      await refused(post("/1.0/storage-pools", body), 500, /Pool not pending on any node/);
      await refused(
        post("/1.0/storage-pools", { ...body, config: { source: "/srv" } }),
        500,
        /"source" is cluster member specific/,
      );
      const odd = { ...body, config: { "user.x": "1" } };
      await refused(post("/1.0/storage-pools", odd, a), 500, /"user\.x" may not be used as member-specific key/);
      await refused(post("/1.0/storage-pools", body, "nobody"), 404, /^Cluster member not found$/);
      await post("/1.0/storage-pools", body, a);
      await refused(post("/1.0/storage-pools", body, a), 400, /already defined on member/);
      await refused(post("/1.0/storage-pools", body), 500, new RegExp(`Pool not defined on nodes: ${b}`));
      assert.equal((await findObject(await lab().lxd(), data))?.value.status, "Pending");
    });

    it("is Errored when one member fails, and keeps what the others created", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      await post("/1.0/storage-pools", { ...body, config: { source: "/nonexistent" } }, b);
      const failing = post("/1.0/storage-pools", { ...body, description: "kept", config: { "user.k": "v" } });
      await refused(failing, 500, /failed to notify peer .*: Source path '\/nonexistent' doesn't exist/);
      const servers = await getServers(lxd);
      const views = await viewsOf(lxd, data, servers);
      assert.deepEqual(statusesOf(servers, { views, failing: new Map() }), { [a]: "Created", [b]: "Pending" });
      assert.equal((await findObject(lxd, data))?.value.status, "Errored");
      const again = post("/1.0/storage-pools", { ...body, config: { "user.k": "v" } });
      await refused(again, 500, /already partially created\. Please do not specify any global config/);
    });

    it("is completed from there after the failing member was repaired", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const view = await findObject(lxd, data, b);
      assert.ok(view);
      await changeOnMember(lxd, data, b, view.value, { source: "" });
      const creation = {
        ref: data,
        identity: { driver: "dir" },
        description: "kept",
        config: { "user.k": "v" },
        memberConfig: {},
        mark: "",
      };
      await createObject(lxd, await getServers(lxd), creation, await findObject(lxd, data), () => undefined);
      const found = await findObject(lxd, data);
      assert.deepEqual([found?.value.status, found?.value.config], ["Created", { "user.k": "v" }]);
      assert.deepEqual([...(found?.value.locations ?? [])].sort(), [a, b].sort());
      await refused(post("/1.0/storage-pools", body), 500, /The storage pool is already created/);
      await refused(post("/1.0/storage-pools", body, b), 500, /not in pending state/);
    });

    it("shows a member's own keys for that member only, with an ETag on newer servers", async () => {
      const [a] = names();
      const lxd = await lab().lxd();
      assert.equal((await findObject(lxd, data))?.value.config?.["source"], undefined);
      const own = await findObject(lxd, data, a);
      assert.ok(own);
      assert.equal(own.value.config?.["source"], `${lab().server.debian.dataDirectory}/storage-pools/data`);
      assert.equal(own.etag !== undefined, lab().server.memberPoolEtag);
      assert.equal((await findManagedShared(lxd, data))?.status, "Created");
    });

    it("keeps its members' keys when the common ones change, and never changes its source", async () => {
      const [a] = names();
      const lxd = await lab().lxd();
      await lxd.change("PUT", "/1.0/storage-pools/data", { body: { description: "new", config: { "user.k": "w" } } });
      const changed = await findObject(lxd, data, a);
      assert.ok(changed);
      assert.equal(changed.value.config?.["source"], `${lab().server.debian.dataDirectory}/storage-pools/data`);
      assert.deepEqual([changed.value.config["user.k"], changed.value.description], ["w", "new"]);
      const specific = lxd.change("PUT", "/1.0/storage-pools/data", { body: { config: { source: "/x" } } });
      await refused(specific, 400, /"source" is cluster member specific/);
      const moved = lxd.change("PUT", "/1.0/storage-pools/data", { query: { target: a }, body: { config: { source: "/x" } } });
      await refused(moved, 500, /Pool source cannot be changed when not in pending state/);
    });

    it("is deleted on all members, once", async () => {
      const lxd = await lab().lxd();
      await deleteObject(lxd, data);
      assert.equal(await findObject(lxd, data), undefined);
      await deleteObject(lxd, data);
    });

    it("has members that tell the size of their disks", async () => {
      for (const member of names()) {
        assert.ok((await getDiskBytes(await lab().lxd(), member)) > 2 ** 30);
      }
    });

    it("is not defined by a member that does not name its driver, and nothing is left", async () => {
      const lxd = await lab().lxd();
      const [a, b] = names();
      const servers = await getServers(lxd);
      assert.deepEqual([...(await membersWithout(lxd, "dir", servers)).keys()], []);
      assert.deepEqual([...(await membersWithout(lxd, "lvm", servers)).keys()].sort(), [a, b].sort());
      for (const [driver, reply] of [
        ["lvm", /^Required tool ['"]\w+['"] is missing$/],
        ["tape", /^Unknown driver$/],
      ] as const) {
        for (const member of [a, b]) {
          await refused(post("/1.0/storage-pools", { name: "odd", driver }, member), 400, reply);
        }
        assert.equal(await findObject(lxd, pool("odd")), undefined);
      }
    });
  });

  describe("a network of two members", () => {
    const second = network("default", "br2");
    const body = { name: "br2", type: "bridge" };

    it("must be defined on each member, with that member's keys only", async () => {
      const [a, b] = names();
      await refused(post("/1.0/networks", body), 500, /Network not pending on any node/);
      const odd = { ...body, config: { "ipv4.address": "10.9.9.1/24" } };
      await refused(post("/1.0/networks", odd, b), 400, /"ipv4\.address" may not be used as member-specific key/);
      await post("/1.0/networks", body, a);
      await refused(post("/1.0/networks", body, a), lab().server.duplicateNetworkStatus, /already defined on member/);
      await refused(post("/1.0/networks", body), 500, new RegExp(`Network not defined on nodes: ${b}`));
      await deleteObject(await lab().lxd(), second);
    });

    it("is created on all members with the same address, but may lose its description", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const config = { "ipv4.address": "10.9.9.1/24", "ipv6.address": "none" };
      const creation = { ref: second, identity: { type: "bridge" }, description: "two", config, memberConfig: {}, mark: "" };
      await createObject(lxd, await getServers(lxd), creation, undefined, () => undefined);
      const found = await findObject(lxd, second);
      assert.ok(found);
      assert.deepEqual(
        [found.value.status, found.value.managed, found.value.description],
        ["Created", true, lab().server.keepsDescription ? "two" : ""],
      );
      assert.equal(found.value.config?.["ipv4.address"], "10.9.9.1/24");
      assert.deepEqual([...(found.value.locations ?? [])].sort(), [a, b].sort());
      await refused(post("/1.0/networks", body), 500, /The network is already created/);
    });

    it("replaces its keys by a PUT based on its current state", async () => {
      const lxd = await lab().lxd();
      const found = await findObject(lxd, second);
      assert.ok(found?.etag);
      const config = { "ipv4.address": "10.9.8.1/24", "ipv6.address": "none", "user.a": "b" };
      await lxd.change("PUT", "/1.0/networks/br2", { body: { description: "x", config }, etag: found.etag });
      const changed = await findObject(lxd, second);
      assert.deepEqual([changed?.value.config, changed?.value.description], [config, "x"]);
      await refused(lxd.change("PUT", "/1.0/networks/br2", { body: { config }, etag: found.etag }), 412, /ETag doesn't match/);
      await refused(lxd.change("PUT", "/1.0/networks/br2", { body: { config: { "nope.x": "1" } } }), 400, /Invalid option/);
    });

    it("gets a chosen address for auto, and none if the key is removed", async () => {
      const lxd = await lab().lxd();
      const configAfter = async (config: object): Promise<unknown> => {
        await lxd.change("PUT", "/1.0/networks/br2", { body: { config } });
        return (await findObject(lxd, second))?.value.config;
      };
      const chosen = await configAfter({ "ipv4.address": "auto", "ipv6.address": "none" });
      assert.deepEqual(Object.keys(chosen as object).sort(), ["ipv4.address", "ipv6.address"]);
      assert.match((chosen as Record<string, string>)["ipv4.address"] ?? "", /^10\.\d+\.\d+\.1\/24$/);
      assert.deepEqual(await configAfter({}), {});
    });

    it("is refused for an invalid name or address", async () => {
      const [a] = names();
      await refused(post("/1.0/networks", { name: "averyveryverylongname", type: "bridge" }, a), 400, /too long/);
      await refused(post("/1.0/networks", { name: "a/b", type: "bridge" }, a), 400, lab().server.invalidCharacters);
    });

    it("is deleted on all members, once", async () => {
      const lxd = await lab().lxd();
      await deleteObject(lxd, second);
      assert.equal(await findObject(lxd, second), undefined);
      await deleteObject(lxd, second);
    });
  });

  describe("a network that something on one member is in the way of", () => {
    const inTheWay = network("default", "br3");
    const body = { name: "br3", type: "bridge" };
    const config = { "ipv4.address": "10.9.7.1/24", "ipv6.address": "none" };
    const failsOnSecond = async (reply: RegExp): Promise<void> => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const servers = await getServers(lxd);
      await post("/1.0/networks", body, a);
      await post("/1.0/networks", body, b);
      await refused(post("/1.0/networks", { ...body, config }), 500, reply);
      assert.deepEqual(statusesOf(servers, await readOnMembers(lxd, inTheWay, servers)), { [a]: "Created", [b]: "Pending" });
      assert.equal((await findObject(lxd, inTheWay))?.value.status, "Errored");
    };

    it("is not created there while another process has the port of its DNS, and is completed afterwards", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const end = await lab().harness.listen(b, "10.9.7.1", 53);
      await failsOnSecond(/exited prematurely: .*Address already in use/);
      await end();
      await post("/1.0/networks", body);
      const servers = await getServers(lxd);
      assert.deepEqual(statusesOf(servers, await readOnMembers(lxd, inTheWay, servers)), { [a]: "Created", [b]: "Created" });
      await deleteObject(lxd, inTheWay);
    });

    it("is not created there while an interface has its name, which the member shows as one that it does not manage", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const ssh = await lab().ssh("secondary");
      await ssh.run(["ip", "link", "add", "br3", "type", "bridge"], { deadline: lab().deadline() });
      assert.equal((await findObject(lxd, inTheWay, b))?.value.managed, false);
      assert.equal(await findObject(lxd, inTheWay, a), undefined);
      await failsOnSecond(/Network interface "br3" already exists/);
      await deleteObject(lxd, inTheWay);
      await ssh.run(["ip", "link", "delete", "br3"], { deadline: lab().deadline() });
    });
  });

  describe("a network on an interface of each member", () => {
    const lan = network("default", "lan");
    const identity = { type: "macvlan" };
    const body = { name: "lan", ...identity };

    it("is defined without its interface, and then not created", async () => {
      const [a, b] = names();
      await post("/1.0/networks", body, a);
      await post("/1.0/networks", body, b);
      await refused(post("/1.0/networks", body), 500, /option "parent": Required value/);
      const lxd = await lab().lxd();
      const servers = await getServers(lxd);
      assert.equal((await findObject(lxd, lan))?.value.status, "Errored");
      assert.deepEqual(statusesOf(servers, await readOnMembers(lxd, lan, servers)), { [a]: "Pending", [b]: "Pending" });
      await deleteObject(lxd, lan);
    });

    for (const type of ["macvlan", "sriov", "physical"]) {
      it(`is not created on a member without the interface: ${type}`, async () => {
        const [a, b] = names();
        await post("/1.0/networks", { ...body, type, config: { parent: "eth0" } }, a);
        await post("/1.0/networks", { ...body, type, config: { parent: "nope0" } }, b);
        await refused(post("/1.0/networks", { ...body, type }), 500, /notify peer .*Parent interface "nope0" not found/);
        const lxd = await lab().lxd();
        const servers = await getServers(lxd);
        assert.deepEqual(statusesOf(servers, await readOnMembers(lxd, lan, servers)), { [a]: "Created", [b]: "Pending" });
        await deleteObject(lxd, lan);
      });
    }

    it("is created with each member's own interface, and may share it", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const memberConfig = { [b]: { parent: "br0" } };
      const wanted = { description: "", config: { parent: "eth0", "user.k": "v" }, memberConfig, mark: "" };
      await createObject(lxd, await getServers(lxd), { ref: lan, identity, ...wanted }, undefined, () => undefined);
      const parentOn = async (member: string): Promise<unknown> => (await findObject(lxd, lan, member))?.value.config?.["parent"];
      assert.deepEqual([await parentOn(a), await parentOn(b)], ["eth0", "br0"]);
      const found = await findObject(lxd, lan);
      assert.deepEqual([found?.value.type, found?.value.status], ["macvlan", "Created"]);
      assert.deepEqual(found?.value.config, { "user.k": "v" });
      const second = network("default", "lan2");
      await createObject(lxd, await getServers(lxd), { ref: second, identity, ...wanted }, undefined, () => undefined);
      await deleteObject(lxd, second);
    });

    it("changes the interface of one member, and has no keys of a bridge", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      const view = await findObject(lxd, lan, b);
      assert.ok(view);
      await changeOnMember(lxd, lan, b, view.value, { parent: "eth0" });
      assert.equal((await findObject(lxd, lan, b))?.value.config?.["parent"], "eth0");
      assert.equal((await findObject(lxd, lan, a))?.value.config?.["parent"], "eth0");
      const addressed = lxd.change("PUT", "/1.0/networks/lan", { body: { config: { "ipv4.address": "10.0.0.1/24" } } });
      await refused(addressed, 400, /Invalid option for network "lan" option "ipv4\.address"/);
      await deleteObject(lxd, lan);
    });

    it("has the interface for itself when it is physical", async () => {
      const lxd = await lab().lxd();
      const servers = await getServers(lxd);
      const wanted = { description: "", config: { parent: "eth0" }, memberConfig: {}, mark: "" };
      const physical = { type: "physical" };
      await createObject(lxd, servers, { ref: lan, identity: physical, ...wanted }, undefined, () => undefined);
      const second = network("default", "lan2");
      const again = createObject(lxd, servers, { ref: second, identity: physical, ...wanted }, undefined, () => undefined);
      await refused(again, 500, /Parent interface "eth0" in use by another network/);
      await deleteObject(lxd, second);
      await deleteObject(lxd, lan);
      assert.equal(await findObject(lxd, lan), undefined);
    });
  });

  describe("an OVN network", () => {
    it("is not defined on members", async () => {
      const [a] = names();
      await refused(post("/1.0/networks", { name: "o1", type: "ovn" }, a), 400, /"ovn" does not support member specific config/);
    });
  });

  describe("an interface of the host", () => {
    it("is listed as a network that LXD does not manage", async () => {
      const listed = z.array(z.looseObject({ name: z.string(), managed: z.boolean() }));
      const networks = await (await lab().lxd()).get("/1.0/networks", listed, { recursion: 1 });
      assert.deepEqual(
        ["lo", lab().bridge].map((name) => networks.find((each) => each.name === name)?.managed),
        [false, true],
      );
      const lo = await findObject(await lab().lxd(), network("default", "lo"));
      assert.equal(lo?.value.managed, false);
      assert.equal(await findObject(await lab().lxd(), network("default", "nope")), undefined);
    });

    it("is up or down, on each member", async () => {
      const stateSchema = z.looseObject({ state: z.string() });
      for (const target of names()) {
        assert.equal((await (await lab().lxd()).get("/1.0/networks/lo/state", stateSchema, { target })).state, "up");
        assert.equal(await findObject(await lab().lxd(), network("default", "nope"), target), undefined);
      }
    });
  });
}
