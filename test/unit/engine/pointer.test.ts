import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { requireProvider } from "../../../provider/engine/pointer";
import { provider } from "../../../provider/entry";
import * as library from "../../../provider/index";

/**
 * The text in the state of every user's stack, for each kind. A change here affects all of them: it must be a decision
 * (docs/adr/0001), never a side effect.
 */
const GOLDEN: Readonly<Record<string, readonly [type: string, pointer: string]>> = Object.fromEntries(
  [
    "LxdNode",
    "LxdClusterMember",
    "LxdClusterGroup",
    "LxdServerConfig",
    "LxdStoragePool",
    "LxdNetwork",
    "LxdNetworkAcl",
    "LxdNetworkForward",
    "LxdProfile",
    "LxdProject",
    "LxdStorageVolume",
    "LxdImage",
    "LxdTrustCertificate",
    "LxdVm",
    "HostSysctls",
    "VmUser",
    "HostUser",
    "VmCommand",
    "HostCommand",
    "VmFile",
    "HostFile",
    "VmService",
    "HostService",
    "VmPackages",
    "HostPackages",
  ].map((kind) => [
    kind,
    [
      `pulumi-nodejs:dynamic/lxd:${kind}`,
      `exports.handler = () => {
  const { createRequire } = require("node:module");
  for (const from of [process.cwd() + "/", require.main.filename]) {
    const load = createRequire(from);
    let path;
    try {
      path = load.resolve("pulumi-lxd-cluster/provider");
    } catch {
      continue;
    }
    return load(path).provider("${kind}");
  }
  const message = "Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in " + process.cwd();
  throw Object.assign(new Error(message), { stack: "not found", toString: () => "pulumi-lxd-cluster" });
};
`,
    ],
  ]),
);

type ResourceClass = new (name: string, args: object) => pulumi.CustomResource;

const classes = Object.entries(library).flatMap(([kind, exported]): [string, ResourceClass][] =>
  typeof exported === "function" && exported.prototype instanceof library.LxdResource
    ? [[kind, exported as unknown as ResourceClass]]
    : [],
);

describe("the text in state for each kind", () => {
  const registered = new Map<string, { type: string; pointer: unknown }>();

  before(async () => {
    await pulumi.runtime.setMocks({
      newResource: ({ name, type, inputs }: { name: string; type: string; inputs: Record<string, unknown> }) => {
        registered.set(name, { type, pointer: inputs["__provider"] });
        return { id: name, state: inputs };
      },
      call: () => ({}),
    });
    for (const [kind, Kind] of classes) {
      const resource = new Kind(kind, {});
      await new Promise((resolve) => resource.urn.apply(resolve));
    }
  });

  it("covers every class that the package exports, and every kind that its provider knows", () => {
    assert.deepEqual(classes.map(([kind]) => kind).sort(), Object.keys(GOLDEN).sort());
    const entry = readFileSync(join(__dirname, "../../../provider/entry.ts"), "utf8");
    const kinds = [...entry.matchAll(/^ {2}(\w+): \(\) => dynamicProvider\(/gm)].map(([, kind = ""]) => kind);
    assert.deepEqual(kinds.sort(), Object.keys(GOLDEN).sort());
  });

  for (const [kind, [type, pointer]] of Object.entries(GOLDEN)) {
    it(`is exactly the known type and pointer for ${kind}`, () => {
      assert.deepEqual(registered.get(kind), { type, pointer });
    });

    it(`resolves to a complete provider of ${kind}`, () => {
      const made = provider(kind);
      for (const call of ["check", "diff", "create", "read", "update", "delete"] as const) {
        assert.equal(typeof made[call], "function");
      }
    });
  }

  it("is refused for a kind that this version does not have, with the remedy", () => {
    assert.throws(
      () => provider("LxdCluster2"),
      /^Error: pulumi-lxd-cluster has no resource kind "LxdCluster2". Was state written by a newer version\? Update the package$/,
    );
  });
});

describe("requireProvider", () => {
  const folder = mkdtempSync(join(tmpdir(), "program-"));
  const main = join(folder, "node_modules/@pulumi/pulumi/cmd/run/index.js");

  after(() => rmSync(folder, { recursive: true, force: true }));

  it("names what to install, and where, when Pulumi runs a program that does not have the package", () => {
    const message = `Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in ${folder}`;
    assert.throws(
      () => requireProvider(main, folder),
      (error: unknown) => pulumi.RunError.isInstance(error) && error.message === message,
    );
  });

  it("does nothing in tests with mocks and in inline programs", () => {
    requireProvider(join(folder, "node_modules/mocha/bin/mocha.js"), folder);
    requireProvider(undefined, folder);
  });

  for (const [place, at] of [
    ["the program's folder", "node_modules/pulumi-lxd-cluster"],
    ["the SDK's node_modules", "node_modules/@pulumi/pulumi/node_modules/pulumi-lxd-cluster"],
  ] as const) {
    it(`accepts the package in ${place}`, () => {
      mkdirSync(join(folder, at), { recursive: true });
      writeFileSync(join(folder, at, "provider.js"), "");
      requireProvider(main, folder);
      rmSync(join(folder, at), { recursive: true });
    });
  }
});
