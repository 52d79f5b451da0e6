import assert from "node:assert/strict";
import type { Deployment } from "@pulumi/pulumi/automation";
import { SimulatedLab } from "../../lab/simulated";
import { LxdImage, LxdVm } from "../../provider";
import { IMAGE_SERVER, offerNewer, REMOTE_IMAGES } from "../support/remote-images";
import { EngineStack, type RunOptions } from "./workspace";

const [FIRST, SECOND] = ["ab".repeat(32), "99".repeat(32)];

describe("an image that the server replaces by a newer one", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;

  const program = (aliases: string[]): void => {
    const cluster = { endpoints: lab.hosts.map(({ connection }) => connection) };
    stack.define(() => {
      const source = { server: IMAGE_SERVER, alias: "24.04" };
      const image = new LxdImage("ubuntu", { cluster, source, instanceType: "container", aliases, autoUpdate: true });
      const devices = { root: { type: "disk", path: "/", pool: "default" } };
      new LxdVm("web", { cluster, name: "web", instanceType: "container", image, devices });
    });
  };
  const planned = async (options?: RunOptions): Promise<string[]> => {
    const { ok, text, steps } = await stack.preview(options);
    assert.ok(ok, text);
    return steps.filter(({ op }) => op !== "refresh").map(({ op, type, name }) => `${op} ${type} ${name}`);
  };

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }], remoteImages: REMOTE_IMAGES });
    await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    stack = await EngineStack.open();
    program(["ubuntu"]);
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
  });
  after(async () => {
    stack.close();
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  it("is no change in a state of a version without former fingerprints, also without a refresh", async () => {
    const text = await stack.exportText();
    const earlier = text.replace(/"formerFingerprints": \[\],?/g, "");
    assert.notEqual(earlier, text);
    await stack.import(JSON.parse(earlier) as Deployment);
    assert.deepEqual(await planned({ refresh: false }), []);
  });

  it("changes nothing, and replaces no instance", async () => {
    offerNewer(lab, SECOND);
    await lab.byHand("bcn2", "POST", `/1.0/images/${FIRST}/refresh`);
    assert.deepEqual(await planned(), []);
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
    const image = (await stack.resources()).find(({ type }) => type.endsWith(":LxdImage"));
    assert.deepEqual([image?.outputs["fingerprint"], image?.outputs["formerFingerprints"]], [SECOND, [FIRST]]);
  });

  it("is known in the preview of its own update", async () => {
    program(["ubuntu", "noble"]);
    assert.deepEqual(await planned(), ["update LxdImage ubuntu"]);
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
    assert.deepEqual(await planned(), []);
  });
});
