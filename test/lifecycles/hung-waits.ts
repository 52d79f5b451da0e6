/**
 * Lets a server stop answering at every possible moment of a step, and verifies the end of the step: at its own
 * deadline, and naming what it waited for. A run without faults records the moments.
 */
import assert from "node:assert/strict";
import type { SimulatedLab } from "../../lab/simulated";
import type { FaultTrigger } from "../../lab/simulated/faults";
import type { Flavour } from "../../lab/simulated/lxd/flavours";
import { messageOf } from "../../provider/support/errors";
import type { Managed } from "../unit/resources/simulated-cluster";
import type { Scenario } from "./scenarios";
import { inLab } from "./scenarios/in-lab";
import type { Clock } from "./support/clock";

/** The step during which the server hangs. */
export const STEPS = ["create", "read", "update", "delete"] as const;

/** See {@link STEPS}. */
export type Step = (typeof STEPS)[number];

/** Timeout of every call in seconds. */
const TIMEOUT = 10;

/** Maximum real time of a call after its own timeout, on a busy machine. Shorter than the adapter's own limit. */
const GRACE_MS = 4000;

/** A moment at which a server can stop answering. */
interface Moment {
  readonly title: string;
  readonly when: FaultTrigger;
}

/** Result of a step during which a server hung. */
export interface HungStep {
  readonly title: string;
  /** Error of the call; `undefined` if it succeeded without the answer. */
  readonly error: string | undefined;
  /** What is wrong with its end. */
  readonly problem: string | undefined;
}

/** Runs one step once for each of its moments, with a server that hangs at that request from then on. */
export async function hangEverywhere(
  scenario: Scenario,
  flavour: Flavour,
  step: Step,
  clock: Clock,
  chosen = (_moment: number) => true,
): Promise<HungStep[]> {
  const moments = await inLab(scenario, flavour, async (lab) => {
    const managed = scenario.manage();
    await prepare(scenario, lab, managed, step);
    const since = lab.faults.moments.length;
    await run(scenario, lab, managed, step);
    return momentsSince(lab, since);
  });
  assert.ok(moments.length > 0, "the step asked no server for anything");
  const steps: HungStep[] = [];
  for (const [index, moment] of moments.entries()) {
    if (chosen(index)) {
      steps.push(await hang(scenario, flavour, step, moment, clock));
    }
  }
  return steps;
}

async function hang(scenario: Scenario, flavour: Flavour, step: Step, { title, when }: Moment, clock: Clock): Promise<HungStep> {
  let error: string | undefined;
  try {
    await inLab(scenario, flavour, async (lab) => {
      const managed = scenario.manage();
      await prepare(scenario, lab, managed, step);
      const rule = lab.faults.add({ when, effect: "hang" });
      const happened = (): number => lab.faults.moments.length + lab.requests.length;
      error = await outcomeInTime(run(scenario, lab, managed, step), () => rule.hits > 0, clock, happened);
      if (error !== undefined) {
        assert.match(
          error,
          /did not finish within (10|5|4\.\d+) s; at the end: .{10}|did not end within \d+ s and was stopped|no answer within [\d.]+ s|does not answer(, and the cluster at \S+ lists it as the member .*)?\. Look at/,
          "it does not report the timeout", // the whole timeout, or the half after which another host is asked
        );
        assert.doesNotMatch(error, /No host of the cluster answers/, "one is silent, and no more");
        const names = lab.hosts.map(({ port }) => `root@127.0.0.1:${port}`);
        assert.ok(
          names.some((name) => error?.includes(name)),
          "it does not name a host",
        );
      }
      lab.faults.clear();
      if (managed.state !== undefined || step !== "delete") {
        await run(scenario, lab, managed, step);
      }
      if (step !== "delete") {
        assert.equal(await managed.up(argsOf(scenario, lab, step)), "same", "a further up differs");
      }
      assert.deepEqual(openTokens(lab), [], "join tokens that are still valid");
    });
    return { title, error, problem: undefined };
  } catch (problem) {
    return { title, error, problem: messageOf(problem) };
  }
}

