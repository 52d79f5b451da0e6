import assert from "node:assert/strict";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { Deadline } from "../../provider/support/deadline";
import { hasCode, messageOf } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { connect } from "../../provider/transport/pool";
import { type SimulatedCluster, startWithInstance } from "../unit/resources/simulated-cluster";
import { Clock } from "./support/clock";

const SECONDS = 900;

/** Step of the clock, after which socket traffic is processed. */
const STEP_MS = 100;

/** Concurrent operations, lasting 1 to 60 seconds. */
const DURATIONS = Array.from({ length: 64 }, (_, index) => 1 + Math.round((index * 59) / 63));

describe("operations of LXD", () => {
  let standalone: SimulatedCluster;
  let clock: Clock;
  let lxd: LxdClient;

  beforeEach(async () => {
    standalone = await startWithInstance("container");
    const [host] = standalone.lab.hosts;
    const deadline = new Deadline(SECONDS, "the work");
    const ssh = await connect(connectionSchema.parse(host?.connection), { deadline });
    lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
    clock = new Clock();
  });
  afterEach(async () => {
    clock.restore();
    const { defects } = standalone.lab;
    await standalone.stop();
    assert.deepEqual(defects, []);
  });

  /** Moves the clock forward step by step until the promise is settled, or the seconds have passed. */
  const pass = async (seconds: number, until: () => boolean = () => false): Promise<void> => {
    for (let ms = 0; ms < seconds * 1000 && !until(); ms += STEP_MS) {
      clock.forward(STEP_MS);
      await clock.turn();
    }
  };

  /** Sleeps in a guest. Returns the result, and the seconds until then. */
  const sleep = (seconds: number, instance = "web1", project = "default"): { second: number; outcome: string } => {
    const ended = { second: Number.NaN, outcome: "" };
    const since = performance.now();
    const tell = (outcome: string): void => {
      Object.assign(ended, { outcome, second: (performance.now() - since) / 1000 });
    };
    lxd
      .change("POST", `/1.0/instances/${instance}/exec`, {
        query: { project },
        body: { command: ["sleep", String(seconds)], interactive: false, "wait-for-websocket": false },
      })
      .then(
        (operation) => tell(`exit code ${String(operation?.metadata?.["return"])}`),
        (error: unknown) => tell(hasCode(error, "lost") ? "lost" : messageOf(error)),
      );
    return ended;
  };

  it("of 1 to 60 s, 64 at once, are all seen to end, while short ones start and end", async () => {
    const long = DURATIONS.map((seconds) => sleep(seconds));
    const short: ReturnType<typeof sleep>[] = [];
    while (long.some(({ outcome }) => outcome === "") && short.length < 70) {
      short.push(sleep(0.1));
      await pass(1);
    }
    await pass(2);
    assert.deepEqual(
      [...long, ...short].map(({ outcome }) => outcome).filter((outcome) => outcome !== "exit code 0"),
      [],
    );
    const late = long.map(({ second }, index) => second - (DURATIONS[index] ?? 0));
    // The clock includes the seconds that this machine takes. LXD forgets an operation 5 s after its end.
    assert.ok(Math.max(...late) < 8, `the latest was seen ${Math.max(...late)} s after its end`);
    assert.ok(Math.max(...short.map(({ second }) => second)) < 8);
  });

  it("of all projects are read in one request, and none is read individually", async () => {
    const { lab } = standalone;
    await lab.byHand("bcn2", "POST", "/1.0/projects", { name: "shop", config: { "features.profiles": "false" } });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    lab.seedInstances(1, { host: "bcn2", prefix: "till", project: "shop", type: "container", devices });
    const since = lab.requests.length;
    const all = Array.from({ length: 8 }, () => [sleep(6), sleep(6, "till1", "shop")]).flat();
    await pass(5);
    const looks = lab.requests.slice(since).filter(({ path }) => path.startsWith("/1.0/operations") && !path.includes("/wait"));
    await pass(5, () => all.every(({ outcome }) => outcome !== ""));
    assert.deepEqual([...new Set(all.map(({ outcome }) => outcome))], ["exit code 0"]);
    assert.ok(looks.length >= 2, String(looks.length));
    assert.deepEqual(
      looks.filter(({ path }) => !path.startsWith("/1.0/operations?")),
      [],
    );
  });

  it("that a restart of the daemon ends are reported as lost, at once, and no others", async () => {
    standalone.lab.timings.daemonStartMs = 20; // of the real clock, which continues while the test moves its own forward
    const since = performance.now();
    const sleeps = DURATIONS.map((seconds) => sleep(seconds));
    await pass(30);
    const restarted = (performance.now() - since) / 1000;
    standalone.lab.hosts[0]?.controlUnit("restart", "lxd.service");
    await pass(20, () => sleeps.every(({ outcome }) => outcome !== ""));
    for (const [index, { outcome, second }] of sleeps.entries()) {
      const duration = DURATIONS[index] ?? 0;
      if (Math.abs(duration - restarted) > 5) {
        assert.equal(outcome, duration < restarted ? "exit code 0" : "lost", `the one of ${duration} s`);
      }
      assert.ok(second < restarted + 20, `the one of ${duration} s was reported after ${second} s`);
    }
    assert.ok(sleeps.some(({ outcome }) => outcome === "lost") && sleeps.some(({ outcome }) => outcome === "exit code 0"));
  });

  it("are seen to end although an answer is later than every deadline", async () => {
    const { faults } = standalone.lab;
    faults.add({ when: { path: /^\/1\.0\/operations\/.*\/wait/, nth: 1 }, effect: { delayMs: 35_000 } });
    faults.add({ when: { path: /^\/1\.0\/operations\/[^/]+$/, nth: 1 }, effect: { delayMs: 35_000 } });
    const one = sleep(3);
    await pass(60, () => one.outcome !== "");
    assert.equal(one.outcome, "exit code 0");
    assert.ok(one.second < 30, `it took ${one.second} s, as if it had waited for the late answer`);
  });

  it("are waited for while LXD cannot be asked", async () => {
    const rule = standalone.lab.faults.add({
      when: { path: /^\/1\.0\/operations/ },
      effect: { status: 500, error: "no dqlite" },
    });
    const one = sleep(12);
    await pass(10);
    assert.equal(one.outcome, "");
    rule.remove();
    await pass(10, () => one.outcome !== "");
    assert.equal(one.outcome, "exit code 0");
  });
});
