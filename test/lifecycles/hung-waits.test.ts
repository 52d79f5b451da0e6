import assert from "node:assert/strict";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import { hangEverywhere, STEPS } from "./hung-waits";
import { SCENARIOS } from "./scenarios";
import { hasStep } from "./scenarios/in-lab";
import { Clock } from "./support/clock";

/** Tries one moment of so many; `HANGS=1` tries all. */
const ONE_OF = Number(process.env["HANGS"] ?? (isThorough ? 6 : 8));

describe("a server that stops answering", () => {
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
    figure("hung waits that a call did not need", withoutAnswer);
    assert.deepEqual(warnings, []);
  });

  for (const [index, scenario] of SCENARIOS.entries()) {
    const flavours = scenario.flavours ?? (["bookworm-lxd", "lxd-6"] as const);
    const flavour = flavours[index % flavours.length] ?? "lxd-6";
    describe(`beneath ${scenario.kind} ${scenario.title}, ${flavour}`, () => {
      for (const step of STEPS.filter((each) => hasStep(scenario, each))) {
        it(`lets ${step} end at its deadline, naming what it waited for, and the next run completes`, async () => {
          const steps = await hangEverywhere(scenario, flavour, step, clock, () => turn++ % ONE_OF === 0);
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
