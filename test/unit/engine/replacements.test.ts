import assert from "node:assert/strict";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { dynamicProvider } from "../../../provider/engine/adapter";
import { DRIFT_TABLES } from "../../lifecycles/drift";
import { validArgs } from "../../lifecycles/support/valid-args";

const URN = "urn:pulumi:dev::shop::t::x";

/** Outputs that `diff` and `loss` of the kinds use. */
const OUTPUTS = {
  status: "Created",
  location: "bcn1",
  addresses: {},
  macAddresses: {},
  expandedConfig: {},
  expandedDevices: {},
  imageFingerprint: "f".repeat(64),
  fingerprint: "f".repeat(64),
  created: true,
  ownAliases: [],
  memberStatus: {},
  sources: {},
  requested: {},
  installed: ["jq"],
};

/** Another valid value of the same type. */
function otherThan(property: string, value: unknown): unknown {
  switch (property) {
    case "image":
      return { alias: "another" };
    case "source":
      return { server: "https://other.example", alias: "another" };
    case "address":
      return "192.168.1.199";
    case "certificate":
      return makeCertificate("another").pem;
    case "driver":
      return "btrfs";
    case "instanceType":
      return value === "container" ? "virtual-machine" : "container";
    case "sourceFingerprint":
      return "b".repeat(64);
    default:
      return `${String(value)}2`;
  }
}

describe("a replacement is announced in the preview with its losses:", () => {
  for (const { lifecycle } of DRIFT_TABLES) {
    const { kind } = lifecycle;
    for (const property of lifecycle.immutable) {
      it(`${kind}, another ${property}`, async () => {
        const warnings: string[] = [];
        const log = { progress: () => undefined, info: () => undefined, warn: (_: string, text: string) => warnings.push(text) };
        const provider = dynamicProvider(lifecycle, log);
        const known = validArgs({ host: "bcn2" })[kind] ?? [];
        const given = known.find((args) => property in args) ?? known[0] ?? {};
        const { inputs, failures } = await provider.check(
          {},
          { ...given, ...("adopt" in given && { adopt: undefined }), __urn: URN },
        );
        assert.deepEqual(failures, []);
        const changed = { ...inputs, [property]: otherThan(property, inputs[property]) };
        const state = { ...inputs, ...OUTPUTS, schemaVersion: lifecycle.schemaVersion };
        const { replaces } = await provider.diff("id", state, changed);
        assert.deepEqual(replaces, [property]);
        assert.match(
          warnings.join("\n"),
          new RegExp(`This is a replacement, because ${property} changes\\. .*(removed|leave|stays)`),
        );
      });
    }
  }
});
