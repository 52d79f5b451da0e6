import assert from "node:assert/strict";
import * as fc from "fast-check";
import { ListSplitter } from "../../../provider/lxd/client/list-splitter";

/** Reads bytes in pieces of the given sizes. */
function split(bytes: Buffer, sizes: readonly number[]): { envelope: unknown; elements: unknown[] } {
  const elements: unknown[] = [];
  const splitter = new ListSplitter((json) => elements.push(JSON.parse(json)));
  let from = 0;
  for (const size of sizes) {
    splitter.take(bytes.subarray(from, from + size));
    from += size;
  }
  splitter.take(bytes.subarray(from));
  return { envelope: JSON.parse(splitter.envelope), elements };
}

describe("ListSplitter", () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 40 });
  const layout = fc.constantFrom(undefined, 1, "\t");

  it("finds all elements of a list, for any format and any split", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), sizes, layout, (list, cuts, space) => {
        const answer = { type: "sync", status_code: 200, error: '["]}', metadata: list };
        const { envelope, elements } = split(Buffer.from(JSON.stringify(answer, null, space)), cuts);
        assert.deepEqual(elements, JSON.parse(JSON.stringify(list)));
        assert.deepEqual(envelope, { ...answer, metadata: [] });
      }),
    );
  });

  it("returns an answer that is not a list unchanged", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), sizes, (metadata, cuts) => {
        const answer = JSON.stringify({ type: "error", metadata });
        assert.deepEqual(split(Buffer.from(answer), cuts), { envelope: JSON.parse(answer) as unknown, elements: [] });
      }),
    );
  });
});