/** Moves the clock forward by the call's timeout once it waits for the hung server. Returns its error. */
async function outcomeInTime(
  call: Promise<unknown>,
  hung: () => boolean,
  clock: Clock,
  happened: () => number,
): Promise<string | undefined> {
  let outcome: { error: string | undefined } | undefined;
  const settled = call.then(
    () => {
      outcome = { error: undefined };
    },
    (error: unknown) => {
      outcome = { error: messageOf(error) };
    },
  );
  const ended = (): typeof outcome => outcome;
  const started = clock.realMs;
  while (!hung() && ended() === undefined) {
    assert.ok(clock.realMs - started < 60_000, "the moment did not occur");
    await clock.breathe();
  }
  for (let seconds = 0; seconds < TIMEOUT && ended() === undefined; seconds += 2) {
    clock.forward(2000);
    await clock.settle(happened); // other hosts that are asked instead answer before more time passes
  }
  const over = clock.realMs;
  while (ended() === undefined && clock.realMs - over < GRACE_MS) {
    await clock.breathe(5);
  }
  if (ended() === undefined) {
    clock.forward(60_000);
    await settled;
    throw new Error(`it did not end at its timeout, but only at the adapter's limit: ${ended()?.error}`);
  }
  return ended()?.error;
}

async function prepare(scenario: Scenario, lab: SimulatedLab, managed: Managed, step: Step): Promise<void> {
  if (step !== "create") {
    await managed.up({ ...scenario.first(lab), timeouts: TIMEOUTS });
  }
  if (step === "update") {
    await scenario.meanwhile?.(lab);
  }
}

const TIMEOUTS = { create: TIMEOUT, read: TIMEOUT, update: TIMEOUT, delete: TIMEOUT };

async function run(scenario: Scenario, lab: SimulatedLab, managed: Managed, step: Step): Promise<void> {
  switch (step) {
    case "delete":
      return managed.destroy();
    case "read":
      assert.equal(await managed.preview(argsOf(scenario, lab, step)), "same");
      return;
    default:
      // Only a refresh sees the manual changes made meanwhile.
      await managed.up(argsOf(scenario, lab, step), { refresh: step === "update" && scenario.meanwhile !== undefined });
  }
}

function argsOf(scenario: Scenario, lab: SimulatedLab, step: Step): object {
  const args = (step === "update" ? scenario.then?.(lab) : undefined) ?? scenario.first(lab);
  return { ...args, timeouts: TIMEOUTS };
}

function openTokens(lab: SimulatedLab): string[] {
  const operations = lab.hosts.flatMap(({ daemon }) => daemon?.operations.list() ?? []);
  return operations.filter((operation) => operation.class === "token" && operation.running).map(({ id }) => id);
}

/** Every moment since an index; a request is identified by its number among those of the same host. */
function momentsSince(lab: SimulatedLab, since: number): Moment[] {
  const seen = new Map<string, number>();
  const count = (key: string): number => {
    const nth = (seen.get(key) ?? 0) + 1;
    seen.set(key, nth);
    return nth;
  };
  return lab.faults.moments.slice(since).map((moment): Moment => {
    if ("ssh" in moment) {
      const nth = count(`${moment.ssh} ${moment.host}`);
      return { title: `SSH ${moment.ssh} ${nth} of ${moment.host}`, when: { host: moment.host, ssh: moment.ssh, nth } };
    }
    if ("exec" in moment) {
      const nth = count(`exec ${moment.host}`);
      return { title: `command ${nth} of ${moment.host} (${moment.exec})`, when: { host: moment.host, exec: /./, nth } };
    }
    if ("guest" in moment) {
      const nth = count("guest");
      return { title: `guest's command ${nth} (${moment.guest})`, when: { guest: /./, nth } };
    }
    if ("file" in moment) {
      const nth = count("file");
      return { title: `guest's file ${nth} (${moment.file})`, when: { file: /./, nth } };
    }
    const { host, method, path } = moment;
    const nth = count(`request ${host}`);
    return { title: `request ${nth} of ${host} (${method} ${path})`, when: { host, nth } };
  });
}
