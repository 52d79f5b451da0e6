import assert from "node:assert/strict";
import { createProfile, deleteProfile } from "../../../provider/lxd/profiles";
import {
  contentsOf,
  createProject,
  deleteProject,
  findProject,
  type ProjectPut,
  replaceProject,
} from "../../../provider/lxd/projects";
import { type ContractLab, fails, refused } from "./harness";

/** Projects, which belong to the whole cluster. */
export function projectsContract(lab: () => ContractLab): void {
  describe("a project", () => {
    const make = async (name: string, config: Record<string, string> = {}): Promise<void> =>
      createProject(await lab().lxd(), name, { description: "", config });
    const change = async (name: string, body: ProjectPut, etag?: string): Promise<unknown> =>
      (await lab().lxd()).change("PUT", `/1.0/projects/${name}`, { body, etag });

    it("has the default features except those turned off, and its own profile", async () => {
      await make("shop", { "limits.instances": "2", "user.pulumi.urn": "x", "features.images": "false" });
      const found = await findProject(await lab().lxd("secondary"), "shop");
      assert.ok(found?.etag);
      const { "features.storage.buckets": _, ...config } = found.value.config; // newer servers have it
      assert.deepEqual(config, {
        "features.images": "false",
        "features.profiles": "true",
        "features.storage.volumes": "true",
        "limits.instances": "2",
        "user.pulumi.urn": "x",
      });
      assert.deepEqual(contentsOf(found.value), []);
      assert.equal(await findProject(await lab().lxd(), "nope"), undefined);
      await fails(make("shop"), lab().server.duplicateProject);
    });

    const refusals: [what: string, config: Record<string, string>, reply: RegExp][] = [
      ["an unknown key", { "limits.nope": "1" }, /Invalid project configuration key "limits\.nope"/],
      ["memory that is not a size", { "limits.memory": "lots" }, /"limits\.memory" value: Invalid value: lots/],
      ["an invalid boolean", { restricted: "maybe" }, /"restricted" value: Invalid value for a boolean "maybe"/],
    ];
    for (const [what, config, reply] of refusals) {
      it(`is refused with ${what}`, () => refused(make("refused", config), 400, reply));
    }

    it("is replaced as a whole, and only if it is unchanged since the read", async () => {
      const found = await findProject(await lab().lxd(), "shop");
      assert.ok(found);
      const body = { description: "second", config: { ...found.value.config, restricted: "true" } };
      await replaceProject(await lab().lxd(), found, () => body);
      const { value } = (await findProject(await lab().lxd(), "shop")) ?? {};
      assert.deepEqual([value?.description, value?.config], [body.description, body.config]);
      await refused(change("shop", body, found.etag), 412, /ETag doesn't match/);
      await refused(change("nope", body), 404, /Project not found/);
    });

    it("that is not empty keeps its features, and cannot be removed", async () => {
      const lxd = await lab().lxd();
      await createProfile(lxd, "shop", "web", { description: "", config: {}, devices: {} });
      const found = await findProject(lxd, "shop");
      assert.ok(found);
      assert.deepEqual(contentsOf(found.value), ["profile web"]);
      const config = { ...found.value.config, "features.profiles": "false" };
      await refused(
        change("shop", { description: "", config }),
        400,
        /"features.profiles" cannot be disabled on non-empty projects/,
      );
      await refused(deleteProject(lxd, "shop"), 500, /Only empty projects can be removed/);
      await deleteProfile(lxd, "shop", "web");
      await deleteProject(lxd, "shop");
      await deleteProject(lxd, "shop");
      assert.equal(await findProject(lxd, "shop"), undefined);
    });

    it("default keeps its features, and cannot be removed", async () => {
      const lxd = await lab().lxd();
      await refused(change("default", { description: "", config: {} }), 400, /can't change the features of the default project/);
      await refused(deleteProject(lxd, "default"), 403, /'default' project cannot be deleted/);
    });
  });
}
