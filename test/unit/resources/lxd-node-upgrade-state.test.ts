import assert from "node:assert/strict";
import { isUnfinished, type UpgradeFacts, upgradeOutputs } from "../../../provider/resources/lxd-node-upgrade-state";

const CURRENT: UpgradeFacts = {
  isBehind: false,
  installed: "5.0.2-5+deb12u6",
  running: "5.0.2",
  status: "Online",
  isInEvacuation: false,
  evacuates: false,
};

const CASES: readonly [what: string, facts: Partial<UpgradeFacts>, state: string, action: string][] = [
  ["a member with the wanted version", {}, "up to date", "none"],
  ["a server in no cluster", { status: undefined }, "up to date", "none"],
  ["a member that the others miss although it answers", { status: "Offline" }, "up to date", "none"],
  ["one with an older version", { isBehind: true }, "update pending", "update"],
  ["one with an older version, and evacuate", { isBehind: true, evacuates: true }, "update pending", "evacuate"],
  ["a server in no cluster, and evacuate", { isBehind: true, evacuates: true, status: undefined }, "update pending", "update"],
  [
    "one that somebody evacuated, and evacuate",
    { isBehind: true, evacuates: true, status: "Evacuated" },
    "update pending",
    "update",
  ],
  ["one that other members have overtaken", { status: "Blocked" }, "update pending", "update"],
  ["one that somebody evacuated", { status: "Evacuated" }, "evacuated", "none"],
  ["one whose evacuation has begun", { isBehind: true, isInEvacuation: true }, "evacuating", "evacuate"],
  ["one that the upgrade evacuated", { isBehind: true, isInEvacuation: true, status: "Evacuated" }, "evacuated", "update"],
  ["one that was upgraded meanwhile", { isInEvacuation: true, status: "Evacuated" }, "restore pending", "restore"],
  ["one that was restored by hand", { isInEvacuation: true }, "restore pending", "restore"],
  ["an upgraded one that does not answer", { running: undefined, status: undefined }, "restarting", "none"],
  ["an evacuated one that does not answer", { running: undefined, isInEvacuation: true }, "restarting", "restore"],
  ["an older one that does not answer", { isBehind: true, running: undefined, status: undefined }, "restarting", "update"],
  ["one whose daemon was not restarted", { installed: "5.0.3-1" }, "update pending", "restart"],
  ["one whose daemon was not restarted, of 5.0.20", { installed: "5.0.20-1" }, "update pending", "restart"],
  ["a package built again", { installed: "5.0.2-5+deb12u6.1" }, "up to date", "none"],
  ["a package of a snapshot", { installed: "5.0.2+git20231211.1364ae4-9+deb13u7" }, "up to date", "none"],
  ["a package with an epoch", { installed: "1:6.0.4-debian13", running: "6.0.4" }, "up to date", "none"],
  ["a snap", { installed: "5.21.4-8a3cf61", running: "5.21.4" }, "up to date", "none"],
  ["a snap of the edge", { installed: "git-8a3cf61", running: "6.9" }, "up to date", "none"],
  ["a server that was installed by hand", { installed: undefined }, "up to date", "none"],
];

describe("The state of a member's upgrade", () => {
  for (const [what, facts, state, action] of CASES) {
    it(`of ${what} is ${state}, and the recommended action ${action}`, () => {
      assert.deepEqual(upgradeOutputs({ ...CURRENT, ...facts }), { upgradeState: state, recommendedAction: action });
    });
  }

  it("is unfinished exactly while the upgrade has evacuated a member", () => {
    for (const [what, facts] of CASES) {
      const all = { ...CURRENT, ...facts };
      assert.equal(isUnfinished(upgradeOutputs(all)), all.isInEvacuation, what);
    }
  });
});
