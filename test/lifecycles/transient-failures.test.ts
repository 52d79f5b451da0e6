import assert from "node:assert/strict";
import * as z from "zod";
import type { SimulatedLab } from "../../lab/simulated";
import type { FaultEffect } from "../../lab/simulated/faults";
import { api } from "../../provider/lxd/client/client";
import { Deadline } from "../../provider/support/deadline";
import { messageOf } from "../../provider/support/errors";
import { isThorough } from "../support/breadth";
import { figure } from "../support/figure";
import type { Managed } from "../unit/resources/simulated-cluster";
import { SCENARIOS, type Scenario } from "./scenarios";
import { inLab } from "./scenarios/in-lab";
import { serverWithClock } from "./support/clock";

/** Transient errors of LXD while its database has no leader, or during an update. */
const FAILURES: readonly FaultEffect[] = [
  { status: 500, error: "Failed to get dqlite client" },
  { status: 500, error: "Missing event connection with target cluster member" },
  { status: 500, error: "a text that no version of LXD uses so far" },
  "daemon-restart",
];

/** Tries one position of so many. */
const STRIDE = Number(process.env["TRANSIENT"] ?? (isThorough ? 3 : 6));

/**
 * A request that opens access to a guest fails for reasons of the guest; a wait for an operation reports the operation.
 */
const READ = /^(?!.*\/(sftp|wait)(\?|$))\/(1\.0|internal)/;

/** The requests that are reads: also those of the database, which are sent as POST. */
const READS = [
  { method: "GET", path: READ },
  { method: "POST", path: /^\/internal\/sql$/ },
] as const;

/** A read of a host, by its position among those of its method. */
type Read = (typeof READS)[number] & { readonly host: string; readonly nth: number };

type Step = "preview" | "up" | "destroy";

const OUTCOMES = { preview: "same", up: "created", destroy: undefined } as const;

/** The resource before a step. */
async function prepared(scenario: Scenario, lab: SimulatedLab, step: Step): Promise<Managed> {
  const managed = scenario.manage();
  if (step !== "up") {
    await managed.up(scenario.first(lab));
  }
  return managed;
}

/** Reads of LXD in a step. */
async function readsOf(scenario: Scenario, flavour: "bookworm-lxd" | "lxd-6", step: Step): Promise<Read[]> {
  return inLab(scenario, flavour, async (lab) => {
    const managed = await prepared(scenario, lab, step);
    const since = lab.faults.moments.length;
    await managed[step](scenario.first(lab));
    const seen = new Map<string, number>();
    return lab.faults.moments.slice(since).flatMap((moment) => {
      const read = "path" in moment && READS.find(({ method, path }) => moment.method === method && path.test(moment.path));
      if (!read) {
        return [];
      }
      const key = `${read.method} ${moment.host}`;
      const nth = (seen.get(key) ?? 0) + 1;
      seen.set(key, nth);
      return [{ ...read, host: moment.host, nth }];
    });
  });
}

describe("a read that LXD answers with a transient error", () => {
  let tried = 0;

  after(() => {
    assert.ok(tried > 50, String(tried));
    figure("reads with a transient error", tried);
  });

  const isMember = ({ kind }: Scenario): boolean => kind === "LxdClusterMember";
  /** Kinds that ask LXD nothing. */
  const asksNothing = ({ kind }: Scenario): boolean => kind === "LxdNode" || kind.startsWith("Host");
  for (const [index, scenario] of SCENARIOS.filter((each) => !asksNothing(each)).entries()) {
    const flavours = scenario.flavours ?? (["bookworm-lxd", "lxd-6"] as const);
    const flavour = flavours[index % flavours.length] as "bookworm-lxd" | "lxd-6";
    for (const step of ["preview", "up", ...(isMember(scenario) ? (["destroy"] as const) : [])] as const) {
      it(`is retried by the same ${step}: ${scenario.kind} ${scenario.title}, ${flavour}`, async () => {
        const reads = await readsOf(scenario, flavour, step);
        assert.ok(reads.length > 0);
        // The fault sweep covers operations on an instance or image whose daemon ends.
        const failures = FAILURES.filter((effect) => step === "preview" || isMember(scenario) || effect !== "daemon-restart");
        const positions = reads.flatMap((read) => failures.map((effect) => ({ ...read, effect })));
        for (const { host, nth, method, path, effect } of positions.filter((_, at) => at % STRIDE === index % STRIDE)) {
          await inLab(scenario, flavour, async (lab) => {
            const managed = await prepared(scenario, lab, step);
            const fault = lab.faults.add({ when: { host, method, path, nth }, effect });
            const outcome: unknown = await managed[step](scenario.first(lab)).catch((error: unknown) => {
              throw new Error(`${JSON.stringify({ host, method, nth, effect })}: ${messageOf(error)}`, { cause: error });
            });
            assert.equal(outcome, OUTCOMES[step]);
            tried += fault.hits;
          });
        }
      }).timeout(300_000);
    }
  }
});

describe("a server that fails every read permanently", () => {
  const suite = serverWithClock();

  it("is waited for once, for the length of a restart, and not once for each of 200 objects", async () => {
    const lxd = (await suite.server.byHand()).within(new Deadline(600, "the test"));
    suite.server.lab.faults.add({ when: { path: /^\/1\.0\/profiles/ }, effect: { status: 500, error: "it stays broken" } });
    const ended = { count: 0 };
    const read = async (index: number): Promise<void> => {
      await assert.rejects(lxd.getShared(api`/1.0/profiles/${`p${index}`}`, z.unknown()), /it stays broken/);
      ended.count += 1;
    };
    const reads = [read(0)];
    await suite.clock.breathe(10);
    for (let seconds = 0; seconds < 20; seconds += 1) {
      suite.clock.forward(1000);
      await suite.clock.breathe(2);
    }
    assert.equal(ended.count, 0, "it did not wait");
    reads.push(...Array.from({ length: 199 }, (_, index) => read(index + 1)));
    for (let seconds = 0; seconds < 12; seconds += 1) {
      suite.clock.forward(1000);
      await suite.clock.breathe(2);
    }
    await Promise.all(reads);
  });
});
