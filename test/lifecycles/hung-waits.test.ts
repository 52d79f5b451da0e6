import assert from "node:assert/strict";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import { hangEverywhere, STEPS } from "./hung-waits";
import { SCENARIOS } from "./scenarios";
import { hasStep } from "./scenarios/in-lab";
import { Clock } from "./support/clock";

/** Of how many moments one is tried; `HANGS=1` for all of them. */
const ONE_OF = Number(process.env["HANGS"] ?? (isThorough ? 4 : 8));

describe("a server that falls silent", () => {
  let clock: Clock;
  let tried = 0;
  let withoutAnswer = 0;
  let turn = 0;
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);

  before(() => {
    clock = new Clock();
    process.on("warning", onWarning);
  });

  after(() => {
    clock.restore();
    process.off("warning", onWarning);
    figure("hung waits tried", tried);
    figure("hung waits that a call could do without", withoutAnswer);
    assert.deepEqual(warnings, []);
  });

  for (const [index, scenario] of SCENARIOS.entries()) {
    const versions = scenario.versions ?? (["5.0.2", "6.9"] as const);
    const version = versions[index % versions.length] ?? "6.9";
    describe(`beneath ${scenario.kind} ${scenario.title}, LXD ${version}`, () => {
      for (const step of STEPS.filter((each) => hasStep(scenario, each))) {
        it(`lets ${step} end in its time, telling what it waited for, and the next run is right`, async () => {
          const steps = await hangEverywhere(scenario, version, step, clock, () => turn++ % ONE_OF === 0);
          tried += steps.length;
          withoutAnswer += steps.filter(({ error }) => error === undefined).length;
          const problems = steps.filter(({ problem }) => problem !== undefined);
          const told = problems.map(({ title, error, problem }) => `${title}: ${problem}\n    after: ${error}`);
          assert.equal(problems.length, 0, `${problems.length} of ${steps.length}:\n  ${told.join("\n  ")}`);
        });
      }
    });
  }
});
