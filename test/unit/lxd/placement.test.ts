import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Candidate,
  type Decision,
  decide,
  type PlacedInstance,
  type PlacementRequest,
} from "../../../provider/lxd/placement/decide";
import { faultsOfPlacement, labelsOf, type Placement, placementSchema } from "../../../provider/lxd/placement/schema";

const GIB = 2 ** 30;

const member = (name: string, more: Partial<Candidate> = {}): Candidate => ({
  name,
  status: "Online",
  failureDomain: "default",
  groups: ["default"],
  scheduler: "all",
  architectures: ["x86_64", "i686"],
  driver: "lxc | qemu",
  faults: [],
  freeDiskBytes: 100 * GIB,
  memory: { totalBytes: 16 * GIB, usedBytes: 2 * GIB },
  cpu: { total: 4, load: 0.5 },
  ...more,
});

const request = (name: string, placement: Partial<Placement> = {}, more: Partial<PlacementRequest> = {}): PlacementRequest => ({
  project: "default",
  name,
  type: "virtual-machine",
  placement: { policy: "leastInstances", spreadFailureDomains: false, ...placement },
  labels: [],
  takes: { memory: { bytes: GIB }, cpus: 1, disk: { pool: "default", bytes: 10 * GIB } },
  group: undefined,
  allowedGroups: undefined,
  architecture: undefined,
  ...more,
});

const instance = (name: string, on: string, more: Partial<PlacedInstance> = {}): PlacedInstance => ({
  project: "default",
  name,
  member: on,
  labels: [],
  ...more,
});

/** Places instances one after the other, each knowing those before. */
function placeAll(
  requests: readonly PlacementRequest[],
  candidates: readonly Candidate[],
  before: readonly PlacedInstance[] = [],
): { placed: PlacedInstance[]; decisions: Decision[] } {
  const placed: PlacedInstance[] = [...before];
  const decisions = requests.map((each) => {
    const decision = decide(each, candidates, placed);
    const { project, name, labels, takes } = each;
    if (decision.member !== undefined) {
      placed.push({ project, name, member: decision.member, labels, takes });
    }
    return decision;
  });
  return { placed, decisions };
}

function countsOf(placed: readonly PlacedInstance[], names: readonly string[]): number[] {
  return names.map((name) => placed.filter((each) => each.member === name).length);
}

const spreadOf = (counts: readonly number[]): number => Math.max(...counts) - Math.min(...counts);

const many = (count: number, placement: Partial<Placement>, more: Partial<PlacementRequest> = {}): PlacementRequest[] =>
  Array.from({ length: count }, (_, index) => request(`new${index}`, placement, more));

const policies = fc.constantFrom<Placement["policy"]>("roundRobin", "leastInstances", "leastMemory", "leastCpu");
const names = ["bcn1", "bcn2", "bcn3", "bcn4"] as const;
const label = fc.constantFrom("web", "db", "cache");
const takes = fc.record({
  memory: fc.oneof(fc.record({ bytes: fc.constantFrom(GIB, 3 * GIB) }), fc.record({ part: fc.constantFrom(0.1, 0.3) })),
  cpus: fc.constantFrom(1, 3),
  disk: fc.option(fc.constant({ pool: "default", bytes: 10 * GIB }), { nil: undefined }),
});
const instances = fc
  .uniqueArray(
    fc.record({
      project: fc.constantFrom("default", "shop"),
      name: fc.constantFrom("a", "b", "c", "d", "e", "f", "new0"),
      member: fc.constantFrom(...names),
      labels: fc.uniqueArray(label),
      takes,
    }),
    { selector: ({ project, name }) => `${project}/${name}`, maxLength: 12 },
  )
  .map((all): PlacedInstance[] => all);
const candidate = (name: string): fc.Arbitrary<Candidate> =>
  fc
    .record({
      status: fc.constantFrom("Online", "Online", "Online", "Offline", "Evacuated", "Blocked"),
      failureDomain: fc.constantFrom("rack1", "rack2"),
      groups: fc.constantFrom(["default"], ["default", "big"], ["big"]),
      scheduler: fc.constantFrom("all", "all", "group", "manual"),
      architectures: fc.constantFrom(["x86_64", "i686"], ["aarch64"]),
      driver: fc.constantFrom("lxc | qemu", "lxc"),
      faults: fc.constantFrom([], [], ["has no pool"]),
      freeDiskBytes: fc.constantFrom(undefined, 5 * GIB, 100 * GIB),
      memory: fc.record({
        totalBytes: fc.constantFrom(GIB / 2, 8 * GIB, 16 * GIB),
        usedBytes: fc.integer({ min: 0, max: GIB / 4 }),
      }),
      cpu: fc.record({ total: fc.constantFrom(1, 4), load: fc.integer({ min: 0, max: 8 }) }),
    })
    .map((facts) => member(name, facts));
