import assert from "node:assert/strict";
import { LxdResource } from "../../provider/engine/resource";
import * as library from "../../provider/index";
import { callsInContract } from "../contract/lxd/calls";
import { figure } from "../support/figure";
import { STEPS, sweep } from "./fault-sweep";
import { SCENARIOS } from "./scenarios";
import { hasStep } from "./scenarios/in-lab";

/** Tries one fault in so many, a different one in each step; `SWEEP=1` tries all. */
const STRIDE = Number(process.env["SWEEP"] ?? 24);

/**
 * Maximum time of a step with a fault and its repetition, also on a busy machine. None of them waits out a restart,
 * which takes up to 30 s.
 */
const LONGEST_MS = 28_000;

/**
 * Called only after a half-made join, which the contract does not create: test/recovery/half-joins.test.ts does so on
 * real LXD.
 */
const OF_HALF_JOINS = ["DELETE /internal/cluster/raft-node/{address}"];

describe("interrupted anywhere, the next run completes", () => {
  const swept = new Map<string, number>();
  const calls = new Set<string>();
  let steps = 0;

  it("has a scenario for every kind", () => {
    const kinds = Object.values(library).flatMap((each) =>
      typeof each === "function" && each.prototype instanceof LxdResource ? [each.name] : [],
    );
    assert.deepEqual([...new Set(SCENARIOS.map(({ kind }) => kind))].sort(), kinds.sort());
  });

  for (const scenario of SCENARIOS) {
    for (const flavour of scenario.flavours ?? (["bookworm-lxd", "lxd-6"] as const)) {
      describe(`${scenario.kind} ${scenario.title}, ${flavour}`, () => {
        for (const step of STEPS.filter((each) => hasStep(scenario, each))) {
          it(step, async function () {
            this.timeout(STRIDE === 1 ? 3_600_000 : 600_000);
            const turn = steps % STRIDE;
            steps += 1;
            const result = await sweep(scenario, flavour, step, (fault) => fault % STRIDE === turn);
            const { positions, problems, slowest, slowestMs } = result;
            swept.set(scenario.kind, (swept.get(scenario.kind) ?? 0) + positions);
            for (const call of flavour === "bookworm-lxd" ? result.calls : []) {
              calls.add(call);
            }
            assert.equal(problems.length, 0, `${problems.length} of ${positions}:\n  ${problems.join("\n  ")}`);
            assert.ok(slowestMs < LONGEST_MS, `${slowest} took ${Math.round(slowestMs)} ms`);
          });
        }
      });
    }
  }

  // In a separate suite, because the tests of a suite run before its nested suites.
  describe("the contract", () => {
    it("makes every call of LXD's API that the resources make", () => {
      const known = [...callsInContract(), ...OF_HALF_JOINS];
      assert.deepEqual(
        [...calls].filter((call) => !known.includes(call)),
        [],
        "add a case to test/contract/lxd, which real LXD must pass too",
      );
      figure("calls of LXD's API, all in the contract", calls.size);
    });
  });

  after(() => {
    for (const [kind, positions] of swept) {
      figure(`fault positions swept, ${kind}`, positions);
    }
    const total = [...swept.values()].reduce((sum, positions) => sum + positions, 0);
    figure("fault positions swept", total);
  });
});
