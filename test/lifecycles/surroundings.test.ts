import assert from "node:assert/strict";
import type { SimulatedHost, SimulatedLab } from "../../lab/simulated";
import { GREETING } from "../../lab/simulated/login-shell";
import type { LxdVersion } from "../../lab/simulated/lxd/versions";
import { isThorough } from "../support/breadth";
import { inSameWords, liveState } from "./live-state";
import { SCENARIOS, type Scenario } from "./scenarios";
import { inLab } from "./scenarios/in-lab";

/** What a host's sshd and login shell can be like without being anybody's fault. The last has most of it, and is always tried. */
const SURROUNDINGS: Readonly<Record<string, (host: SimulatedHost) => void>> = {
  "whose shell greets": (host) => {
    host.shell.greeting = GREETING;
  },
  "whose shell greets and whose sshd forwards to no socket": (host) => {
    host.shell.greeting = GREETING;
    host.sshd.forwarding = false;
  },
  "whose shell greets, with a user who becomes root by a sudo that warns, and one session for each connection": (host) => {
    host.shell.greeting = GREETING;
    host.shell.sudoWarns = true;
    host.sshd.maxSessions = 1;
    host.login = { ...host.login, users: ["operator"] };
  },
};

/** What a step has come to, in words that are the same in every run. */
type Step = Record<string, unknown>;

/** Makes, changes and removes a resource; what came of each step. */
async function live(scenario: Scenario, version: LxdVersion, arrange: (host: SimulatedHost) => void): Promise<Step[]> {
  return inLab(scenario, version, async (lab) => {
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
  return JSON.parse(inSameWords(JSON.stringify(state ?? {}), lab).replaceAll('"user":"operator"', '"user":"root"'));
}

/** Without those that stand in for sshd's forwarding, or ask sudo. */
function commandsOf(host: SimulatedHost, since: number): string[] {
  const own = host.commands.slice(since).map((argv) => argv.join(" "));
  return own.filter((line) => !/^(perl|true)\b/.test(line)).sort();
}

describe("Every kind lives its life as on any other host, on one", () => {
  for (const scenario of SCENARIOS) {
    const [version = "5.0.2"] = scenario.versions ?? [];
    describe(`${scenario.kind} ${scenario.title}, LXD ${version}`, () => {
      let usual: Step[];

      before(async () => {
        usual = await live(scenario, version, () => undefined);
      });

      for (const [title, arrange] of Object.entries(SURROUNDINGS).slice(isThorough ? 0 : -1)) {
        it(title, async () => {
          assert.deepEqual(await live(scenario, version, arrange), usual);
        });
      }
    });
  }
});
