import assert from "node:assert/strict";
import * as library from "../../provider/index";
import { figure } from "../support/figure";
import { hasStep, STEPS, sweep } from "./fault-sweep";
import { SCENARIOS } from "./scenarios";

describe("interrupted anywhere, the next run is right", () => {
  const swept = new Map<string, number>();

  after(() => {
    for (const [kind, positions] of swept) {
      figure(`fault positions swept, ${kind}`, positions);
    }
    figure(
      "fault positions swept",
      [...swept.values()].reduce((sum, positions) => sum + positions, 0),
    );
  });

  for (const scenario of SCENARIOS) {
    for (const version of scenario.versions ?? (["5.0.2", "6.9"] as const)) {
      describe(`${scenario.kind} ${scenario.title}, LXD ${version}`, () => {
        for (const step of STEPS.filter((each) => hasStep(scenario, each))) {
          it(`${step}`, async () => {
            const since = performance.now();
            const { positions, problems, slowest, slowestMs } = await sweep(scenario, version, step);
            swept.set(scenario.kind, (swept.get(scenario.kind) ?? 0) + positions);
            if (process.env["SWEEP_TIMES"]) {
              console.log(
                `      ${positions} in ${(performance.now() - since).toFixed()} ms; slowest ${slowestMs.toFixed()} ms: ${slowest}`,
              );
            }
            assert.equal(problems.length, 0, `${problems.length} of ${positions}:\n  ${problems.join("\n  ")}`);
          });
        }
      });
    }
  }
});
void library;
