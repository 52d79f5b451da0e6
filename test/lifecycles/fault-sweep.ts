/**
 * Interrupts one step of a resource's life at every possible moment, and verifies the result of the next run. A run
 * without faults records the moments, so a new request is interrupted from the day it is added.
 */
import assert from "node:assert/strict";
import type { SimulatedLab } from "../../lab/simulated";
import type { FaultEffect, FaultTrigger } from "../../lab/simulated/faults";
import type { Flavour } from "../../lab/simulated/lxd/flavours";
import { sameJson } from "../../provider/support/equality";
import { messageOf } from "../../provider/support/errors";
import { callsOf } from "../contract/lxd/calls";
import type { Managed } from "../unit/resources/simulated-cluster";
import { liveState, withoutRandomParts } from "./live-state";
import type { Scenario } from "./scenarios";
import { inLab } from "./scenarios/in-lab";

/**
 * The interrupted steps. A deletion is repeated with and without a refresh before it, which changes the known state.
 */
export const STEPS = ["create", "update", "delete", "delete, then refresh"] as const;

/** See {@link STEPS}. */
export type Step = (typeof STEPS)[number];

/** One fault at one moment. */
interface Fault {
  readonly title: string;
  readonly when: FaultTrigger;
  readonly effect: FaultEffect;
}

/** The state at the end of a step. */
interface Ending {
  readonly live: object;
  readonly state: unknown;
  /** Commands that a further `up` without a change runs. */
  readonly idleCommands: readonly string[];
}

/** Result of a sweep. */
export interface SweepResult {
  /** Calls of LXD's API in the step without faults. */
  readonly calls: readonly string[];
  /** Number of runs with one fault each. */
  readonly positions: number;
  /** One text for each failed run. */
  readonly problems: readonly string[];
  /** Duration of the longest run with a fault. */
  readonly slowestMs: number;
  readonly slowest: string;
}

/** Runs one step with every possible fault, one at a time. */
export async function sweep(
  scenario: Scenario,
  flavour: Flavour,
  step: Step,
  isDue: (fault: number) => boolean,
): Promise<SweepResult> {
  const { ending, faults: all, calls } = await learn(scenario, flavour, step);
  const { gaps } = scenario;
  const faults = all.filter(({ title }) => gaps === undefined || gaps.step !== step || !gaps.moments.test(title));
  const problems: string[] = [];
  let positions = 0;
  let slowest = { ms: 0, title: "" };
  for (const [index, fault] of faults.entries()) {
    if (!isDue(index)) {
      continue;
    }
    positions += 1;
    const since = performance.now();
    try {
      await interrupt(scenario, flavour, step, fault, ending);
    } catch (error) {
      problems.push(`${fault.title}:\n    ${messageOf(error).replaceAll("\n", "\n    ")}`);
    }
    const ms = performance.now() - since;
    if (ms > slowest.ms) {
      slowest = { ms, title: fault.title };
    }
  }
  return { calls, positions, problems, slowestMs: slowest.ms, slowest: slowest.title };
}

/** A step without a fault: its end state, its possible moments, and all calls from a fresh world. */
interface Learned {
  readonly ending: Ending;
  readonly faults: readonly Fault[];
  readonly calls: readonly string[];
}

async function learn(scenario: Scenario, flavour: Flavour, step: Step): Promise<Learned> {
  return inLab(scenario, flavour, async (lab) => {
    const managed = scenario.manage();
    const untouched = liveState(lab);
    await prepare(scenario, lab, managed, step);
    const since = { moments: lab.faults.moments.length, requests: lab.requests.length };
    await run(scenario, lab, managed, step);
    const faults = faultsOf(lab, since);
    assert.ok(faults.length > 0, "the step has no moment at which it can fail");
    if (isRemoval(step) && scenario.leaves === undefined) {
      assert.deepEqual(liveState(lab), untouched, "it leaves something after its deletion");
    }
    const ending = await endingOf(scenario, lab, managed, step);
    return { ending, faults, calls: callsOf(lab.requests) };
  });
}

/** The step with one fault, and then again without. */
async function interrupt(scenario: Scenario, flavour: Flavour, step: Step, fault: Fault, clean: Ending): Promise<void> {
  await inLab(scenario, flavour, async (lab) => {
    const managed = scenario.manage();
    await prepare(scenario, lab, managed, step);
    const rule = lab.faults.add(fault);
    let thrown = "";
    try {
      await run(scenario, lab, managed, step);
    } catch (error) {
      thrown = messageOf(error);
    }
    assert.equal(rule.hits, 1, "the moment did not occur");
    lab.faults.clear();
    try {
      await run(scenario, lab, managed, step);
      const ending = await endingOf(scenario, lab, managed, step);
      assert.deepEqual(ending.live, clean.live, "the live state differs from the run without the fault");
      assert.deepEqual(ending.state, clean.state, "Pulumi's state differs from the run without the fault");
      assert.deepEqual(ending.idleCommands, clean.idleCommands, "a further up changes something");
      assert.deepEqual(madeAnew(lab, fault), [], "a finished object was replaced");
    } catch (error) {
      throw new Error(`${messageOf(error)}\n  after: ${thrown === "" ? "(the run with the fault succeeded)" : thrown}`, {
        cause: error,
      });
    }
  });
}

function isRemoval(step: Step): boolean {
  return step === "delete" || step === "delete, then refresh";
}

