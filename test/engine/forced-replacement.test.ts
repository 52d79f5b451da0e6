import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { LxdProfile } from "../../provider";
import { EngineStack } from "./workspace";

describe("a replacement that a person asks for (pulumi up --replace)", () => {
  it("removes the old object before it makes the new one, which has its name", async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    const stack = await EngineStack.open();
    try {
      const cluster = { endpoints: [lab.host("bcn2").connection] };
      stack.define(() => {
        new LxdProfile("web", { cluster, name: "web" });
      });
      assert.equal((await stack.up()).ok, true);
      const since = lab.requests.length;
      const replace = (await stack.resources()).map(({ urn }) => urn);
      assert.equal((await stack.up({ replace })).ok, true);
      assert.deepEqual(
        lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`),
        ["DELETE /1.0/profiles/web", "POST /1.0/profiles"],
      );
      assert.deepEqual((await stack.up()).steps, []);
    } finally {
      stack.close();
      await lab.stop();
    }
  });
});
