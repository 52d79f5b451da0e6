import assert from "node:assert/strict";
import { Deadline } from "../../../provider/support/deadline";
import { KeyedLock, withLock } from "../../../provider/support/keyed-lock";

describe("withLock", () => {
  let deadline: Deadline;
  beforeEach(() => {
    deadline = new Deadline(60, "the work");
  });
  const held = (): { work: () => Promise<void>; end: () => void } => {
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    return { work: () => ended, end: () => end() };
  };

  it("runs work under one key sequentially, in the order of the calls, and other keys concurrently", async () => {
    const lock = new KeyedLock();
    const order: string[] = [];
    const first = held();
    const note = (name: string) => async (): Promise<void> => void order.push(name);
    const all = [
      withLock(lock, ["a"], deadline, "a", first.work),
      withLock(lock, ["a", "b"], deadline, "a and b", note("second")),
      withLock(lock, ["a"], deadline, "a", note("third")),
    ];
    await withLock(lock, ["b"], deadline, "b", note("beside"));
    assert.deepEqual(lock.heldOf(["a", "b"]), ["a"]);
    first.end();
    await Promise.all(all);
    assert.deepEqual(order, ["beside", "second", "third"]);
    assert.deepEqual(lock.heldOf(["a", "b"]), []);
  });

  it("releases the keys when the work fails, and when the wait for them times out", async () => {
    const lock = new KeyedLock();
    const first = held();
    const running = withLock(lock, ["a"], deadline, "a", first.work);
    let begun = false;
    const late = withLock(lock, ["a"], new Deadline(0.01, "LxdVm create"), "waiting for a", async () => {
      begun = true;
    });
    await assert.rejects(late, /^TimeoutError: LxdVm create did not finish within 0\.01 s; at the end: waiting for a$/);
    first.end();
    await running;
    await assert.rejects(
      withLock(lock, ["a"], deadline, "a", () => Promise.reject(new Error("no"))),
      /^Error: no$/,
    );
    assert.equal(await withLock(lock, ["a"], deadline, "a", async () => 7), 7);
    assert.equal(begun, false);
  });
});
