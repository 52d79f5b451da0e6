import assert from "node:assert/strict";
import { messageOf } from "../../provider/support/errors";
import { callsOf } from "../contract/lxd/calls";
import { figure } from "../support/figure";
import { liveState } from "./live-state";
import { SCENARIOS } from "./scenarios";
import { inLab } from "./scenarios/in-lab";

/** LXD's text for any error caused by a missing file or row, on any object. */
const MISSING = { status: 404, error: "no such file or directory" };

describe("a removal that LXD answers with 404 although the object exists", () => {
  const tried = new Set<string>();
  let answered = 0;

  after(() => {
    for (const removed of ["members", "storage-pools", "networks", "images", "profiles", "instances"]) {
      assert.ok(
        [...tried].some((call) => call.includes(`/${removed}/`)),
        removed,
      );
    }
    figure("removals answered with 404", answered);
  });

  for (const [index, scenario] of SCENARIOS.entries()) {
    const flavours = scenario.flavours ?? (["bookworm-lxd", "lxd-6"] as const);
    const flavour = flavours[index % flavours.length] ?? "lxd-6";

    it(`does not succeed: ${scenario.kind} ${scenario.title}, ${flavour}`, async () => {
      const removals = await inLab(scenario, flavour, async (lab) => {
        const managed = scenario.manage();
        await managed.up(scenario.first(lab));
        const since = lab.requests.length;
        await managed.destroy();
        return { calls: callsOf(lab.requests.slice(since)).filter((call) => call.startsWith("DELETE ")), left: liveState(lab) };
      });
      for (const call of removals.calls) {
        await inLab(scenario, flavour, async (lab) => {
          const managed = scenario.manage();
          await managed.up(scenario.first(lab));
          const [route = ""] = call.slice("DELETE ".length).split("?");
          const path = new RegExp(`^${route.replace(/\{\w+\}/g, "[^/?]+")}(\\?|$)`);
          const fault = lab.faults.add({ when: { method: "DELETE", path }, effect: MISSING });
          const said = await managed.destroy().then(() => undefined, messageOf);
          answered += fault.hits;
          tried.add(call);
          lab.faults.clear();
          if (said === undefined) {
            assert.deepEqual(liveState(lab), removals.left, `${call}: "destroyed", and this was left`);
            return;
          }
          assert.ok(managed.state !== undefined, call);
          assert.match(said, /with 404: no such file or directory/, call);
          await managed.destroy();
          assert.deepEqual(liveState(lab), removals.left, call);
        });
      }
    });
  }
});
