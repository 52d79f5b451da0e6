import assert from "node:assert/strict";
import { compileFunction } from "node:vm";
import ts from "typescript";
import { parseArguments, UsageError } from "../../../cli/arguments";
import { Code, literal } from "../../../cli/code";

describe("literal", () => {
  it("writes every value so that the program gives it back", () => {
    const value = {
      text: 'a "quote"\n',
      "dotted.key": [1, true, null],
      empty: {},
      list: [],
      nested: { deep: [{ a: "é" }, { b: -0.5 }] },
    };
    const { outputText } = ts.transpileModule(`exports.value = ${literal(value)};`, {});
    const exported: { value?: unknown } = {};
    (compileFunction(outputText, ["exports"]) as (exports: object) => void)(exported);
    assert.deepEqual(exported.value, value);
  });

  it("writes code as it is, and a variable of the same name once", () => {
    assert.equal(
      literal({ cluster: new Code("cluster"), image: new Code("debian.id") }),
      "{\n  cluster,\n  image: debian.id,\n}",
    );
  });
});

describe("The command line", () => {
  const messageOf = (argv: string[]): string => {
    try {
      parseArguments(argv);
    } catch (error) {
      assert.ok(error instanceof UsageError);
      return error.message;
    }
    return "";
  };

  it("is refused in one line without hints of Node", () => {
    assert.equal(messageOf(["adopt", "--hots", "a"]), "Unknown option '--hots'");
    assert.equal(messageOf(["adopt", "--host"]), "Option '--host <value>' argument missing");
    assert.equal(messageOf(["adopt", "--host", "--out", "x"]), "Option '--host' argument is ambiguous");
    assert.equal(messageOf([]), "The command is missing: adopt, status, verify");
    assert.equal(messageOf(["adopt"]), "--host is required, such as --host root@192.168.1.102");
    assert.equal(messageOf(["adopt", "me"]), 'There is no command "adopt me"');
  });

  it("takes the options of its command only", () => {
    assert.equal(messageOf(["adopt", "--host", "a", "--svg", "a.svg"]), "--svg is an option of status");
    assert.equal(messageOf(["status", "--host", "a", "--owned"]), "--owned is an option of adopt");
    assert.equal(messageOf(["verify", "--host", "a", "--force"]), "--force is an option of adopt and status");
    assert.equal(messageOf(["status", "--host", "a", "--ping"]), "--ping is an option of verify");
    assert.deepEqual(parseArguments(["verify", "--host", "a", "--ping"]), {
      command: "verify",
      hosts: [{ host: "a" }],
      ping: true,
      json: false,
    });
    assert.deepEqual(parseArguments(["status", "--host", "admin@a:2222", "--svg", "a.svg"]), {
      command: "status",
      hosts: [{ host: "a", port: 2222, user: "admin" }],
      svg: "a.svg",
      force: false,
    });
  });
});
