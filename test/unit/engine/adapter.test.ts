import assert from "node:assert/strict";
import { mock } from "node:test";
import fc from "fast-check";
import * as z from "zod";
import { dynamicProvider } from "../../../provider/engine/adapter";
import { inCluster } from "../../../provider/engine/connection-inputs";
import type { Context, Lifecycle } from "../../../provider/engine/lifecycle";
import { providerPointer } from "../../../provider/engine/pointer";
import { printErrorsOnce } from "../../../provider/engine/provider-process";
import { IncompleteError, messageOf, RefusedError } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const URN = "urn:pulumi:dev::shop::pulumi-nodejs:dynamic/lxd:LxdThing::web";

const schema = z.strictObject({ ...inCluster, name: z.string(), colour: z.string().default("red"), note: z.string().optional() });
type Inputs = z.output<typeof schema>;
interface Outputs {
  address?: string | undefined;
}
type Properties = Record<string, unknown>;

/** A lifecycle that records its calls, with behaviour set by the test. */
function thing(over: Partial<Lifecycle<Inputs, Outputs>> = {}) {
  const calls: string[] = [];
  const lifecycle: Lifecycle<Inputs, Outputs> = {
    kind: "LxdThing",
    schemaVersion: 7,
    schema,
    immutable: ["name"],
    timeouts: { create: 60, read: 60, update: 60, delete: 60 },
    sameBy: { note: () => true },
    create: async (_context, { name }) => ({ id: name, outputs: { address: "10.0.0.7" } }),
    read: async (_context, _id, { address, name, colour }) => ({ inputs: { name, colour }, outputs: { address } }),
    update: async () => ({ address: "10.0.0.8" }),
    delete: async () => undefined,
    ...over,
  };
  for (const name of ["create", "read", "update", "delete"] as const) {
    const work = lifecycle[name] as (...args: unknown[]) => Promise<unknown>;
    Object.assign(lifecycle, {
      [name]: (...args: unknown[]) => {
        calls.push(name);
        return work(...args);
      },
    });
  }
  const said: string[] = [];
  const provider = dynamicProvider(lifecycle, {
    progress: (urn, text) => said.push(`progress ${urn === URN ? "URN" : urn}: ${text}`),
    info: (urn, text) => said.push(`info ${urn === URN ? "URN" : urn}: ${text}`),
    warn: (urn, text) => said.push(`warning ${urn === URN ? "URN" : urn}: ${text}`),
  });
  return { provider, calls, said };
}

const host = (name: string, more: object = {}) => ({ host: name, ...more });

/** A connection as 0.1.0 stored it: with defaults that the program did not set. */
const withAllDefaults = (name: string) =>
  host(name, { port: 22, user: "root", hostKeyPolicy: "known-hosts", dialErrorLimit: 10, perDialTimeout: 15 });
const cluster = { endpoints: [host("bcn2")] };
const internal = { __provider: providerPointer("LxdThing"), __urn: URN };
const inputs: Properties = { cluster, name: "web", colour: "red", ...internal };
const state: Properties = { ...inputs, address: "10.0.0.7", schemaVersion: 7 };

