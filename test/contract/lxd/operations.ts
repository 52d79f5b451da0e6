import assert from "node:assert/strict";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { throughRestart, untilReady } from "../../../provider/lxd/cluster/restarts";
import { deleteImage, uploadImage } from "../../../provider/lxd/images/images";
import { createInstance } from "../../../provider/lxd/instances/creation";
import { runInInstance } from "../../../provider/lxd/instances/exec";
import { deleteInstance, forceStopInstance, requireInstance, startInstance } from "../../../provider/lxd/instances/instances";
import { createVolume, deleteVolume, findVolume } from "../../../provider/lxd/storage-and-networks/volumes";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { type ContractLab, failed, type Which } from "./harness";

/** Number of concurrent operations. */
const OPERATIONS = 64;

/** Duration of the longest operation; a nightly run uses 60. */
const LONGEST_SECONDS = Number(process.env["OPERATION_SECONDS"] ?? 6);

/** Longer than any test. */
const FOR_EVER_SECONDS = 3600;

/** Maximum delay to see the end of an operation: LXD forgets it after five seconds. */
const LATEST_SECONDS = 6;

/** Maximum time until the daemon is back and asked, on busy hosts. Less than the timeout of a step. */
const RESTART_SECONDS = 120;

/** A command that sleeps in the instance; its result, and the seconds between its end and its report. */
interface Sleep {
  ended?: { readonly late: number; readonly outcome: string };
  readonly begun: Promise<unknown>;
  readonly done: Promise<void>;
}

/** A client that sends its requests to one member, and waits for the operations through another one. */
function awaitedThrough(asked: LxdClient, other: LxdClient): LxdClient {
  const finish: LxdClient["finish"] = (...operation) => other.finish(...operation);
  return Object.create(asked, { finish: { value: finish } }) as LxdClient;
}

