import assert from "node:assert/strict";
import fc from "fast-check";
import type { RealLab } from "../../lab/real/index";
import { disconnectAll } from "../../provider/transport/pool";
import { eventually } from "../acceptance/support/eventually";
import { Backend, labConfig, type Project } from "../acceptance/support/project";
import { LAB_TOPOLOGY, topologyOf } from "../acceptance/support/topology";
import { figure } from "../support/figure";
import { isAlive, type PulumiProcess } from "../support/pulumi-process";
import { attachOrSkip, isInLab } from "../support/real-lab";

/** More with `npm run kill-rounds`. */
const ROUNDS = Number(process.env["KILL_ROUNDS"] ?? 3);
/** Changes at each run; `npm run kill-rounds -- --seed` repeats one. */
const SEED = Number(process.env["KILL_SEED"] ?? Date.now() % 1_000_000);

/**
 * Phases of an `up` from bare hosts: the text on the screen at the beginning of a phase, and the time span in which a
 * kill can hit it.
 */
const PHASES = [
  { name: "installing LXD", begins: /LxdNode cluster-bcn2 creating/, seconds: 10 },
  { name: "bootstrapping the cluster", begins: /LxdClusterMember cluster-bcn2 creating/, seconds: 1.5 },
  { name: "joining the second member", begins: /LxdClusterMember cluster-bcn1 creating/, seconds: 2.5 },
  { name: "creating the pool and the network", begins: /LxdStoragePool cluster-default creating/, seconds: 2 },
  { name: "importing the image", begins: /LxdImage cluster-debian-12 creating/, seconds: 2 },
  { name: "creating the VMs", begins: /LxdVm vms-dns1 creating/, seconds: 7 },
  { name: "creating the users", begins: /VmUser vms-\w+-thinkube creating/, seconds: 0.5 },
] as const;

/** The hosts of the stack. */
const HOSTS = ["bcn2", "bcn1"];

const UP = ["up", "--yes", "--skip-preview"];

interface Kill {
  readonly phase: (typeof PHASES)[number];
  readonly delayMs: number;
  /** The CLI, the process that runs our provider, or the whole tree, as when the workstation loses its power. */
  readonly victim: "Pulumi" | "the provider" | "both";
}

/** Kills at random moments, spread evenly over the phases. */
function randomKills(rounds: number, seed: number): Kill[] {
  const share = fc.noBias(fc.integer({ min: 0, max: 999 })).map((thousandths) => thousandths / 1000);
  const victim = fc.noBias(fc.constantFrom<Kill["victim"][]>("Pulumi", "the provider", "both"));
  return fc.sample(fc.tuple(share, share, victim), { numRuns: rounds, seed }).map(([place, moment, killed], round) => {
    const phase = PHASES[Math.floor(((round + place) / rounds) * PHASES.length)] ?? PHASES[0];
    return { phase, delayMs: Math.round(moment * phase.seconds * 1000), victim: killed };
  });
}

