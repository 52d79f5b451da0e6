import assert from "node:assert/strict";
import { runtime } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdProfile, type LxdProfileArgs } from "../../provider/index";
import { readMark } from "../../provider/lxd/ownership";
import { type SimulatedCluster, startStandalone } from "../unit/resources/simulated-cluster";
import { EngineStack, type Run } from "./workspace";

const profileSchema = z.looseObject({ config: z.record(z.string(), z.string()) });
const PROJECT = "engine-tests";
const OWN_MARK = /already exists on .*, complete .* it has the mark of this resource, .* run pulumi up there/;

/** What docs/guide/adoption.md promises: one object, and states that come to know it under another URN. */
describe("A resource that is moved or renamed", () => {
  let one: SimulatedCluster;
  const open: EngineStack[] = [];

  const program =
    (args: Partial<LxdProfileArgs> = {}, name = "web", alias?: string) =>
    (): void => {
      const cluster = { endpoints: one.lab.hosts.map(({ connection }) => connection) };
      const options = alias === undefined ? {} : { aliases: [{ name: alias }] };
      new LxdProfile(name, { cluster, name: "web", config: { "limits.cpu": "2" }, ...args }, options);
    };
  const stackOf = async (name: string, at: { beside?: EngineStack; project?: string } = {}): Promise<EngineStack> => {
    const stack = await EngineStack.open(name, at);
    stack.define(program());
    open.push(stack);
    return stack;
  };
  const live = async () => (await (await one.byHand()).find("/1.0/profiles/web", profileSchema))?.config;
  const markOn = async (): Promise<string | undefined> => readMark((await live())?.["user.pulumi.urn"])?.urn;
  const urn = (stack: string, project = PROJECT, name = "web"): string =>
    `urn:pulumi:${stack}::${project}::pulumi-nodejs:dynamic/lxd:LxdProfile::${name}`;

  /** A run that must end well, and how often it changed something on LXD. */
  const succeeds = async (work: () => Promise<Run>): Promise<Run & { changes: number }> => {
    const since = one.lab.requests.length;
    const run = await work();
    assert.ok(run.ok, run.text);
    return { ...run, changes: one.lab.mutations(since).length };
  };
  /** The first `up` under a new URN marks the object with it. */
  const isMarkedAnew = async (stack: EngineStack, expected: string): Promise<void> => {
    const { changes, messages } = await succeeds(() => stack.up());
    assert.equal(changes, 1);
    assert.match(
      messages.join("\n"),
      /^info \w+: Only the ownership mark of the object changes \(now: the Pulumi resource "web"/m,
    );
    assert.equal(await markOn(), expected);
  };
  const isRefused = async (stack: EngineStack, words: RegExp): Promise<void> => {
    const since = one.lab.requests.length;
    const { ok, text } = await stack.up();
    assert.equal(ok, false);
    assert.match(text.replaceAll(/\s+/g, " "), words);
    assert.equal(one.lab.mutations(since).length, 0);
  };

  beforeEach(async () => {
    one = await startStandalone();
  });

  afterEach(async () => {
    for (const stack of open.splice(0)) {
      stack.close();
    }
    await one.stop();
  });

  it("by an alias is marked with its new name by the first up", async () => {
    const dev = await stackOf("dev");
    await succeeds(() => dev.up());
    dev.define(program({}, "site", "web"));
    const planned = await succeeds(() => dev.preview());
    assert.deepEqual([planned.changes, planned.steps.map(({ op }) => op)], [0, ["update"]]);
    await isMarkedAnew(dev, urn("dev", PROJECT, "site"));
    const again = await succeeds(() => dev.up());
    assert.deepEqual([again.changes, again.steps], [0, []]);
  });

  it("by pulumi state move is refused to the stack that it left, whose code still has it, and marked by the one that has it", async () => {
    const dev = await stackOf("dev");
    const other = await stackOf("other", { beside: dev });
    await succeeds(() => dev.up());
    await dev.moveInState(urn("dev"), other);
    await isRefused(dev, OWN_MARK);
    await isMarkedAnew(other, urn("other"));
    await isRefused(dev, /it belongs to the Pulumi resource "web" of stack "other"/);
    await succeeds(() => other.destroy());
    assert.equal(await live(), undefined);
  });

  it("by pulumi state move, and adopted by the stack that it left, outlives the one that it was moved to", async () => {
    const dev = await stackOf("dev");
    const other = await stackOf("other", { beside: dev });
    await succeeds(() => dev.up());
    await dev.moveInState(urn("dev"), other);
    dev.define(program({ adopt: true }));
    const adopted = await succeeds(() => dev.up());
    assert.match(adopted.messages.join("\n"), /Adopts the existing object that has this resource's own mark .* another stack/);
    const { changes, messages } = await succeeds(() => other.destroy());
    assert.equal(changes, 0);
    assert.match(messages.join("\n"), /is not removed: it now belongs to the Pulumi resource "web" of stack "dev"/);
    assert.equal(await markOn(), urn("dev"));
  });

  it("with its stack is refused to a new stack of the old name, and marked by the first up of the renamed one", async () => {
    const before = await stackOf("dev");
    await succeeds(() => before.up());
    await before.rename("prod");
    const [prod, dev] = [await stackOf("prod", { beside: before }), await stackOf("dev", { beside: before })];
    await isRefused(dev, OWN_MARK);
    await isMarkedAnew(prod, urn("prod"));
  });

  it("and whose state is lost instead is adopted with all others by the lines of the guide", async () => {
    const dev = await stackOf("dev");
    await succeeds(() => dev.up());
    const before = await live();
    await dev.deleteFromState(urn("dev"));
    dev.define(() => {
      runtime.registerStackTransformation(({ type, props, opts }) =>
        type.startsWith("pulumi-nodejs:dynamic/lxd:") ? { props: { ...props, adopt: true }, opts } : undefined,
      );
      program()();
    });
    await succeeds(() => dev.up());
    assert.deepEqual(Object.keys((await live()) ?? {}), Object.keys(before ?? {}));
    dev.define(program());
    assert.deepEqual((await succeeds(() => dev.up())).steps, []);
  });

  it("with its project is marked with that by the first up", async () => {
    const before = await stackOf("dev");
    await succeeds(() => before.up());
    await before.rename("organization/shop/dev");
    await isMarkedAnew(await stackOf("dev", { beside: before, project: "shop" }), urn("dev", "shop"));
  });
});