/** Background work: its end is seen, whatever else runs. */
export function operationsContract(lab: () => ContractLab): void {
  const sleep = (lxd: LxdClient, seconds: number): Sleep => {
    const command = { command: ["sleep", String(seconds)], interactive: false, "wait-for-websocket": false };
    const path = `/1.0/instances/${lab().instance}/exec`;
    const tell = (outcome: string, endedAt = Date.now()): void => {
      one.ended = { late: (Date.now() - endedAt) / 1000, outcome };
    };
    const begun = lxd.begin("POST", path, { body: command });
    const one: Sleep = {
      begun,
      done: begun
        .then((operation) => {
          assert.ok(operation);
          return lxd.finish(operation);
        })
        .then(
          // Judged by LXD's own status: busy hosts take a while to start so many.
          ({ metadata, updated_at }) => tell(`exit code ${String(metadata?.["return"])}`, Date.parse(String(updated_at))),
          (error: unknown) => tell(hasCode(error, "lost") ? "lost" : messageOf(error)),
        ),
    };
    return one;
  };
  /** The host of the instance. */
  const home = async (): Promise<Which> => {
    const {
      value: { location },
    } = await requireInstance(await lab().work());
    return location === lab().harness.secondary.name ? "secondary" : "primary";
  };
  /** That many at once, lasting 1 s up to the longest. */
  const atOnce = async (count: number, longest: number): Promise<Sleep[]> => {
    const lxd = await lab().lxd(await home());
    return Array.from({ length: count }, (_, index) => sleep(lxd, 1 + Math.round((index * (longest - 1)) / (count - 1))));
  };

  for (const [asked, other] of [
    ["primary", "secondary"],
    ["secondary", "primary"],
  ] as const) {
    describe(`operations that the ${asked} is asked for and the ${other} is asked about`, () => {
      const client = async (): Promise<LxdClient> => awaitedThrough(await lab().lxd(asked), await lab().lxd(other));

      for (const member of ["primary", "secondary"] as const) {
        it(`are seen to end, with their results, when they run on the ${member}`, async () => {
          const lxd = await client();
          const { name } = lab().harness[member];
          const work = { ...(await lab().work("o1")), lxd };
          const image = { alias: lab().alias };
          const body = {
            type: "container",
            image,
            profiles: ["default"],
            description: "",
            ephemeral: false,
            config: {},
            devices: {},
          } as const;
          await createInstance(work, body, name, () => lab().lxd());
          assert.equal((await requireInstance(work)).value.location, name);
          await startInstance(work, { status: "Stopped" });
          assert.equal((await runInInstance(work, { argv: ["echo", "there"] })).stdout, "there\n");
          assert.equal((await runInInstance(work, { argv: ["false"], allowFailure: true })).exitCode, 1);
          await forceStopInstance(work);
          await deleteInstance(work);
          const volume = { project: lab().project, pool: lab().pool, name: "o1", location: name };
          await createVolume(lxd, volume, { target: name, contentType: "filesystem", description: "", config: {} });
          await deleteVolume(lxd, volume);
          assert.equal(await findVolume(lxd, volume), undefined);
        });
      }

      it("are seen to fail, with LXD's reason", async () => {
        const { location } = (await requireInstance(await lab().work())).value;
        const lxd = await client();
        const starting = lxd.change("PUT", `/1.0/instances/${lab().instance}/state`, { body: { action: "start" } });
        await failed(starting, /already running/i);
        assert.equal((await requireInstance({ ...(await lab().work()), lxd })).value.location, location);
      });

      it("are seen to end for an image", async () => {
        const lxd = await client();
        const fingerprint = await lab().fingerprint();
        await deleteImage(lxd, lab().project, fingerprint);
        const image = { fingerprint, public: false, properties: {} };
        await uploadImage(lxd, lab().project, lab().harness.image, image, () => undefined);
        await lxd.change("POST", "/1.0/images/aliases", { body: { name: lab().alias, target: fingerprint, description: "" } });
      });
    });
  }

  describe(`${OPERATIONS} operations at once`, function () {
    this.timeout((600 + 2 * LONGEST_SECONDS) * 1000);

    it("are all seen to end, while short ones start and end", async () => {
      const long = await atOnce(OPERATIONS, LONGEST_SECONDS);
      const all = Promise.all(long.map(({ done }) => done));
      const short: Sleep[] = [];
      const lxd = await lab().lxd();
      while (long.some(({ ended }) => ended === undefined)) {
        const one = sleep(lxd, 0.1);
        short.push(one);
        await Promise.race([one.done, all]);
      }
      await Promise.all(short.map(({ done }) => done));
      const wrong = [...long, ...short].filter(({ ended }) => ended?.outcome !== "exit code 0");
      assert.deepEqual(wrong, []);
      const late = Math.max(...[...long, ...short].map(({ ended }) => ended?.late ?? Number.NaN));
      assert.ok(late < LATEST_SECONDS, `the latest was seen ${late} s after its end`);
    });

    it("that end with the daemon are reported as lost, and those before it with their results", async () => {
      const there = await lab().lxd(await home());
      const rest = Array.from({ length: OPERATIONS / 2 }, () => sleep(there, FOR_EVER_SECONDS));
      await Promise.all(rest.map(({ begun }) => begun));
      const ending = await atOnce(OPERATIONS / 2, LONGEST_SECONDS / 2);
      await Promise.all(ending.map(({ done }) => done));
      const since = performance.now();
      await lab().harness.killLxd(lab().harness[await home()].name);
      await Promise.all(rest.map(({ done }) => done));
      const took = (performance.now() - since) / 1000;
      const outcomes = (some: readonly Sleep[]): string[] => [...new Set(some.map(({ ended }) => ended?.outcome ?? ""))].sort();
      assert.deepEqual(outcomes(ending), ["exit code 0"]);
      assert.deepEqual(outcomes(rest), ["lost"]);
      assert.ok(took < RESTART_SECONDS, `the last was reported ${took} s after the daemon had ended`);
      const lxd = await lab().lxd(await home());
      await throughRestart(lxd, () => untilReady(lxd));
      assert.equal(
        (await requireInstance(await lab().work())).value.status,
        "Running",
        "an instance keeps running without its daemon",
      );
    });
  });
}
