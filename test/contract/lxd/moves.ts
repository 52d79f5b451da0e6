import assert from "node:assert/strict";
import * as z from "zod";
import { listMembers } from "../../../provider/lxd/cluster/cluster";
import { deleteImage, uploadImage } from "../../../provider/lxd/images/images";
import { EVACUATED_FROM, isHeldByEvacuation } from "../../../provider/lxd/instances/evacuation";
import {
  deleteInstance,
  findInstance,
  forceStopInstance,
  moveInstance,
  requireInstance,
  startInstance,
} from "../../../provider/lxd/instances/instances";
import { replyOf } from "../../../provider/support/errors";
import type { ContractLab } from "./harness";
import { type ContainerChange, makeContainer } from "./make-instance";

/** Effects of moving instances, and of evacuating their member. Leaves everything as before. */
export function movesContract(lab: () => ContractLab): void {
  const make = (name: string, change: ContainerChange, target: string): Promise<void> =>
    makeContainer(lab(), name, change, target);
  const names = async (): Promise<string[]> => {
    const urls = await (await lab().lxd()).get("/1.0/instances", z.array(z.string()), { project: lab().project });
    return urls.map((url) => url.split("/").at(-1) ?? "").sort();
  };
  const locationOf = async (name: string): Promise<string | undefined> =>
    (await findInstance(await lab().work(name)))?.value.location;

  describe("an instance that is moved", () => {
    const unprotectAndDelete = async (name: string): Promise<void> => {
      const config = { "security.protection.delete": "" };
      await (await lab().lxd()).change("PATCH", `/1.0/instances/${name}`, { body: { config } });
      await deleteInstance(await lab().work(name));
    };

    it("and is protected from deletion moves, or stays and leaves a copy on the other member", async () => {
      const { primary, secondary } = lab().harness;
      const before = await names();
      await make("m1", { config: { "security.protection.delete": "true" } }, secondary.name);
      if (lab().server.movesAsItIs) {
        await moveInstance(await lab().work("m1"), primary.name);
        assert.equal(await locationOf("m1"), primary.name);
        assert.deepEqual(await names(), [...before, "m1"].sort());
        await unprotectAndDelete("m1");
        return;
      }
      await assert.rejects(moveInstance(await lab().work("m1"), primary.name), (error: unknown) =>
        /protected/i.test(replyOf(error)),
      );
      assert.equal(await locationOf("m1"), secondary.name);
      const copies = (await names()).filter((name) => !before.includes(name) && name !== "m1");
      assert.equal(copies.length, 1);
      const [copy = ""] = copies;
      assert.match(copy, /^lxd-move-of-[0-9a-f-]+$/);
      assert.equal(await locationOf(copy), primary.name);
      await unprotectAndDelete("m1");
      await unprotectAndDelete(copy);
      assert.deepEqual(await names(), before);
    });

    it("and has a volume of its member moves without it, or stays and leaves nothing on the other member", async () => {
      const { primary, secondary } = lab().harness;
      const before = await names();
      const volumes = `/1.0/storage-pools/${lab().pool}/volumes/custom`;
      const query = { target: secondary.name, project: lab().project };
      await (await lab().lxd()).change("POST", volumes, { query, body: { name: "v1", config: {} } });
      const data = { type: "disk", pool: lab().pool, source: "v1", path: "/data" };
      await make("m2", { devices: { data } }, secondary.name);
      const move = moveInstance(await lab().work("m2"), primary.name);
      if (lab().server.movesAsItIs) {
        await move;
        assert.equal(await locationOf("m2"), primary.name);
        await assert.rejects(startInstance(await lab().work("m2"), { status: "Stopped" }), (error: unknown) =>
          /Storage volume not found/.test(replyOf(error)),
        );
      } else {
        await assert.rejects(move, (error: unknown) =>
          /Storage volume not found|Failed loading custom volume/i.test(replyOf(error)),
        );
        assert.equal(await locationOf("m2"), secondary.name);
      }
      assert.deepEqual(await names(), [...before, "m2"].sort());
      await deleteInstance(await lab().work("m2"));
      await (await lab().lxd()).change("DELETE", `${volumes}/v1`, { query });
    });

    it("and has backups stays", async () => {
      const { primary, secondary } = lab().harness;
      await make("m4", {}, secondary.name);
      const lxd = await lab().lxd();
      const path = "/1.0/instances/m4/backups";
      const query = { project: lab().project };
      await lxd.change("POST", path, { query, body: { name: "b1" } });
      await assert.rejects(moveInstance(await lab().work("m4"), primary.name), (error: unknown) =>
        lab().server.moveOfBackups.test(replyOf(error)),
      );
      assert.equal(await locationOf("m4"), secondary.name);
      assert.deepEqual(await lxd.get(path, z.array(z.string()), query), [`${path}/b1`]);
      await lxd.change("DELETE", `${path}/b1`, { query });
      await deleteInstance(await lab().work("m4"));
    });

    it("no longer needs its image", async () => {
      const { primary, secondary } = lab().harness;
      await make("m3", {}, secondary.name);
      const fingerprint = await lab().fingerprint();
      await deleteImage(await lab().lxd(), lab().project, fingerprint);
      await moveInstance(await lab().work("m3"), primary.name);
      assert.equal(await locationOf("m3"), primary.name);
      const image = { fingerprint, public: false, properties: {} };
      await uploadImage(await lab().lxd(), lab().project, lab().harness.image, image, () => undefined);
      const alias = { name: lab().alias, target: fingerprint, description: "" };
      await (await lab().lxd()).change("POST", "/1.0/images/aliases", { body: alias });
      await deleteInstance(await lab().work("m3"));
    });
  });

  describe("an instance with cluster.evacuate: stop", () => {
    const act = async (action: "evacuate" | "restore"): Promise<void> => {
      const { primary } = lab().harness;
      await (await lab().lxd("secondary")).change("POST", `/1.0/cluster/members/${primary.name}/state`, { body: { action } });
    };
    const held = async (name: string): Promise<boolean> =>
      isHeldByEvacuation((await requireInstance(await lab().work(name))).value, async () => listMembers(await lab().lxd()));

    before(async () => {
      await make("m4", { config: { "cluster.evacuate": "stop" } }, lab().harness.primary.name);
      await startInstance(await lab().work("m4"), { status: "Stopped" });
    });

    it("is stopped by the evacuation of its member, and is not moved", async () => {
      const { primary } = lab().harness;
      assert.equal(await held("m4"), false);
      await act("evacuate");
      const member = (await listMembers(await lab().lxd())).find(({ server_name }) => server_name === primary.name);
      assert.equal(member?.status, "Evacuated");
      const { value } = await requireInstance(await lab().work("m4"));
      assert.deepEqual([value.status, value.location], ["Stopped", primary.name]);
      assert.deepEqual([value.config[EVACUATED_FROM], value.config["volatile.last_state.power"]], [undefined, "RUNNING"]);
      assert.equal(await held("m4"), true);
    });

    it("does not start until its member is restored", async () => {
      await assert.rejects(startInstance(await lab().work("m4"), { status: "Stopped" }), (error: unknown) =>
        /Cluster member is evacuated/.test(replyOf(error)),
      );
    });

    it("runs again when its member is restored", async () => {
      await act("restore");
      const { value } = await requireInstance(await lab().work("m4"));
      assert.deepEqual([value.status, value.location], ["Running", lab().harness.primary.name]);
      assert.equal(await held("m4"), false);
      await forceStopInstance(await lab().work("m4"));
      await deleteInstance(await lab().work("m4"));
    });
  });
}
