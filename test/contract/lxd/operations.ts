import assert from "node:assert/strict";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { throughRestart } from "../../../provider/lxd/cluster/restarts";
import { requireInstance } from "../../../provider/lxd/instances/instances";
import { untilReady } from "../../../provider/lxd/server";
import { hasCode, messageOf } from "../../../provider/support/errors";
import type { ContractLab, Which } from "./harness";

/** So many at once. */
const OPERATIONS = 64;

/** How long the longest of them takes; a night has the time for 60. */
const LONGEST_SECONDS = Number(process.env["OPERATION_SECONDS"] ?? 6);

/** Later than this nobody learns that an operation has ended, or that it is lost. */
const LATEST_SECONDS = 4;

/** So long the daemon may take to be back and asked. */
const RESTART_SECONDS = 40;

/** A command that sleeps in the instance, and how that ended, in seconds from its start. */
interface Sleep {
  readonly seconds: number;
  ended?: { readonly after: number; readonly outcome: string };
  readonly done: Promise<void>;
}

/** Work in the background: that its end is known, whatever else goes on. */
export function operationsContract(lab: () => ContractLab): void {
  const sleep = (lxd: LxdClient, seconds: number): Sleep => {
    const command = { command: ["sleep", String(seconds)], interactive: false, "wait-for-websocket": false };
    const path = `/1.0/instances/${lab().instance}/exec`;
    let since = performance.now();
    const tell = (outcome: string): void => {
      one.ended = { after: (performance.now() - since) / 1000, outcome };
    };
    const begun = lxd.begin("POST", path, { body: command });
    const one: Sleep = {
      seconds,
      done: begun
        .then((operation) => {
          since = performance.now(); // LXD on slow hosts takes a while to begin all of them
          assert.ok(operation);
          return lxd.finish(operation);
        })
        .then(
          ({ metadata }) => tell(`exit code ${String(metadata?.["return"])}`),
          (error: unknown) => tell(hasCode(error, "lost") ? "lost" : messageOf(error)),
        ),
    };
    return one;
  };
  /** The host that the instance is on. */
  const home = async (): Promise<Which> => {
    const {
      value: { location },
    } = await requireInstance(await lab().work());
    return location === lab().harness.secondary.name ? "secondary" : "primary";
  };
  const allAtOnce = async (): Promise<Sleep[]> => {
    const lxd = await lab().lxd(await home());
    return Array.from({ length: OPERATIONS }, (_, index) =>
      sleep(lxd, 1 + Math.round((index * (LONGEST_SECONDS - 1)) / (OPERATIONS - 1))),
    );
  };

  describe(`${OPERATIONS} operations at once`, function () {
    this.timeout((60 + 2 * LONGEST_SECONDS) * 1000);

    it("are all seen to end, while short ones come and go", async () => {
      const long = await allAtOnce();
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
      const late = Math.max(...[...long, ...short].map(({ seconds, ended }) => (ended?.after ?? 0) - seconds));
      assert.ok(late < LATEST_SECONDS, `the latest was seen ${late} s after its end`);
    });

    it("that end with the daemon are told as lost, and those before it as what they were", async () => {
      const sleeps = await allAtOnce();
      const half = sleeps.filter(({ seconds }) => seconds <= LONGEST_SECONDS / 2);
      await Promise.all(half.map(({ done }) => done));
      const since = performance.now();
      await lab().harness.killLxd(lab().harness[await home()].name);
      await Promise.all(sleeps.map(({ done }) => done));
      const took = (performance.now() - since) / 1000;
      const outcomes = (some: readonly Sleep[]): string[] => [...new Set(some.map(({ ended }) => ended?.outcome ?? ""))].sort();
      assert.deepEqual(outcomes(half), ["exit code 0"]);
      const rest = sleeps.filter((one) => !half.includes(one));
      assert.ok(outcomes(rest).includes("lost"), `none was lost: ${outcomes(rest).join("; ")}`);
      assert.deepEqual(
        outcomes(rest).filter((outcome) => !["lost", "exit code 0"].includes(outcome)),
        [],
      );
      assert.ok(took < RESTART_SECONDS, `the last was told ${took} s after the daemon had ended`);
      const lxd = await lab().lxd(await home());
      await throughRestart(lxd, () => untilReady(lxd));
    });
  });
}
