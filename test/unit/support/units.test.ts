import assert from "node:assert/strict";
import fc from "fast-check";
import { parseSize, sameSize } from "../../../provider/support/units";

const UNITS = ["", "B", "kB", "MB", "GB", "TB", "PB", "EB", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

const size = fc.tuple(fc.nat(7), fc.constantFrom(...UNITS)).map(([count, unit]) => `${count}${unit}`);
const text = fc.oneof(size, fc.string(), fc.constantFrom("50%", "", "GiB", "1.5GiB", "-1GB"));

describe("sizes in LXD's notation", () => {
  const table: readonly (readonly [string, bigint | undefined])[] = [
    ["0", 0n],
    ["1024", 1024n],
    ["512B", 512n],
    ["1kB", 1000n],
    ["1KiB", 1024n],
    ["48GB", 48_000_000_000n],
    ["48GiB", 51_539_607_552n],
    ["2TiB", 2_199_023_255_552n],
    ["10 bytes", 10n],
    ["7EiB", 8_070_450_532_247_928_832n],
    ["8EiB", undefined], // more than LXD can count
    ["99999999999999999999", undefined],
    [" 4GiB", undefined],
    ["4GiB\n", undefined],
    ["4 GiB", undefined],
    ["4KB", undefined],
    ["", undefined],
    ["GiB", undefined],
    ["50%", undefined],
    ["1.5GiB", undefined],
    ["-1GB", undefined],
    ["4 giga", undefined],
    ["4gib", undefined],
    ["0x10", undefined],
    ["1constructor", undefined],
  ];
  for (const [written, bytes] of table) {
    it(`reads ${JSON.stringify(written)} as ${bytes === undefined ? "no size" : `${bytes} bytes`}`, () => {
      assert.equal(parseSize(written), bytes);
    });
  }

  it("never throws, whatever the text", () => {
    fc.assert(fc.property(fc.string(), (any) => ["undefined", "bigint"].includes(typeof parseSize(any))));
  });

  it("grows with the count, in every unit", () => {
    fc.assert(
      fc.property(fc.nat(6), fc.constantFrom(...UNITS), (count, unit) => {
        assert.ok((parseSize(`${count + 1}${unit}`) ?? 0n) > (parseSize(`${count}${unit}`) ?? 0n));
      }),
    );
  });
});

describe("sameSize", () => {
  it("is true of a text and itself", () => {
    fc.assert(fc.property(text, (a) => sameSize(a, a)));
  });

  it("does not depend on the order", () => {
    fc.assert(fc.property(text, text, (a, b) => sameSize(a, b) === sameSize(b, a)));
  });

  it("is true of a size and its bytes written out", () => {
    fc.assert(fc.property(size, (a) => sameSize(a, String(parseSize(a)))));
  });

  for (const [a, b, same] of [
    ["48GiB", "49152MiB", true],
    ["1kB", "1000", true],
    ["48GB", "48GiB", false],
    ["50%", "50%", true],
    ["50%", "50", false],
    ["", "0", false],
  ] as const) {
    it(`${a || "nothing"} and ${b} are ${same ? "the same" : "different"}`, () => {
      assert.equal(sameSize(a, b), same);
    });
  }
});
