import assert from "node:assert/strict";
import fc from "fast-check";
import { canonicalJson, sameJson, withoutUndefined } from "../../../provider/support/equality";

const json = fc.jsonValue({ maxDepth: 4 });

/** The same data, with the members of every object in the opposite order. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(reversed);
  }
  return value !== null && typeof value === "object"
    ? Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, member]) => [key, reversed(member)]),
      )
    : value;
}

describe("equality of plain data", () => {
  it("ignores the order of members", () => {
    fc.assert(
      fc.property(json, (value) => {
        assert.ok(sameJson(value, reversed(value)));
        assert.equal(canonicalJson(value), canonicalJson(reversed(value)));
      }),
    );
  });

  it("respects the order of lists", () => {
    assert.equal(sameJson([1, 2], [2, 1]), false);
    assert.notEqual(canonicalJson([1, 2]), canonicalJson([2, 1]));
  });

  it("treats an undefined member as absent, and null as a value", () => {
    assert.ok(sameJson({ a: { b: undefined } }, { a: {} }));
    assert.ok(sameJson(undefined, undefined));
    assert.equal(sameJson({ a: null }, {}), false);
    assert.equal(sameJson("1", 1), false);
  });

  it("gives different data different canonical texts", () => {
    fc.assert(fc.property(json, json, (a, b) => sameJson(a, b) === (canonicalJson(a) === canonicalJson(b))));
  });

  it("finds nothing undefined in the result of withoutUndefined", () => {
    const holdsUndefined = (value: unknown): boolean =>
      value !== null &&
      typeof value === "object" &&
      Object.values(value).some((member) => (member === undefined && !Array.isArray(value)) || holdsUndefined(member));
    const messy = fc.object({ values: [fc.string(), fc.constant(undefined), fc.integer(), fc.constant(null)] });
    fc.assert(fc.property(messy, (value) => !holdsUndefined(withoutUndefined(value))));
  });
});
