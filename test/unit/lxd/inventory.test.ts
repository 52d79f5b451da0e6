import assert from "node:assert/strict";
import { describeInventory, takeInventory } from "../../../provider/lxd/inventory";
import { ApiServer, done } from "./api-server";

describe("the content of a daemon", () => {
  let server: ApiServer;

  beforeEach(async () => {
    server = await ApiServer.start();
  });

  afterEach(() => server.stop());

  const pools = done([{ name: "default" }]);
  const networks = done([
    { name: "eth0", managed: false },
    { name: "lxdbr0", managed: true },
  ]);

  it("is nothing on a fresh installation, whatever interfaces the host has", async () => {
    server.next(done([{ name: "default" }]), done([]), done([{ name: "eth0", managed: false }]), done([]), done([]));
    assert.deepEqual(await takeInventory(server.client()), {});
  });

  it("covers all projects, by name and type", async () => {
    server.next(
      done([{ name: "default" }, { name: "shop" }]),
      pools,
      networks,
      done([{ name: "c1", project: "default", location: "none" }]),
      done([{ fingerprint: "0123456789abcdef", aliases: [{ name: "debian" }] }]),
      done([{ name: "c1", type: "container" }]),
      done([{ name: "web", project: "shop", location: "none" }]),
      done([{ fingerprint: "0123456789abcdef" }]),
      done([{ name: "data", type: "custom" }]),
    );
    assert.deepEqual(await takeInventory(server.client()), {
      instances: ["c1", "shop/web"],
      "custom-volumes": ["shop/default/data"],
      images: ["debian", "shop/0123456789ab"],
      "storage-pools": ["default"],
      networks: ["lxdbr0"],
    });
  });

  it("can be restricted to one member", async () => {
    server.next(
      done([{ name: "default" }]),
      pools,
      networks,
      done([
        { name: "c1", location: "bcn1" },
        { name: "c2", location: "bcn2" },
      ]),
      done([]),
      done([
        { name: "data", type: "custom", location: "bcn2" },
        { name: "more", type: "custom", location: "bcn1" },
      ]),
    );
    const { instances, "custom-volumes": volumes } = await takeInventory(server.client(), "bcn1");
    assert.deepEqual([instances, volumes], [["c1"], ["default/more"]]);
  });

  it("is one short line in messages", () => {
    assert.equal(describeInventory({ instances: ["c1", "c2"], networks: ["lxdbr0"] }), "instances c1, c2; networks lxdbr0");
    const many = Array.from({ length: 12 }, (_, index) => `c${index}`);
    assert.equal(describeInventory({ instances: many }), "instances c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more");
  });
});
