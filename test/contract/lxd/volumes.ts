import assert from "node:assert/strict";
import { getServer } from "../../../provider/lxd/server";
import {
  COPY_KEY,
  copyVolume,
  discardCopy,
  moveToMember,
  moveVolume,
} from "../../../provider/lxd/storage-and-networks/volume-moves";
import { listSnapshots, wordsFor } from "../../../provider/lxd/storage-and-networks/volume-snapshots";
import {
  changeVolume,
  createVolume,
  deleteVolume,
  findVolume,
  findVolumeShared,
  usersOf,
  type VolumeRef,
} from "../../../provider/lxd/storage-and-networks/volumes";
import { sameSize } from "../../../provider/support/units";
import { type ContractLab, failed, refused } from "./harness";

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

    const noSchedule = /Invalid value for volume ".*x" option "snapshots\.schedule": /;
    const refusals: [what: string, body: object, status: number, reply: RegExp][] = [
      ["an unknown key", { config: { "nope.x": "1" } }, 500, /Invalid option for volume ".*x" option "nope\.x"/],
      ["a key of another driver", { config: { "zfs.blocksize": "8KiB" } }, 500, /Invalid option for volume ".*x" option "zfs\.b/],
      ["a size that is none", { config: { size: "lots" } }, 500, /option "size": Invalid value: lots/],
      ["an invalid boolean", { config: { "security.shifted": "maybe" } }, 500, /Invalid value for a boolean "maybe"/],
      [
        "an expiry of another unit",
        { config: { "snapshots.expiry": "1h" } },
        500,
        /"snapshots\.expiry": Invalid expiry expression/,
      ],
      ["a unit twice", { config: { "snapshots.expiry": "1d 2d" } }, 500, /"snapshots\.expiry": Invalid expiry expression/],
      ["an unknown schedule", { config: { "snapshots.schedule": "@dayly" } }, 500, noSchedule],
      ["a schedule of four fields", { config: { "snapshots.schedule": "0 6 * *" } }, 500, noSchedule],
      ["a schedule of bad fields", { config: { "snapshots.schedule": "x x x x x" } }, 500, noSchedule],
      ["a schedule of instances", { config: { "snapshots.schedule": "@never" } }, 500, noSchedule],
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

    it("takes every form of a schedule and an expiry that this library takes", async () => {
      const here = ref("planned", names()[0]);
      for (const [schedule, expiry] of [
        ["@hourly, @weekly", "1M 1H 1d 1w 1m 1y"],
        ["*/5 0,12 1-7 * MON", " 3d "],
        ["0 6 * * *, @Monthly", "2w"],
      ] as const) {
        const config = { "snapshots.schedule": schedule, "snapshots.expiry": expiry, "snapshots.pattern": "s%d" };
        await make("planned", here.location, { config });
        await deleteVolume(await lab().lxd(), here);
      }
    });

    it("has snapshots, which its list shows, and which go with it", async () => {
      const lxd = await lab().lxd();
      const here = ref("kept", names()[1]);
      await make("kept", here.location, { config: { "snapshots.expiry": "2w" } });
      assert.deepEqual(await listSnapshots(lxd, here), []);
      const query = { target: here.location };
      for (const body of [{ name: "monday" }, { name: "tuesday", expires_at: "2100-01-01T00:00:00Z" }]) {
        await lxd.change("POST", `${collection()}/kept/snapshots`, { query, body });
      }
      const snapshots = await listSnapshots(lxd, here);
      assert.deepEqual(
        snapshots.map(({ name, description }) => [name, description]),
        [
          ["monday", ""],
          ["tuesday", ""],
        ],
      );
      assert.equal(wordsFor(snapshots), "2 snapshots (monday, tuesday)");
      assert.ok(snapshots[1]?.expires_at?.startsWith("2100-01-01T00:00:00"), snapshots[1]?.expires_at ?? "");
      const again = lxd.change("POST", `${collection()}/kept/snapshots`, { query, body: { name: "monday" } });
      await refused(again, 409, /monday/);
      const found = await findVolume(lxd, here);
      assert.ok(found);
      await changeVolume(lxd, here, found, { config: { size: "64MiB" }, mark: "" });
      assert.equal((await listSnapshots(lxd, here)).length, 2);
      assert.equal((await findVolumeShared(lxd, ref("kept")))?.location, here.location);
      await deleteVolume(lxd, here);
      assert.deepEqual(await listSnapshots(lxd, here), []);
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
      await lxd.change("POST", `${collection()}/moving/snapshots`, {
        query: { target: a },
        body: { name: "before", expires_at: "2100-01-01T00:00:00Z" },
      });
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
      const [snapshot, ...others] = await listSnapshots(lxd, taken);
      assert.deepEqual([snapshot?.name, others], ["before", []]);
      assert.match(snapshot?.expires_at ?? "", /^2100-01-01T00:00:00/);
      await deleteVolume(lxd, taken);
      await lxd.remove("/1.0/storage-pools/second");
    });

    it("moves to another member, with its config, its description, and its snapshots with what they have", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd("secondary");
      const config = { size: "32MiB", "user.k": "v", "snapshots.schedule": "@daily", "snapshots.expiry": "2w" };
      await make("wandering", a, { description: "kept", config: { ...config, "user.pulumi.urn": "urn:x [0123456789abcdef]" } });
      const query = { target: a };
      for (const body of [{ name: "first" }, { name: "second", expires_at: "2100-01-01T00:00:00Z" }]) {
        await lxd.change("POST", `${collection()}/wandering/snapshots`, { query, body });
      }
      await lxd.change("PUT", `${collection()}/wandering/snapshots/first`, { query, body: { description: "by hand" } });
      const from = { ...ref("wandering"), location: a };
      const there = { ...from, location: b };
      const found = await findVolume(lxd, from);
      assert.ok(found);
      const before = await listSnapshots(lxd, from);
      const told: string[] = [];
      const mover = { mark: "urn:x [0123456789abcdef]", progress: (text: string) => void told.push(text) };
      await moveToMember(lxd, { from, to: { pool: lab().pool, location: b } }, found, mover);
      assert.equal(await findVolume(lxd, from), undefined);
      const { value } = (await findVolume(lxd, there)) ?? assert.fail();
      const { "volatile.idmap.last": _l, "volatile.idmap.next": _n, "volatile.uuid": _u, ...own } = value.config ?? {};
      assert.deepEqual(own, { ...config, "user.pulumi.urn": "urn:x [0123456789abcdef creating]" });
      assert.deepEqual([value.description, value.content_type, value.location], ["kept", "filesystem", b]);
      const brief = (all: typeof before) =>
        all.map(({ name, description, expires_at }) => [name, description, Math.max(Date.parse(expires_at ?? "") || 0, 0)]);
      assert.deepEqual(brief(await listSnapshots(lxd, there)), brief(before));
      assert.deepEqual(
        before.map(({ name, description }) => [name, description]),
        [
          ["first", "by hand"],
          ["second", "kept"], // the volume's
        ],
      );
      assert.deepEqual(told, [`copying it to pool "${lab().pool}" on ${b}`, `removing the original on ${a}`]);
      await deleteVolume(lxd, there);
    });

    it("with blocks moves to another member too, and an unfinished copy there is made anew", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      await make("sectors", a, { contentType: "block", config: { size: "8MiB" } });
      const from = { ...ref("sectors"), location: a };
      const there = { ...from, location: b };
      await make("sectors", b, { config: { [COPY_KEY]: "x" } });
      const found = await findVolume(lxd, from);
      assert.ok(found);
      const mover = { mark: "", progress: () => undefined };
      await moveToMember(lxd, { from, to: { pool: lab().pool, location: b } }, found, mover);
      const { value } = (await findVolume(lxd, there)) ?? assert.fail();
      assert.deepEqual([value.content_type, value.config?.[COPY_KEY]], ["block", undefined]);
      assert.ok(sameSize(value.config?.["size"] ?? "", "8MiB"), value.config?.["size"]);
      assert.equal(await findVolume(lxd, from), undefined);
      await deleteVolume(lxd, there);
    });

    it("is not fetched by a member without the secrets of the offer, and then leaves nothing there", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      await make("guarded", a);
      const offer = await lxd.begin("POST", `${collection()}/guarded`, {
        query: { target: a },
        body: { name: "guarded", pool: lab().pool, migration: true },
      });
      assert.equal(offer?.class, "websocket");
      assert.deepEqual(Object.keys(offer.metadata ?? {}).sort(), ["control", "fs"]);
      const source = {
        ...{ type: "migration", mode: "pull", operation: `https://${lab().harness.primary.address}/1.0/operations/${offer.id}` },
        ...{ secrets: { control: "x", fs: "x" }, certificate: (await getServer(lxd, a)).environment.certificate },
      };
      await failed(post({ name: "guarded", source }, { target: b }), /bad handshake/);
      assert.equal(await findVolume(lxd, ref("guarded", b)), undefined);
      await refused(post({ name: "guarded", source: { ...source, mode: "x" } }, { target: b }), 501, /Mode 'x' not implemented/);
      await refused(post({ name: "guarded", source: { type: "x" } }, { target: b }), 400, /Unknown source type/);
      await deleteVolume(lxd, ref("guarded", a));
    });

    it("is copied on its member and to another one, with its snapshots only when they are asked for", async () => {
      const [a, b] = names();
      const lxd = await lab().lxd();
      await make("original", a, { config: { size: "16MiB", "user.k": "v" }, description: "first" });
      await lxd.change("POST", `${collection()}/original/snapshots`, { query: { target: a }, body: { name: "s" } });
      const from = { ...ref("original"), location: a };
      for (const [location, withSnapshots] of [
        [a, true],
        [a, false],
        [b, true],
        [b, false],
      ] as const) {
        const to = { ...ref("duplicate"), location };
        const contents = { contentType: "filesystem", description: "second", config: { size: "16MiB", "user.c": "d" } };
        await copyVolume(lxd, { from, to, withSnapshots, ...contents });
        const { value } = (await findVolume(lxd, to)) ?? assert.fail();
        const { "volatile.idmap.last": _l, "volatile.idmap.next": _n, "volatile.uuid": _u, ...own } = value.config ?? {};
        assert.deepEqual([value.description, own], ["second", { size: "16MiB", "user.c": "d" }]);
        assert.deepEqual(
          (await listSnapshots(lxd, to)).map(({ name }) => name),
          withSnapshots ? ["s"] : [],
        );
        await discardCopy(lxd, to);
        assert.equal(await findVolume(lxd, to), undefined);
      }
      const source = { type: "copy", pool: lab().pool, name: "nope" };
      await failed(post({ name: "duplicate", source }), /Storage volume not found/);
      await deleteVolume(lxd, from);
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
