import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { carryStableOutputs, stableOutputsIn } from "../../../provider/engine/stable-outputs";

const UNKNOWN = pulumi.runtime.unknownValue;
const LASTING = { location: ["target"], fingerprint: [], addresses: ["cpu", "devices"] };
const OLDS = {
  target: "bcn1",
  cpu: 1,
  devices: { eth0: { type: "nic" } },
  location: "bcn1",
  fingerprint: "ab",
  addresses: ["10.0.0.2"],
};

describe("carriedOver", () => {
  it("keeps outputs whose causes do not change", () => {
    const news = { target: "bcn1", cpu: 1, devices: { eth0: { type: "nic" } }, description: "changed" };
    assert.deepEqual(carryStableOutputs(LASTING, OLDS, news), { location: "bcn1", fingerprint: "ab", addresses: ["10.0.0.2"] });
  });

  it("drops each output whose cause changes, is removed, or is unknown", () => {
    const { cpu: _, ...rest } = OLDS;
    for (const news of [
      { ...OLDS, cpu: 2 },
      rest,
      { ...OLDS, cpu: UNKNOWN },
      { ...OLDS, devices: { eth0: { type: UNKNOWN } } },
    ]) {
      assert.deepEqual(carryStableOutputs(LASTING, OLDS, news), { location: "bcn1", fingerprint: "ab" });
    }
  });

  it("keeps none when there was none before, as when the engine checks a replacement", () => {
    assert.deepEqual(carryStableOutputs(LASTING, {}, { cpu: 1 }), {});
  });
});

describe("lastingOutputs", () => {
  it("picks the stable outputs that exist", () => {
    const outputs = { location: "bcn2", fingerprint: undefined, addresses: [], status: "Running" };
    assert.deepEqual(stableOutputsIn(LASTING, outputs), { location: "bcn2", addresses: [] });
  });
});
