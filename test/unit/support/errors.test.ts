import assert from "node:assert/strict";
import {
  ApiError,
  CommandError,
  hasCode,
  IncompleteError,
  isNotFound,
  messageOf,
  OperationError,
  RefusedError,
  replyOf,
  TimeoutError,
  TransportError,
  undoing,
} from "../../../provider/support/errors";

describe("errors", () => {
  const notFound = new ApiError("LXD on root@bcn2", "GET", "/1.0/profiles/web", 404, "Profile not found");
  const failed = new OperationError("LXD on root@bcn2", "Creating instance", "No storage pool found");

  it("say what failed, where, and quote LXD", () => {
    assert.equal(notFound.message, "LXD on root@bcn2 answered GET /1.0/profiles/web with 404: Profile not found");
    assert.equal(failed.message, 'LXD on root@bcn2: "Creating instance" failed: No storage pool found');
    assert.equal(
      new CommandError("root@bcn2", "apt-get", 100, "E: no").message,
      "apt-get on root@bcn2 failed with exit code 100: E: no",
    );
    assert.equal(new CommandError("root@bcn2", "false", 1, "").message, "false on root@bcn2 failed with exit code 1");
  });

  it("are distinguished by their code, also when another copy of the package made them", () => {
    const foreign = Object.assign(new Error("gone"), { code: "api", name: "ApiError", status: 404 });
    assert.ok(hasCode(foreign, "api") && isNotFound(foreign));
    assert.equal(hasCode(Object.assign(new Error("connect"), { code: "ECONNREFUSED" }), "transport"), false);
    assert.equal(hasCode("api", "api"), false);
    assert.equal(hasCode(undefined, "api"), false);
    for (const [error, code] of [
      [new RefusedError(""), "refused"],
      [new TransportError("h", ""), "transport"],
      [new TimeoutError(""), "timeout"],
      [new IncompleteError("id", {}, ""), "incomplete"],
    ] as const) {
      assert.ok(hasCode(error, code) && !hasCode(error, "command"));
    }
  });

  it("are not-found by LXD's status, never by its text", () => {
    assert.equal(isNotFound(notFound), true);
    assert.equal(isNotFound(new ApiError("h", "GET", "/", 400, "not found")), false);
    assert.equal(isNotFound(new Error("not found")), false);
  });

  it("return LXD's own text, or their message, whatever was thrown", () => {
    assert.equal(replyOf(notFound), "Profile not found");
    assert.equal(replyOf(failed), "No storage pool found");
    assert.equal(replyOf(new Error("x")), "x");
    assert.equal(messageOf("text"), "text");
    assert.equal(messageOf(undefined), "undefined");
  });

  it("of work are not hidden by those of taking back what it needed, which always happens", async () => {
    const fail = (text: string) => () => Promise.reject(new RefusedError(text));
    let undone = 0;
    const undo = (): Promise<number> => Promise.resolve((undone += 1));
    assert.equal(await undoing(undo, () => Promise.resolve("done")), "done");
    await assert.rejects(undoing(undo, fail("the work")), /^RefusedError: the work$/);
    assert.equal(undone, 2);
    await assert.rejects(
      undoing(fail("the end"), () => Promise.resolve("done")),
      /^RefusedError: the end$/,
    );
    await assert.rejects(
      undoing(fail("the end"), fail("the work")),
      /^RefusedError: the work\. What this needed could not be taken back either: the end$/,
    );
  });
});
