import assert from "node:assert/strict";
import { inspect, isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { SimulatedLab } from "../../lab/simulated";
import { provider } from "../../provider/entry";
import { redact } from "../../provider/support/redact";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import { badKey, badValue, HOSTILE_TEXTS, HUGE_TEXTS, objectOf } from "./support/bad-values";
import { KINDS, validArgs } from "./support/valid-args";

type Properties = Record<string, unknown>;
type Path = readonly (string | number)[];

/** Number of inputs of each kind; `FUZZ=50000` for a long run, `FUZZ_SEED=` to repeat one. */
const RUNS = Number(process.env["FUZZ"] ?? (isThorough ? 200 : 50));
const SEED = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);

/** Maximum processor time of a check, so that no input can block the engine. */
const SLOWEST_MS = 3000;

/** Properties that describe how to reach a host. */
const REACHING: readonly (string | number)[] = ["connection", "cluster", "timeouts"];

/** Every path in a value: of the value itself, and of everything inside. */
function pathsIn(value: unknown, at: Path = []): Path[] {
  if (value === null || typeof value !== "object") {
    return [at];
  }
  return [
    at,
    ...Object.entries(value).flatMap(([key, member]) => pathsIn(member, [...at, Array.isArray(value) ? Number(key) : key])),
  ];
}

/** A copy of `value` with another value at a path. */
function replaced(value: unknown, [key, ...rest]: Path, by: unknown): unknown {
  if (key === undefined) {
    return by;
  }
  if (Array.isArray(value)) {
    return value.map((member: unknown, index) => (index === key ? replaced(member, rest, by) : member));
  }
  const entries = Object.entries(value as object).map(([name, member]): [string, unknown] => [
    name,
    name === key ? replaced(member, rest, by) : member,
  ]);
  return objectOf(entries);
}

/** A copy of `value` with one more property in the object at a path. */
function extended(value: unknown, at: Path, key: string, member: unknown): unknown {
  const target = at.reduce<unknown>((inner, step) => (inner as Record<string | number, unknown>)[step], value);
  const isObject = target !== null && typeof target === "object" && !Array.isArray(target);
  return isObject ? replaced(value, at, objectOf([...Object.entries(target), [key, member]])) : value;
}

/** Shows how to repeat a failure. fast-check's own report cannot show a value with endless nesting. */
function report<Input>({ failed, counterexample, errorInstance, numRuns, seed }: fc.RunDetails<[Input]>): void {
  if (failed) {
    const shown = inspect(counterexample, { depth: 6, maxStringLength: 200, maxArrayLength: 20 });
    const why = errorInstance instanceof Error ? errorInstance.stack : String(errorInstance);
    throw new Error(`FUZZ_SEED=${seed}, input ${numRuns}: ${shown}\n${why}`);
  }
}

