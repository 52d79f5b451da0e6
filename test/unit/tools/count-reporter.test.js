// @ts-check
"use strict";
const assert = require("node:assert/strict");
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { run } = require("../../../tools/process");

const TOOLS = join(__dirname, "..", "..", "..", "tools");

describe("the reporter that counts", () => {
  /** @type {string} */
  let folder;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "reporter-test-"));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it("writes what passed, failed and was skipped, with the reasons", async () => {
    writeFileSync(
      join(folder, "sample.test.js"),
      `const { skip } = require(${JSON.stringify(join(TOOLS, "test", "skip"))});
      describe("suite", () => {
        it("passes", () => {});
        it("fails", () => { throw new Error("as it should"); });
        it("fails by an error of the provider", () => { throw Object.assign(new Error("bcn1 is off"), { stack: "" }); });
        it("is skipped", function () { skip(this, "no network"); });
        it("is only planned");
        describe("inner", () => {
          before(function () { skip(this, "no root"); });
          it("one", () => {});
        });
      });`,
    );
    const counts = join(folder, "counts.json");
    const reporter = ["--reporter", join(TOOLS, "test", "count-reporter.js"), "--reporter-option", `counts=${counts}`];
    const { exitCode, output } = await run(["node_modules/.bin/mocha", join(folder, "sample.test.js"), ...reporter], {
      capture: true,
    });
    assert.equal(exitCode, 2, output); // mocha counts
    const { failed, ...others } = JSON.parse(readFileSync(counts, "utf8"));
    assert.match(failed[0], /^suite fails\nError: as it should\n +at .*sample\.test\.js:\d+/);
    assert.deepEqual(failed.slice(1), ["suite fails by an error of the provider\nbcn1 is off"]);
    assert.deepEqual(others, {
      passed: 1,
      skipped: [
        { title: "suite is skipped", reason: "no network" },
        { title: "suite is only planned", reason: "no reason was given (use skip of tools/test/skip)" },
        { title: "suite inner one", reason: "no root" },
      ],
    });
  });
});