describe("An interrupted up on real LXD", () => {
  let lab: RealLab;
  let backend: Backend;
  let stack: Project;
  const left: number[] = [];

  before(async function () {
    lab = await attachOrSkip(this);
    process.stdout.write(`kills: seed ${SEED}; again: npm run kill-rounds -- --rounds ${ROUNDS} --seed ${SEED}\n`);
  });

  beforeEach(async () => {
    await lab.resetHosts(HOSTS);
    backend = new Backend();
    stack = await backend.project({
      file: "Pulumi.yaml",
      main: "test/recovery/stack-that-adopts/index.ts",
      stack: "lab",
      config: labConfig(lab.flavour),
    });
  });

  afterEach(async () => {
    await disconnectAll();
    // Pulumi's language host outlives a killed Pulumi for some minutes.
    left
      .splice(0)
      .filter(isAlive)
      .forEach((pid) => process.kill(pid, "SIGKILL"));
    backend.remove();
  });

  after(async () => {
    if (isInLab) {
      await lab.resetHosts(HOSTS);
    }
  });

  /** Runs a command to its end. Returns its screen. */
  const type = async (...argv: string[]): Promise<string> => {
    const pulumi = stack.start(argv);
    const status = await pulumi.ended;
    assert.equal(status, 0, `pulumi ${argv.join(" ")}:\n${pulumi.screen}`);
    return pulumi.screen;
  };

  const kill = async (up: PulumiProcess, victim: Kill["victim"]): Promise<void> => {
    const tree = up.tree().map(({ pid }) => pid);
    left.push(...tree);
    const { engine, provider } = up;
    const victims = { Pulumi: [engine], "the provider": [provider], both: [engine, provider] }[victim];
    victims.forEach((pid) => process.kill(pid, "SIGKILL"));
    await up.ended;
    await eventually("no process on the hosts works for the killed run", async () => !isAlive(provider));
  };

  /** The guide's steps after an interrupted run. */
  const goOn = async (): Promise<void> => {
    let again = stack.start(UP);
    if ((await again.ended) !== 0 && /the stack is currently locked by 1 lock\(s\)/.test(again.screen)) {
      await type("cancel", "--yes");
      again = stack.start(UP);
    }
    if ((await again.ended) !== 0) {
      // It finished at the moment of the kill, and the engine had not stored it.
      assert.match(again.screen, /already exists on .*, complete .* its state does not have it/);
      const adopting = stack.start(UP, { env: { ADOPT: "1" } });
      assert.equal(await adopting.ended, 0, adopting.screen);
      await type(...UP);
    }
    await type("refresh", "--clear-pending-creates", "--yes", "--skip-preview");
  };

  const assertWhole = async (): Promise<void> => {
    assert.deepEqual(await topologyOf(lab), LAB_TOPOLOGY);
    assert.doesNotMatch(await stack.exportState(), /"pending_operations"/);
    await type(...UP, "--expect-no-changes");
  };

  describe("by SIGKILL", () => {
    let survived = 0;
    const phasesHit = new Set<string>();

    after(() => {
      figure("kill rounds survived", survived);
      figure("phases of an up hit by a kill", phasesHit.size);
    });

    for (const [index, { phase, delayMs, victim }] of randomKills(ROUNDS, SEED).entries()) {
      it(`of ${victim} ${delayMs} ms after the start of ${phase.name} is completed by the next up (round ${index + 1} of ${ROUNDS})`, async () => {
        const up = stack.start(UP);
        await up.shows(phase.begins);
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await kill(up, victim);
        await goOn();
        await assertWhole();
        survived++;
        phasesHit.add(phase.name);
      });
    }
  });

  it("by Ctrl-C, twice, is completed by the next up", async () => {
    const up = stack.start(UP, { terminal: true });
    await up.shows(/LxdClusterMember cluster-bcn1 creating .* joining bcn1/);
    up.pressCtrlC();
    await up.shows(/press \^C again/);
    up.pressCtrlC();
    assert.notEqual(await up.ended, 0);
    await goOn();
    await assertWhole();
  });

  it("by a restart of LXD on a host is completed by the next up", async () => {
    const up = stack.start(UP);
    await up.shows(/LxdVm vms-dns1 creating .* starting/);
    assert.equal((await lab.hostExec("bcn2", ["systemctl", "restart", lab.flavour.units[1]])).exitCode, 0);
    await up.ended; // succeeds, or fails with an error that names the interrupted step
    const again = stack.start(UP);
    if ((await again.ended) !== 0) {
      assert.match(
        again.screen,
        /cloud-init of instance "dns1" did not find its data when it booted.*\((lxc|incus) restart dns1\)/,
      );
      assert.equal((await lab.hostExec("bcn2", [lab.flavour.client, "restart", "dns1"])).exitCode, 0);
    }
    await goOn();
    await assertWhole();
  });

  it("by a power cut of the joining host is completed when the host is back", async () => {
    // A firewall that lets bcn1 connect out, and blocks connections to it, holds the join halfway for some seconds. The
    // power cut removes it.
    const firewall =
      "nft add table inet t; nft add chain inet t in '{ type filter hook input priority 0; }'; nft add rule inet t in tcp dport 8443 drop";
    assert.equal((await lab.hostExec("bcn1", ["sh", "-c", firewall])).exitCode, 0);
    const up = stack.start(UP);
    await up.shows(/LxdClusterMember cluster-bcn1 creating .* joining bcn1/);
    await lab.powerOff("bcn1");
    assert.notEqual(await up.ended, 0);
    assert.match(
      up.screen,
      /bcn1 \(root@192\.168\.1\.101\) did not join the cluster: .*broke|The connection to .*192\.168\.1\.101.* broke/,
    );
    await lab.boot("bcn1");
    await goOn();
    await assertWhole();
  });
});
