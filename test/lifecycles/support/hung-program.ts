/**
 * A separate program: calls that a host leaves unanswered, one at each depth. It prints their errors, and how long it
 * lived afterwards.
 */
import { SimulatedLab } from "../../../lab/simulated";
import type { FaultRule } from "../../../lab/simulated/faults";
import { provider } from "../../../provider/entry";
import { messageOf } from "../../../provider/support/errors";
import { disconnectAll } from "../../../provider/transport/pool";

const FAULTS: readonly FaultRule[] = [
  { when: { ssh: "connection" }, effect: "hang" },
  { when: { ssh: "channel" }, effect: "hang" },
  { when: { path: /./ }, effect: "hang" },
  { when: { exec: /./ }, effect: "hang" },
];

async function main(): Promise<void> {
  const endings: string[] = [];
  for (const fault of FAULTS) {
    const lab = await SimulatedLab.start({
      hosts: [{ name: "bcn2", lxd: "deb", user: "exec" in fault.when ? "operator" : "root" }],
    });
    lab.faults.add(fault);
    const cluster = { endpoints: [lab.host("bcn2").connection] };
    const { inputs } = await provider("LxdProfile").check({}, { cluster, name: "web", timeouts: { create: 0.5 } });
    endings.push(
      await provider("LxdProfile")
        .create(inputs)
        .then(() => "done", messageOf),
    );
    await disconnectAll();
    await lab.stop();
  }
  const since = performance.now();
  process.once("exit", () => process.stdout.write(JSON.stringify({ endings, aliveMs: performance.now() - since })));
}

void main();
