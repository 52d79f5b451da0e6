import assert from "node:assert/strict";
import { GREETING } from "../../lab/simulated/login-shell";
import { differences } from "../../provider/engine/state";
import { readMark } from "../../provider/lxd/ownership";
import { figure } from "../support/figure";
import { Managed } from "../unit/resources/simulated-cluster";
import { DRIFT_TABLES } from "./drift";
import { byHand, descriptionOf } from "./drift/manual-changes";
import { type Case, type Cure, casesOf, type DriftTable } from "./drift/table";
import type { World } from "./drift/world";

type Tried = Exclude<Case, { answer: "cannot drift" }>;
type Resource = Managed<never, never>;

/** A world with an applied program: `pulumi up` has run, and a further preview shows no change. */
interface Stage {
  readonly world: World;
  readonly program: string;
  readonly args: Record<string, unknown>;
  readonly resource: Resource;
}

const STOPS = /^instance-(stopped|shutdown|restarted)$/;
/** Not those of the service that is itself the resource. */
const HOST_RESTARTS = /^(systemctl (re)?(start|stop) (?!-- cron)|snap (re)?(start|stop)|reboot)/;

describe("Drift", () => {
  let tried = 0;
  after(() => figure("drifts tried", tried));

  for (const table of DRIFT_TABLES) {
    describe(`of ${table.lifecycle.kind}`, () => {
      let stage: Stage | undefined;

      const leave = async (): Promise<void> => {
        await stage?.world.stop();
        stage = undefined;
      };
      afterEach(async function () {
        if (this.currentTest?.state === "failed") {
          await leave(); // its result would affect the next test
        }
      });
      after(leave);

      it("has an entry for each property", () => {
        assert.deepEqual(Object.keys(table.inputs).sort(), Object.keys(table.lifecycle.schema.shape).sort());
      });

      for (const { part, name, entry } of casesOf(table)) {
        if (entry.answer === "cannot drift") {
          continue;
        }
        const { program = "usual" } = entry;
        const changes = (Array.isArray(entry.byHand) ? entry.byHand : [entry.byHand]).map(descriptionOf).join(", ");
        it(`${name}: after ${changes} it is ${entry.answer}${program === "usual" ? "" : ` (${program})`}`, async () => {
          if (stage?.program !== program) {
            await leave();
            stage = await enter(table, program);
          }
          await tryOut(table, stage, part === "object" ? undefined : name, entry);
          tried += 1;
          if (!isAsBefore(entry) || !isAsGiven(stage)) {
            await leave();
          }
        });
      }
    });
  }
});

/** Whether everything is as it was before the drift, so that the next one can be tried in the same world. */
function isAsBefore(entry: Tried): boolean {
  const { cure } = entry as { cure?: Cure };
  const isUndone = cure !== undefined && !(typeof cure === "object" && "program" in cure);
  return entry.chosenAnew === undefined && (isUndone || ["repaired", "recreated", "replaced"].includes(entry.answer));
}

/** Whether `adopt` in state equals the program's value; an object that was adopted again has another. */
function isAsGiven({ resource, args }: Stage): boolean {
  return (resource.inState("adopt") ?? false) === (args["adopt"] ?? false);
}

async function enter(table: DriftTable, program: string): Promise<Stage> {
  const world = await table.start(program);
  for (const { shell, sshd } of world.lab.hosts) {
    shell.greeting = GREETING; // the output of a login shell must not hide a command
    sshd.forwarding = false; // so all requests use the relay
  }
  const difference = program === "usual" ? {} : table.programs[program];
  assert(difference !== undefined, `there is no program "${program}"`);
  const args = { ...world.reach, ...table.given, ...difference };
  const resource: Resource = new Managed(table.lifecycle, "drift");
  await resource.up(args);
  assert.equal(await resource.preview(args), "same");
  return { world, program, args, resource };
}

