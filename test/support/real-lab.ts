import assert from "node:assert/strict";
import { RealLab } from "../../lab/real";
import { DEFAULT_FLAVOUR, type Flavour } from "../../lab/real/flavours";
import { LabPlace } from "../../lab/real/state";
import { provider } from "../../provider/entry";
import { skip } from "../../tools/test/skip";

/** Whether this process runs in the workstation of a lab. */
export const isInLab = process.env["LAB_STATE_DIR"] !== undefined;

/** Whether suites try a part of their cases only: on other servers than Debian 12's LXD, except by night. */
export const isSample =
  isInLab && LabPlace.current().readRecord()?.flavour !== DEFAULT_FLAVOUR && process.env["EVERY_CASE"] === undefined;

/** For the `before` of a suite: the lab in whose workstation this process runs. Elsewhere, skips the suite. */
export async function attachOrSkip(context: Mocha.Context, labOptions = ""): Promise<RealLab> {
  if (!isInLab) {
    skip(context, `not in the workstation of a lab: npx tsx lab/real/cli.ts run${labOptions} -- npx mocha ...`);
  }
  return RealLab.attach();
}

/** Shell commands that install the server without the library, and wait until it answers. */
export function installByHand({ package: name, admin }: Flavour): string[] {
  return ["apt-get update -q", `apt-get install -q -y ${name} dnsmasq-base`, `${admin.join(" ")} waitready`];
}

/** A resource that was created: what `read`, `update` and `delete` take. */
export interface Made {
  readonly id: string;
  readonly outs: Record<string, unknown>;
}

/** The inputs of a resource, checked as the engine does. */
export async function checkedInputs(kind: string, args: object): Promise<Record<string, unknown>> {
  const urn = `urn:pulumi:lab::acceptance::pulumi-nodejs:dynamic/lxd:${kind}::it`;
  const { inputs, failures } = await provider(kind).check({}, { ...args, __urn: urn });
  assert.deepEqual(failures, []);
  return inputs;
}

/** Checks and creates a resource, as the engine does. */
export async function createResource(kind: string, args: object): Promise<Made> {
  return provider(kind).create(await checkedInputs(kind, args));
}
