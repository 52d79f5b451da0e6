import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { commandLine } from "../../../provider/transport/quote";

/** A shell's result for a command line: the arguments that a program would get. */
function argumentsOf(line: string): string[] {
  const output = execFileSync("/bin/sh", ["-c", line], { encoding: "utf8" });
  return output.split("\0").slice(0, -1);
}

describe("a command line", () => {
  it("gives a program exactly the intended arguments, through a real shell", function () {
    this.timeout(120_000);
    const argument = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({
        unit: fc.constantFrom("'", '"', "\\", "$", "`", " ", "\n", "*", "~", "!", "#", ";", "&", "|", "(", "{", "a", "=", "-"),
      }),
      fc.constantFrom(
        "",
        "-",
        "--",
        "$(reboot)",
        "`reboot`",
        "${HOME}",
        "~root",
        "a'b'c",
        "''",
        "\\'",
        "*",
        "{a,b}",
        "FOO=bar",
        "é\u0301",
        "\t",
        "\r\n",
      ),
    );
    fc.assert(
      fc.property(fc.array(argument, { minLength: 1, maxLength: 6 }), (argv) => {
        const expected = argv.filter((text) => !text.includes("\0"));
        fc.pre(expected.length > 0);
        assert.deepEqual(argumentsOf(commandLine(["printf", "%s\\0", ...expected])), expected);
      }),
      { numRuns: 200 },
    );
  });

  it("is readable where nothing needs quoting", () => {
    assert.equal(
      commandLine(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "install", "lxd"]),
      "env DEBIAN_FRONTEND=noninteractive apt-get --yes install lxd",
    );
    assert.equal(commandLine(["echo", "it's", ""]), "echo 'it'\\''s' ''");
  });
});
