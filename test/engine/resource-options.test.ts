import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { LxdImage, LxdNode, LxdProfile } from "../../provider";
import { EngineStack } from "./workspace";

describe("resource options", () => {
  it('ignoreChanges: ["*"] leaves resources as they are, also after a refresh and when one is replaced by a person', async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    const stack = await EngineStack.open();
    try {
      const { connection } = lab.host("bcn2");
      const fingerprint = lab.seedImage("bcn2", { alias: "debian" });
      let description = "first";
      stack.define(() => {
        const opts = { ignoreChanges: ["*"] };
        const node = new LxdNode("bcn2", { connection, adopt: true, install: { method: "deb" } }, opts);
        const cluster = { endpoints: [node.connection] };
        new LxdImage("debian", { cluster, source: { server: "https://images.example", fingerprint }, aliases: ["debian"] }, opts);
        new LxdProfile("web", { cluster, name: "web", description }, opts);
      });
      const first = await stack.up();
      assert.ok(first.ok, first.text);
      description = "second";
      for (const again of [await stack.up(), await stack.up()]) {
        assert.ok(again.ok, again.text);
        assert.deepEqual(
          again.steps.filter(({ op }) => op !== "refresh"),
          [],
        );
      }
      const replace = (await stack.resources()).map(({ urn }) => urn).filter((urn) => /:LxdImage::/.test(urn));
      const replaced = await stack.up({ replace });
      assert.ok(replaced.ok, replaced.text);
    } finally {
      stack.close();
      await lab.stop();
    }
  });
});
