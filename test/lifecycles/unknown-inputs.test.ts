import assert from "node:assert/strict";
import fc from "fast-check";
import { SimulatedLab } from "../../lab/simulated";
import type { DynamicProvider } from "../../provider/engine/adapter";
import { figure } from "../support/figure";
import type { Properties } from "./engine-model";
import { IMMUTABLE, providerOf, SCHEMA_VERSIONS } from "./histories/world";
import { KINDS, validArgs } from "./support/valid-args";

/** Placeholders of unknown values, one for each type. */
const UNKNOWNS = [
  "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
  "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
  "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
  "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
  "030794c1-ac77-496b-92df-f27374a8bd58",
  "e48ece36-62e2-4504-bad9-02848725956a",
  "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
];

/** The full fingerprint in LXD of an image whose fingerprint the arguments shorten. */
const FINGERPRINT = `0123456789ab${"0".repeat(52)}`;

const USER = { uid: 1500, gid: 1500, home: "/srv/alice", requested: { uid: 1500, home: "/srv/alice" } };
const COMMAND = { stdout: "", stderr: "", isDone: true };
const FILE = { onChangePending: false };
const SERVICE = { activeState: "active", unitFileState: "enabled", restartPending: false };
const PACKAGES = { installed: ["jq"], held: ["curl"], versions: { jq: "1.6-2.1", curl: "7.88.1-10" } };

/** Outputs that `diff` compares or reports, as they are for a complete object. */
const OUTPUTS: Readonly<Record<string, Properties>> = {
  LxdStoragePool: { status: "Created", memberStatus: { bcn1: "Created" }, sources: { bcn1: "/dev/sdb" } },
  LxdNetwork: { status: "Created", memberStatus: { bcn1: "Created" } },
  LxdImage: { fingerprint: FINGERPRINT, created: true },
  LxdVm: {
    status: "Running",
    location: "bcn1",
    imageFingerprint: FINGERPRINT,
    expandedConfig: {},
    expandedDevices: {},
  },
  HostSysctls: { isFileIntact: true },
  VmUser: USER,
  HostUser: USER,
  VmCommand: COMMAND,
  HostCommand: COMMAND,
  VmFile: FILE,
  HostFile: FILE,
  VmService: SERVICE,
  HostService: SERVICE,
  VmPackages: PACKAGES,
  HostPackages: PACKAGES,
};

type Path = readonly (string | number)[];

/** Every path of a value, at every depth. */
function placesIn(value: unknown): Path[] {
  if (value === null || typeof value !== "object") {
    return [];
  }
  return Object.entries(value).flatMap(([key, member]) => {
    const at = Array.isArray(value) ? Number(key) : key;
    return [[at], ...placesIn(member).map((rest): Path => [at, ...rest])];
  });
}

function withUnknownAt<Value>(value: Value, path: Path, unknown: string): Value {
  const [key, ...rest] = path;
  if (key === undefined) {
    return unknown as Value;
  }
  const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string | number, unknown>;
  copy[key] = withUnknownAt(copy[key], rest, unknown);
  return copy as Value;
}

describe("an unknown input", () => {
  let args: ReturnType<typeof validArgs>;
  let places = 0;

  before(async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2" }] });
    const [host] = lab.hosts;
    await lab.stop();
    args = validArgs({ host: "192.0.2.1", hostKey: host?.hostKey });
  });
  after(() => figure("input paths tried with an unknown value", places));

  for (const kind of KINDS) {
    const provider = (): DynamicProvider =>
      providerOf(kind, { progress: () => undefined, info: () => undefined, warn: () => undefined });

    /** Valid inputs of the kind, without those that make a preview contact hosts. */
    const examples = (): Properties[] =>
      (args[kind] ?? []).map((given) => ("adopt" in given ? { ...given, adopt: false } : given));

    /** Runs `check` and `diff` on partly unknown inputs, against the same inputs in state. */
    const judged = async (known: Properties, given: Properties, tops: readonly string[]): Promise<void> => {
      const { inputs: state, failures: none } = await provider().check({}, known);
      assert.deepEqual(none, []);
      const { inputs, failures } = await provider().check(state, given);
      assert.deepEqual(failures, [], "an unknown value is not refused");
      for (const top of tops) {
        assert.deepEqual(inputs[top], given[top], "an unknown value is passed on unchanged");
      }
      const kept = { ...state, ...OUTPUTS[kind], schemaVersion: SCHEMA_VERSIONS[kind] };
      const { changes, replaces, deleteBeforeReplace } = await provider().diff("id", kept, inputs);
      const replacing = tops.filter((top) => IMMUTABLE[kind]?.includes(top));
      assert.equal(changes, true, "it may change");
      assert.deepEqual([...replaces].sort(), [...new Set(replacing)].sort(), "and replaces exactly if the property is immutable");
      assert.equal(deleteBeforeReplace, replacing.length > 0);
    };

    it(`of ${kind} is neither refused nor changed at any depth, and shows as a change, or as a replacement if it could be one`, async () => {
      for (const known of examples()) {
        for (const place of placesIn(known)) {
          for (const unknown of place.length === 1 ? UNKNOWNS : UNKNOWNS.slice(0, 1)) {
            await judged(known, withUnknownAt(known, place, unknown), [String(place[0])]).catch((error: unknown) => {
              throw new Error(`${place.join(".")}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
            });
          }
          places += 1;
        }
      }
    });

    it(`of ${kind} may be combined with other unknown inputs`, async () => {
      const several = fc
        .constantFrom(...examples())
        .chain((known) =>
          fc.tuple(fc.constant(known), fc.subarray(placesIn(known), { minLength: 2 }), fc.constantFrom(...UNKNOWNS)),
        );
      await fc.assert(
        fc.asyncProperty(several, async ([known, chosen, unknown]) => {
          // The deepest first: an unknown object has nothing inside.
          const deepestFirst = [...chosen].sort((a, b) => b.length - a.length);
          const given = deepestFirst.reduce((result, place) => withUnknownAt(result, place, unknown), known);
          await judged(known, given, [...new Set(chosen.map(([top]) => String(top)))]);
        }),
        { numRuns: 30 },
      );
    });
  }
});
