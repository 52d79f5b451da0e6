import assert from "node:assert/strict";
import { mock } from "node:test";
import { paced } from "../../../provider/engine/progress";

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 300; turn += 1) {
    await Promise.resolve();
  }
};

describe("progress on a screen without a terminal, where each message is a separate line", () => {
  let lines: string[];
  let show: (urn: string, text: string) => void;

  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    lines = [];
    show = paced(async (urn, text) => void lines.push(`${urn} ${text}`));
  });

  afterEach(() => mock.timers.reset());

  it("is one line per second for an upload of a hundred steps, in order, and always the last one", async () => {
    for (let percent = 0; percent <= 100; percent += 1) {
      show("image", `uploading: ${percent} %`);
      mock.timers.tick(25);
    }
    show("image", "");
    await settled();
    assert.deepEqual(lines, [
      "image uploading: 0 %",
      "image uploading: 39 %",
      "image uploading: 79 %",
      "image uploading: 100 %",
      "image ",
    ]);
  });

  it("shows the last one after a second, also when the work then reports nothing for long", async () => {
    show("image", "uploading: 1 %");
    show("image", "uploading: 2 %");
    show("image", "waiting for LXD to unpack it");
    mock.timers.tick(1000);
    await settled();
    assert.deepEqual(lines, ["image uploading: 1 %", "image waiting for LXD to unpack it"]);
  });

  it("does not repeat a message", async () => {
    for (let second = 0; second < 5; second += 1) {
      show("vm", "waiting for an address");
      mock.timers.tick(1000);
    }
    await settled();
    assert.deepEqual(lines, ["vm waiting for an address"]);
  });

  it("does not delay one resource because of another", async () => {
    show("a", "1");
    show("b", "1");
    show("a", "");
    show("a", "2");
    await settled();
    assert.deepEqual(lines, ["a 1", "b 1", "a ", "a 2"]);
  });

  it("keeps the order when the first message takes longer", async () => {
    const waiting: (() => void)[] = [];
    const slow = paced(async (urn, text) => {
      await new Promise<void>((arrived) => waiting.push(arrived));
      lines.push(`${urn} ${text}`);
    });
    slow("a", "1");
    slow("a", "");
    await settled();
    assert.equal(waiting.length, 1);
    waiting[0]?.();
    await settled();
    waiting[1]?.();
    await settled();
    assert.deepEqual(lines, ["a 1", "a "]);
  });
});