describe("bad input to check", () => {
  let lab: SimulatedLab;
  let valid: ReturnType<typeof validArgs>;
  let inputs = 0;
  let accepted = 0;
  const { stackTraceLimit } = Error;

  before(async () => {
    // The limit in the engine's `check` process. mocha raises it, and a parser that runs out of stack then writes
    // thousands of frames.
    Error.stackTraceLimit = 10;
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    const { host, port } = lab.host("bcn2").connection;
    valid = validArgs({ host, port });
  });

  after(async () => {
    Error.stackTraceLimit = stackTraceLimit;
    figure("inputs fuzzed", inputs);
    figure("inputs fuzzed that were accepted", accepted);
    process.stdout.write(`[seed] bad input: ${SEED}\n`);
    await lab.stop();
  });

  afterEach("no connection is opened, and no prototype polluted", () => {
    const { counters } = lab.host("bcn2");
    assert.deepEqual([lab.requests, counters.attempts], [[], 0]);
    assert.deepEqual(Object.keys(Object.prototype), []);
    assert.equal(({} as Properties)["polluted"], undefined);
  });

  /**
   * The inputs as stored in state after they were accepted. A preview contacts the host for new objects to adopt and
   * for changes; this state is neither.
   */
  const asKnown = async (kind: string, given: Properties): Promise<Properties> => {
    // A fault keeps a preview from looking at what would be created or adopted.
    const { inputs: checked, failures } = await provider(kind).check({}, { ...given, "no such input": 1 });
    assert.notEqual(failures.length, 0);
    return checked;
  };

  /** Invariants of the answer to any input. */
  const judge = async (kind: string, given: Properties): Promise<void> => {
    inputs += 1;
    const names = new Set([...(valid[kind] ?? []).flatMap((args) => Object.keys(args)), ...Object.keys(given)]);
    const started = process.cpuUsage();
    const known = await asKnown(kind, given);
    const answer = await provider(kind).check(known, given);
    const busyMs = process.cpuUsage(started).user / 1000;
    assert.ok(busyMs < SLOWEST_MS, `check took ${Math.round(busyMs)} ms of a processor`);
    for (const { property, reason } of answer.failures) {
      assert.equal(property, ""); // the engine would print the value with it
      const [path = ""] = /^[^]*? /.exec(reason) ?? [];
      const named = [...names].some((name) => reason.startsWith(redact(name, given).slice(0, 60)));
      assert.ok(path !== "" && named, `no property is named in: ${reason.slice(0, 200)}`);
      assert.ok(reason.length < 2000, `a reason of ${reason.length} characters`);
    }
    if (answer.failures.length > 0) {
      return;
    }
    accepted += 1;
    const text = JSON.stringify(answer.inputs);
    assert.ok(isDeepStrictEqual(JSON.parse(text), answer.inputs), "accepted inputs do not survive JSON");
    assert.ok(Buffer.from(text).toString() === text && !/\\ud[89a-f]/.test(text), "accepted inputs are not Unicode");
    const again = await provider(kind).check(answer.inputs, answer.inputs);
    assert.deepEqual(again, { inputs: answer.inputs, failures: [] }); // otherwise the engine would see a change where there is none
  };

  for (const kind of KINDS) {
    describe(kind, () => {
      it("accepts the base arguments of the variants, which have every property of the kind", async () => {
        const variants = valid[kind];
        assert.ok(variants !== undefined, `no arguments of ${kind} are known to this test`);
        for (const args of variants) {
          assert.deepEqual((await provider(kind).check(await asKnown(kind, args), args)).failures, []);
          await judge(kind, args);
        }
        const { failures } = await provider(kind).check({}, { "?": true });
        const known = /known are (.*)/.exec(failures.map(({ reason }) => reason).join("\n"))?.[1]?.split(", ") ?? [];
        const given = new Set(variants.flatMap((args) => Object.keys(args)));
        assert.deepEqual(
          known.filter((name) => !given.has(name)),
          [],
        );
      });

      it("accepts or refuses every hostile text at every path", async function () {
        this.timeout(120_000);
        for (const args of valid[kind] ?? []) {
          // The connection properties are the same for all kinds.
          const places = pathsIn(args).filter(
            ([property]) => property !== undefined && (kind === "LxdNode" || !REACHING.includes(property)),
          );
          for (const path of places) {
            for (const text of HOSTILE_TEXTS) {
              await judge(kind, replaced(args, path, text) as Properties);
            }
          }
        }
      });

      it("fails only with a reason that names the property, whatever its value", async function () {
        this.timeout(Math.max(60_000, RUNS * 50));
        const variants = valid[kind] ?? [];
        const place = fc.constantFrom(
          ...variants.flatMap((args, variant) =>
            pathsIn(args)
              .slice(1)
              .map((path) => ({ variant, path })),
          ),
        );
        const mutation = fc.tuple(place, badValue, fc.option(badKey, { freq: 3 }));
        await fc.assert(
          fc.asyncProperty(mutation, async ([{ variant, path }, value, key]) => {
            const args = variants[variant];
            await judge(kind, (key === null ? replaced(args, path, value) : extended(args, path, key, value)) as Properties);
          }),
          { numRuns: RUNS, seed: SEED, reporter: report },
        );
      });

      it("fails only in that way when all inputs are invalid", async function () {
        this.timeout(Math.max(60_000, RUNS * 50));
        const names = fc.constantFrom(...(valid[kind] ?? []).flatMap((args) => Object.keys(args)));
        const entries = fc.array(
          fc.tuple(fc.oneof({ arbitrary: names, weight: 3 }, { arbitrary: badKey, weight: 1 }), badValue),
          { maxLength: 8 },
        );
        await fc.assert(
          fc.asyncProperty(entries, async (given) => {
            await judge(kind, objectOf(given));
          }),
          { numRuns: Math.ceil(RUNS / 4), seed: SEED, reporter: report },
        );
      });

      it("answers at once to a megabyte at any path", async function () {
        this.timeout(120_000);
        for (const args of valid[kind] ?? []) {
          for (const [index, path] of pathsIn(args).slice(1).entries()) {
            const text = HUGE_TEXTS[index % HUGE_TEXTS.length] ?? "";
            await judge(kind, replaced(args, path, text) as Properties);
            await judge(kind, extended(args, path, text, "x") as Properties);
          }
        }
      });
    });
  }
});
