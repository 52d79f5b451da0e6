import assert from "node:assert/strict";
import { makeCertificate } from "../../lab/simulated/lxd/certificate";
import { LxdProfile } from "../../provider/index";
import { type SimulatedCluster, startTwoMembers } from "../unit/resources/simulated-cluster";
import { EngineStack } from "./workspace";

/** What docs/guide/troubleshooting.md says, "Another cluster answers": the recipe for a certificate that was renewed. */
describe("a cluster whose certificate was renewed", () => {
  let two: SimulatedCluster;
  let stack: EngineStack;

  const define = (more: { certificateFingerprint?: string } = {}): void =>
    stack.define(() => {
      const cluster = { endpoints: two.lab.hosts.map(({ connection }) => connection), ...more };
      new LxdProfile("web", { cluster, name: "web", description: "as wanted" });
    });
  const renew = (): string => {
    const database = two.lab.host("bcn2").daemon?.database;
    assert.ok(database);
    database.certificate = makeCertificate("cluster"); // of all members: they share the database
    return database.certificate.fingerprint;
  };

  before(async () => {
    two = await startTwoMembers();
    stack = await EngineStack.open();
  });

  after(async () => {
    stack.close();
    await two.stop();
  });

  it("is refused with both fingerprints, and is itself again once the program confirms the new one", async () => {
    define();
    const made = await stack.up();
    assert.ok(made.ok, made.text);
    const renewed = renew();
    const since = two.lab.requests.length;
    const refused = await stack.up();
    assert.equal(refused.ok, false);
    const message = new RegExp(`is not the expected cluster, whose certificate is \\w{64}: .* with the certificate ${renewed}`);
    assert.match(refused.text.replaceAll(/\s+/g, " "), message);
    assert.equal(two.lab.mutations(since).length, 0);
    define({ certificateFingerprint: renewed });
    const confirmed = await stack.up({ refresh: false });
    assert.ok(confirmed.ok, confirmed.text);
    const after = await stack.up();
    assert.ok(after.ok, after.text);
    assert.deepEqual(after.steps, []);
  });
});
