// @ts-check
"use strict";
const assert = require("node:assert/strict");
const { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { dirname, join } = require("node:path");
const { dependenciesInstalled } = require("../../../tools/setup/node-dependencies");
const { sourceState } = require("../../../tools/setup/package-build");
const { isCompatible } = require("../../../tools/setup/pulumi-cli");

describe("set-up", () => {
  /** @type {string} */
  let root;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "setup-test-"));
  });

  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  /** @param {string} name @param {unknown} content */
  function write(name, content) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), JSON.stringify(content));
  }

  describe("dependenciesInstalled", () => {
    const zod = { version: "4.0.0", integrity: "sha512-a" };
    const lock = {
      packages: { "": { name: "root" }, "node_modules/zod": zod, "node_modules/other-os": { version: "1.0.0", optional: true } },
    };

    it("holds when npm has installed what is locked, without the optional packages of other platforms", () => {
      write("package-lock.json", lock);
      write("node_modules/.package-lock.json", { packages: { "node_modules/zod": zod } });
      assert.equal(dependenciesInstalled(root), true);
    });

    it("does not hold when nothing is installed, or npm did not finish", () => {
      write("package-lock.json", lock);
      assert.equal(dependenciesInstalled(root), false);
    });

    it("does not hold when another version or other content is locked now", () => {
      write("node_modules/.package-lock.json", { packages: { "node_modules/zod": zod } });
      write("package-lock.json", { packages: { "node_modules/zod": { ...zod, version: "4.0.1" } } });
      assert.equal(dependenciesInstalled(root), false);
      write("package-lock.json", { packages: { "node_modules/zod": { ...zod, integrity: "sha512-b" } } });
      assert.equal(dependenciesInstalled(root), false);
    });
  });

  describe("sourceState", () => {
    beforeEach(() => {
      for (const name of [
        "tsconfig.json",
        "tsconfig.build.json",
        "package-lock.json",
        "provider/index.ts",
        "provider/lxd/client.ts",
      ]) {
        write(name, "");
      }
    });

    it("changes when a source is changed, added or removed", () => {
      const before = sourceState(root);
      assert.deepEqual(sourceState(root), before);
      utimesSync(join(root, "provider/lxd/client.ts"), 1, 1);
      const changed = sourceState(root);
      assert.notDeepEqual(changed, before);
      write("components/index.ts", "");
      const added = sourceState(root);
      assert.ok("components/index.ts" in added);
      rmSync(join(root, "provider/lxd/client.ts"));
      assert.equal("provider/lxd/client.ts" in sourceState(root), false);
    });

    it("considers only TypeScript sources and the settings of their compilation", () => {
      const before = sourceState(root);
      write("provider/notes.md", "");
      write("test/unit/some.test.ts", "");
      assert.deepEqual(sourceState(root), before);
    });
  });

  describe("isCompatible", () => {
    const wanted = "3.248.0";
    for (const version of ["3.248.0", "3.248.1", "3.249.0", "3.300.2"]) {
      it(`takes ${version} for ${wanted}`, () => {
        assert.equal(isCompatible(version, wanted), true);
      });
    }
    for (const version of ["3.247.9", "2.999.0", "4.0.0", "3.249.0-alpha.1", "", "not a version"]) {
      it(`refuses "${version}" for ${wanted}`, () => {
        assert.equal(isCompatible(version, wanted), false);
      });
    }
  });
});
