import assert from "node:assert/strict";
import { Deadline } from "../../../provider/support/deadline";
import { SingleFlight } from "../../../provider/support/single-flight";

describe("SingleFlight", () => {
  const soon = (): Deadline => new Deadline(60, "the work");
  const never = (): Promise<never> => new Promise(() => undefined);

  it("runs the work once for all, and keeps its result", async () => {
    const flight = new SingleFlight<number>();
    let begun = 0;
    const begin = async (): Promise<number> => ++begun;
    assert.deepEqual(await Promise.all([flight.join(soon(), "it", begin), flight.join(soon(), "it", begin)]), [1, 1]);
    assert.equal(await flight.join(soon(), "it", begin), 1);
  });

  it("reports a recent failure to callers with short timeouts, until the work succeeds", async () => {
    const flight = new SingleFlight<number>();
    const fail = (): Promise<number> => Promise.reject(new Error("no route"));
    const succeed = async (): Promise<number> => 7;
    await assert.rejects(flight.join(soon(), "it", fail), /no route/);
    await assert.rejects(flight.join(soon(), "it", succeed, false), /no route/);
    assert.equal(await flight.join(soon(), "it", succeed), 7);
    assert.equal(await flight.join(soon(), "it", succeed, false), 7);
  });

  it("tells at once what ran out of time to those who have no more, and begins again for one who has", async () => {
    const flight = new SingleFlight<number>();
    const deadline = new Deadline(0.02, "the first");
    const cut = (): Promise<number> => deadline.race(never(), "it");
    await assert.rejects(flight.join(deadline, "it", cut), /the first did not finish/);
    await assert.rejects(
      flight.join(new Deadline(0.02, "the second"), "it", () => never()),
      /the first did not finish/,
    );
    assert.equal(await flight.join(soon(), "it", async () => 7), 7);
  });
});
