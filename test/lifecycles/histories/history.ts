/**
 * One history: edits of the program, changes by hand, faults, and what the engine is asked to do, in any order. After each `up` in
 * which nothing was made to go wrong, the live objects are compared with the program, and with what the preview had shown.
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";
import fc from "fast-check";
import type { FaultEffect } from "../../../lab/simulated/faults";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { ModelEngine, type Run } from "../engine-model";
import { type Foreign, foreignObjects } from "./foreign";
import { HANDS } from "./hands";
import { faults, type Live, look, notDropped } from "./live";
import { baseProgram, declare, edits, givenKeys, HOSTS, NAMES, type Program, without, withResource } from "./program";
import { untruths } from "./truth";
import { providerOf, World } from "./world";

type EngineCall = "up" | "refresh" | "preview";

/** One step, as data: what does not fit the moment does nothing. */
export type Step =
  | { readonly do: "edit"; readonly resource: string; readonly property: number; readonly value: number }
  | { readonly do: "remove" | "add"; readonly resource: string }
  | { readonly do: "hand"; readonly what: string }
  | { readonly do: EngineCall }
  | {
      readonly do: "fault";
      readonly during: EngineCall;
      readonly method: string;
      readonly nth: number;
      readonly effect: FaultEffect;
    }
  | { readonly do: "power cut"; readonly host: string; readonly during: EngineCall }
  | { readonly do: "destroy" };

export interface History {
  /** Whether the engine runs steps side by side. */
  readonly parallel: boolean;
  /** Whether it begins with bare hosts; otherwise with the base program in place. */
  readonly bare: boolean;
  readonly steps: readonly Step[];
}

/** What was done in all histories of this process. */
export const counts = { histories: 0, steps: 0, ups: 0, refusals: 0, properties: 0 };

const index = fc.nat(99);
/** What may be taken out of the program: anything but the host that forms the cluster. */
const removable = fc.constantFrom(...NAMES.filter((name) => !name.endsWith("bcn2")));
const engineCall = fc.constantFrom<EngineCall>("up", "up", "up", "refresh", "preview");
const effect = fc.constantFrom<FaultEffect>("drop-before", "drop-after", "fail-operation", "daemon-restart", {
  status: 500,
  error: "simulated fault",
});
const method = fc.constantFrom("", "", "GET", "POST", "PUT", "PATCH", "DELETE");

const plain = { noNullPrototype: true } as const;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 36,
    arbitrary: fc.record(
      { do: fc.constant("edit" as const), resource: fc.constantFrom(...NAMES), property: index, value: index },
      plain,
    ),
  },
  { weight: 18, arbitrary: fc.record({ do: fc.constant("hand" as const), what: fc.constantFrom(...Object.keys(HANDS)) }, plain) },
  { weight: 21, arbitrary: fc.record({ do: fc.constant("up" as const) }, plain) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("refresh" as const) }, plain) },
  {
    weight: 12,
    arbitrary: fc.record(
      { do: fc.constant("fault" as const), during: engineCall, method, nth: fc.integer({ min: 1, max: 12 }), effect },
      plain,
    ),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("power cut" as const), host: fc.constantFrom(...HOSTS), during: engineCall }, plain),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("remove" as const), resource: removable }, plain) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("add" as const), resource: fc.constantFrom(...NAMES) }, plain) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("destroy" as const) }, plain) },
);

/** Any history. */
export const history: fc.Arbitrary<History> = fc.record(
  {
    parallel: fc.boolean(),
    bare: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    steps: fc.array(step, { minLength: 3, maxLength: 9, size: "max" }),
  },
  plain,
);

/**
 * Refusals that are right when nothing has gone wrong: what the program or a person asks for cannot be had. Each says what to do.
 */
const REFUSALS: readonly RegExp[] = [
  /is still used by|in use/,
  /would have to be stopped for this change/,
  /cannot be changed so\./,
  /did not take the change/,
  /needs instance ".*" to run/,
  /there is no instance ".*"/,
  /already exists on .* and (it was not made by Pulumi|it belongs to)/,
  /points to another image/,
  /cannot resize a pool/,
  /is not empty: /,
  /has no (image|profile|storage pool|network|member) /,
  /no cluster member|is not a member of the cluster/,
  /the uid \d+ belongs to/,
];

