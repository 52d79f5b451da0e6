import assert from "node:assert/strict";
import { mock } from "node:test";
import { Deadline, until } from "../../../provider/support/deadline";
import { TimeoutError } from "../../../provider/support/errors";

const never = new Promise<never>(() => undefined);

describe("Deadline", () => {
  afterEach(() => {
    mock.timers.reset();
  });

  it("passes on results and errors that come in time", async () => {
    const deadline = new Deadline(60, "the work");
    assert.equal(await deadline.race(Promise.resolve(7), "counting"), 7);
    await assert.rejects(deadline.race(Promise.reject(new Error("no")), "counting"), /^Error: no$/);
  });

  it("names the unfinished work, its timeout, and what it waited for; and releases its resources", async () => {
    let released = 0;
    const error = await new Deadline(0.01, "LxdVm create")
      .race(never, "starting web1", () => released++)
      .catch((e: unknown) => e);
    assert.ok(error instanceof TimeoutError);
    assert.equal(error.message, "LxdVm create did not finish within 0.01 s; at the end: starting web1");
    assert.equal(released, 1);
  });

  it("leaves no timer behind when the work ends first", async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    let expired = false;
    await new Deadline(10, "the work").race(Promise.resolve(), "it", () => {
      expired = true;
    });
    mock.timers.tick(20_000);
    assert.equal(expired, false);
  });

  it("waits for a time longer than a timer's maximum, instead of expiring at once", async () => {
    assert.equal(
      await new Deadline(1e9, "the work").race(new Promise((resolve) => setImmediate(() => resolve("done"))), "it"),
      "done",
    );
  });

  it("gives a part of the work no more time than the whole has", () => {
    const whole = new Deadline(10, "the whole");
    assert.ok(whole.atMost(60, "a part").remainingMs <= 10_000);
    assert.ok(whole.atMost(1, "a part").remainingMs <= 1000);
  });

  it("keeps half of the remaining time for what follows a part, within the requested maximum", () => {
    const whole = new Deadline(10, "the whole");
    assert.equal(whole.atMostHalf(3, "a part").seconds, 3);
    const half = whole.atMostHalf(60, "a part");
    assert.ok(half.seconds <= 5 && half.remainingMs <= 5000);
    assert.equal(half.what, "a part");
    assert.equal(new Deadline(0, "the whole").atMostHalf(60, "a part").remainingMs, 0);
  });

  it("never has negative time left", async () => {
    const deadline = new Deadline(0, "the work");
    await new Promise(setImmediate);
    assert.equal(deadline.remainingMs, 0);
  });

  it("lets work that ends by itself report first, and gives it up after the grace period", async () => {
    const late = new Promise<never>((_resolve, reject) => setTimeout(() => reject(new Error("the VM has no address")), 5));
    await assert.rejects(
      new Deadline(0, "create").enforce(late, 60, () => "?"),
      /the VM has no address/,
    );
    await assert.rejects(
      new Deadline(0, "create").enforce(never, 0.01, () => "waiting for an address"),
      /^TimeoutError: create did not finish within 0 s; at the end: waiting for an address$/,
    );
  });
});

describe("until", () => {
  afterEach(() => {
    mock.timers.reset();
  });

  it("retries until there is a result, and accepts false and null as results", async () => {
    const answers = [undefined, undefined, "ready"];
    assert.equal(await until(new Deadline(10, "the work"), async () => answers.shift()), "ready");
    assert.equal(await until(new Deadline(10, "the work"), async () => false), false);
    assert.equal(await until(new Deadline(10, "the work"), async () => null), null);
  });

  it("reports the last observation at the deadline", async () => {
    await assert.rejects(
      until(new Deadline(0.02, "LxdClusterMember create"), async (report) => {
        report("bcn1 is Offline");
        return undefined;
      }),
      /^TimeoutError: LxdClusterMember create did not finish within 0.02 s; at the end: bcn1 is Offline$/,
    );
  });

  it("tries at least once, also when no time is left", async () => {
    assert.equal(await until(new Deadline(0, "the work"), async () => "there"), "there");
  });

  it("pauses as long as the condition took, so that what is waited for gets half of the time", async () => {
    const times: number[] = [];
    await until(new Deadline(60, "the work"), async () => {
      times.push(performance.now());
      await new Promise((resolve) => setTimeout(resolve, 300));
      times.push(performance.now());
      return times.length > 2 ? "done" : undefined;
    });
    const [called = 0, ended = 0, calledAgain = 0] = times;
    const [took, pause] = [ended - called, calledAgain - ended];
    assert.ok(pause >= took - 2, `${pause} ms after ${took} ms`); // a timer may fire a fraction of a millisecond early
  });

  it("ends with the error of the condition at once", async () => {
    let asked = 0;
    await assert.rejects(
      until(new Deadline(60, "the work"), async () => {
        asked++;
        throw new Error("refused");
      }),
      /refused/,
    );
    assert.equal(asked, 1);
  });

  it("pauses 50 ms at first, so that a quick change is seen quickly, and at most a second", async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    let asked = 0;
    let done = false;
    const pass = async (milliseconds: number): Promise<number> => {
      mock.timers.tick(milliseconds);
      await new Promise(setImmediate); // lets `until` reach its next pause
      return asked;
    };
    const end = until(new Deadline(1e6, "the work"), async () => {
      asked++;
      return done ? "done" : undefined;
    });
    assert.equal(await pass(0), 1);
    assert.equal(await pass(49), 1);
    assert.equal(await pass(1), 2);
    for (let round = 0; round < 20; round++) {
      await pass(1000);
    }
    const before = asked;
    assert.equal(await pass(999), before);
    done = true;
    assert.equal(await pass(1), before + 1);
    assert.equal(await end, "done");
  });
});
