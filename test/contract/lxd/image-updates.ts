import assert from "node:assert/strict";
import { createAlias, deleteAlias, findAlias, moveAlias } from "../../../provider/lxd/images/aliases";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { changeImage, deleteImage, findImage, type Image, uploadImage } from "../../../provider/lxd/images/images";
import { createProject, deleteProject } from "../../../provider/lxd/projects";
import { getServerShared } from "../../../provider/lxd/server";
import { type ContractLab, failed } from "./harness";
import { makeContainer } from "./make-instance";

/** An image that the server replaces by a newer one. The cluster is its own image server: a project copies a public image of another. */
export function imageUpdatesContract(lab: () => ContractLab): void {
  describe("a copied image", () => {
    const [project, offered, alias] = ["copies", "offered", "copied"];
    const properties = { os: "Newer", "user.pulumi.urn": "urn:pulumi:of-the-image-server" };
    let former: string;
    let newer: string;
    let restore: () => Promise<void>;

    const copyOf = async (fingerprint: string): Promise<Image> =>
      (await findImage(await lab().lxd(), project, fingerprint))?.value ?? assert.fail("there is no copy");
    const refreshed = async (fingerprint: string, of = project): Promise<unknown> => {
      const lxd = await lab().lxd();
      return (await lxd.change("POST", `/1.0/images/${fingerprint}/refresh`, { query: { project: of } }))?.metadata?.[
        "refreshed"
      ];
    };

    before(async () => {
      const lxd = await lab().lxd();
      [former, newer] = [await fingerprintOf(lab().harness.otherImage), await lab().fingerprint()];
      const given = { fingerprint: former, public: true, properties: {} };
      await uploadImage(lxd, lab().project, lab().harness.otherImage, given, () => undefined);
      await createAlias(lxd, lab().project, { name: offered, description: "", target: former });
      await createProject(lxd, project, { description: "", config: {} });
      const { certificate } = (await getServerShared(lxd)).environment;
      const server = `https://${lab().harness.primary.address}`;
      const protocol = lab().server.debian.server;
      const source = { type: "image", mode: "pull", server, protocol, certificate, alias: offered };
      await lxd.change("POST", "/1.0/images", { query: { project }, body: { source, public: false, auto_update: false } });
      const copied = (await findImage(lxd, project, former)) ?? assert.fail("there is no copy");
      await changeImage(lxd, project, copied, () => ({ public: true, auto_update: true, properties: { os: "Mine" } }));
      await createAlias(lxd, project, { name: alias, description: "mine", target: former });
    });

    it("has the source that it came from, and is updated if that was set", async () => {
      const { auto_update, update_source } = await copyOf(former);
      const { alias: from, server, protocol } = update_source ?? assert.fail("it has no source");
      assert.deepEqual(
        [auto_update, from, server, protocol],
        [true, offered, `https://${lab().harness.primary.address}`, lab().server.debian.server],
      );
    });

    it("is not replaced while its source has no newer one", async () => {
      assert.equal(await refreshed(former), false);
      assert.deepEqual((await copyOf(former)).properties, { os: "Mine" });
    });

    it("is replaced by another, which has its aliases, public and profiles, and the source's properties", async () => {
      const lxd = await lab().lxd();
      const { profiles, update_source } = await copyOf(former);
      const image = (await findImage(lxd, lab().project, newer)) ?? assert.fail("there is no image");
      const { public: isPublic, properties: own } = image.value;
      restore = async () => {
        const live = (await findImage(lxd, lab().project, newer)) ?? assert.fail("there is no image");
        await changeImage(lxd, lab().project, live, () => ({ public: isPublic, properties: own ?? {} }));
      };
      await changeImage(lxd, lab().project, image, () => ({ public: true, properties }));
      await moveAlias(lxd, lab().project, { name: offered, description: "", target: newer });
      assert.equal(await refreshed(former), true);
      assert.equal(await findImage(lxd, project, former), undefined);
      assert.deepEqual(await findAlias(lxd, project, alias).then((found) => [found?.target, found?.description]), [
        newer,
        "mine",
      ]);
      const replaced = await copyOf(newer);
      const theirs = (await findImage(lxd, lab().project, newer))?.value.properties;
      assert.deepEqual(replaced.properties, theirs);
      assert.equal(replaced.properties?.["user.pulumi.urn"], properties["user.pulumi.urn"]);
      assert.deepEqual([replaced.public, replaced.profiles, replaced.update_source], [true, profiles, update_source]);
      // Nothing was downloaded: another project has the image, and it is not updated there.
      assert.equal(replaced.auto_update, false);
    });

    it("takes its files with it when it is replaced, from other projects too, which keep the image in name only", async () => {
      assert.equal((await findImage(await lab().lxd(), lab().project, former))?.value.fingerprint, former);
      const { name } = lab().harness.primary;
      await failed(makeContainer(lab(), "of-former", { image: { fingerprint: former } }, name), /no such file/);
    });

    it("cannot be replaced without a source", () => failed(refreshed(newer, lab().project), /not found/i));

    after(async () => {
      const lxd = await lab().lxd();
      await deleteImage(lxd, project, newer);
      await deleteProject(lxd, project);
      await deleteAlias(lxd, lab().project, offered);
      await deleteImage(lxd, lab().project, former);
      await restore();
    });
  });
}