/** Whether a machine was started, in whose inside the refresh before could not look: the next one does. */
function startsAnInstance(before: Live, after: Live): boolean {
  return [...before.instances].some(
    ([name, { status }]) => status !== "Running" && after.instances.get(name)?.status === "Running",
  );
}

/** Plays a history; throws with all that was wrong. */
export async function play({ parallel, bare, steps }: History): Promise<void> {
  const world = await World.start();
  const player = new Player(world, parallel);
  try {
    if (!bare) {
      await player.take({ do: "up" });
    }
    for (const each of steps) {
      await player.take(each);
      counts.steps += 1;
    }
    await player.finish();
    counts.histories += 1;
  } catch (error) {
    throw new Error(
      `${player.story.map((line) => `  - ${line}`).join("\n")}\n${error instanceof Error ? (error.stack ?? "") : String(error)}`,
      { cause: error },
    );
  } finally {
    await world.stop();
  }
  assert.deepEqual(
    [world.lab.defects, world.lab.unknownGuestCommands, world.lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)],
    [[], [], []],
    "the simulator knows everything that it was asked",
  );
}

class Player {
  /** What has happened, for the message. */
  readonly story: string[] = [];
  private readonly base: Program;
  private program: Program;
  private readonly engine: ModelEngine;
  private readonly foreign = new Set<string>();
  private known: Foreign = new Map();
  /** Keys that the program of the last `up` gave, when nothing has failed since. */
  private given: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(
    private readonly world: World,
    parallel: boolean,
  ) {
    this.engine = new ModelEngine(providerOf, parallel);
    this.base = baseProgram(world.surroundings);
    this.program = this.base;
  }

  async take(step: Step): Promise<void> {
    if (step.do !== "edit") {
      this.story.push(inspect(step, { breakLength: Number.POSITIVE_INFINITY }));
    }
    switch (step.do) {
      case "edit":
        this.edit(step.resource, step.property, step.value);
        break;
      case "remove":
        this.program = without(this.program, step.resource);
        break;
      case "add":
        this.program = withResource(this.program, this.base, step.resource);
        break;
      case "hand":
        await this.byHand(step.what);
        break;
      case "up":
        await this.checkedUp();
        break;
      case "fault": {
        const { nth, effect: what } = step;
        this.world.lab.faults.add({ when: { ...(step.method === "" ? {} : { method: step.method }), nth }, effect: what });
        await this.call(step.during);
        this.world.lab.faults.clear();
        break;
      }
      case "power cut":
        await this.world.lab.host(step.host).powerOff();
        await this.call(step.during);
        await this.world.lab.host(step.host).powerOn();
        break;
      case "destroy":
        await this.destroy();
        break;
      default:
        await this.call(step.do);
    }
    await this.noteForeign();
  }

  /** In the end the obstacles are taken away, and the program asks for nothing impossible: one `up` must do. */
  async finish(): Promise<void> {
    await this.removeObstacles();
    this.program = this.possible();
    let run = await this.checkedUp();
    if (messages(run).some((message) => message.includes("did not take the change"))) {
      // A profile stops nobody for a change of it. The message says what to do: "Stop them".
      await this.byHand("web1: stop");
      await this.byHand("web2: stop");
      run = await this.checkedUp();
    }
    assert.deepEqual(messages(run), [], "an up that nothing stands in the way of");
    // All but the cluster itself goes, and nothing of it is left.
    this.program = Object.fromEntries(Object.entries(this.program).filter(([name]) => /^(node|member)-/.test(name)));
    await this.removeObstacles();
    const rest = await this.checkedUp();
    assert.deepEqual(messages(rest), [], "an up that removes all but the cluster");
    const live = await this.look();
    const left = [live.profiles, live.networks, live.pools, live.instances, live.images].flatMap((kind) => [...kind.keys()]);
    const theirs = [...this.foreign].map((path) => path.split("/").at(-1));
    assert.deepEqual(
      left.filter((name) => name !== "default" && !theirs.includes(name)),
      [],
      "nothing is left of what the program had",
    );
  }

