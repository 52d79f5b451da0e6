/** What the contract of the kinds on a machine runs on: a guest through LXD, or a host over SSH, real or simulated. */
import assert from "node:assert/strict";
import type { Lifecycle } from "../../../provider/engine/lifecycle";
import { Managed } from "../../unit/resources/simulated-cluster";

export interface MachineHarness {
  /** How a resource reaches the machine. */
  readonly where: object;
  /** Runs a program on it as root, apart from the library. No shell: simulated machines have none. */
  run(...argv: string[]): Promise<{ exitCode: number; stdout: string }>;
}

/** The lifecycles of a pair of kinds. */
export interface Pair {
  readonly vm: object;
  readonly host: object;
}

/** A machine, for a suite. */
export class Subject {
  constructor(
    private readonly way: keyof Pair,
    private readonly harness: () => MachineHarness,
  ) {}

  readonly manage = (pair: Pair, name = "it"): Managed => new Managed(pair[this.way] as Lifecycle<object, object>, name);

  readonly args = (own: object): object => ({ ...this.harness().where, ...own });

  /** Output of a program that must succeed, without the end of its last line. */
  readonly output = async (...argv: string[]): Promise<string> => {
    const { exitCode, stdout } = await this.harness().run(...argv);
    assert.equal(exitCode, 0, argv.join(" "));
    return stdout.trimEnd();
  };

  readonly exitCode = async (...argv: string[]): Promise<number> => (await this.harness().run(...argv)).exitCode;
}
