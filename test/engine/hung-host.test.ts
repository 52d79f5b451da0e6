import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import type { FaultRule } from "../../lab/simulated/faults";
import { LxdProfile } from "../../provider/index";
import { figure } from "../support/figure";
import { EngineStack, type Run } from "./workspace";

/** Of which others need a small part, also while the machine is busy: their work is to begin and end within it. */
const READ_SECONDS = 12;
const PROFILES = 10;

/** Two servers that have nothing to do with each other, and one of them hangs. */
describe("a host that hangs", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;
  /** Seconds of a preview when nothing hangs. */
  let clean = 0;

  before(async () => {
    lab = await SimulatedLab.start({
      hosts: [
        { name: "well", lxd: "deb" },
        { name: "ill", lxd: "deb" },
      ],
    });
    stack = await EngineStack.open();
    stack.define(() => {
      for (const { name: host, connection } of lab.hosts) {
        const cluster = { endpoints: [connection] };
        for (let index = 1; index <= PROFILES; index += 1) {
          new LxdProfile(`${host}${index}`, {
            cluster,
            name: `web${index}`,
            description: "as wanted",
            timeouts: { read: READ_SECONDS },
          });
        }
      }
    });
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
    const since = performance.now();
    await stack.preview();
    clean = (performance.now() - since) / 1000;
    await lab.byHand("well", "PUT", "/1.0/profiles/web1", { description: "changed by hand" });
  });

  after(async () => {
    stack.close();
    await lab.stop();
  });

  const CASES: readonly [what: string, fault: FaultRule, said: RegExp][] = [
    [
      "its LXD takes requests and does not answer",
      { when: { host: "ill", path: /./ }, effect: "hang" },
      /LxdProfile read did not finish within 12 s; at the end: (waiting for the answer to GET \/1\.0\S* on|asking LXD on) root@127\.0\.0\.1:PORT/,
    ],
    [
      "its sshd takes connections and does not speak",
      { when: { host: "ill", ssh: "connection" }, effect: "hang" },
      /root@127\.0\.0\.1:PORT cannot be reached by SSH: no answer within (12|1[01]\.\d+|\d(\.\d+)?) s\. Check that it is switched on/,
    ],
  ];

  for (const [what, fault, said] of CASES) {
    it(`fails the preview when ${what}, in its own time and with its name, and does not hold up the others`, async () => {
      const rule = lab.faults.add(fault);
      const since = performance.now();
      const run: Run = await stack.preview();
      const seconds = (performance.now() - since) / 1000;
      rule.remove();
      figure("seconds of a preview with a host that hangs", Math.round(seconds));
      assert.equal(run.ok, false);
      const expected = new RegExp(said.source.replace("PORT", String(lab.host("ill").port)));
      for (let index = 1; index <= PROFILES; index += 1) {
        const errors = run.messages.filter((message) => message.startsWith(`error ill${index}: `));
        assert.ok(
          errors.some((message) => expected.test(message)),
          `ill${index}: ${errors.join("\n")}\n${run.text}`,
        );
      }
      assert.deepEqual(
        run.messages.filter((message) => /^error well/.test(message)),
        [],
      );
      assert.match(run.text, /LxdProfile::well1\][^]*"as wanted" => "changed by hand"/);
      for (let index = 1; index <= PROFILES; index += 1) {
        const took = run.seconds[`LxdProfile well${index}`] ?? Number.NaN;
        assert.ok(took < READ_SECONDS - 1, `well${index} took ${took} s`);
      }
      // One after the other they would take ten times as long.
      assert.ok(seconds - clean < 3 * READ_SECONDS, `the preview took ${seconds} s, and ${clean} s when nothing hung`);
    });
  }

  it("is right again when it answers, and what was changed elsewhere meanwhile is repaired", async () => {
    const { ok, text, steps } = await stack.up();
    assert.ok(ok, text);
    assert.deepEqual(
      steps.filter(({ op }) => op !== "refresh").map(({ op, name }) => `${op} ${name}`),
      ["update well1"],
    );
  });
});
