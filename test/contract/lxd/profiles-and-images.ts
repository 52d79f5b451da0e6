import assert from "node:assert/strict";
import { createAlias, deleteAlias, findAlias, moveAlias } from "../../../provider/lxd/images/aliases";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import {
  changeImage,
  copyImage,
  deleteImage,
  findImage,
  findImageShared,
  listFingerprints,
  uploadImage,
} from "../../../provider/lxd/images/images";
import { sameInstant } from "../../../provider/lxd/meaning";
import {
  createProfile,
  deleteProfile,
  findProfile,
  findProfileShared,
  type ProfilePut,
  replaceProfile,
} from "../../../provider/lxd/profiles";
import { type ContractLab, failed, refused } from "./harness";
import type { Server } from "./servers";

/** Profiles and images, which belong to the whole cluster. */
export function profilesAndImagesContract(lab: () => ContractLab): void {
  describe("a profile", () => {
    const empty: ProfilePut = { description: "", config: {}, devices: {} };
    const make = async (name: string, change: Partial<ProfilePut>): Promise<void> =>
      createProfile(await lab().lxd(), lab().project, name, { ...empty, ...change });

    it("is created once, read with an ETag, and seen by all members", async () => {
      const body = { description: "first", config: { "limits.memory": "256MiB" }, devices: {} };
      await make("p1", body);
      const found = await findProfile(await lab().lxd("secondary"), lab().project, "p1");
      assert.ok(found?.etag);
      assert.deepEqual({ ...found.value }, { name: "p1", ...body, used_by: [], ...lab().server.profileFields });
      assert.equal((await findProfileShared(await lab().lxd(), lab().project, "p1"))?.description, "first");
      await refused(make("p1", {}), 500, /The profile already exists/);
      assert.equal(await findProfile(await lab().lxd(), lab().project, "nope"), undefined);
    });

    const refusals: [what: string, change: Partial<ProfilePut>, reply: RegExp | ((server: Server) => RegExp)][] = [
      ["an unknown key", { config: { "limits.nope": "1" } }, /Unknown configuration key: limits\.nope/],
      ["memory that is not a size", { config: { "limits.memory": "lots" } }, /Invalid value: lots/],
      ["an invalid number of CPUs", { config: { "limits.cpu": "many" } }, /Invalid CPU limit syntax/],
      ["an invalid boolean", { config: { "security.nesting": "maybe" } }, /Invalid value for a boolean "maybe"/],
      [
        "cloud-config that is not YAML",
        { config: { "cloud-init.user-data": "#cloud-config\n a: [" } },
        ({ invalidYaml }) => invalidYaml,
      ],
      ["an unknown type of device", { devices: { a: { type: "nope" } } }, /validation failed for "a": .*Unsupported device type/],
      ["a NIC without network or type", { devices: { a: { type: "nic" } } }, /Unsupported device type/],
      [
        "a network that does not exist",
        { devices: { a: { type: "nic", network: "nope" } } },
        /Failed to load network "nope".*not found/,
      ],
      [
        "an unknown option of a device",
        { devices: { a: { type: "disk", path: "/x", source: "/srv", nope: "1" } } },
        /Invalid device option "nope"/,
      ],
    ];
    for (const [what, change, reply] of refusals) {
      it(`is refused with ${what}`, () =>
        refused(make("p2", change), 400, typeof reply === "function" ? reply(lab().server) : reply));
    }

    it("is accepted with a pool that does not exist", async () => {
      await make("p2", { devices: { root: { type: "disk", path: "/", pool: "nope" } } });
      await deleteProfile(await lab().lxd(), lab().project, "p2");
    });

    it("is replaced only if it is unchanged since the read", async () => {
      const lxd = await lab().lxd();
      const found = await findProfile(lxd, lab().project, "p1");
      const put = (name: string, etag: string | undefined): Promise<unknown> =>
        lxd.change("PUT", `/1.0/profiles/${name}`, { query: { project: lab().project }, body: empty, etag });
      await replaceProfile(lxd, lab().project, "p1", () => ({ ...empty, description: "second" }), found);
      await refused(put("p1", found?.etag), 412, /ETag doesn't match/);
      await refused(put("nope", undefined), 404, /Profile not found/);
      // What is replaced by a function of the contents is read again.
      await replaceProfile(
        lxd,
        lab().project,
        "p1",
        ({ description }) => ({ ...empty, description: `${description}, third` }),
        found,
      );
      assert.equal((await findProfile(lxd, lab().project, "p1"))?.value.description, "second, third");
    });

    it("default can be changed and not deleted", async () => {
      const lxd = await lab().lxd();
      await refused(deleteProfile(lxd, lab().project, "default"), 403, /"default" profile cannot be deleted/);
      const devices = {
        root: { type: "disk", path: "/", pool: lab().pool },
        eth0: { type: "nic", network: lab().bridge, name: "eth0" },
      };
      await replaceProfile(lxd, lab().project, "default", () => ({ ...empty, devices }), undefined);
      assert.deepEqual((await findProfile(lxd, lab().project, "default"))?.value.devices, devices);
    });
  });

  describe("an image", () => {
    const upload = async (fingerprint: string): Promise<void> =>
      uploadImage(
        await lab().lxd(),
        lab().project,
        lab().harness.image,
        { fingerprint, public: false, properties: { os: "Contract" } },
        () => undefined,
      );

    it("is refused when its files do not match their fingerprint", async () => {
      const fingerprint = await fingerprintOf(lab().harness.image);
      await failed(upload(`00${fingerprint.slice(2)}`), /fingerprints don't match/);
      assert.deepEqual(await listFingerprints(await lab().lxd(), lab().project), []);
    });

    it("has the fingerprint of its files, and is accepted once", async () => {
      const fingerprint = await fingerprintOf(lab().harness.image);
      assert.equal(await findImage(await lab().lxd(), lab().project, fingerprint), undefined);
      await upload(fingerprint);
      const found = await findImage(await lab().lxd("secondary"), lab().project, fingerprint.slice(0, 12));
      assert.ok(found?.etag);
      assert.deepEqual([found.value.fingerprint, found.value.type, found.value.public], [fingerprint, "container", false]);
      assert.equal(found.value.properties?.["os"], "Contract");
      assert.equal((await findImageShared(await lab().lxd(), lab().project, fingerprint))?.fingerprint, fingerprint);
      await failed(upload(fingerprint), /Image with same fingerprint already exists/);
    });

    it("is changed only if it is unchanged since the read", async () => {
      const lxd = await lab().lxd();
      const found = await findImage(lxd, lab().project, await fingerprintOf(lab().harness.image));
      assert.ok(found);
      await changeImage(lxd, lab().project, found, () => ({ public: true, properties: { os: "Other" } }));
      const changed = await findImage(lxd, lab().project, found.value.fingerprint);
      assert.deepEqual([changed?.value.public, changed?.value.properties], [true, { os: "Other" }]);
      assert.ok(sameInstant(changed?.value.expires_at, found.value.expires_at));
      const expiry = { public: true, properties: { os: "Other" }, expires_at: "2035-06-30T12:00:00+02:00" };
      await changeImage(lxd, lab().project, changed ?? assert.fail(), () => expiry);
      const expiring = await findImage(lxd, lab().project, found.value.fingerprint);
      assert.ok(sameInstant(expiring?.value.expires_at, "2035-06-30T10:00:00Z"), String(expiring?.value.expires_at));
      const stale = lxd.change("PUT", `/1.0/images/${found.value.fingerprint}`, {
        query: { project: lab().project },
        body: { public: false, properties: {} },
        etag: found.etag,
      });
      await refused(stale, 412, /ETag doesn't match/);
    });

    it("has aliases that are moved and removed", async () => {
      const lxd = await lab().lxd();
      const fingerprint = await fingerprintOf(lab().harness.image);
      assert.equal(await findAlias(lxd, lab().project, lab().alias), undefined);
      await refused(
        createAlias(lxd, lab().project, { name: lab().alias, description: "", target: "0".repeat(64) }),
        404,
        /Image not found/,
      );
      await createAlias(lxd, lab().project, { name: lab().alias, description: "", target: fingerprint });
      await refused(
        createAlias(lxd, lab().project, { name: lab().alias, description: "", target: fingerprint }),
        409,
        /already exists/,
      );
      const alias = await findAlias(lxd, lab().project, lab().alias);
      assert.ok(alias);
      assert.equal(alias.target, fingerprint);
      await moveAlias(lxd, lab().project, { ...alias, target: fingerprint });
      await createAlias(lxd, lab().project, { name: "extra", description: "", target: fingerprint });
      await deleteAlias(lxd, lab().project, "extra");
      await deleteAlias(lxd, lab().project, "extra");
      const aliases = (await findImage(lxd, lab().project, fingerprint))?.value.aliases ?? [];
      assert.deepEqual(
        aliases.map(({ name }) => name),
        [lab().alias],
      );
    });

    it("that does not exist is deleted without an error", async () => {
      await deleteImage(await lab().lxd(), lab().project, "0".repeat(64));
    });

    it("of an unreachable server is a failed operation", async () => {
      const remote = { server: "https://images.invalid", protocol: "simplestreams", alias: "x" } as const;
      const copy = copyImage(await lab().lxd(), lab().project, remote, "container", () => undefined);
      await failed(copy, /Failed getting remote image info: Failed getting image: .*images\.invalid/);
    });
  });
}
