import assert from "node:assert/strict";
import type { FaultEffect, FaultTrigger } from "../../lab/simulated/faults";
import { vmUserLifecycle } from "../../provider/resources/machine-user";
import { isThorough } from "../support/breadth";
import { Managed, type SimulatedCluster, startWithInstance } from "../unit/resources/simulated-cluster";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcDEy laptop";
const HASH = `$6$salt$${"h".repeat(40)}`;

/** Failures of LXD on the way into a guest, and their errors or effects. */
const FAILURES: readonly { title: string; when: FaultTrigger; effect: FaultEffect }[] = [
  ...[
    "websocket: bad handshake",
    "LXD VM agent isn't currently running",
    "Failed to connect to lxd-agent",
    "a text that no version of LXD uses so far",
  ].map((error) => ({ title: `"${error}"`, when: { path: /web1\/(exec|sftp)/ }, effect: { status: 500, error } })),
  { title: "a command that the agent aborted", when: { path: /web1\/exec/ }, effect: { failOperation: "EOF" } },
  { title: "a command that was forgotten", when: { path: /web1\/exec/ }, effect: "lose-operation" },
  { title: "a command that was carried out and forgotten", when: { path: /web1\/exec/ }, effect: "forget-operation" },
  { title: "a restart of the daemon", when: { path: /web1\/(exec|sftp)/ }, effect: "daemon-restart" },
  { title: "a file that could not be accessed", when: { file: /./ }, effect: { status: 500, error: "Failure" } },
  { title: "the end of the connection to the files", when: { file: /./ }, effect: "drop-before" },
];

describe("VmUser while the daemon or the agent fails briefly", () => {
  let one: SimulatedCluster;
  let alice: Managed;

  const files = () => one.lab.guestFiles("bcn2", "web1");
  const args = (more: object = {}) => ({
    cluster: one.cluster,
    instance: "web1",
    name: "alice",
    groups: ["adm"],
    sudo: "passwordless",
    authorizedKeys: [KEY],
    passwordHash: HASH,
    ...more,
  });
  const changed = () => args({ uid: 1600, home: "/srv/alice", groups: [], sudo: "password", shell: "/bin/sh" });

  beforeEach(async () => {
    one = await startWithInstance("virtual-machine");
    alice = new Managed(vmUserLifecycle, "alice");
  });

  afterEach(async () => {
    assert.deepEqual([one.lab.unknownGuestCommands, one.lab.defects], [[], []]);
    await one.stop();
  });

  const isThere = (home: string): void => {
    assert.equal(files().readText(`${home}/.ssh/authorized_keys`), `${KEY}\n`);
    assert.match(files().readText("/etc/shadow"), /^alice:\$6\$salt\$/m);
    assert.deepEqual(files().list("/run"), ["systemd"]); // of the system itself
    assert.deepEqual(files().list("/etc/sudoers.d"), ["README", "alice"]);
  };

  for (const { title, when, effect } of FAILURES) {
    const stride = ("file" in when ? 5 : 1) * (isThorough ? 1 : 3); // many files are requested in parallel
    it(`is created, changed, read and removed by one run each, whichever request fails by ${title}`, async () => {
      let met = 0;
      /** Runs work with a failure at a position; `false` if there is no such position. */
      const interrupted = async (nth: number, work: () => Promise<void>): Promise<boolean> => {
        const fault = one.lab.faults.add({ when: { ...when, nth }, effect });
        await work().catch((error: unknown) => {
          throw new Error(`at ${nth}: ${(error as Error).message}`, { cause: error });
        });
        fault.remove();
        met += fault.hits;
        return fault.hits > 0;
      };
      const steps: Record<string, () => Promise<void>> = {
        create: async () => assert.equal(await alice.up(args()), "created"),
        read: async () => assert.equal(await alice.preview(args()), "same"),
        update: async () => assert.equal(await alice.up(changed()), "updated"),
        delete: () => alice.destroy(),
      };
      // In each round, each step meets the failure at that position.
      for (let nth = 1, isMore = true; isMore; nth += stride) {
        isMore = false;
        for (const [step, work] of Object.entries(steps)) {
          isMore = (await interrupted(nth, work)) || isMore;
          if (step !== "delete") {
            isThere(step === "update" ? "/srv/alice" : "/home/alice");
          }
        }
        assert.doesNotMatch(files().readText("/etc/passwd"), /alice/);
        files().remove("/srv/alice", true);
        assert.deepEqual(alice.warnings, []);
      }
      assert.ok(met >= 4, String(met));
    }).timeout(180_000);
  }
});
