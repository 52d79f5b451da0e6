import assert from "node:assert/strict";
import type { SimulatedLab } from "../../../lab/simulated";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import type { Scenario } from "./scenario";

/** Whether a scenario has such a step. */
export function hasStep(scenario: Scenario, step: string): boolean {
  return (step !== "update" || scenario.then !== undefined) && (step !== "delete" || scenario.deletesNothing !== true);
}

/** Does something on the hosts of a scenario. Fails if the simulator does not know a command. */
export async function inLab<Result>(
  scenario: Scenario,
  flavour: Flavour,
  work: (lab: SimulatedLab) => Promise<Result>,
): Promise<Result> {
  const lab = await scenario.start(flavour);
  try {
    const result = await work(lab);
    assert.deepEqual(lab.defects, [], "defects of the simulator");
    assert.deepEqual(
      lab.hosts.flatMap(({ unknownCommands }) => unknownCommands),
      [],
      "commands that no host knows",
    );
    assert.deepEqual(lab.unknownGuestCommands, [], "commands that no guest knows");
    return result;
  } finally {
    await lab.stop();
  }
}
