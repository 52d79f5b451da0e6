import { RealLab } from "../../lab/real";
import { skip } from "../../tools/test/skip";

/** Whether this process runs in the workstation of a lab. */
export const isInLab = process.env["LAB_STATE_DIR"] !== undefined;

/** For the `before` of a suite: the lab in whose workstation this process runs. Elsewhere, skips the suite. */
export async function attachOrSkip(context: Mocha.Context, labOptions = ""): Promise<RealLab> {
  if (!isInLab) {
    skip(context, `not in the workstation of a lab: npx tsx lab/real/cli.ts run${labOptions} -- npx mocha ...`);
  }
  return RealLab.attach();
}
