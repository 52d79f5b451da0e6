import assert from "node:assert/strict";
import * as z from "zod";
import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { Managed, type SimulatedCluster, startStandalone } from "./simulated-cluster";

const shown = z.looseObject({ description: z.string(), config: z.record(z.string(), z.string()) });

describe("LxdProject", () => {
  let server: SimulatedCluster;
  let project: Managed;

  const args = (config: object = {}, more: object = {}): object => ({
    cluster: server.cluster,
    name: "shop",
    config: { "limits.memory": "1GiB", ...config },
    ...more,
  });
  const live = async () => (await server.byHand()).find("/1.0/projects/shop", shown);
  const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}): Promise<void> => {
    await (await server.byHand()).change(method, path, { body });
  };
  const fill = (): Promise<void> => byHand("POST", "/1.0/profiles?project=shop", { name: "web" });

  beforeEach(async () => {
    server = await startStandalone();
    project = new Managed(projectLifecycle as never, "shop");
  });

  afterEach(async () => {
    const { defects } = server.lab;
    await server.stop();
    assert.deepEqual(defects, []);
  });

  it("is created with LXD's default features, marked as its own, and unchanged by a second up", async () => {
    assert.equal(await project.up(args({ restricted: true }, { description: "the shop" })), "created");
    const { config, description } = (await live()) ?? assert.fail();
    const { "user.pulumi.urn": mark, ...others } = config;
    assert.deepEqual(others, {
      "features.images": "true",
      "features.profiles": "true",
      "features.storage.volumes": "true",
      "limits.memory": "1GiB",
      restricted: "true",
    });
    assert.match(mark ?? "", /::shop \[[0-9a-f]{16}\]$/);
    assert.equal(description, "the shop");
    const since = server.lab.requests.length;
    assert.equal(await project.up(args({ restricted: true }, { description: "the shop" })), "same");
    assert.deepEqual(server.lab.mutations(since), []);
  });

  it("repairs a changed limit, removes a key that is not set, and keeps features that are not set", async () => {
    await project.up(args());
    const { config = {} } = (await live()) ?? {};
    const changed = { ...config, "limits.memory": "2GiB", "limits.cpu": "2", "features.images": "false" };
    await byHand("PUT", "/1.0/projects/shop", { description: "", config: changed });
    assert.equal(await project.preview(args()), "updated");
    assert.deepEqual(project.inState("config"), { "limits.memory": "2GiB", "limits.cpu": "2" });
    assert.equal(await project.up(args()), "updated");
    assert.deepEqual((await live())?.config, { ...config, "features.images": "false" });
  });

  it("changes a feature while it is empty, and refuses it by name otherwise, in the preview too", async () => {
    await project.up(args({ "features.images": true }));
    assert.equal(await project.up(args({ "features.images": false })), "updated");
    assert.equal((await live())?.config["features.images"], "false");
    await fill();
    const why = /Project "shop" holds profile web, and features\.images can be changed only in an empty project/;
    await project.preview(args({ "features.images": true }));
    assert.match(project.warnings.join("\n"), why);
    await assert.rejects(project.up(args({ "features.images": true })), why);
    assert.equal((await live())?.config["features.images"], "false");
  });

  it("is not removed while it is not empty, and its content is named", async () => {
    await project.up(args());
    await fill();
    await assert.rejects(project.destroy(), /Project "shop" on .* was not removed, because it holds profile web\. Remove/);
    assert.ok(await live());
    await byHand("DELETE", "/1.0/profiles/web?project=shop");
    await project.destroy();
    assert.equal(await live(), undefined);
  });

  it("is not adopted without adopt, and then keeps its features", async () => {
    await byHand("POST", "/1.0/projects", { name: "shop", config: { "features.profiles": "false", "limits.cpu": "2" } });
    await assert.rejects(
      project.up(args()),
      /Project "shop" already exists on .* it was not made by Pulumi \(it holds nothing\)\. Set adopt/,
    );
    assert.equal(await project.up(args({}, { adopt: true })), "created");
    const { config = {} } = (await live()) ?? {};
    assert.deepEqual([config["features.profiles"], config["limits.cpu"], config["limits.memory"]], ["false", undefined, "1GiB"]);
  });

  it("reports in check what is wrong, by property", async () => {
    assert.deepEqual(await project.faults(args({}, { name: "default" })), [
      "name is the project that every server has and that cannot be removed",
    ]);
    assert.deepEqual(await project.faults(args({ "limits.memory": "lots" }, { name: "a b" })), [
      'name is not a valid name of a project: it must not be empty, "." or "..", or have control characters or slashes, spaces, underscores or quotes',
      'config.limits.memory is neither a size such as "4GiB" nor a share such as "50%"',
    ]);
  });
});
