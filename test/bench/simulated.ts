import { SimulatedLab } from "../../lab/simulated";
import { byHand } from "../engine/cluster-program";
import { manyNothings, manyVms } from "../engine/many-vms";
import { EngineStack, type Run } from "../engine/workspace";
import { judge, median, say, secondsOf } from "./measure";

const VMS = 200;
const ROUNDS = 5;
const SLOWEST_RATIO = 1.5;
/** The list of instances, of profiles and so on, whatever their number. */
const MOST_LISTS = 10;

async function mustEndWell(run: Promise<Run>): Promise<Run> {
  const ended = await run;
  if (!ended.ok) {
    throw new Error(ended.text);
  }
  return ended;
}

/** What 200 VMs on a simulated host cost. Answers whether all limits are kept. */
export async function benchSimulated(): Promise<boolean> {
  const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
  const host = lab.host("bcn2");
  const [vms, nothings, bare] = [await EngineStack.open("vms"), await EngineStack.open("like"), await EngineStack.open("bare")];
  try {
    lab.seedImage("bcn2", { alias: "debian" });
    await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } }));

    console.log("\nRequests of one refresh, by number of VMs");
    const requests: number[] = [];
    for (const count of [10, 100, VMS]) {
      vms.define(manyVms(lab, count));
      await mustEndWell(vms.up());
      const since = lab.requests.length;
      await mustEndWell(vms.refresh());
      requests.push(lab.requests.length - since);
      say(`${count} VMs: ${lab.requests.length - since} requests`);
    }
    const [few = Number.NaN] = requests;
    const constant = judge("growth from 10 to 200 VMs", (requests.at(-1) ?? Number.NaN) - few, 0);
    const lists = judge("requests", few, MOST_LISTS);

    console.log("\nSSH connections to a host, by operation of the engine");
    let single = true;
    for (const operation of ["preview", "up", "refresh"] as const) {
      const before = host.counters.connections;
      await mustEndWell(vms[operation]());
      single = judge(operation, host.counters.connections - before, 1) && single;
    }

    console.log(`\nAn \`up\` that changes nothing, ${VMS} resources, median of ${ROUNDS}`);
    // What the engine itself needs grows with the properties that it carries to and fro, so the floor has those of the VMs.
    const [vm] = await vms.resources();
    const { id: _id, ...properties } = Object.fromEntries(
      Object.entries(vm?.outputs ?? {}).filter(([name]) => !name.startsWith("__")),
    );
    const stacks = { vms, like: nothings, bare };
    nothings.define(manyNothings(VMS, properties));
    bare.define(manyNothings(VMS, {}));
    const seconds = { vms: [] as number[], like: [] as number[], bare: [] as number[] };
    await mustEndWell(nothings.up());
    await mustEndWell(bare.up());
    for (let round = 0; round < ROUNDS; round++) {
      for (const name of ["vms", "like", "bare"] as const) {
        seconds[name].push(await secondsOf(() => mustEndWell(stacks[name].up())));
      }
    }
    say(`VMs: ${median(seconds.vms).toFixed(2)} s`);
    say(`resources that do nothing, with a VM's properties: ${median(seconds.like).toFixed(2)} s`);
    say(`resources that do nothing, with a name alone: ${median(seconds.bare).toFixed(2)} s`);
    say(`ratio to the latter: ${(median(seconds.vms) / median(seconds.bare)).toFixed(2)}`);
    const quick = judge("ratio to the engine's own floor", median(seconds.vms) / median(seconds.like), SLOWEST_RATIO);
    return constant && lists && single && quick;
  } finally {
    vms.close();
    nothings.close();
    bare.close();
    await lab.stop();
  }
}
