import assert from "node:assert/strict";
import * as z from "zod";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { IMAGE_SERVER, offerNewer, REMOTE_IMAGES } from "../../support/remote-images";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const imageSchema = z.looseObject({
  auto_update: z.boolean(),
  public: z.boolean(),
  aliases: z.array(z.looseObject({ name: z.string() })),
  properties: z.record(z.string(), z.string()),
});

const [FIRST, SECOND, THIRD] = ["ab".repeat(32), "99".repeat(32), "77".repeat(32)] as const;

/** An image that the server replaces by newer ones of its image server. */
describe("LxdImage with autoUpdate", () => {
  let two: SimulatedCluster;
  let image: Managed;

  beforeEach(async () => {
    two = await startTwoMembers({ remoteImages: REMOTE_IMAGES });
    image = newImage();
  });
  afterEach(() => two.stop());

  const newImage = (name = "ubuntu", stack?: string): Managed => new Managed(imageLifecycle, name, stack);
  const args = (more: object = {}): object => ({
    ...{ cluster: two.cluster, source: { server: IMAGE_SERVER, alias: "24.04" }, instanceType: "container" },
    ...{ aliases: ["ubuntu"], autoUpdate: true },
    ...more,
  });
  const live = async (fingerprint: string) => (await two.byHand()).find(`/1.0/images/${fingerprint}`, imageSchema);
  const refresh = async (to: string, properties?: Record<string, string>): Promise<void> => {
    offerNewer(two.lab, to, properties);
    await (await two.byHand()).change("POST", `/1.0/images/${String(image.inState("fingerprint"))}/refresh`);
  };

  it("follows the newer image, as no change, and remembers the former ones", async () => {
    await image.up(args({ public: true }));
    assert.deepEqual([(await live(FIRST))?.auto_update, image.inState("formerFingerprints")], [true, []]);
    await refresh(SECOND);
    assert.equal(await image.up(args({ public: true })), "same");
    await refresh(THIRD);
    const since = two.lab.requests.length;
    assert.equal(await image.up(args({ public: true })), "same");
    assert.deepEqual(
      two.lab.mutations(since).map(({ route }) => route),
      [],
    );
    assert.deepEqual([image.inState("fingerprint"), image.inState("formerFingerprints")], [THIRD, [FIRST, SECOND]]);
    assert.deepEqual([(await live(THIRD))?.public, await live(FIRST)], [true, undefined]);
  });

  it("warns of another project that has the same image, which would lose its files", async () => {
    await image.up(args());
    const lxd = await two.byHand();
    for (const [name, ownImages] of [
      ["web", "true"],
      ["shared", "false"],
    ]) {
      await lxd.change("POST", "/1.0/projects", { body: { name, description: "", config: { "features.images": ownImages } } });
    }
    assert.equal(await image.up(args()), "same");
    assert.equal(image.warnings.length, 0);
    const copy = newImage("web");
    await copy.up(args({ project: "web", autoUpdate: false }));
    await image.up(args());
    assert.match(
      image.warnings.at(-1) ?? "",
      / has autoUpdate, and the project web has the same image without it\. When LXD .* removes the files of both/,
    );
    const warned = image.warnings.length;
    await copy.up(args({ project: "web" }));
    await image.up(args());
    assert.equal(image.warnings.length, warned);
  });

  it("comes back to a former image", async () => {
    await image.up(args());
    await refresh(SECOND);
    await image.up(args());
    await refresh(FIRST);
    assert.equal(await image.up(args()), "same");
    assert.deepEqual([image.inState("fingerprint"), image.inState("formerFingerprints")], [FIRST, [SECOND]]);
  });

  it("gives the newer image its properties and mark again, whatever mark the image server gave it", async () => {
    await image.up(args({ properties: { team: "web" } }));
    const mark = (await live(FIRST))?.properties["user.pulumi.urn"];
    await refresh(SECOND, { "user.pulumi.urn": "urn:pulumi:of-the-image-server" });
    assert.equal(await image.preview(args({ properties: { team: "web" } })), "updated");
    await image.up(args({ properties: { team: "web" } }));
    const { properties } = (await live(SECOND)) ?? assert.fail();
    assert.deepEqual([properties["team"], properties["user.pulumi.urn"], properties["os"]], ["web", mark, "Ubuntu"]);
    assert.equal(image.inState("created"), true);
  });

  for (const isRead of [true, false]) {
    it(`removes the newer image ${isRead ? "after" : "without"} a refresh of the state, though its mark names another resource`, async () => {
      await image.up(args());
      await refresh(SECOND, { "user.pulumi.urn": "urn:pulumi:of-the-image-server" });
      await image.destroy({ refresh: isRead });
      assert.equal(await live(SECOND), undefined);
    });
  }

  it("leaves a newer image that another state has claimed", async () => {
    const given = args({ properties: { team: "web" } });
    await image.up(given);
    await refresh(SECOND);
    await image.up(given); // marks the newer image
    const other = newImage();
    await other.up({ ...given, adopt: true });
    assert.equal(other.inState("created"), true);
    await image.destroy();
    assert.notEqual(await live(SECOND), undefined);
  });

  it("keeps the image of others that it uses, and takes its alias away", async () => {
    await image.up(args());
    const other = newImage("other");
    await other.up(args({ aliases: ["second"] }));
    assert.equal(other.inState("created"), false);
    await refresh(SECOND);
    await other.destroy();
    assert.deepEqual(
      (await live(SECOND))?.aliases.map(({ name }) => name),
      ["ubuntu"],
    );
  });

  it("is changed in place, also when the server replaced it since the last read", async () => {
    await image.up(args({ autoUpdate: undefined }));
    assert.equal((await live(FIRST))?.auto_update, false);
    assert.equal(await image.preview(args()), "updated");
    await image.up(args());
    await refresh(SECOND);
    await image.up(args({ autoUpdate: false, aliases: ["noble"] }), { refresh: false });
    const { auto_update, aliases } = (await live(SECOND)) ?? assert.fail();
    assert.deepEqual([auto_update, aliases.map(({ name }) => name)], [false, ["noble"]]);
    assert.deepEqual([image.inState("fingerprint"), image.inState("formerFingerprints")], [SECOND, [FIRST]]);
    assert.equal(await image.up(args({ autoUpdate: undefined, aliases: ["noble"] })), "same");
  });

  it("is imported again when it was removed, or replaced without its alias", async () => {
    await image.up(args());
    await (await two.byHand()).change("DELETE", "/1.0/images/aliases/ubuntu");
    await refresh(SECOND);
    assert.equal(await image.preview(args()), "created");
  });

  it("does not take an image of another source for a newer one", async () => {
    await image.up(args());
    const target = two.lab.seedImage("bcn2", { alias: "elsewhere" });
    await (await two.byHand()).change("PUT", "/1.0/images/aliases/ubuntu", { body: { target, description: "" } });
    assert.equal(await image.preview(args()), "updated");
    assert.equal(image.inState("fingerprint"), FIRST);
  });

  it("is refused for an image of others that is not updated, and leaves one without the argument as it is", async () => {
    await image.up(args());
    const other = newImage("other");
    await other.up(args({ aliases: [], autoUpdate: undefined }));
    assert.equal((await live(FIRST))?.auto_update, true);
    await assert.rejects(
      newImage("third").up(args({ aliases: ["third"], autoUpdate: false })),
      /was not made by this resource, and differs in autoUpdate\. Set adopt: true/,
    );
  });

  it("replaces no instance that was made from a former image, and makes new ones from the newer", async () => {
    await image.up(args());
    for (const target of ["?target=bcn1", "?target=bcn2", ""]) {
      await (await two.byHand()).change("POST", `/1.0/storage-pools${target}`, { body: { name: "local", driver: "dir" } });
    }
    const devices = { root: { type: "disk", path: "/", pool: "local" } };
    const vm = (name: string): object => {
      const reference = { fingerprint: image.inState("fingerprint"), formerFingerprints: image.inState("formerFingerprints") };
      return { cluster: two.cluster, name, instanceType: "container", image: reference, devices };
    };
    const [old, fresh] = [new Managed(vmLifecycle, "old"), new Managed(vmLifecycle, "fresh")];
    await old.up(vm("old"));
    await refresh(SECOND);
    await image.up(args());
    assert.equal(await old.up(vm("old")), "same");
    await fresh.up(vm("fresh"));
    assert.deepEqual([old.inState("imageFingerprint"), fresh.inState("imageFingerprint")], [FIRST, SECOND]);
    const another = { ...vm("old"), image: { fingerprint: THIRD } };
    assert.equal(await old.preview(another), "replaced");
  });
});
