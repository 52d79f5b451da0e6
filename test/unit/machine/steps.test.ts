import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { FAILED_AT, RUN_STEPS } from "../../../provider/machine/steps";

/** The shells that guests use as sh, if this machine has them. */
const SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["sh"]].filter(([program = ""]) =>
  (process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, program))),
);

for (const [shell = "", ...options] of SHELLS) {
  describe(`the program that runs steps, in ${[shell, ...options].join(" ")}`, () => {
    let place: string;
    let scratch: string;
    beforeEach(() => {
      place = mkdtempSync(join(tmpdir(), "steps-"));
      scratch = join(place, "scratch");
    });
    afterEach(() => rmSync(place, { recursive: true }));

    const run = (steps: readonly (readonly string[])[], stdin = "/dev/null"): number | null => {
      const words = steps.flatMap((argv) => [String(argv.length), stdin, ...argv]);
      return spawnSync(shell, [...options, "-c", RUN_STEPS, "sh", scratch, ...words]).status;
    };
    const written = (): string => readFileSync(scratch, "utf8");

    it("passes any arguments unchanged", () => {
      const word = fc.string({ unit: "grapheme" }).filter((text) => !text.includes("\0"));
      fc.assert(
        fc.property(fc.array(word, { maxLength: 14 }), (words) => {
          assert.equal(
            run([
              ["true", "x"],
              ["printf", "%s\\0", "-", ...words],
            ]),
            0,
          );
          assert.equal(written(), ["-", ...words, ""].join("\0"));
        }),
        { numRuns: 60 },
      );
    });

    it("gives each its input, and ends at the first failure", () => {
      const input = join(place, "it's $(input)");
      writeFileSync(input, "one\ntwo\n");
      assert.equal(run([["cat"], ["true"]], input), 0);
      assert.equal(written(), "");
      assert.equal(run([["cat"]], input), 0);
      assert.equal(written(), "one\ntwo\n");
      assert.equal(
        run([["true"], ["sh", "-c", "echo out; echo err >&2; exit 7"], ["touch", join(place, "third")]]),
        FAILED_AT + 2,
      );
      assert.equal(written(), "out\nerr\n\n7\n");
      assert.equal(existsSync(join(place, "third")), false);
    });

    it("reports a missing program, and a missing input", () => {
      assert.equal(run([["no-such-program"]]), FAILED_AT + 1);
      assert.match(written(), /not found[^]*\n127\n$/);
      assert.equal(run([["true"]], join(place, "nope")), FAILED_AT + 1);
    });

    it("is not confused by a step that ends the shell, or imitates its output", () => {
      assert.equal(run([["exit", "5"], ["true"]]), FAILED_AT + 1);
      assert.match(written(), /\n5\n$/);
      assert.equal(run([["printf", "\n0\n"], ["false"]]), FAILED_AT + 2);
      assert.match(written(), /^\n1\n$/);
    });
  });
}
