import assert from "node:assert/strict";
import { sameChannel } from "../../../provider/host/snapd-channels";

describe("channels of snaps", () => {
  for (const [a, b, same] of [
    ["5.21/stable", "5.21/stable", true],
    ["5.21", "5.21/stable", true],
    ["stable", "latest/stable", true],
    ["latest", "latest/stable", true],
    ["edge", "latest/edge", true],
    ["5.21/edge", "5.21/stable", false],
    ["6/stable", "5.21/stable", false],
    ["5.21/stable/hotfix", "5.21/stable", false],
  ] as const) {
    it(`${a} and ${b} are ${same ? "the same" : "different"}`, () => {
      assert.equal(sameChannel(a, b), same);
      assert.equal(sameChannel(b, a), same);
    });
  }
});
