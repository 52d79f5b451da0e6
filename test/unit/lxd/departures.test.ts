import assert from "node:assert/strict";
import { type Departing, describeDepartures, fateOf, type Surroundings, staying } from "../../../provider/lxd/cluster/departures";

describe("what becomes of an instance when its member is evacuated", () => {
  const instance = (more: Partial<Departing> = {}): Departing => ({
    name: "c1",
    project: "default",
    type: "container",
    status: "Running",
    location: "bcn1",
    architecture: "x86_64",
    ephemeral: false,
    config: {},
    expanded_config: {},
    expanded_devices: { root: { type: "disk", path: "/", pool: "default" } },
    ...more,
  });
  const other = { server_name: "bcn2", status: "Online", architecture: "x86_64", groups: ["default"], config: {} };
  const around = (more: Partial<Surroundings> = {}): Surroundings => ({
    mode: "auto",
    others: [other],
    networks: new Map([
      ["lxdbr0", "bridge"],
      ["up", "physical"],
      ["lan", "macvlan"],
    ]),
    sharedPools: new Set(["ceph"]),
    ...more,
  });
  const fate = (more: Partial<Departing>, surroundings?: Partial<Surroundings>): string => {
    const departure = fateOf(instance(more), around(surroundings));
    return [departure.fate, departure.why].filter((part) => part !== undefined).join(": ");
  };
  const withDevice = (device: Record<string, string>) => ({ expanded_devices: { dev: device } });

  it("is a move, for one that runs as for one that does not", () => {
    assert.deepEqual([fate({}), fate({ status: "Stopped" }), fate({ status: "Frozen" })], ["moved", "moved", "moved"]);
  });

  it("is a live migration for a virtual machine that is ready for it, while it runs", () => {
    const vm = { type: "virtual-machine", expanded_config: { "migration.stateful": "true" } };
    assert.deepEqual(
      [fate(vm), fate({ ...vm, status: "Stopped" }), fate({ ...vm, type: "container" }), fate({ ...vm, expanded_config: {} })],
      ["live-migrated", "moved", "moved", "moved"],
    );
    assert.equal(fate(vm, { mode: "migrate" }), "moved");
  });

  for (const [device, movable] of [
    [{ type: "none" }, true],
    [{ type: "tpm" }, true],
    [{ type: "disk", path: "/data", pool: "ceph", source: "v1" }, true],
    [{ type: "disk", path: "/data", pool: "default", source: "v1" }, false],
    [{ type: "disk", path: "/srv", source: "/srv" }, false],
    [{ type: "nic", network: "lxdbr0" }, true],
    [{ type: "nic", nictype: "bridged", parent: "lxdbr0" }, true],
    [{ type: "nic", nictype: "bridged", parent: "br0" }, false],
    [{ type: "nic", network: "lan" }, true],
    [{ type: "nic", nictype: "macvlan", parent: "eth0" }, false],
    [{ type: "nic", network: "up" }, false],
    [{ type: "gpu" }, false],
    [{ type: "proxy" }, false],
    [{ type: "usb" }, false],
  ] as const) {
    it(`is a ${movable ? "move" : "stop"} with the device ${JSON.stringify(device)}`, () => {
      const stays = `stopped: its device dev (${device.type}) is bound to the member`;
      assert.equal(fate(withDevice(device)), movable ? "moved" : stays);
      assert.equal(fate(withDevice(device), { mode: "migrate" }), "moved");
      assert.equal(fate({ ...withDevice(device), expanded_config: { "cluster.evacuate": "migrate" } }), "moved");
    });
  }

  it("is what its own key says, and what the mode says before that", () => {
    const stop = { expanded_config: { "cluster.evacuate": "stop" } };
    const live = { expanded_config: { "cluster.evacuate": "live-migrate" } };
    assert.deepEqual(
      [fate(stop), fate({ ...stop, status: "Stopped" }), fate(stop, { mode: "migrate" }), fate({}, { mode: "stop" })],
      ["stopped: cluster.evacuate: stop", "left: cluster.evacuate: stop", "moved", "stopped: mode stop"],
    );
    assert.deepEqual([fate(live), fate(live, { mode: "stop" })], ["live-migrated", "stopped: mode stop"]);
    assert.equal(fate({ expanded_config: { "cluster.evacuate": "stateful-stop" } }), "stopped: cluster.evacuate: stateful-stop");
  });

  it("ends the daemon at a path of the host, unless the instance or the mode decides", () => {
    const srv = withDevice({ type: "disk", path: "/srv", source: "/srv" });
    const endsAt = (more: Partial<Departing>, mode: Surroundings["mode"] = "auto") =>
      fateOf(instance(more), around({ mode })).endsAt;
    assert.deepEqual([endsAt(srv), endsAt({ ...srv, status: "Stopped" }), endsAt({})], ["dev", "dev", undefined]);
    assert.deepEqual([endsAt(srv, "migrate"), endsAt(srv, "stop")], [undefined, undefined]);
    assert.equal(endsAt({ ...srv, expanded_config: { "cluster.evacuate": "stop" } }), undefined);
    assert.equal(endsAt(withDevice({ type: "disk", path: "/data", pool: "default", source: "v1" })), undefined);
  });

  it("is the loss of an ephemeral one that is stopped", () => {
    assert.deepEqual(
      [
        fate({ ephemeral: true }),
        fate({ ephemeral: true, status: "Stopped" }),
        fate({ ephemeral: true }, { mode: "live-migrate" }),
      ],
      ["deleted: it is ephemeral", "moved", "live-migrated"],
    );
    assert.equal(fate({ ephemeral: true }, { mode: "live-migrate", others: [] }), "deleted: it is ephemeral");
  });

  it("is a stop where no other member can take it", () => {
    const none = "stopped: no other member can take it";
    for (const others of [
      [],
      [{ ...other, status: "Offline" }],
      [{ ...other, status: "Evacuated" }],
      [{ ...other, architecture: "aarch64" }],
      [{ ...other, config: { "scheduler.instance": "manual" } }],
      [{ ...other, config: { "scheduler.instance": "group" } }],
    ]) {
      assert.equal(fate({}, { others }), none);
    }
    const placed = { config: { "volatile.cluster.group": "ssd" } };
    assert.equal(fate(placed), none);
    const inGroup = { ...other, groups: ["ssd"], config: { "scheduler.instance": "group" } };
    assert.equal(fate(placed, { others: [inGroup] }), "moved");
  });

  it("does not need the contents of one whose member does not answer", () => {
    assert.equal(fate({ status: "Error", config: null, expanded_config: null, expanded_devices: null }), "moved");
  });

  it("is told in one line, by what becomes of them, and not of too many", () => {
    const departures = [
      fateOf(instance({ project: "shop" }), around()),
      fateOf(instance({ name: "c2", expanded_config: { "cluster.evacuate": "stop" } }), around()),
    ];
    assert.equal(
      describeDepartures(departures),
      "moved to other members, stopped meanwhile if they run: shop/c1; stopped, and stay: c2 (cluster.evacuate: stop)",
    );
    assert.deepEqual(
      staying(departures).map(({ instance: name }) => name),
      ["c2"],
    );
    const many = Array.from({ length: 12 }, (_, index) => fateOf(instance({ name: `c${index}` }), around()));
    assert.match(describeDepartures(many), /: c0, .*c9 and 2 more$/);
  });
});