  private async destroy(): Promise<void> {
    const run = await this.engine.destroy();
    this.story.push(`  destroy: ${describe(run)}`);
    this.given = new Map();
    if (run.failures.length === 0) {
      this.foreign.clear(); // a member that leaves is wiped, with all that is on it
    }
  }

  private edit(name: string, property: number, value: number): void {
    const properties = edits(this.world.surroundings, this.base)[name] ?? [];
    const values = properties[property % properties.length] ?? [];
    const change = values[value % values.length] as object;
    if (this.program[name] !== undefined) {
      this.story.push(`edit ${name}: ${inspect(change, { depth: 5, breakLength: Number.POSITIVE_INFINITY })}`);
      this.program = { ...this.program, [name]: { ...this.program[name], ...change } };
    }
  }

  private async byHand(what: string): Promise<void> {
    const member = this.world.member();
    if (member === undefined) {
      return; // nothing is there yet
    }
    const [lxd, clients] = [await this.world.client(member), await this.world.clients()];
    const on = (host: string) => clients.get(host) ?? lxd;
    const foreign = (path: string): void => void this.foreign.add(path);
    try {
      await HANDS[what]?.({ lab: this.world.lab, lxd, on, foreign });
    } catch (error) {
      if (!["api", "operation"].some((code) => hasCode(error, code as "api")) && !/has no instance/.test(messageOf(error))) {
        throw error; // LXD may refuse a person, too; anything else is a fault of the test
      }
    }
  }

  private async call(what: EngineCall): Promise<Run> {
    const run = await (what === "refresh" ? this.engine.refresh() : this.engine[what](declare(this.program)));
    this.story.push(`  ${what}: ${describe(run)}`);
    if (what === "up") {
      this.given = new Map();
    }
    return run;
  }

  /** `pulumi up` with its preview, in which nothing is made to go wrong, and all that must be true of it. */
  private async checkedUp(): Promise<Run> {
    const { lab } = this.world;
    const declared = declare(this.program);
    const preview = await this.engine.preview(declared);
    const stateBefore = this.engine.resources;
    const before = await this.look();
    const [since, events] = [lab.requests.length, lab.lifecycle.length];
    const run = await this.engine.up(declared);
    this.story.push(`  up: ${describe(run)}`);
    const deletions = lab.mutations(since).filter((request) => request.method === "DELETE");
    const stops = lab.lifecycle.slice(events).filter(({ action }) => /^instance-(stopped|shutdown|restarted)$/.test(action));
    const after = await this.look();
    const seen = {
      program: this.program,
      stateBefore,
      preview,
      run,
      before,
      after,
      stops,
      deletions: deletions.map(({ path }) => path),
    };
    const told = untruths(seen);
    counts.properties += told.compared;
    assert.deepEqual(told.wrong, [], "what the preview shows is what up does");
    await this.foreignAreUntouched(after);
    counts.ups += 1;
    if (run.failures.length > 0) {
      counts.refusals += 1;
      this.given = new Map();
      assert.deepEqual(
        messages(run).filter((message) => !REFUSALS.some((refusal) => refusal.test(message))),
        [],
        "without a fault, up fails only when it refuses",
      );
      return run;
    }
    const settled = startsAnInstance(before, after) ? await this.afterAnotherUp() : after;
    const wrong = [...faults(settled, this.program), ...notDropped(settled, this.program, this.given)];
    assert.deepEqual(wrong, [], "what is live is what the program says");
    this.given = givenKeys(this.program);
    const quiet = lab.requests.length;
    const again = await this.engine.up(declared);
    assert.deepEqual(messages(again), [], "a further up fails");
    const steps = [...again.steps]
      .filter(([, { op }]) => op !== "same")
      .map(([name, { op, changed }]) => `${op} ${name} ${changed.join()}`);
    assert.deepEqual([steps, lab.mutations(quiet)], [[], []], "a further up does nothing");
    return run;
  }

