import assert from "node:assert/strict";
import type { SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { Deadline, until } from "../../../provider/support/deadline";
import { Managed, type SimulatedCluster, startMembers } from "./simulated-cluster";

const ROOT = { type: "disk", path: "/", pool: "default" };

describe("an LxdClusterMember of three", () => {
  let cluster: SimulatedCluster;
  let lab: SimulatedLab;
  let member: Managed;

  const args = (more: object = {}): object => ({
    connection: lab.host("bcn1").connection,
    name: "bcn1",
    address: "192.168.1.101",
    cluster: { endpoints: ["bcn2", "bcn3"].map((name) => lab.host(name).connection) },
    ...more,
  });
  const database = () => lab.host("bcn2").daemon?.database ?? assert.fail();
  const names = (): string[] => database().members.map(({ name }) => name);
  const place = (name: string): string => database().instances.get(`default/${name}`)?.member.name ?? "gone";
  const status = (name: string): string => database().instances.get(`default/${name}`)?.status ?? "gone";
  const posts = (since: number): string[] =>
    lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`);
  /** Makes an instance on bcn1. */
  const put = async (name: string, more: object = {}, running = true): Promise<void> => {
    const body = { name, source: { type: "none" }, type: "container", devices: { root: ROOT }, ...more };
    await lab.byHand("bcn2", "POST", "/1.0/instances?target=bcn1", body);
    if (running) {
      await lab.byHand("bcn2", "PUT", `/1.0/instances/${name}/state`, { action: "start" });
    }
  };
  const volume = (name: string): Promise<unknown> =>
    lab.byHand("bcn1", "POST", "/1.0/storage-pools/default/volumes/custom?target=bcn1", { name });
  const told = async (given: object): Promise<string[]> => {
    const [before, since] = [member.warnings.length, lab.requests.length];
    await member.preview(given);
    assert.deepEqual(posts(since), []);
    return member.warnings.slice(before);
  };

  beforeEach(async () => {
    cluster = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    lab = cluster.lab;
    member = new Managed(clusterMemberLifecycle as never, "bcn1");
    for (const name of names()) {
      await lab.byHand("bcn2", "POST", `/1.0/storage-pools?target=${name}`, { name: "default", driver: "dir" });
    }
    await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    await member.up(args());
  });

  afterEach(async () => {
    assert.deepEqual(lab.defects, []);
    await cluster.stop();
  });

  it("has a description while the program gives one, and keeps that of others", async () => {
    const describe = (text: string) => {
      database().member("bcn1").description = text;
    };
    describe("by hand");
    assert.equal(await member.up(args()), "same");
    assert.equal(await member.up(args({ failureDomain: "rack1" })), "updated");
    assert.equal(database().member("bcn1").description, "by hand");
    assert.equal(await member.up(args({ description: "disks" })), "updated");
    assert.equal(database().member("bcn1").description, "disks");
    describe("other");
    assert.equal(await member.preview(args({ description: "disks" })), "updated");
    assert.equal(await member.up(args({ description: "disks" })), "updated");
    assert.equal(await member.up(args({ description: "disks" })), "same");
  });

  describe("with evacuated", () => {
    it("is evacuated with a preview of what becomes of each instance, and restored when that is taken back", async () => {
      await put("c1");
      await put("c2", { config: { "cluster.evacuate": "stop" } });
      await put("c3", { devices: { root: ROOT, web: { type: "proxy" } } }, false);
      assert.deepEqual(await told(args({ evacuated: true })), [
        "The evacuation of bcn1 does this to its instances: moved to other members, stopped meanwhile if they run: c1; stopped, and stay: c2 " +
          "(cluster.evacuate: stop); stay: c3 (its device web (proxy) is bound to the member)",
        "An evacuation moves no vote of the cluster's database. While bcn1 is down, no other voter may fail: bcn2, bcn3",
      ]);
      assert.equal(await member.up(args({ evacuated: true })), "updated");
      assert.equal(member.inState("status"), "Evacuated");
      assert.deepEqual([place("c2"), status("c2"), status("c1"), place("c3")], ["bcn1", "Stopped", "Running", "bcn1"]);
      assert.notEqual(place("c1"), "bcn1");
      assert.equal(await member.up(args({ evacuated: true })), "same");
      assert.deepEqual(await told(args()), [
        "The restore of bcn1 moves back, stopped meanwhile if they run: c1",
        "The restore of bcn1 starts: c2",
      ]);
      assert.equal(await member.up(args()), "updated");
      assert.deepEqual([place("c1"), status("c1"), status("c2")], ["bcn1", "Running", "Running"]);
      assert.equal(member.inState("status"), "Online");
      assert.equal(await member.up(args()), "same");
    });

    it("is restored by false, and evacuated again when somebody restores it", async () => {
      await put("c1");
      await member.up(args({ evacuated: true }));
      await lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn1/state", { action: "restore" });
      assert.equal(await member.preview(args({ evacuated: true })), "updated");
      assert.equal(await member.up(args({ evacuated: true })), "updated");
      assert.notEqual(place("c1"), "bcn1");
      assert.equal(await member.up(args({ evacuated: false })), "updated");
      assert.equal(place("c1"), "bcn1");
      await lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
      assert.equal(await member.up(args({ evacuated: false })), "updated");
      assert.equal(await member.up(args({ evacuated: false })), "same");
      assert.equal(place("c1"), "bcn1");
    });

    it("is not restored when somebody evacuated it and the program says nothing", async () => {
      await put("c1");
      await lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
      assert.equal(await member.up(args()), "same");
      assert.equal(member.inState("status"), "Evacuated");
      assert.equal(await member.up(args({ failureDomain: "rack1" })), "updated");
      assert.equal(member.inState("status"), "Evacuated");
      // To take it over changes nothing.
      const since = lab.requests.length;
      assert.equal(await member.up(args({ failureDomain: "rack1", evacuated: true })), "updated");
      assert.deepEqual(posts(since), []);
    });

    it("goes on with an evacuation that was interrupted", async () => {
      await put("c1");
      await member.up(args({ evacuated: true }));
      await member.up(args({ evacuated: false }));
      database().member("bcn1").evacuated = true; // its daemon was killed before it had moved anything
      assert.equal(await member.up(args({ evacuated: true })), "updated");
      assert.notEqual(place("c1"), "bcn1");
      assert.equal(await member.up(args({ evacuated: true })), "same");
    });

    it("waits for an evacuation that another process has begun, and begins none", async () => {
      await put("c1");
      await member.up(args({ evacuated: false }));
      const [bcn1, moving] = [database().member("bcn1"), database().instances.get("default/c1") ?? assert.fail()];
      bcn1.evacuated = true;
      const since = lab.requests.length;
      bcn1.daemon.operate({ description: "Evacuating cluster member" }, async () => {
        await until(new Deadline(20, "the test"), () =>
          Promise.resolve(lab.requests.slice(since).some(({ path }) => path.startsWith("/1.0/operations?")) || undefined),
        );
        moving.member = database().member("bcn3");
      });
      assert.equal(await member.up(args({ evacuated: true })), "updated");
      assert.deepEqual([posts(since), place("c1")], [[], "bcn3"]);
    });

    it("is refused where LXD would delete a running instance that is ephemeral", async () => {
      await put("c1", { ephemeral: true });
      await assert.rejects(member.up(args({ evacuated: true })), /ephemeral instances that run, .*: c1\. Nothing was changed/);
      assert.deepEqual([place("c1"), status("c1")], ["bcn1", "Running"]);
      await assert.rejects(member.up(args({ evacuated: true, leaving: "stop" })), /clustering_evacuation_mode/);
    });

    it("is refused while the daemon would end at a path of the host, unless the instance says what becomes of it", async () => {
      const devices = { root: ROOT, data: { type: "disk", path: "/srv", source: "/srv" } };
      await put("c1", { devices });
      await assert.rejects(
        member.up(args({ evacuated: true })),
        /a path of the host, at which the daemon of LXD may end .*: c1 \(data\)\. Nothing was changed\. Set cluster\.evacuate: stop, or migrate/,
      );
      assert.equal(status("c1"), "Running");
      await lab.byHand("bcn2", "PATCH", "/1.0/instances/c1", { config: { "cluster.evacuate": "stop" } });
      assert.equal(await member.up(args({ evacuated: true })), "updated");
      assert.deepEqual([place("c1"), status("c1")], ["bcn1", "Stopped"]);
    });

    it("is refused while it is offline", async () => {
      await lab.host("bcn1").powerOff();
      await assert.rejects(
        member.up(args({ evacuated: true })),
        /Member bcn1 is offline .* so it cannot be evacuated\. Bring it back/,
      );
    });
  });

  describe("that is removed with leaving", () => {
    it("is evacuated first, and its host is cleaned and joins again", async () => {
      await put("c1");
      await put("c2", {}, false);
      assert.equal(await member.up(args({ leaving: "migrate" })), "updated");
      assert.equal(await member.up(args({ leaving: "migrate" })), "same");
      await member.destroy();
      assert.deepEqual(names(), ["bcn2", "bcn3"]);
      assert.ok(["bcn2", "bcn3"].includes(place("c1")) && ["bcn2", "bcn3"].includes(place("c2")));
      assert.equal(status("c1"), "Running");
      assert.equal(await member.up(args()), "created");
      assert.deepEqual(names(), ["bcn2", "bcn3", "bcn1"]);
    });

    it("is refused before anything is moved when something would stay, which the preview of a replacement says too", async () => {
      await put("c1");
      await put("c2", { config: { "cluster.evacuate": "stop" } });
      await volume("data");
      await member.up(args({ leaving: "auto" }));
      const kept = "stopped, and stay: c2 (cluster.evacuate: stop); custom-volumes default/data";
      assert.deepEqual(
        (await told(args({ leaving: "auto", address: "192.168.1.111" }))).filter((text) => text.includes("keeps")),
        [
          `Member bcn1 keeps after an evacuation: ${kept}. pulumi up refuses to remove it from the cluster until these are moved to another ` +
            "member or removed",
        ],
      );
      await assert.rejects(member.destroy(), {
        message:
          `Member bcn1 cannot be emptied by an evacuation (leaving: "auto"), which leaves on it: ${kept}. Nothing was changed. Move these to ` +
          "other members, or remove them",
      });
      assert.deepEqual([place("c1"), status("c1"), names().length], ["bcn1", "Running", 3]);
    });

    describe("and has the only copy of an image", () => {
      const copies = (number: string): Promise<unknown> =>
        lab.byHand("bcn2", "PATCH", "/1.0", { config: { "cluster.images_minimal_replica": number } });
      const CURE =
        "LXD copies these images to another member when cluster.images_minimal_replica is more than 1 (LxdServerConfig)";

      beforeEach(async () => {
        await copies("1");
        lab.seedImage("bcn1", { alias: "debian-12" });
        lab.seedImage("bcn2", { alias: "elsewhere" });
        await put("c1");
      });

      it("is refused before anything is moved, and in the preview, with the name of the image", async () => {
        await member.up(args({ leaving: "migrate" }));
        const warnings = await told(args({ leaving: "migrate", address: "192.168.1.111" }));
        assert.deepEqual(
          warnings.filter((text) => text.includes("keeps")),
          [
            "Member bcn1 keeps after an evacuation: images debian-12. pulumi up refuses to remove it from the cluster until these are moved to " +
              `another member or removed. ${CURE}`,
          ],
        );
        await assert.rejects(member.destroy(), {
          message:
            'Member bcn1 cannot be emptied by an evacuation (leaving: "migrate"), which leaves on it: images debian-12. Nothing was changed. Move ' +
            `these to other members, or remove them. ${CURE}`,
        });
        assert.deepEqual([place("c1"), status("c1"), names().length], ["bcn1", "Running", 3]);
      });

      it("leaves when LXD makes copies, which then keeps the image", async () => {
        await member.up(args({ leaving: "migrate" }));
        await copies("2");
        await member.destroy();
        assert.deepEqual(names(), ["bcn2", "bcn3"]);
        assert.equal(database().images.size, 2);
      });

      it("is refused without leaving, and named when the host is dead", async () => {
        await lab.byHand("bcn2", "PUT", "/1.0/instances/c1/state", { action: "stop" });
        await lab.byHand("bcn2", "DELETE", "/1.0/instances/c1");
        await assert.rejects(
          member.destroy(),
          /Member bcn1 is not empty: images debian-12\. Nothing was changed\. .*LxdServerConfig\)$/,
        );
        await lab.host("bcn1").powerOff();
        await assert.rejects(
          member.destroy(),
          /loses its part of the storage pools default; images that only this member has: debian-12$/,
        );
      });

      it("is left to LXD where its database cannot be read", async () => {
        lab.faults.add({
          when: { method: "POST", path: /^\/internal\/sql/ },
          effect: { status: 403, error: "not authorized" },
        });
        await member.up(args({ leaving: "migrate" }));
        await assert.rejects(member.destroy(), /Node still has the following images: /);
      });
    });

    it("says in the preview of a replacement what is moved", async () => {
      await put("c1");
      await member.up(args({ leaving: "migrate" }));
      assert.ok(
        (await told(args({ leaving: "migrate", address: "192.168.1.111" }))).includes(
          "bcn1 is evacuated before it leaves: moved to other members, stopped meanwhile if they run: c1",
        ),
      );
    });

    it("goes on with a removal that was interrupted after the evacuation", async () => {
      await put("c1");
      await member.up(args({ leaving: "migrate" }));
      await lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
      await member.destroy({ refresh: true });
      assert.deepEqual(names(), ["bcn2", "bcn3"]);
    });
  });

  describe('with removal: "force"', () => {
    const forced = (): object => args({ removal: "force" });

    it("is removed without its dead host, with a warning of what is lost; nothing of others is", async () => {
      await put("c1");
      await volume("data");
      await lab.byHand("bcn2", "POST", "/1.0/projects", { name: "shop", config: { "features.profiles": "false" } });
      const twin = { name: "c1", source: { type: "none" }, devices: { root: ROOT } };
      await lab.byHand("bcn2", "POST", "/1.0/instances?target=bcn2&project=shop", twin);
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools/default/volumes/custom?target=bcn2", { name: "data" });
      await lab.host("bcn1").powerOff();
      await assert.rejects(
        member.destroy(),
        /bcn1 is offline .* removal: "force" .*loses instances c1; custom-volumes default\/data/,
      );
      assert.deepEqual(names(), ["bcn2", "bcn1", "bcn3"]);
      assert.match(
        (await told(forced())).join("\n"),
        /removal of bcn1 by force loses instances c1; custom-volumes default\/data; its part of the storage pools default\. It is/,
      );
      const since = lab.requests.length;
      assert.equal(await member.up(forced()), "updated");
      assert.deepEqual(posts(since), []);
      assert.equal(await member.up(forced()), "same");
      const before = member.warnings.length;
      await member.destroy();
      assert.match(member.warnings.slice(before).join("\n"), /loses instances c1; .*Its host does not answer and is not cleaned/);
      assert.deepEqual(names(), ["bcn2", "bcn3"]);
      assert.deepEqual([...database().instances.keys()], ["shop/c1"]);
      assert.deepEqual(
        database()
          .pools.get("default")
          ?.customVolumes.map(({ name, member: at }) => [name, at?.name]),
        [["data", "bcn2"]],
      );
    });

    it("leaves as always while it is online", async () => {
      await put("c1");
      await member.up(forced());
      await assert.rejects(member.destroy(), /Member bcn1 is not empty: instances c1\. Nothing was changed/);
      await lab.byHand("bcn2", "PUT", "/1.0/instances/c1/state", { action: "stop", force: true });
      await lab.byHand("bcn2", "DELETE", "/1.0/instances/c1");
      const before = member.warnings.length;
      await member.destroy();
      assert.deepEqual(member.warnings.slice(before), []);
      assert.deepEqual(names(), ["bcn2", "bcn3"]);
      assert.equal(lab.host("bcn1").daemon?.database.clustered, false);
    });

    it("removes an evacuated member whose host is dead, whose status stays Evacuated", async () => {
      await member.up(args({ removal: "force", evacuated: true }));
      await lab.host("bcn1").powerOff();
      await member.destroy();
      assert.deepEqual(names(), ["bcn2", "bcn3"]);
    });

    it("lets a reinstalled host take the place of the old member, whatever that held", async () => {
      await put("c1");
      lab.host("bcn1").reinstall();
      assert.equal(await member.preview(args()), "updated");
      await assert.rejects(member.up(args()), /removal: "force"|cluster remove --force bcn1/);
      assert.equal(await member.up(forced()), "updated");
      assert.deepEqual(names().sort(), ["bcn1", "bcn2", "bcn3"]);
      assert.deepEqual([member.inState("status"), place("c1")], ["Online", "gone"]);
      assert.match(member.warnings.join("\n"), /The removal of bcn1 by force loses instances c1/);
    });
  });
});
