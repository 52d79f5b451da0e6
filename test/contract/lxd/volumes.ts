import assert from "node:assert/strict";
import {
  changeVolume,
  createVolume,
  deleteVolume,
  findVolume,
  findVolumeShared,
  moveVolume,
  usersOf,
  type VolumeRef,
} from "../../../provider/lxd/storage-and-networks/volumes";
import { type ContractLab, refused } from "./harness";

/** Custom volumes of a pool of which each of two members has its own part. */
export function volumesContract(lab: () => ContractLab): void {
  const names = (): [string, string] => [lab().harness.primary.name, lab().harness.secondary.name];
  const ref = (name: string, location?: string): VolumeRef => ({ project: lab().project, pool: lab().pool, name, location });
  const collection = (): string => `/1.0/storage-pools/${lab().pool}/volumes/custom`;
  const post = async (body: object, query: Record<string, string> = { target: lab().harness.primary.name }): Promise<unknown> =>
    (await lab().lxd()).change("POST", collection(), { query, body });
  const put = async (name: string, body: object, etag?: string): Promise<unknown> =>
    (await lab().lxd()).change("PUT", `${collection()}/${name}`, { query: { target: lab().harness.primary.name }, body, etag });
  const make = async (name: string, target: string | undefined, more: object = {}): Promise<string> =>
    createVolume(await lab().lxd(), ref(name), { target, contentType: "filesystem", description: "", config: {}, ...more });

  describe("a volume of a pool that is local to each member", () => {
    it("is made on the given member, from any other", async () => {
      const [a, b] = names();
      const config = { size: "64MiB", "user.k": "v", "snapshots.schedule": "@daily", "snapshots.expiry": "2w" };
      assert.equal(await make("data", b, { description: "first", config }), b);
      for (const which of ["primary", "secondary"] as const) {
        const found = await findVolume(await lab().lxd(which), ref("data", b));
        assert.ok(found?.etag);
        const { description, content_type, location, used_by } = found.value;
        assert.deepEqual(
          { description, content_type, location, used_by, config: found.value.config },
          {
            ...{ description: "first", content_type: "filesystem", location: b, used_by: [], config },
          },
        );
      }
      assert.equal(await findVolume(await lab().lxd(), ref("data", a)), undefined);
      assert.equal((await findVolume(await lab().lxd(), ref("data")))?.value.location, b);
      assert.equal(await findVolume(await lab().lxd(), ref("nope")), undefined);
    });

    it("is not made where none is named, or none is of that name", async () => {
      const [a, b] = names();
      await assert.rejects(make("x", undefined), new RegExp(`each member has its own part .*dir\\. Set target to one of .*${b}`));
      await assert.rejects(make("x", "nobody"), new RegExp(`"nobody", which is not a member of the cluster of .*${a}`));
      await refused(post({ name: "x" }, { target: "nobody" }), 404, /^Cluster member not found$/);
    });

    it("may have the name of another member's, once on each, and is then found by its member only", async () => {
      const [a, b] = names();
      assert.equal(await make("data", a), a);
      await refused(post({ name: "data" }), 409, /Volume by that name already exists/);
      const lxd = await lab().lxd();
      // Reads that fail are repeated, so the server is asked by a change.
      await refused(lxd.change("PUT", `${collection()}/data`, { body: { config: {} } }), 500, /More than one cluster member has/);
      await assert.rejects(findVolume(lxd, ref("data")), new RegExp(`exists on several members: (${a}, ${b}|${b}, ${a})\\.`));
      assert.deepEqual((await findVolumeShared(lxd, ref("data", a)))?.config, {});
      assert.equal((await findVolumeShared(lxd, ref("data", b)))?.config?.["size"], "64MiB");
      await deleteVolume(lxd, ref("data", b));
      assert.equal(await findVolume(lxd, ref("data", b)), undefined);
      assert.ok(await findVolume(lxd, ref("data", a)));
      await deleteVolume(lxd, ref("data", b));
    });

    const refusals: [what: string, body: object, status: number, reply: RegExp][] = [
      ["an unknown key", { config: { "nope.x": "1" } }, 500, /Invalid option for volume ".*x" option "nope\.x"/],
      ["a key of another driver", { config: { "zfs.blocksize": "8KiB" } }, 500, /Invalid option for volume ".*x" option "zfs\.b/],
      ["a size that is none", { config: { size: "lots" } }, 500, /option "size": Invalid value: lots/],
      ["an invalid boolean", { config: { "security.shifted": "maybe" } }, 500, /Invalid value for a boolean "maybe"/],
      ["an invalid expiry", { config: { "snapshots.expiry": "nope" } }, 500, /"snapshots\.expiry": Invalid expiry expression/],
      ["another type of content", { content_type: "nope" }, 400, /Invalid volume content type name/],
    ];
    for (const [what, body, status, reply] of refusals) {
      it(`is refused with ${what}`, () => refused(post({ name: "x", ...body }), status, reply));
    }

    it("is refused in a pool or project that does not exist", async () => {
      const lxd = await lab().lxd();
      const target = lab().harness.primary.name;
      const other = lxd.change("POST", "/1.0/storage-pools/nope/volumes/custom", { query: { target }, body: { name: "x" } });
      await refused(other, 404, /Storage pool not found/);
      await refused(post({ name: "x" }, { target, project: "nope" }), 404, /Project not found/);
      assert.equal(await findVolumeShared(lxd, { ...ref("x"), pool: "nope" }), undefined);
      assert.equal(await findVolumeShared(lxd, { ...ref("x"), project: "nope" }), undefined);
    });

    it("is replaced as a whole, and only if it is unchanged since the read", async () => {
      const lxd = await lab().lxd();
      const here = ref("data", names()[0]);
      const found = await findVolume(lxd, here);
      assert.ok(found);
      const body = { description: "second", config: { size: "32MiB", "user.a": "b" } };
      await put("data", body, found.etag);
      const { description, config } = (await findVolume(lxd, here))?.value ?? {};
      assert.deepEqual({ description, config }, body);
      await refused(put("data", body, found.etag), 412, /ETag doesn't match/);
      await refused(put("nope", body), 404, /Storage volume not found/);
      await refused(put("data", { config: { "nope.x": "1" } }), 500, /Invalid option for volume/);
      const again = await findVolume(lxd, here);
      assert.ok(again);
      await changeVolume(lxd, here, again, { description: "", config: { size: "16MiB", "user.a": "" }, mark: "m" });
      assert.deepEqual((await findVolume(lxd, here))?.value.config, { size: "16MiB", "user.pulumi.urn": "m" });
    });

    it("with blocks grows, and is never shrunk", async () => {
      const lxd = await lab().lxd();
      const here = ref("disk", names()[0]);
      await make("disk", names()[0], { contentType: "block", config: { size: "8MiB" } });
      const change = async (size: string): Promise<void> => {
        const found = await findVolume(lxd, here);
        assert.ok(found);
        assert.equal(found.value.content_type, "block");
        await changeVolume(lxd, here, found, { config: { size }, mark: "" });
      };
      await change("16MiB");
      await refused(change("8MiB"), 500, /Block volumes cannot be shrunk/);
      assert.equal((await findVolume(lxd, here))?.value.config?.["size"], "16MiB");
      await deleteVolume(lxd, here);
    });

    it("moves to another pool of its member, with its config", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      for (const query of [{ target: a }, { target: b }, {}]) {
        await lxd.change("POST", "/1.0/storage-pools", { query, body: { name: "second", driver: "dir" } });
      }
      await make("moving", a, { description: "kept", config: { "user.k": "v" } });
      const here = { ...ref("moving"), location: a };
      const taken = { ...here, pool: "second" };
      await createVolume(lxd, taken, { target: a, contentType: "filesystem", description: "", config: {} });
      await refused(
        moveVolume(lxd, { from: here, to: { pool: "second", location: a } }),
        409,
        /Volume by that name already exists/,
      );
      await deleteVolume(lxd, taken);
      await moveVolume(lxd, { from: here, to: { pool: "second", location: a } });
      assert.equal(await findVolume(lxd, here), undefined);
      const { description, config } = (await findVolume(lxd, taken))?.value ?? {};
      assert.deepEqual({ description, config }, { description: "kept", config: { "user.k": "v" } });
      await deleteVolume(lxd, taken);
      await lxd.remove("/1.0/storage-pools/second");
    });

    it("is not removed while a profile attaches it, which it names", async () => {
      const lxd = await lab().lxd();
      const here = ref("data", names()[0]);
      const devices = { data: { type: "disk", pool: lab().pool, source: "data", path: "/data" } };
      await lxd.change("POST", "/1.0/profiles", { query: { project: lab().project }, body: { name: "attaching", devices } });
      const found = await findVolume(lxd, here);
      assert.ok(found);
      assert.equal(usersOf(found.value), "profile attaching");
      await refused(lxd.change("DELETE", `${collection()}/data`, { query: { target: names()[0] } }), 400, /still in use/);
      await assert.rejects(deleteVolume(lxd, here), /cannot be removed: .* still in use"\. It is used by profile attaching$/);
      await lxd.remove("/1.0/profiles/attaching", { project: lab().project });
      await deleteVolume(lxd, here);
      assert.equal(await findVolume(lxd, here), undefined);
    });
  });
}
