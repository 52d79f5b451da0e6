import assert from "node:assert/strict";
import fc from "fast-check";
import * as z from "zod";
import { checkProperties } from "../../../provider/engine/check";
import {
  type Config,
  configSchema,
  devicesSchema,
  isServerMade,
  keepSpelling,
  keepSpellingOfDevices,
  OWNER_KEY,
  sameConfig,
  sameConfigValue,
  sameDevices,
} from "../../../provider/lxd/config";

const key = fc.constantFrom(
  "limits.memory",
  "limits.cpu",
  "size",
  "security.nesting",
  "cloud-init.user-data",
  "user.note",
  "environment.DEBUG",
  "volatile.eth0.hwaddr",
  "image.os",
  OWNER_KEY,
);
const value = fc.constantFrom(
  "",
  "1",
  "true",
  "yes",
  "on",
  "0",
  "false",
  "2",
  "1GiB",
  "1024MiB",
  "1073741824",
  "50%",
  "#cloud-config\n",
  "#cloud-config",
);
const config = fc.dictionary(key, value);

describe("config compared by meaning", () => {
  const table: readonly (readonly [string, string | undefined, string | undefined, boolean])[] = [
    ["limits.memory", "48GiB", "49152MiB", true],
    ["limits.memory", "48GB", "48GiB", false],
    ["limits.memory", "50%", "50%", true],
    ["size", "20GiB", "21474836480", true],
    ["volume.size", "1GiB", "1024MiB", true],
    ["size.state", "1GiB", "1024MiB", true],
    ["limits.cpu", "2", "2", true],
    ["limits.cpu", "2", "0-1", false],
    ["security.nesting", "true", "1", true],
    ["security.nesting", "TRUE", "yes", true],
    ["security.nesting", "false", "off", true],
    ["security.nesting", "true", "false", false],
    ["security.nesting", "", undefined, true],
    ["security.nesting", "false", undefined, false],
    ["cloud-init.user-data", "#cloud-config\na: 1", "#cloud-config\na: 1\n", true],
    ["user.user-data", "#cloud-config", "#cloud-config\n\n", true],
    ["cloud-init.user-data", "#cloud-config\na: 1", "#cloud-config\na: 2", false],
    ["cloud-init.user-data", "\n#cloud-config", "#cloud-config", false],
    ["environment.DEBUG", "1", "true", false],
    ["user.flag", "yes", "true", false],
    ["user.size", "1GiB", "1024MiB", false],
    ["raw.lxc", "1", "true", false],
  ];
  for (const [name, a, b, same] of table) {
    it(`treats ${name} ${JSON.stringify(a)} and ${JSON.stringify(b)} as ${same ? "the same" : "different"}`, () => {
      assert.equal(sameConfigValue(name, a, b), same);
      assert.equal(sameConfigValue(name, b, a), same);
    });
  }

  it("is reflexive, symmetric and transitive", () => {
    fc.assert(
      fc.property(config, config, config, (a, b, c) => {
        assert.ok(sameConfig(a, a));
        assert.equal(sameConfig(a, b), sameConfig(b, a));
        if (sameConfig(a, b) && sameConfig(b, c)) {
          assert.ok(sameConfig(a, c));
        }
      }),
    );
  });

  it("leaves out the server's keys, and this package's", () => {
    assert.ok(
      sameConfig({ "limits.cpu": "2" }, { "limits.cpu": "2", "volatile.uuid": "x", "image.os": "Debian", [OWNER_KEY]: "urn:x" }),
    );
    assert.equal(sameConfig({ "limits.cpu": "2" }, { "limits.cpu": "2", "user.mine": "x" }), false);
    assert.equal(isServerMade("volatilex"), false);
  });

  it("compares devices by name, and each by meaning", () => {
    const root = { type: "disk", path: "/", pool: "default", size: "1GiB" };
    assert.ok(sameDevices({ root }, { root: { ...root, size: "1024MiB" } }));
    assert.equal(sameDevices({ root }, { disk: root }), false);
    assert.equal(sameDevices({ root }, { root, eth0: { type: "none" } }), false);
    assert.equal(sameDevices({}, { root: {} }), false);
    assert.ok(sameDevices(undefined, {}));
  });
});

describe("config in the user's spelling", () => {
  it("equals the current config, and keeps the user's spelling of equal values", () => {
    fc.assert(
      fc.property(config, config, (known, live) => {
        const words = keepSpelling(known, live);
        assert.ok(sameConfig(words, live));
        for (const [name, said] of Object.entries(words)) {
          assert.ok(said === live[name] || said === known[name]);
        }
        if (sameConfig(known, live)) {
          for (const [name, said] of Object.entries(words)) {
            assert.equal(said, known[name]);
          }
        }
      }),
    );
  });

  it("holds nothing of the server and nothing unset", () => {
    const live: Config = {
      "limits.memory": "1024MiB",
      "volatile.uuid": "x",
      "image.os": "Debian",
      [OWNER_KEY]: "urn:x",
      "limits.cpu": "",
    };
    assert.deepEqual(keepSpelling({ "limits.memory": "1GiB" }, live), { "limits.memory": "1GiB" });
    assert.deepEqual(keepSpelling(undefined, live), { "limits.memory": "1024MiB" });
    assert.deepEqual(keepSpellingOfDevices({ root: { size: "1GiB" } }, { root: { size: "1024MiB" }, eth0: { type: "nic" } }), {
      root: { size: "1GiB" },
      eth0: { type: "nic" },
    });
  });
});

describe("config as a user writes it", () => {
  const schema = z.strictObject({ config: configSchema.default({}), devices: devicesSchema.default({}) });
  const failuresOf = (inputs: Record<string, unknown>): string[] =>
    checkProperties(schema, inputs).failures.map(({ property, reason }) => `${property} ${reason}`);

  it("may hold numbers and booleans, which become LXD's strings", () => {
    const { inputs } = checkProperties(schema, {
      config: { "limits.cpu": 2, "security.nesting": true, "limits.memory": "50%" },
      devices: { eth0: { type: "nic", "limits.max": 5 } },
    });
    assert.deepEqual(inputs, {
      config: { "limits.cpu": "2", "security.nesting": "true", "limits.memory": "50%" },
      devices: { eth0: { type: "nic", "limits.max": "5" } },
    });
  });

  for (const [inputs, failure] of [
    [{ config: { "limits memory": 1 } }, "config.limits memory is not a config key such as limits.cpu"],
    [{ config: { "limits.cpu": ["2"] } }, "config.limits.cpu must be a string, a number or a boolean"],
    [
      { config: { "limits.memory": "4 giga" } },
      'config.limits.memory is neither a size such as "4GiB" nor a share such as "50%"',
    ],
    [
      { devices: { "eth 0": { type: "nic" } } },
      'devices.eth 0 is not a valid device name: it must not be empty, "." or "..", or have control characters or spaces, quotes or any of $ & * + ?, begin with a dot, or be longer than 64 characters',
    ],
    [{ devices: { eth0: { network: "lxdbr0" } } }, "devices.eth0 needs a type, such as nic or disk"],
    [{ devices: { eth0: "lxdbr0" } }, "devices.eth0 must be an object"],
  ] as const) {
    it(`is refused when it is wrong: ${failure}`, () => {
      assert.deepEqual(failuresOf(inputs), [failure]);
    });
  }
});
