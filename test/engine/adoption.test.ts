import assert from "node:assert/strict";
import * as z from "zod";
import type { SimulatedLab } from "../../lab/simulated";
import { LxdProfile, type LxdProfileArgs } from "../../provider/index";
import { type SimulatedCluster, startStandalone } from "../unit/resources/simulated-cluster";
import { EngineStack, type Run } from "./workspace";

const profileSchema = z.looseObject({ config: z.record(z.string(), z.string()) });

/** Two stacks and a person want the same profile. Each part begins where the one before it ended. */
describe("An object that is there already", () => {
  let one: SimulatedCluster;
  let lab: SimulatedLab;
  let prod: EngineStack;
  let test: EngineStack;

  const program = (args: Partial<LxdProfileArgs>) => (): void => {
    const cluster = { endpoints: lab.hosts.map(({ connection }) => connection) };
    new LxdProfile("web", { cluster, name: "web", ...args });
  };
  const live = async (): Promise<Record<string, string>> =>
    (await (await one.byHand()).get("/1.0/profiles/web", profileSchema)).config;
  /** A run that must end well, and what it changed on LXD. */
  const succeeds = async (work: () => Promise<Run>): Promise<Run & { changes: number }> => {
    const since = lab.requests.length;
    const run = await work();
    assert.ok(run.ok, run.text);
    return { ...run, changes: lab.mutations(since).length };
  };

  before(async () => {
    one = await startStandalone();
    lab = one.lab;
    [prod, test] = [await EngineStack.open("prod"), await EngineStack.open("test")];
    await (await one.byHand()).change("POST", "/1.0/profiles", {
      body: { name: "web", description: "", config: { "limits.cpu": "4" }, devices: {} },
    });
  });

  after(async () => {
    prod.close();
    test.close();
    await one.stop();
  });

  it("is refused, with what it is, when a person made it", async () => {
    prod.define(program({ config: { "limits.cpu": "2" } }));
    const { ok, text } = await prod.up();
    assert.equal(ok, false);
    assert.match(
      text,
      /Profile "web" .* already exists on .* and it was not made by Pulumi \(it holds limits\.cpu; used by 0 instances\)/,
    );
    assert.deepEqual(await live(), { "limits.cpu": "4" });
  });

  it("shows in the preview of its adoption what would change, and then changes that", async () => {
    prod.define(program({ config: { "limits.cpu": "2" }, adopt: true }));
    const planned = await succeeds(() => prod.preview());
    assert.equal(planned.changes, 0);
    assert.match(
      planned.messages.join("\n"),
      /^info web: Adopts the existing object: would change config\.limits\.cpu "4" -> "2"/m,
    );
    await succeeds(() => prod.up());
    assert.equal((await live())["limits.cpu"], "2");
    assert.deepEqual((await succeeds(() => prod.preview())).steps, []);
  });

  it("is refused to another stack, which is told whose it is", async () => {
    test.define(program({ config: { "limits.cpu": "2" } }));
    const { ok, text } = await test.up();
    assert.equal(ok, false);
    assert.match(text, /belongs to the Pulumi resource "web" of stack "prod", project "engine-tests"/);
  });

  it("passes to another stack with adopt; the first one is told, and leaves it alone even when it is destroyed", async () => {
    test.define(program({ config: { "limits.cpu": "2" }, adopt: true }));
    await succeeds(() => test.up());
    const { steps, messages } = await succeeds(() => prod.preview());
    assert.deepEqual(steps, []);
    assert.match(messages.join("\n"), /^warning web: .*it now belongs to the Pulumi resource "web" of stack "test"/m);
    const { changes, messages: last } = await succeeds(() => prod.destroy());
    assert.equal(changes, 0);
    assert.match(last.join("\n"), /is not removed: it now belongs to the Pulumi resource "web" of stack "test"/);
    assert.deepEqual((await succeeds(() => test.preview())).steps, []);
  });
});
