import assert from "node:assert/strict";
import type { SimulatedHost, SimulatedLab } from "../../lab/simulated";
import { GREETING } from "../../lab/simulated/login-shell";
import type { Flavour } from "../../lab/simulated/lxd/flavours";
import { isThorough } from "../support/breadth";
import { liveState, withoutRandomParts } from "./live-state";
import { SCENARIOS, type Scenario } from "./scenarios";
import { inLab } from "./scenarios/in-lab";

/** Valid variants of a host's sshd and login shell. The last combines most of them, and is always tried. */
const SURROUNDINGS: Readonly<Record<string, (host: SimulatedHost) => void>> = {
  "whose shell prints a banner": (host) => {
    host.shell.greeting = GREETING;
  },
  "whose shell prints a banner and whose sshd does not forward to sockets": (host) => {
    host.shell.greeting = GREETING;
    host.sshd.forwarding = false;
  },
  "whose shell prints a banner, with a user who becomes root by a sudo that warns, and one session per connection": (host) => {
    host.shell.greeting = GREETING;
    host.shell.sudoWarns = true;
    host.sshd.maxSessions = 1;
    host.login = { ...host.login, users: ["operator"] };
  },
};

/** The result of a step, as a text that is the same in every run. */
type Step = Record<string, unknown>;

/** Creates, changes and deletes a resource. Returns the result of each step. */
async function live(scenario: Scenario, flavour: Flavour, arrange: (host: SimulatedHost) => void): Promise<Step[]> {
  return inLab(scenario, flavour, async (lab) => {
    lab.hosts.forEach(arrange);
    const managed = scenario.manage();
    const steps: Step[] = [];
    const record = async (work: () => Promise<unknown>): Promise<void> => {
      const [requests, commands] = [lab.requests.length, lab.hosts.map((host) => host.commands.length)];
      const outcome = await work();
      const mutations = lab.mutations(requests).map(({ method, route }) => `${method} ${route}`);
      steps.push({
        outcome,
        state: known(managed.state, lab),
        live: liveState(lab),
        mutations: mutations.sort(),
        commands: lab.hosts.map((host, index) => commandsOf(host, commands[index] ?? 0)),
      });
    };
    await record(() => managed.up(scenario.first(lab)));
    await record(() => managed.preview(scenario.first(lab)));
    await scenario.meanwhile?.(lab);
    if (scenario.then !== undefined) {
      const { then } = scenario;
      await record(() => managed.up(then(lab)));
      await record(() => managed.preview(then(lab)));
    }
    await record(() => managed.destroy({ refresh: true }));
    return steps;
  });
}

function known(state: unknown, lab: SimulatedLab): unknown {
  return JSON.parse(withoutRandomParts(JSON.stringify(state ?? {}), lab).replaceAll('"user":"operator"', '"user":"root"'));
}

/**
 * Each once, because how often a wait asks depends on time, and so do the seconds that apt may wait for its lock. Without those that replace sshd's
 * forwarding, or probe sudo.
 */
function commandsOf(host: SimulatedHost, since: number): string[] {
  const own = new Set(host.commands.slice(since).map((argv) => argv.join(" ").replace(/(?<=Lock::Timeout=)\d+/, "<seconds>")));
  return [...own].filter((line) => !/^(perl|true)\b/.test(line)).sort();
}

describe("Every kind has the same life as on any other host, on one", () => {
  for (const scenario of SCENARIOS) {
    const [flavour = "bookworm-lxd"] = scenario.flavours ?? [];
    describe(`${scenario.kind} ${scenario.title}, ${flavour}`, () => {
      let usual: Step[];

      before(async () => {
        usual = await live(scenario, flavour, () => undefined);
      });

      for (const [title, arrange] of Object.entries(SURROUNDINGS).slice(isThorough ? 0 : -1)) {
        it(title, async () => {
          assert.deepEqual(await live(scenario, flavour, arrange), usual);
        });
      }
    });
  }
});