  private async afterAnotherUp(): Promise<Live> {
    assert.deepEqual(messages(await this.engine.up(declare(this.program))), [], "the up after a machine was started");
    return this.look();
  }

  private async look(): Promise<Live> {
    const member = this.world.member();
    return member === undefined ? NOTHING : look(this.world.lab, await this.world.client(member), await this.world.clients());
  }

  private async noteForeign(): Promise<void> {
    if (this.foreign.size > this.known.size) {
      this.known = foreignObjects(await this.look(), this.foreign);
    }
  }

  private async foreignAreUntouched(live: Live): Promise<void> {
    const now = foreignObjects(live, this.foreign);
    for (const [path, { of, text }] of this.known) {
      const found = now.get(path);
      if (!this.foreign.has(path) || (of !== "" && found?.of !== of)) {
        this.foreign.delete(path); // it went with the instance that it was in
        continue;
      }
      assert.equal(found?.text, text, `${path} of someone else is untouched`);
    }
    this.known = now;
  }

  /** Removes what others have put in the way: what uses an object, what has the name of one, what holds a member. */
  private async removeObstacles(): Promise<void> {
    const member = this.world.member();
    if (member === undefined) {
      return;
    }
    const lxd = await this.world.client(member);
    const ours = new Set(Object.values(this.program).map((args) => String(args["name"])));
    for (const path of this.foreign) {
      const name = path.split("/").at(-1) ?? "";
      if (path.startsWith("/1.0/instances/") || ours.has(name)) {
        await removeByHand(path, lxd);
        this.foreign.delete(path);
        this.known.delete(path);
      }
    }
  }

  /** The program with what it may have asked for in vain put right. */
  private possible(): Program {
    const full = NAMES.reduce<Program>((program, name) => withResource(program, this.base, name), this.program);
    return Object.fromEntries(
      Object.entries(full).map(([name, args]) => {
        const base = this.base[name] ?? {};
        const stored = this.engine.find(name)?.outputs ?? {};
        const kept = (property: string) => {
          const value = stored[property] ?? base[property]; // what is in use cannot be renamed or made anew
          return value === undefined ? {} : { [property]: value };
        };
        if (args["instance"] !== undefined) {
          return [name, { ...args, uid: undefined, instance: base["instance"], adopt: true }];
        }
        if (args["image"] !== undefined) {
          const size = (stored["rootDisk"] as { size?: string } | undefined)?.size;
          return [
            name,
            {
              ...args,
              running: true,
              allowRestart: "force",
              adopt: true,
              target: undefined,
              ...(size === undefined ? {} : { rootDisk: { size } }),
            },
          ];
        }
        return [
          name,
          {
            ...args,
            ...kept("name"),
            ...kept("driver"),
            ...kept("memberConfig"),
            ...kept("devices"),
            ...(name.includes("-image") || name === "spare" ? { adopt: true } : {}),
          },
        ];
      }),
    );
  }
}

const NOTHING: Live = {
  profiles: new Map(),
  networks: new Map(),
  pools: new Map(),
  images: new Map(),
  instances: new Map(),
  members: new Map(),
  servers: new Map(),
  views: new Map(),
  user: () => undefined,
};

async function removeByHand(path: string, lxd: Awaited<ReturnType<World["client"]>>): Promise<void> {
  if (path.startsWith("/1.0/instances/")) {
    await lxd.change("PUT", `${path}/state`, { body: { action: "stop", timeout: 0, force: true } }).catch(() => undefined);
  }
  await lxd.remove(path);
}

function describe(run: Run): string {
  const steps = [...run.steps]
    .filter(([, { op }]) => op !== "same")
    .map(([name, { op, changed }]) => (op === "update" ? `update ${name} (${changed.join()})` : `${op} ${name}`));
  return (
    [...steps, ...messages(run), ...run.warnings.map(([name, text]) => `warning ${name}: ${text}`)].join("; ") || "no change"
  );
}

function messages(run: Run): string[] {
  return run.failures.map(({ resource, error }) => `${resource}: ${messageOf(error)}`);
}