async function tryOut(table: DriftTable, stage: Stage, property: string | undefined, entry: Tried): Promise<void> {
  const { world, args, resource } = stage;
  const { lab } = world;
  const wanted = await world.look();
  const known = structuredClone(resource.state);
  await byHand(lab, entry.byHand);
  const isDown = entry.answer === "error";
  const drifted = isDown ? undefined : await world.look();
  assert.notDeepEqual(drifted, wanted, "the manual change had no effect, so the test proves nothing");
  const [requests, events] = [lab.requests.length, lab.lifecycle.length];
  const commands = lab.hosts.map((host) => host.commands.length);
  const shows = "shows" in entry ? entry.shows : property === undefined ? undefined : [property];
  const preview = async (): Promise<string> => resource.preview(args);
  const differing = (): string[] =>
    differences(table.lifecycle, resource.state as never, table.lifecycle.schema.parse(args) as never).sort();
  const planned = async (outcome: string): Promise<void> => {
    assert.equal(await preview(), outcome);
    if (outcome === "same") {
      assert.deepEqual(differing(), []);
    } else if (shows !== undefined && outcome !== "created") {
      assert.deepEqual(differing(), [...shows].sort());
    }
    keepsWhatCannotDrift(table, stage);
  };
  const settled = async (): Promise<void> => {
    assert.deepEqual(lasting(await world.look(), entry), lasting(wanted, entry));
    assert.equal(await preview(), "same");
  };

  switch (entry.answer) {
    case "repaired":
      await planned("updated");
      assert.equal(await resource.up(args), "updated");
      await settled();
      break;
    case "recreated":
      await planned("created");
      assert.equal(await resource.up(args), "created");
      await settled();
      break;
    case "replaced":
      await planned("replaced");
      assert.equal(await resource.up(args), "replaced");
      await settled();
      break;
    case "shown":
      await planned("same");
      assert.equal(await resource.up(args), "same");
      assert(property !== undefined);
      assert.notDeepEqual(resource.inState(property), known?.[property], `the output ${property} does not follow`);
      break;
    case "ignored":
      await planned("same");
      assert.equal(await resource.up(args), "same");
      break;
    case "refused": {
      const warned = resource.warnings.length;
      const outcome = await preview();
      assert.notEqual(outcome, "same");
      if (outcome === "updated") {
        assert.match(resource.warnings.slice(warned).join("\n"), /pulumi up (will|may) refuse this/);
      }
      if (shows !== undefined && outcome === "updated") {
        assert.deepEqual(differing(), [...shows].sort());
      }
      await assert.rejects(resource.up(args), (error: Error) => {
        assert.match(error.message, entry.says);
        return true;
      });
      break;
    }
    case "deferred":
      await planned("updated");
      await assert.rejects(resource.up(args), (error: Error) => {
        assert.match(error.message, entry.says);
        return true;
      });
      assert.deepEqual(await world.look(), wanted);
      assert.equal(await preview(), "updated", "unfinished changes were dropped from state");
      break;
    case "error":
      await assert.rejects(preview(), (error: Error) => {
        assert.match(error.message, entry.says);
        return true;
      });
      assert.deepEqual(resource.state, known, "unreadable values were dropped from state");
      break;
  }

  if (entry.answer === "shown" || entry.answer === "ignored" || entry.answer === "refused") {
    assert.deepEqual(await world.look(), drifted);
    assert.deepEqual(
      lab.mutations(requests).map(({ method, path }) => `${method} ${path}`),
      [],
    );
  }
  const stops = lab.lifecycle.slice(events).filter(({ action }) => STOPS.test(action));
  const ran = lab.hosts.flatMap((host, index) => host.commands.slice(commands[index]).map((argv) => argv.join(" ")));
  const restarts = ran.filter((line) => HOST_RESTARTS.test(line));
  assert.equal(stops.length > 0, "stops" in entry, `instances that were stopped: ${JSON.stringify(stops)}`);
  assert.equal(restarts.length > 0, "startsLxdAnew" in entry, `restarted on a host: ${restarts.join(", ")}`);
  const { cure } = entry as { cure?: Cure };
  if (cure !== undefined && typeof cure === "object" && "program" in cure) {
    const cured = { ...args, ...cure.program };
    await resource.up(cured);
    assert.equal(await resource.preview(cured), "same");
  } else if (cure !== undefined) {
    await byHand(lab, cure);
    // An object that was not found under its name is no longer in state. When it is back, it is refused like a finished
    // object of a lost state.
    const isAdopted = resource.state === undefined && Object.hasOwn(table.lifecycle.schema.shape, "adopt");
    await resource.up(isAdopted ? { ...args, adopt: true } : args);
    await settled();
  }
  assert.deepEqual([lab.defects, lab.unknownGuestCommands], [[], []]);
}

/** Properties that cannot drift stay in state as the program gave them, whatever happened to the object. */
function keepsWhatCannotDrift(table: DriftTable, { args, resource }: Stage): void {
  if (resource.state === undefined) {
    return;
  }
  const given = table.lifecycle.schema.parse(args);
  for (const [name, entry] of Object.entries(table.inputs)) {
    if ("answer" in entry && entry.answer === "cannot drift") {
      assert.deepEqual(resource.inState(name), given[name], `${name} cannot drift, but differs from the program`);
    }
  }
}

/** An object that is created or adopted again gets a new mark. */
function withoutClaim(key: string, value: string): string | undefined {
  return key.startsWith("user.pulumi.") ? readMark(value)?.urn : value;
}

/**
 * The part of the world that must be the same after a repair: everything except values that LXD assigns at each start,
 * or to each new object.
 */
function lasting(seen: unknown, entry: Tried): unknown {
  const isNew = entry.answer === "recreated" || entry.answer === "replaced";
  const passing = isNew
    ? /^(volatile\.|((created|uploaded|last_used)_at|addresses)$)/
    : /^(volatile\.(.+\.host_name|last_state\..+|uuid\.generation|apply_template|vsock_id)|last_used_at)$/;
  if (Array.isArray(seen)) {
    return seen.map((each) => lasting(each, entry));
  }
  if (seen === null || typeof seen !== "object") {
    return seen;
  }
  return Object.fromEntries(
    Object.entries(seen)
      .filter(([key]) => !passing.test(key) && key !== entry.chosenAnew)
      .map(([key, value]) => [key, typeof value === "string" ? withoutClaim(key, value) : lasting(value, entry)]),
  );
}
