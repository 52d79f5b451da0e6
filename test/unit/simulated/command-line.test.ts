import assert from "node:assert/strict";
import fc from "fast-check";
import { CommandLineError, parseCommandLine } from "../../../lab/simulated/command-line";
import { commandLine } from "../../../provider/transport/quote";

describe("The simulated hosts' command line", () => {
  it("undoes the library's quoting for any arguments", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme" }), { minLength: 1 }), (argv) => {
        assert.deepEqual(parseCommandLine(commandLine(argv)), argv);
      }),
    );
  });

  const lines: [line: string, words: string[]][] = [
    [`a  b\tc`, ["a", "b", "c"]],
    [`a'b c'd`, ["ab cd"]],
    [`'it'\\''s'`, ["it's"]],
    [`"a \\"b\\" \\$c"`, ['a "b" $c']],
    [`''`, [""]],
    [`a\\ b`, ["a b"]],
  ];
  for (const [line, words] of lines) {
    it(`splits ${line} as a shell does`, () => assert.deepEqual(parseCommandLine(line), words));
  }

  for (const line of ["a | b", "a; b", "a && b", "a > b", "$a", "`a`", '"$a"', "a*", "~", "a\nb", "'a", '"a', "a\\"]) {
    it(`refuses ${JSON.stringify(line)}, which needs a shell`, () => {
      assert.throws(() => parseCommandLine(line), CommandLineError);
    });
  }
});