const failureOf = async (work: Promise<unknown>): Promise<Error & Properties> => {
  const error = await work.then(
    () => assert.fail("it did not fail"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof Error);
  return error as Error & Properties;
};

describe("the adapter between lifecycles and the engine", () => {
  afterEach(() => {
    mock.timers.reset();
  });

  describe("check", () => {
    it("fills in defaults and keeps the properties that the class and the adapter exchange", async () => {
      const { provider } = thing();
      const result = await provider.check({}, { cluster: { endpoints: [{ host: "bcn2" }] }, name: "web", ...internal });
      assert.deepEqual(result, { inputs: { ...inputs }, failures: [] });
    });

    it("reports each problem as one sentence that begins with the property", async () => {
      const { provider } = thing();
      const { failures } = await provider.check({}, { cluster, colour: 3, ...internal });
      assert.deepEqual(failures, [
        { property: "", reason: "name is required" },
        { property: "", reason: "colour must be a string" },
      ]);
    });

    it("checks rules over several inputs only when all of them are known and valid", async () => {
      const together: Properties[] = [];
      const { provider } = thing({
        checkTogether: (given) => {
          together.push(given);
          return [{ property: "note", reason: "contradicts name" }];
        },
      });
      await provider.check({}, { ...inputs, name: UNKNOWN });
      await provider.check({}, { ...inputs, name: 3 });
      assert.deepEqual(together, []);
      const { failures } = await provider.check({}, inputs);
      assert.deepEqual(failures, [{ property: "", reason: "note contradicts name" }]);
      assert.deepEqual(
        together.map((seen) => "__urn" in seen),
        [false],
      );
    });

    it("does not change an unknown value at any depth", async () => {
      const { provider } = thing();
      const unknown = { cluster: { endpoints: [{ host: UNKNOWN }] }, name: UNKNOWN, ...internal };
      const { inputs: checked, failures } = await provider.check({}, unknown);
      assert.deepEqual(failures, []);
      assert.deepEqual(checked, { ...unknown, colour: "red" });
    });
  });

  describe("diff", () => {
    const diff = (olds: Properties, news: Properties, over: Partial<Lifecycle<Inputs, Outputs>> = {}) =>
      thing(over).provider.diff("web", olds, news);

    it("reports no difference for equal values, whatever the order of members", async () => {
      const shuffled = { ...Object.fromEntries(Object.entries(inputs).reverse()) };
      assert.deepEqual(await diff(state, shuffled), { changes: false, replaces: [], deleteBeforeReplace: false });
    });

    it("reports a change, and a replacement only for an immutable input, deleting first because the name is in use", async () => {
      assert.deepEqual(await diff(state, { ...inputs, colour: "blue" }), {
        changes: true,
        replaces: [],
        deleteBeforeReplace: false,
      });
      assert.deepEqual(await diff(state, { ...inputs, name: "db" }), {
        changes: true,
        replaces: ["name"],
        deleteBeforeReplace: true,
      });
    });

    it("treats an unknown input as one that may change, and compares the rest as if it did not", async () => {
      const seen: unknown[] = [];
      const result = await diff(
        state,
        { ...inputs, colour: UNKNOWN },
        {
          sameBy: {
            colour: (old, wanted) => {
              seen.push(old, wanted);
              return true;
            },
          },
        },
      );
      assert.deepEqual(result, { changes: true, replaces: [], deleteBeforeReplace: false });
      assert.deepEqual(seen, ["red", "red"]);
      assert.equal((await diff(state, { ...inputs, cluster: { endpoints: [host(UNKNOWN)] } })).changes, true);
      assert.deepEqual((await diff(state, { ...inputs, name: UNKNOWN })).replaces, ["name"]);
    });

    it("reports a change when the object is unfinished, even without another difference, with the reason", async () => {
      const { provider, said } = thing();
      assert.equal((await provider.diff("web", { ...state, unfinished: "web has no address" }, inputs)).changes, true);
      assert.deepEqual(said, ["warning URN: web has no address"]);
    });

    it("reports no change when the cluster has grown or its endpoints are reordered", async () => {
      assert.equal((await diff(state, { ...inputs, cluster: { endpoints: [host("bcn2"), host("bcn1")] } })).changes, false);
      assert.equal((await diff(state, { ...inputs, cluster: { endpoints: [host("bcn1"), host("bcn2")] } })).changes, false);
    });

    it("reports a change when the cluster has lost an endpoint, or one has another connection", async () => {
      const two = { ...state, cluster: { endpoints: [host("bcn2"), host("bcn1")] } };
      assert.equal((await diff(two, inputs)).changes, true);
      assert.equal((await diff(state, { ...inputs, cluster: { endpoints: [host("bcn2", { port: 2222 })] } })).changes, true);
      assert.equal((await diff(state, { ...inputs, timeouts: { create: 5 } })).changes, true);
      assert.deepEqual((await diff(two, inputs)).replaces, []);
    });

    it("reports no change for connection defaults that the program did not set and earlier versions stored", async () => {
      const older = { ...state, cluster: { endpoints: [withAllDefaults("bcn2")] } };
      assert.equal((await diff(older, inputs)).changes, false);
      assert.equal((await diff(state, { ...inputs, cluster: older.cluster })).changes, false);
    });

    it("says when only the connection to the object changes, and how", async () => {
      const { provider, said } = thing();
      const endpoint = host("bcn2", { privateKeyPath: "~/.ssh/other", perDialTimeout: 60 });
      await provider.diff("web", state, { ...inputs, cluster: { endpoints: [endpoint] }, timeouts: { create: 5 } });
      assert.deepEqual(said, [
        "info URN: Only the connection or the timeouts change: timeouts.create, cluster.endpoints[0].perDialTimeout, " +
          "cluster.endpoints[0].privateKeyPath",
      ]);
    });

    it("finds no change in how patiently a host is dialled, once the object was read by what state has; the host itself keeps it", async () => {
      const patient = { ...inputs, cluster: { endpoints: [host("bcn2", { perDialTimeout: 60, dialErrorLimit: -1 })] } };
      for (const [lifecycle, changes] of [
        [{}, false],
        [{ isHost: true }, true],
      ] as const) {
        const { provider } = thing(lifecycle);
        assert.equal((await provider.diff("web", state, patient)).changes, true);
        await provider.read("web", state);
        assert.equal((await provider.diff("web", state, patient)).changes, changes);
        const moved = { ...inputs, cluster: { endpoints: [host("bcn2", { perDialTimeout: 60, user: "ops" })] } };
        assert.equal((await provider.diff("web", state, moved)).changes, true);
      }
    });

    it("ignores the pointer and the URN", async () => {
      assert.equal((await diff(state, { ...inputs, __provider: "another", __urn: "another" })).changes, false);
    });

    it("sends warnings of coming effects, and none without a change", async () => {
      const { provider, said } = thing({ previewWarnings: ({ name }) => [`${name} will restart`] });
      await provider.diff("web", state, inputs);
      assert.deepEqual(said, []);
      await provider.diff("web", state, { ...inputs, colour: "blue" });
      assert.deepEqual(said, ["warning URN: web will restart"]);
    });

    it("contacts no host: it needs no connection", async () => {
      const { provider, calls } = thing();
      await provider.diff("web", state, { ...inputs, colour: "blue" });
      assert.deepEqual(calls, []);
    });
  });

  describe("create", () => {
    it("passes the lifecycle its data only, and keeps inputs, outputs, version and pointer", async () => {
      let seen: Properties = {};
      const { provider } = thing({
        create: async (_context, given) => {
          seen = given;
          return { id: "web", outputs: { address: undefined } };
        },
      });
      const { id, outs } = await provider.create(inputs);
      assert.equal(id, "web");
      assert.deepEqual(Object.keys(seen).sort(), ["cluster", "colour", "name"]);
      assert.deepEqual(outs, { ...inputs, schemaVersion: 7 });
    });

    it("never returns an undefined to the engine, at any depth", async () => {
      const messy = fc.object({ values: [fc.string(), fc.constant(undefined), fc.integer()], maxDepth: 3 });
      const clean = (value: unknown): boolean =>
        value === null ||
        typeof value !== "object" ||
        Object.values(value).every((member) => (member !== undefined || Array.isArray(value)) && clean(member));
      await fc.assert(
        fc.asyncProperty(messy, async (outputs) => {
          const { provider } = thing({ create: async () => ({ id: "web", outputs: { ...outputs } }) });
          assert.ok(clean((await provider.create({ ...inputs, note: undefined })).outs));
        }),
      );
    });

    it("keeps an unfinished object: with its id, its outputs, the pointer, and the reason in state", async () => {
      const { provider } = thing({
        create: async () => {
          throw new IncompleteError("web", { address: "10.0.0.7", nothing: undefined }, "web has no address on eth0");
        },
      });
      const error = await failureOf(provider.create(inputs));
      assert.equal(error.message, "web has no address on eth0");
      assert.equal(error["id"], "web");
      assert.deepEqual(error["reasons"], ["web has no address on eth0"]);
      assert.deepEqual(error["properties"], { ...state, unfinished: "web has no address on eth0" });
    });

    it("keeps nothing when nothing exists", async () => {
      const { provider } = thing({
        create: async () => {
          throw new RefusedError("the name is taken");
        },
      });
      const error = await failureOf(provider.create(inputs));
      assert.deepEqual([error.message, "id" in error, "properties" in error], ["the name is taken", false, false]);
    });
  });

  describe("read", () => {
    it("returns the current object, as state and as inputs, both with the pointer", async () => {
      const { provider } = thing();
      assert.deepEqual(await provider.read("web", state), { id: "web", props: state, inputs });
    });

    it("returns an empty id for a deleted object", async () => {
      const { provider } = thing({ read: async () => undefined });
      assert.deepEqual(await provider.read("web", state), { id: "", props: {} });
    });

    it("keeps the reason of an unfinished object, because a refresh clears the engine's own mark", async () => {
      const { provider } = thing();
      const { props, inputs: live } = await provider.read("web", { ...state, unfinished: "no address" });
      assert.equal(props["unfinished"], "no address");
      assert.equal("unfinished" in (live ?? {}), false);
    });

    it("fails when the host cannot be reached, and does not report the object as deleted", async () => {
      const { provider } = thing({
        read: async () => {
          throw new RefusedError("root@bcn2 cannot be reached");
        },
      });
      assert.equal((await failureOf(provider.read("web", state))).message, "root@bcn2 cannot be reached");
    });
  });

  describe("update", () => {
    it("finishes an unfinished object, and then removes the reason", async () => {
      const { provider, calls } = thing();
      const { outs } = await provider.update("web", { ...state, unfinished: "no address" }, inputs);
      assert.deepEqual(calls, ["update"]);
      assert.deepEqual(outs, { ...state, address: "10.0.0.8" });
      assert.equal((await provider.diff("web", outs as Properties, inputs)).changes, false);
    });

    it("keeps the reason when it is unfinished again", async () => {
      const { provider } = thing({
        update: async () => {
          throw new IncompleteError("web", {}, "still no address");
        },
      });
      const error = await failureOf(provider.update("web", { ...state, unfinished: "no address" }, inputs));
      assert.equal(error["id"], "web");
      assert.deepEqual(error["properties"], { ...inputs, schemaVersion: 7, unfinished: "still no address" });
    });

    it("does not change the object when only its connection has changed", async () => {
      const { provider, calls } = thing();
      const moved = { ...inputs, cluster: { endpoints: [host("bcn1")] }, timeouts: { create: 5 } };
      const { outs } = await provider.update("web", state, moved);
      assert.deepEqual(calls, []);
      assert.deepEqual(outs, { ...state, ...moved });
    });

    it("removes an input that is no longer set, so that the next diff is empty", async () => {
      const { provider, calls } = thing();
      const { outs } = await provider.update("web", { ...state, timeouts: { create: 5 } }, inputs);
      assert.deepEqual(calls, []);
      assert.deepEqual(outs, state);
      assert.equal((await provider.diff("web", outs, inputs)).changes, false);
    });

    it("is stable after any change: a second diff is empty", async () => {
      const { provider } = thing();
      const some = fc.record({
        cluster: fc.constantFrom(cluster, { endpoints: [host("bcn1")] }, { endpoints: [host("bcn2"), host("bcn1")] }),
        name: fc.constant("web"),
        colour: fc.constantFrom("red", "blue"),
        note: fc.constantFrom(undefined, "a", "b"),
        timeouts: fc.constantFrom(undefined, { create: 1 }, { read: 2 }),
      });
      await fc.assert(
        fc.asyncProperty(some, some, async (before, after) => {
          const first = (await provider.create({ ...before, ...internal })).outs;
          const { outs } = await provider.update("web", first, { ...after, ...internal });
          assert.equal((await provider.diff("web", outs, { ...after, ...internal })).changes, false);
        }),
      );
    });
  });

  describe("a state of another version", () => {
    const older: Properties = { ...inputs, tint: "red", address: "10.0.0.7", schemaVersion: 6 };
    delete older["colour"];
    const upgrade = ({ tint, ...state }: Readonly<Properties>, schemaVersion: number): Inputs & Outputs => {
      assert.equal(schemaVersion, 6);
      return { ...state, colour: tint } as unknown as Inputs & Outputs;
    };

    it("is read, compared, updated and deleted in today's form when it is older", async () => {
      const given: unknown[] = [];
      const { provider } = thing({
        upgrade,
        update: async (_context, _id, { colour }) => ({ address: given.push(colour).toString() }),
        delete: async (_context, _id, { colour }) => void given.push(colour),
      });
      assert.deepEqual(await provider.diff("web", older, inputs), { changes: false, replaces: [], deleteBeforeReplace: false });
      assert.deepEqual((await provider.read("web", older)).props, state);
      await provider.update("web", older, { ...inputs, colour: "blue" });
      await provider.delete("web", older);
      assert.deepEqual(given, ["red", "red"]);
    });

    it("is passed to the lifecycle unchanged when that has no upgrade", async () => {
      const { provider } = thing();
      assert.equal((await provider.diff("web", { ...state, schemaVersion: 1 }, inputs)).changes, false);
    });

    it("is not touched when it is newer, and names the version to install", async () => {
      const { provider, calls } = thing();
      const newer = { ...state, schemaVersion: 8 };
      for (const call of [
        () => provider.diff("web", newer, inputs),
        () => provider.read("web", newer),
        () => provider.update("web", newer, inputs),
        () => provider.delete("web", newer),
      ]) {
        assert.match(
          (await failureOf(call())).message,
          /^The state of this LxdThing was written by a newer version .*state schema 8; this version reads 7.*Install the newer version in the program's folder/,
        );
      }
      assert.deepEqual(calls, []);
    });
  });

  describe("every call", () => {
    it("does not expose a secret of the former object that LXD quotes: neither in state, nor on the screen", async () => {
      const [old, fresh] = ["the-old-password", "the-new-password"];
      const at = (password: string) => ({ ...inputs, cluster: { endpoints: [host("bcn2", { password })] } });
      const { provider, said } = thing({
        update: async (context) => {
          context.progress(`LXD has ${old}, not ${fresh}`);
          throw new IncompleteError("web", { address: "10.0.0.8" }, `LXD had ${old} and was given ${fresh}`);
        },
        previewWarnings: () => [`${old} becomes ${fresh}`],
      });
      const { outs } = await provider.create(at(old));
      const news = { ...at(fresh), colour: "blue" };
      const error = (await failureOf(provider.update("web", outs, news))) as Error & { properties?: Record<string, unknown> };
      await provider.diff("web", { ...outs, unfinished: `LXD had ${old}` }, news);
      const { failures } = await provider.check(outs, { ...news, [old]: 1 });
      const told = [
        error.message,
        String(error.properties?.["unfinished"]),
        ...said,
        ...failures.map(({ reason }) => reason),
      ].join("\n");
      assert.doesNotMatch(told, /the-(old|new)-password/);
      assert.match(told, /LXD had \[secret\] and was given \[secret\]/);
    });

    it("logs for its own resource, without secrets, and clears the progress", async () => {
      const secret = "correct-horse-battery";
      const { provider, said } = thing({
        create: async (context) => {
          context.progress(`logging in with ${secret}`);
          context.warn(`${secret} is weak`);
          throw new RefusedError(`the host did not accept ${secret}`);
        },
      });
      const error = await failureOf(provider.create({ ...inputs, cluster: { endpoints: [host("bcn2", { password: secret })] } }));
      assert.deepEqual(said, ["progress URN: logging in with [secret]", "warning URN: [secret] is weak", "progress URN: "]);
      assert.equal(error.message, "the host did not accept [secret]");
      assert.doesNotMatch(`${error.stack ?? ""}${String(error)}`, /correct-horse/);
    });

    it("reports once each host whose key is not verified", async () => {
      const careless = connectionSchema.parse({ host: "127.0.0.1", port: 1, password: "p", hostKeyPolicy: "insecure" });
      const { provider, said } = thing({
        read: async (context) => {
          await context.host(careless);
          return undefined;
        },
      });
      await failureOf(provider.read("web", state));
      await failureOf(provider.read("web", state));
      assert.deepEqual(said, ['warning URN: The host key of root@127.0.0.1:1 is not verified (hostKeyPolicy: "insecure")']);
    });

    it("removes secrets from the reason that is stored in state", async () => {
      const { provider } = thing({
        create: async () => {
          throw new IncompleteError("web", {}, "the host did not accept correct-horse-battery");
        },
      });
      const error = await failureOf(
        provider.create({ ...inputs, cluster: { endpoints: [host("bcn2", { password: "correct-horse-battery" })] } }),
      );
      assert.equal((error["properties"] as Properties)["unfinished"], "the host did not accept [secret]");
      assert.deepEqual(error["reasons"], ["the host did not accept [secret]"]);
    });

    it("has the lifecycle's default timeout, or the resource's", async () => {
      const seen: number[] = [];
      const note = (context: Context): void => {
        seen.push(context.deadline.seconds);
      };
      const { provider } = thing({
        create: async (context) => {
          note(context);
          return { id: "web", outputs: {} };
        },
        delete: async (context) => note(context),
      });
      await provider.create(inputs);
      await provider.create({ ...inputs, timeouts: { create: 5 } });
      await provider.delete("web", { ...state, timeouts: { create: 5 } });
      assert.deepEqual(seen, [60, 5, 60]);
    });

    it("ends soon after its timeout also when the lifecycle never returns, and names the last step", async () => {
      mock.timers.enable({ apis: ["setTimeout"] });
      const { provider } = thing({
        create: (context) => {
          context.progress("waiting for web1 to have an address");
          return new Promise(() => undefined);
        },
      });
      const failure = failureOf(provider.create({ ...inputs, timeouts: { create: 5 } }));
      mock.timers.tick(10_001);
      assert.equal(
        (await failure).message,
        "LxdThing create did not finish within 5 s; at the end: waiting for web1 to have an address",
      );
    });

    it("lets the lifecycle report its own timeout first", async () => {
      const { provider } = thing({
        create: (context) =>
          context.deadline.race(new Promise<never>(() => undefined), "waiting for an address").catch((error: unknown) => {
            throw new IncompleteError("web", {}, messageOf(error));
          }),
      });
      const error = await failureOf(provider.create({ ...inputs, timeouts: { create: 0.01 } }));
      assert.equal(error["id"], "web");
      assert.equal(error.message, "LxdThing create did not finish within 0.01 s; at the end: waiting for an address");
    });

    it("is printed once: the engine shows the message, and the SDK nothing", async () => {
      const { provider } = thing({
        delete: async () => {
          throw new RefusedError("not empty");
        },
      });
      const error = await failureOf(provider.delete("web", state));
      const printed: unknown[][] = [];
      const target = { error: (...data: unknown[]) => void printed.push(data) };
      printErrorsOnce(target);
      target.error(`${error}: ${error.stack}`); // the SDK's handling of it
      target.error("something else");
      assert.deepEqual(printed, [["something else"]]);
      assert.equal(error.message, "not empty");
    });
  });
});
