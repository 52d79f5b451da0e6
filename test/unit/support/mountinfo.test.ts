import assert from "node:assert/strict";
import fc from "fast-check";
import { mountPoints } from "../../../provider/support/mountinfo";

/** As `mangle` in fs/proc_namespace.c of Linux writes a path. */
function mangled(path: string): string {
  return path.replace(/[ \t\n\\#]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function line(path: string, tags: string): string {
  return `36 35 98:0 ${mangled("/mnt 1")} ${mangled(path)} rw,noatime${tags} - ext3 /dev/root rw,errors=continue\n`;
}

describe("Mounts", () => {
  it("are read from mountinfo with any name: spaces, newlines, backslashes, numbers that look like escapes, other scripts, dots", () => {
    const letter = fc.oneof(
      fc.constantFrom(" ", "\n", "\t", "\\", ".", "#", "0", "4", "1", "-"),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }),
    );
    const path = fc.array(letter, { minLength: 1, maxLength: 20 }).map((letters) => `/${letters.join("").replaceAll("\0", "")}`);
    const tags = fc.constantFrom("", " shared:1", " shared:2 master:1", " master:7 propagate_from:2");
    fc.assert(
      fc.property(fc.array(fc.tuple(path, tags), { maxLength: 5 }), (mounts) => {
        assert.deepEqual(
          mountPoints(mounts.map(([target, tag]) => line(target, tag)).join(""), "bcn2"),
          mounts.map(([target]) => target),
        );
      }),
    );
  });

  it("are not guessed from a line of another form", () => {
    for (const odd of [
      "nonsense",
      "36 35 98:0 / var/lib rw - ext3 x rw",
      "36 35 98:0 / /var/lib rw ext3 x rw",
      line("/a", "").slice(0, 20),
    ]) {
      assert.throws(() => mountPoints(odd, "bcn2"), /on bcn2 cannot be read/);
    }
  });
});
