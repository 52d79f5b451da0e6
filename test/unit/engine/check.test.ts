import assert from "node:assert/strict";
import fc from "fast-check";
import * as z from "zod";
import { checkProperties } from "../../../provider/engine/check";

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const schema = z.strictObject({
  name: z.string().regex(/^[a-z]+$/, "is not a name"),
  size: z.int().min(1).max(10).default(3),
  nested: z.strictObject({ host: z.string().min(1), port: z.number().optional() }).optional(),
  list: z.array(z.enum(["a", "b"])).default([]),
  map: z
    .record(
      z.string().regex(/^[a-z.]+$/, "is not a key"),
      z.union([z.string(), z.number()], "must be text or a number").transform(String),
    )
    .default({}),
  how: z
    .union([
      z.literal(false),
      z.strictObject({ method: z.literal("deb") }),
      z.strictObject({
        method: z.literal("snap"),
        channel: z.string().regex(/^\S+$/, "is not a channel").default("stable"),
        hold: z.boolean().default(true),
      }),
    ])
    .optional(),
});

const failuresOf = (inputs: Record<string, unknown>): string[] =>
  checkProperties(schema, inputs).failures.map(({ property, reason }) => `${property} ${reason}`);

describe("checkProperties", () => {
  it("fills in defaults and normalises, and reports nothing unknown", () => {
    assert.deepEqual(checkProperties(schema, { name: "web", map: { "limits.cpu": 2 }, how: { method: "snap" } }), {
      inputs: {
        name: "web",
        size: 3,
        list: [],
        map: { "limits.cpu": "2" },
        how: { method: "snap", channel: "stable", hold: true },
      },
      failures: [],
      complete: true,
    });
  });

  it("treats null as unset, at any depth, as Pulumi sends it", () => {
    const { inputs, failures } = checkProperties(schema, {
      name: "web",
      size: null,
      nested: { host: "h", port: null },
      how: null,
    });
    assert.deepEqual(failures, []);
    assert.deepEqual(inputs, { name: "web", size: 3, nested: { host: "h" }, list: [], map: {} });
    assert.deepEqual(failuresOf({ name: null }), ["name is required"]);
  });

  const bad: readonly (readonly [string, Record<string, unknown>, readonly string[]])[] = [
    ["a missing property", {}, ["name is required"]],
    ["a missing property further in", { nested: {} }, ["name is required", "nested.host is required"]],
    ["a wrong type", { name: 1 }, ["name must be a string"]],
    ["a value that the schema describes", { name: "A B" }, ["name is not a name"]],
    ["a broken number", { name: "a", size: 1.5 }, ["size must be a whole number"]],
    ["a number too small", { name: "a", size: 0 }, ["size must be at least 1"]],
    ["a number too large", { name: "a", size: 11 }, ["size must be at most 10"]],
    ["an empty text", { name: "a", nested: { host: "" } }, ["nested.host must not be empty"]],
    ["no list", { name: "a", list: "a" }, ["list must be a list"]],
    ["no object", { name: "a", nested: [] }, ["nested must be an object"]],
    ["one bad item of a list", { name: "a", list: ["a", "c"] }, ['list.1 must be "a" or "b"']],
    ["a bad key of a map", { name: "a", map: { "A B": "x" } }, ["map.A B is not a key"]],
    ["a bad value of a map, with the schema's own message", { name: "a", map: { x: {} } }, ["map.x must be text or a number"]],
    ["an unknown property, with the likely one", { name: "a", sise: 3 }, ["sise is not a known property; did you mean size?"]],
    [
      "an unknown property that resembles none",
      { name: "a", colour: 3 },
      ["colour is not a known property; known are name, size, nested, list, map, how"],
    ],
    [
      "an unknown property further in",
      { name: "a", nested: { host: "h", hosts: 1 } },
      ["nested.hosts is not a known property; did you mean host?"],
    ],
    ["a union, distinguished by a property", { name: "a", how: { method: "apt" } }, ['how.method must be "deb" or "snap"']],
    ["a union without that property", { name: "a", how: { channel: "x" } }, ["how.method is required"]],
    ["a union of other things", { name: "a", how: true }, ["how must be false or an object"]],
    [
      "the intended alternative of a union",
      { name: "a", how: { method: "snap", channel: "a b", hold: "yes" } },
      ["how.channel is not a channel", "how.hold must be a boolean"],
    ],
    [
      "an option of another alternative",
      { name: "a", how: { method: "deb", channel: "x" } },
      ["how.channel is not a known property; known are method"],
    ],
  ];
  for (const [what, inputs, failures] of bad) {
    it(`refuses ${what}: ${failures.join("; ")}`, () => {
      assert.deepEqual(failuresOf(inputs), failures);
      assert.equal(checkProperties(schema, inputs).complete, false);
    });
  }

  it("passes on unknown values unchanged, without defaults or normalisation, and defers the rest", () => {
    for (const unknown of [
      { name: UNKNOWN },
      { name: "a", size: UNKNOWN },
      { name: "a", nested: UNKNOWN },
      { name: "a", nested: { host: UNKNOWN } },
      { name: "a", list: [UNKNOWN, "a"] },
      { name: "a", map: { x: UNKNOWN, y: 2 } },
      { name: "a", how: { method: UNKNOWN } },
      { name: "a", how: { method: "snap", channel: UNKNOWN } },
    ]) {
      const { inputs, failures, complete } = checkProperties(schema, unknown);
      assert.deepEqual(failures, [], JSON.stringify(unknown));
      assert.equal(complete, false);
      for (const [name, value] of Object.entries(unknown)) {
        assert.deepEqual(inputs[name], value);
      }
    }
  });

  it("passes on values beside an unknown one as they come from state", () => {
    const { inputs } = checkProperties(schema, { name: "a", map: { x: UNKNOWN, y: -0, z: null } });
    assert.deepStrictEqual(inputs["map"], { x: UNKNOWN, y: 0 });
  });

  it("validates known values beside an unknown one", () => {
    assert.deepEqual(failuresOf({ name: UNKNOWN, size: 0 }), ["size must be at least 1"]);
    assert.deepEqual(failuresOf({ name: "a", nested: { host: UNKNOWN, port: "22" } }), ["nested.port must be a number"]);
    assert.deepEqual(failuresOf({ name: "a", nested: { host: UNKNOWN, prot: 22 } }), [
      "nested.prot is not a known property; did you mean port?",
    ]);
    assert.deepEqual(failuresOf({ name: "a", list: [UNKNOWN, "c"] }), ['list.1 must be "a" or "b"']);
  });

  it("accepts any input: it never throws, and every failure names a property and a reason", () => {
    const value = fc.oneof(fc.anything({ maxDepth: 3 }), fc.constant(UNKNOWN), fc.constant({ method: "snap" }));
    const inputs = fc.oneof(
      fc.dictionary(fc.constantFrom(...Object.keys(schema.shape), "nmae"), value),
      fc.dictionary(fc.string({ minLength: 1 }), value),
    );
    fc.assert(
      fc.property(inputs, (any) => {
        const { failures, complete } = checkProperties(schema, any);
        assert.ok(failures.length === 0 || !complete);
        for (const { property, reason } of failures) {
          assert.ok(property.length > 0 && reason.length > 0);
          assert.doesNotMatch(reason, /^(Invalid|Too|Expected|undefined)|\[object/);
        }
      }),
    );
  });

  it("does not show the values themselves, which may be secrets", () => {
    const secret = "hunter2-correct-horse";
    for (const inputs of [
      { name: secret },
      { name: "a", size: secret },
      { name: "a", nested: secret },
      { name: "a", list: [secret] },
      { name: "a", how: secret },
    ]) {
      assert.doesNotMatch(failuresOf(inputs).join(), new RegExp(secret));
    }
  });

  it("accepts its own result: checking twice changes nothing", () => {
    const name = fc.stringMatching(/^[a-z]+$/).filter((text) => text !== "constructor");
    const inputs = fc.record(
      {
        name,
        size: fc.integer({ min: 1, max: 10 }),
        list: fc.array(fc.constantFrom("a", "b")),
        map: fc.dictionary(name, fc.oneof(fc.string(), fc.integer())),
      },
      { requiredKeys: ["name"] },
    );
    fc.assert(
      fc.property(inputs, (given) => {
        const once = checkProperties(schema, given);
        assert.deepEqual(once.failures, []);
        assert.deepEqual(checkProperties(schema, once.inputs), once);
      }),
    );
  });
});