async function prepare(scenario: Scenario, lab: SimulatedLab, managed: Managed, step: Step): Promise<void> {
  if (step !== "create") {
    await managed.up(scenario.first(lab));
  }
  if (step === "update") {
    await scenario.meanwhile?.(lab);
  }
}

async function run(scenario: Scenario, lab: SimulatedLab, managed: Managed, step: Step): Promise<void> {
  if (!isRemoval(step)) {
    await managed.up(argsOf(scenario, lab, step));
  } else if (managed.state !== undefined) {
    await managed.destroy({ refresh: step === "delete, then refresh" });
  }
}

function argsOf(scenario: Scenario, lab: SimulatedLab, step: Step): object {
  return (step === "create" ? undefined : scenario.then?.(lab)) ?? scenario.first(lab);
}

async function endingOf(scenario: Scenario, lab: SimulatedLab, managed: Managed, step: Step): Promise<Ending> {
  const live = liveState(lab);
  // The method of a change is not part of the object: the engine keeps the value of the last change.
  const { allowRestart: _a, waitFor: _w, ...known } = managed.state ?? {};
  const state: unknown = JSON.parse(withoutRandomParts(JSON.stringify(known), lab));
  const idleCommands: string[] = [];
  if (!isRemoval(step)) {
    const since = { requests: lab.requests.length, moments: lab.faults.moments.length };
    assert.equal(await managed.up(argsOf(scenario, lab, step)), "same", "a further up differs");
    assert.deepEqual(lab.mutations(since.requests), [], "a further up asks for changes");
    for (const moment of lab.faults.moments.slice(since.moments)) {
      if ("exec" in moment) {
        idleCommands.push(moment.exec);
      }
    }
    assert.ok(sameJson(liveState(lab), live), "a further up changes something");
  }
  return { live, state, idleCommands };
}

/**
 * Objects that were created, deleted, and created again. An instance whose creation was lost is recreated on purpose,
 * because it may be incomplete.
 */
function madeAnew(lab: SimulatedLab, { when, effect }: Fault): string[] {
  const isLost = effect === "forget-operation" || effect === "daemon-restart";
  const mayBeHalf = (source: string): boolean =>
    isLost && "path" in when && /wait/.test(String(when.path)) && source.startsWith("/1.0/instances/");
  const events = lab.lifecycle.filter(({ action }) => /-(created|added|deleted|removed)$/.test(action));
  return events
    .filter(({ action, source }, index) => {
      const earlier = events.slice(0, index).filter((each) => each.source === source);
      const wasMade = (actions: RegExp): boolean => earlier.some((each) => actions.test(each.action));
      return (
        !mayBeHalf(source) && /-(created|added)$/.test(action) && wasMade(/-(created|added)$/) && wasMade(/-(deleted|removed)$/)
      );
    })
    .map(({ action, source }) => `${action} ${source}`);
}

const ERROR = { status: 500, error: "simulated error" };

/** Every fault at every moment since a point. */
function faultsOf(lab: SimulatedLab, since: { moments: number; requests: number }): Fault[] {
  const requests = lab.requests.slice(since.requests).values();
  const seen = new Map<string, number>();
  const count = (key: string): number => {
    const nth = (seen.get(key) ?? 0) + 1;
    seen.set(key, nth);
    return nth;
  };
  return lab.faults.moments.slice(since.moments).flatMap((moment): Fault[] => {
    if ("ssh" in moment) {
      const nth = count(moment.ssh);
      const refusal: FaultEffect[] = moment.ssh === "channel" ? [{ status: 1, error: "refused" }] : [];
      return faultsAt(`SSH ${moment.ssh} ${nth}`, { ssh: moment.ssh, nth }, ["drop-before", "drop-after", ...refusal]);
    }
    if ("exec" in moment) {
      const nth = count("exec");
      return faultsAt(`command ${nth} (${shortened(moment.exec)})`, { exec: /./, nth }, [
        "drop-before",
        "drop-after",
        { status: 1, error: "simulated" },
      ]);
    }
    if ("guest" in moment) {
      const nth = count("guest");
      return faultsAt(`guest's command ${nth} (${moment.guest})`, { guest: /./, nth }, [{ status: 1, error: "simulated" }]);
    }
    if ("file" in moment) {
      const nth = count("file");
      const effects: FaultEffect[] = ["drop-before", "drop-after", { status: 4, error: "simulated" }];
      return faultsAt(`guest's file ${nth} (${moment.file})`, { file: /./, nth }, effects);
    }
    const { method, route, answer } = requests.next().value ?? assert.fail("a request without a record");
    const nth = count(`${method} ${route}`);
    const path = new RegExp(`^${route.replaceAll(".", "\\.").replace(/\{\w+\}/g, "[^/?]+")}(\\?|$)`);
    const effects: FaultEffect[] = ["drop-before", "drop-after", "daemon-restart", ERROR];
    if (answer?.status === 202) {
      effects.push("fail-operation", "lose-operation");
    }
    if (route.endsWith("/wait")) {
      effects.push("forget-operation");
    }
    return faultsAt(`${method} ${route} ${nth}`, { method, path, nth }, effects);
  });
}

function faultsAt(moment: string, when: FaultTrigger, effects: readonly FaultEffect[]): Fault[] {
  return effects.map((effect) => ({
    title: `${moment}, ${typeof effect === "string" ? effect : `answered with ${"status" in effect ? effect.status : "?"}`}`,
    when,
    effect,
  }));
}

/** A command line without the text of the library's own scripts. */
function shortened(line: string): string {
  return line.replace(/'[^']*\n[^']*'/g, "...");
}