const candidates = fc.tuple(...names.map(candidate)).map((all): Candidate[] => all);
const requests = fc
  .record({
    policy: policies,
    spreadFailureDomains: fc.boolean(),
    affinity: fc.option(label, { nil: undefined }),
    antiAffinity: fc.option(label, { nil: undefined }),
    labels: fc.uniqueArray(label),
    type: fc.constantFrom<PlacementRequest["type"]>("container", "virtual-machine"),
    group: fc.constantFrom(undefined, undefined, "big"),
    allowedGroups: fc.constantFrom(undefined, undefined, ["big"]),
    architecture: fc.constantFrom(undefined, "x86_64", "aarch64"),
  })
  .map(({ policy, spreadFailureDomains, affinity, antiAffinity, ...more }) =>
    request("new0", { policy, spreadFailureDomains, affinity, antiAffinity }, more),
  );

describe("the placement of an instance", () => {
  it("does not depend on the order of members and instances", () => {
    const shuffledBy = <Item>(items: readonly Item[], keys: readonly number[]): Item[] =>
      items
        .map((item, index) => ({ item, key: keys[index] ?? 0 }))
        .sort((a, b) => a.key - b.key)
        .map(({ item }) => item);
    const keys = fc.array(fc.integer(), { minLength: 12, maxLength: 12 });
    fc.assert(
      fc.property(requests, candidates, instances, keys, (wanted, all, placed, order) => {
        assert.deepEqual(decide(wanted, shuffledBy(all, order), shuffledBy(placed, order)), decide(wanted, all, placed));
      }),
    );
  });

  it("either chooses a member that is not left out, or leaves out every member with a reason", () => {
    fc.assert(
      fc.property(requests, candidates, instances, (wanted, all, placed) => {
        const { member: chosen, leftOut } = decide(wanted, all, placed);
        assert.ok(leftOut.every(({ reason }) => reason !== ""));
        const out = leftOut.map((each) => each.member);
        assert.deepEqual(out, [...out].sort());
        assert.equal(chosen === undefined, out.length === all.length);
        assert.ok(chosen === undefined || !out.includes(chosen));
      }),
    );
  });

  it("never chooses a member that cannot take the instance", () => {
    fc.assert(
      fc.property(requests, candidates, instances, (wanted, all, placed) => {
        const chosen = all.find(({ name }) => name === decide(wanted, all, placed).member);
        if (chosen === undefined) {
          return;
        }
        assert.deepEqual([chosen.status, chosen.faults], ["Online", []]);
        assert.notEqual(chosen.scheduler, "manual");
        assert.ok(chosen.scheduler === "all" || wanted.group !== undefined);
        assert.ok(wanted.group === undefined || chosen.groups.includes(wanted.group));
        assert.ok(wanted.allowedGroups === undefined || chosen.groups.includes("big"));
        assert.ok(wanted.architecture === undefined || chosen.architectures.includes(wanted.architecture));
        assert.ok(wanted.type === "container" || chosen.driver.includes("qemu"));
        assert.ok(chosen.freeDiskBytes !== 5 * GIB);
      }),
    );
  });

  it("never puts two instances together that antiAffinity keeps apart", () => {
    fc.assert(
      fc.property(policies, fc.nat(8), candidates, instances, (policy, count, all, before) => {
        const wanted = many(count, { policy, antiAffinity: "web" }, { labels: ["web"], type: "container" });
        const known = before.filter((each) => !each.labels.includes("web"));
        const { placed } = placeAll(wanted, all, known);
        const web = placed.filter((each) => each.labels.includes("web")).map((each) => each.member);
        assert.equal(new Set(web).size, web.length);
      }),
    );
  });

  it("puts instances with the same affinity together", () => {
    fc.assert(
      fc.property(policies, fc.integer({ min: 1, max: 8 }), (policy, count) => {
        const { placed } = placeAll(
          many(count, { policy, affinity: "web" }, { labels: ["web"] }),
          names.map((name) => member(name)),
        );
        assert.equal(new Set(placed.map((each) => each.member)).size, 1);
        assert.equal(placed.length, count);
      }),
    );
  });

  it("keeps the numbers of identical instances within one of each other", () => {
    fc.assert(
      fc.property(policies, fc.integer({ min: 1, max: 4 }), fc.nat(20), (policy, size, count) => {
        const all = names.slice(0, size).map((name) => member(name, { freeDiskBytes: undefined }));
        const { placed } = placeAll(many(count, { policy }, { type: "container" }), all);
        assert.equal(placed.length, count);
        assert.ok(spreadOf(countsOf(placed, names.slice(0, size))) <= 1);
      }),
    );
  });

  it("evens out what was there before, with leastInstances", () => {
    fc.assert(
      fc.property(instances, (before) => {
        const others = before.filter(({ name }) => name !== "new0");
        const all = names.map((name) => member(name, { freeDiskBytes: undefined }));
        const { placed } = placeAll(many(4 * others.length, { policy: "leastInstances" }), all, others);
        assert.ok(spreadOf(countsOf(placed, names)) <= 1);
      }),
    );
  });

  it("spreads over failure domains whatever their numbers of members", () => {
    const domains = fc.array(fc.constantFrom("rack1", "rack2", "rack3"), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(policies, domains, fc.nat(12), (policy, racks, count) => {
        const all = names.map((name, index) => member(name, { failureDomain: racks[index] ?? "", freeDiskBytes: undefined }));
        const { placed } = placeAll(many(count, { policy, spreadFailureDomains: true }), all);
        const counts = [...new Set(racks)].map((rack) => {
          const inRack = names.filter((_, index) => racks[index] === rack);
          return countsOf(placed, inRack).reduce((sum, each) => sum + each, 0);
        });
        assert.ok(spreadOf(counts) <= 1);
      }),
    );
  });

  it("counts what a failure domain has on members that are left out", () => {
    const all = [
      member("bcn1", { failureDomain: "rack1", status: "Offline" }),
      member("bcn2", { failureDomain: "rack1" }),
      member("bcn3", { failureDomain: "rack2" }),
    ];
    const wanted = request("web2", { spreadFailureDomains: true });
    assert.equal(decide(wanted, all, [instance("web1", "bcn1")]).member, "bcn3");
  });

  it("chooses the first by name among equal members", () => {
    for (const policy of ["roundRobin", "leastInstances", "leastMemory", "leastCpu"] as const) {
      assert.equal(decide(request("new", { policy }), [member("bcn3"), member("bcn1"), member("bcn2")], []).member, "bcn1");
    }
  });

  it("ignores the instance that it replaces", () => {
    const all = [member("bcn1"), member("bcn2")];
    const placed = [instance("db1", "bcn1", { labels: ["db"] }), instance("db2", "bcn2", { labels: ["db"] })];
    const { member: chosen } = decide(request("db2", { antiAffinity: "db" }, { labels: ["db"] }), all, placed);
    assert.equal(chosen, "bcn2");
  });

  it("takes turns within the project and labels with roundRobin, whatever else runs", () => {
    const all = [member("bcn1"), member("bcn2")];
    const placed = [
      instance("other", "bcn1", { labels: ["db"] }),
      instance("elsewhere", "bcn1", { project: "shop" }),
      instance("web1", "bcn2"),
    ];
    assert.equal(decide(request("web2", { policy: "roundRobin" }), all, placed).member, "bcn1");
    assert.equal(decide(request("web2", { policy: "leastInstances" }), all, placed).member, "bcn2");
  });

  it("compares parts of the memory, and counts what is decided and does not run yet", () => {
    const all = [
      member("bcn1", { memory: { totalBytes: 64 * GIB, usedBytes: 16 * GIB } }),
      member("bcn2", { memory: { totalBytes: 16 * GIB, usedBytes: 6 * GIB } }),
    ];
    const wanted = request("new", { policy: "leastMemory" });
    const first = decide(wanted, all, []);
    assert.equal(first.member, "bcn1");
    assert.equal(first.because, "leastMemory: 16.0 GiB of 64.0 GiB memory in use; bcn2: 6.0 GiB of 16.0 GiB memory in use");
    const takes = { memory: { part: 0.5 }, cpus: 1, disk: undefined };
    assert.equal(decide(wanted, all, [instance("big", "bcn1", { takes })]).member, "bcn2");
  });

  it("compares parts of the CPUs", () => {
    const all = [member("bcn1", { cpu: { total: 32, load: 4 } }), member("bcn2", { cpu: { total: 4, load: 1 } })];
    assert.equal(decide(request("new", { policy: "leastCpu" }), all, []).member, "bcn1");
    const takes = { memory: { bytes: GIB }, cpus: 8, disk: undefined };
    assert.equal(decide(request("new", { policy: "leastCpu" }), all, [instance("big", "bcn1", { takes })]).member, "bcn2");
  });

  it("says of each member that is left out why", () => {
    const reserved = { memory: { bytes: GIB }, cpus: 1, disk: { pool: "default", bytes: 95 * GIB } };
    const out = (
      more: Partial<Candidate>,
      wanted: Partial<PlacementRequest> = {},
      placement: Partial<Placement> = {},
      placed: PlacedInstance[] = [],
    ): string | undefined => decide(request("new", placement, wanted), [member("bcn1", more)], placed).leftOut[0]?.reason;
    assert.equal(out({}), undefined);
    assert.equal(out({ status: "Evacuated" }), "is Evacuated");
    assert.match(out({ scheduler: "manual" }) ?? "", /scheduler\.instance: manual/);
    assert.match(out({ scheduler: "group" }) ?? "", /scheduler\.instance: group/);
    assert.equal(out({ scheduler: "group", groups: ["big"] }, { group: "big" }), undefined);
    assert.equal(out({}, { group: "big" }), 'is not in cluster group "big"');
    assert.match(out({}, { allowedGroups: ["big"] }) ?? "", /restricted\.cluster\.groups: big/);
    assert.equal(out({ faults: ["has no pool", "has no network"] }), "has no pool");
    assert.match(out({}, { architecture: "aarch64" }) ?? "", /it is for aarch64, and the member runs x86_64, i686/);
    assert.equal(out({}, { architecture: "i686" }), undefined);
    assert.match(out({ driver: "lxc" }) ?? "", /cannot run virtual machines/);
    assert.equal(out({ driver: "lxc" }, { type: "container" }), undefined);
    assert.match(
      out({ freeDiskBytes: 9 * GIB }) ?? "",
      /9\.0 GiB are free in storage pool "default", and the root disk needs 10\.0 GiB/,
    );
    assert.match(out({}, {}, {}, [instance("a", "bcn1", { takes: reserved })]) ?? "", /5\.0 GiB are free/);
    assert.match(
      out({ memory: { totalBytes: GIB / 2, usedBytes: 0 } }) ?? "",
      /has 0\.5 GiB of memory, and the instance needs 1\.0 GiB/,
    );
    const web = instance("web1", "bcn1", { labels: ["web"] });
    assert.equal(out({}, {}, { antiAffinity: "web" }, [web]), 'has an instance with label "web": web1 (antiAffinity)');
    assert.equal(out({}, {}, { antiAffinity: "web" }, [{ ...web, project: "shop" }]), undefined);
    assert.equal(out({}, {}, { affinity: "web" }), 'has no instance with label "web" (affinity)');
    assert.equal(out({}, {}, { affinity: "web" }, [web]), undefined);
  });
});

describe("placement", () => {
  it("is refused with a member as target, and allowed with a group", () => {
    const placement = placementSchema.parse({});
    assert.deepEqual(faultsOfPlacement(placement, "@big"), []);
    assert.deepEqual(faultsOfPlacement(undefined, "bcn1"), []);
    assert.deepEqual(
      faultsOfPlacement(placement, "bcn1").map(({ property }) => property),
      ["placement"],
    );
  });

  it("is refused with the same label for affinity and antiAffinity", () => {
    const placement = placementSchema.parse({ affinity: "web", antiAffinity: "web" });
    assert.deepEqual(
      faultsOfPlacement(placement, undefined).map(({ property }) => property),
      ["placement.antiAffinity"],
    );
  });

  it("refuses labels that the key could not hold", () => {
    for (const bad of ["", "a b", "a,b", " web", "\u0007"]) {
      assert.equal(placementSchema.safeParse({ affinity: bad }).success, false, JSON.stringify(bad));
    }
  });

  it("reads the labels of an instance", () => {
    assert.deepEqual(labelsOf({ "user.placement": " web, db,,web " }), ["web", "db"]);
    assert.deepEqual(labelsOf({}), []);
  });
});
