import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import type { Order, Report } from "./histories/worker";

/** How many histories are played; `HISTORIES=5000` for a night. */
const HISTORIES = Number(process.env["HISTORIES"] ?? (isThorough ? 500 : 25));
/**
 * With the seed and the path of a failure the same history is played again. Unless a number of histories is asked for, they are the same
 * every time, so that a change is judged by itself.
 */
const SEED = Number(process.env["HISTORIES_SEED"] ?? (process.env["HISTORIES"] === undefined ? 1 : randomInt(2 ** 31)));
const PATH = process.env["HISTORIES_PATH"];
/** Connections and cached answers belong to a process, so that histories side by side need one each. */
const WORKERS = PATH === undefined ? Math.min(HISTORIES, Math.max(2, availableParallelism())) : 1;

const MINUTES_FOR_A_HUNDRED = 2;

/** Plays histories in another process. */
function played(order: Order): Promise<Report> {
  return new Promise((resolve, reject) => {
    const worker = fork(join(__dirname, "histories", "worker.ts"), [JSON.stringify(order)], {
      execArgv: ["--require", "tsx/cjs"],
    });
    worker.once("message", (report) => resolve(report as Report));
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a process that plays histories ended with ${code} and without a report`)));
  });
}

describe("random histories", () => {
  it("end with hosts that are as the program says, whatever was edited, changed by hand and went wrong before", async function () {
    this.timeout((5 + (HISTORIES / 100) * MINUTES_FOR_A_HUNDRED) * 60_000);
    const each = Math.ceil(HISTORIES / WORKERS);
    const orders = Array.from({ length: WORKERS }, (_, index): Order => {
      return { histories: each, seed: SEED + index, ...(PATH === undefined ? {} : { path: PATH }) };
    });
    const reports = await Promise.all(orders.map(played));
    const sum = (count: keyof Report["counts"]): number => reports.reduce((total, { counts }) => total + counts[count], 0);
    figure("random histories played", sum("histories"));
    figure("steps in them", sum("steps"));
    figure("ups compared with their preview and with the live objects", sum("ups"));
    figure("of these, ups that refused something with a reason", sum("refusals"));
    figure("properties compared before and after an up", sum("properties"));
    for (const [index, { failure }] of reports.entries()) {
      const again = `To see it again: HISTORIES_SEED=${SEED + index} HISTORIES_PATH=<path> npx mocha test/lifecycles/histories.test.ts`;
      assert.equal(failure, undefined, `${failure}\n${again}`);
    }
    assert.ok(PATH !== undefined || sum("histories") >= HISTORIES);
  });
});
