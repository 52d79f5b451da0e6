import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { containsUnknown, isUnknownAt } from "../../../provider/engine/properties";

/** In the engine's form, one for each type; the SDK exports only the first. */
const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

describe("unknown values", () => {
  it("are the SDK's values for an output that is unknown in a preview", () => {
    assert.equal((pulumi.runtime as unknown as { unknownValue: string }).unknownValue, UNKNOWN);
    assert.ok(containsUnknown(UNKNOWN));
  });

  it("are found at any depth, and nowhere else", () => {
    const json = fc.jsonValue();
    fc.assert(
      fc.property(json, (value) => {
        assert.equal(containsUnknown(value), false);
        assert.ok(containsUnknown([value, { deep: [UNKNOWN] }]));
      }),
    );
    assert.equal(containsUnknown(`${UNKNOWN}!`), false);
  });

  it("hide issues about them and their content, but not about adjacent values", () => {
    const value = { host: UNKNOWN, port: 0, list: [1, UNKNOWN] };
    assert.equal(isUnknownAt(value, ["host"]), true);
    assert.equal(isUnknownAt(value, ["host", "name"]), true);
    assert.equal(isUnknownAt(value, ["port"]), false);
    assert.equal(isUnknownAt(value, ["list", 0]), false);
    assert.equal(isUnknownAt(value, ["list", 1]), true);
    assert.equal(isUnknownAt(value, ["port", "deeper"]), false);
    assert.equal(isUnknownAt(value, ["absent"]), false);
    assert.equal(isUnknownAt(value, []), true);
  });
});
