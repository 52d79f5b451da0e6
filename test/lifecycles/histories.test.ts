import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import type { Order, Report } from "./histories/worker";

/** Number of histories; `HISTORIES=5000` for a night. */
const HISTORIES = Number(process.env["HISTORIES"] ?? (isThorough ? 50 : 25));
/**
 * The seed and the path of a failure repeat the same history. By default the histories are the same in every run, so
 * that a change is tested by itself.
 */
const SEED = Number(process.env["HISTORIES_SEED"] ?? (process.env["HISTORIES"] === undefined ? 1 : randomInt(2 ** 31)));
const PATH = process.env["HISTORIES_PATH"];
/** Connections and cached answers belong to a process, so each lane of histories needs one. */
const WORKERS = PATH === undefined ? Math.min(HISTORIES, Math.max(2, availableParallelism())) : 1;

/**
 * A history takes two seconds of one core; four lanes on two cores run eight of them in that time. A slow machine may
 * take twice as long.
 */
const SECONDS_FOR_ONE = 16;
const DEADLINE_SECONDS = 300 + (HISTORIES * SECONDS_FOR_ONE) / WORKERS;

/** Runs histories in other processes. Resolves when all have ended; rejects at the first failure or at the deadline. */
async function played(orders: readonly Order[]): Promise<Report[]> {
  const workers = orders.map((order) =>
    fork(join(__dirname, "histories", "worker.ts"), [JSON.stringify(order)], { execArgv: ["--require", "tsx/cjs"] }),
  );
  const latest = new Map<Order, Report>();
  const howFar = (): string =>
    orders.map((order) => `${latest.get(order)?.counts.histories ?? 0} of ${order.histories} with seed ${order.seed}`).join(", ");
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      Promise.all(workers.map((worker, index) => reportOf(worker, orders[index] as Order, latest))),
      new Promise<never>((_resolve, reject) => {
        const late = (): void => reject(new Error(`histories were cut off after ${DEADLINE_SECONDS} s; played were ${howFar()}`));
        timer = setTimeout(late, DEADLINE_SECONDS * 1000);
      }),
    ]);
  } finally {
    clearTimeout(timer);
    for (const worker of workers) {
      worker.kill();
    }
  }
}

/** The final report of a process. */
function reportOf(worker: ChildProcess, order: Order, latest: Map<Order, Report>): Promise<Report> {
  return new Promise((resolve, reject) => {
    worker.on("message", (message) => {
      const report = message as Report;
      latest.set(order, report);
      if (report.failure !== undefined) {
        const path = order.path ?? String(report.counts.histories);
        const again = `HISTORIES_SEED=${order.seed} HISTORIES_PATH=${path} npx mocha test/lifecycles/histories.test.ts`;
        reject(new Error(`${report.failure}\nTo see it again, and a smaller one of its kind: ${again}`));
      } else if (report.done) {
        resolve(report);
      }
    });
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a process that runs histories ended with ${code} and without a report`)));
  });
}

describe("random histories", () => {
  it("end with hosts that match the program, after any edits, manual changes and faults", async function () {
    this.timeout((DEADLINE_SECONDS + 60) * 1000);
    const each = Math.ceil(HISTORIES / WORKERS);
    // The first failure is reported at once, unreduced. Repeated by its path, it is reduced.
    const orders = Array.from({ length: WORKERS }, (_, index): Order => {
      return { histories: each, seed: SEED + index, ...(PATH === undefined ? { endOnFailure: true } : { path: PATH }) };
    });
    const reports = await played(orders);
    const sum = (count: keyof Report["counts"]): number => reports.reduce((total, { counts }) => total + counts[count], 0);
    figure("random histories run", sum("histories"));
    figure("steps in them", sum("steps"));
    figure("ups compared with their preview and with the live objects", sum("ups"));
    figure("of these, ups that refused something with a reason", sum("refusals"));
    figure("properties compared before and after an up", sum("properties"));
    assert.ok(PATH !== undefined || sum("histories") >= HISTORIES);
  });
});
