import { SimulatedLab } from "../../lab/simulated";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { findInstanceWithStateShared } from "../../provider/lxd/instances/shared-reads";
import { type Candidate, decide } from "../../provider/lxd/placement/decide";
import { Survey } from "../../provider/lxd/placement/survey";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";
import { byHand } from "../engine/cluster-program";
import { manyNothings, manyVms } from "../engine/many-vms";
import { EngineStack } from "../engine/workspace";
import { judge, median, mustEndWell, say, secondsOf } from "./measure";

const VMS = 200;
const ROUNDS = 5;
const SLOWEST_RATIO = 1.5;
const SLOWEST_PLACE_MS = 10;
/**
 * Limit for requests besides the state of each running instance: lists of instances, profiles and so on, and a few
 * single instances.
 */
const MOST_LISTS = 20;

/** The instance reads of a refresh on a simulated host: number of requests, and time. */
async function benchReads(ours: number, all: number, userDataBytes: number): Promise<void> {
  const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
  try {
    await byHand(lab, "bcn2", async (lxd) => {
      await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } });
      const devices = { root: { type: "disk", path: "/", pool: "default" } };
      await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
    });
    const config = { "cloud-init.user-data": "#".padEnd(userDataBytes, "x") };
    const names = lab.seedInstances(all, { host: "bcn2", config }).slice(0, ours);
    const deadline = new Deadline(600, "the reads");
    const lxd = new LxdClient(
      await endpointOf(await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline }), deadline),
      deadline,
    );
    const since = lab.requests.length;
    const seconds = await secondsOf(() =>
      Promise.all(names.map((name) => findInstanceWithStateShared({ lxd, project: "default", name }))),
    );
    const requests = lab.requests.length - since;
    say(`${ours} of ${all}, running, with ${userDataBytes} bytes of user data: ${requests} requests, ${seconds.toFixed(2)} s`);
  } finally {
    await disconnectAll();
    await lab.stop();
  }
}

/** The places of instances of one operation, each of which knows those before. Returns whether the limit is kept. */
async function benchPlaces(count: number, members: number): Promise<boolean> {
  const facts = { status: "Online", failureDomain: "default", groups: [], scheduler: "all", architectures: [], faults: [] };
  const memory = { totalBytes: 64 * 2 ** 30, usedBytes: 2 ** 30 };
  const all = Array.from({ length: members }, (_, index): Candidate => ({ ...facts, name: `m${index}`, driver: "qemu", memory }));
  const placement = { policy: "leastMemory", spreadFailureDomains: true } as const;
  const takes = { memory: { bytes: 2 ** 30 }, cpus: 1, disk: undefined };
  const survey = new Survey();
  const seconds = await secondsOf(async () => {
    for (let index = 0; index < count; index++) {
      const instance = { project: "default", name: `vm${index}`, labels: [], takes };
      const request = { ...instance, type: "container", placement, group: undefined, allowedGroups: undefined } as const;
      const { member = "" } = decide({ ...request, architecture: undefined }, all, survey.placed([]));
      survey.reserve({ ...instance, member });
    }
    return Promise.resolve();
  });
  say(`${count} instances on ${members} members: ${seconds.toFixed(2)} s`);
  return judge("milliseconds for each", (seconds * 1000) / count, SLOWEST_PLACE_MS);
}

/** Measures the cost of 200 VMs on a simulated host. Returns whether all limits are kept. */
export async function benchSimulated(): Promise<boolean> {
  console.log("\nPlaces of instances");
  const placed = await benchPlaces(1000, 50);
  console.log("\nReads of instances by a refresh");
  for (const [ours, all, userDataBytes] of [
    [5, 5, 1024],
    [200, 200, 1024],
    [1, 2000, 32 * 1024],
    [2000, 2000, 32 * 1024],
  ] as const) {
    await benchReads(ours, all, userDataBytes);
  }
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
    const lists = judge("requests besides the state of each VM", (requests.at(-1) ?? Number.NaN) - VMS, MOST_LISTS);

    console.log("\nSSH connections to a host, by operation of the engine");
    let single = true;
    for (const operation of ["preview", "up", "refresh"] as const) {
      const before = host.counters.connections;
      await mustEndWell(vms[operation]());
      single = judge(operation, host.counters.connections - before, 1) && single;
    }

    console.log(`\nAn \`up\` that changes nothing, ${VMS} resources, median of ${ROUNDS}`);
    // The engine's own time grows with the properties that it transports, so the baseline has those of the VMs.
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
    say(`no-op resources with a VM's properties: ${median(seconds.like).toFixed(2)} s`);
    say(`no-op resources with only a name: ${median(seconds.bare).toFixed(2)} s`);
    say(`ratio to the latter: ${(median(seconds.vms) / median(seconds.bare)).toFixed(2)}`);
    const quick = judge("ratio to the engine's baseline", median(seconds.vms) / median(seconds.like), SLOWEST_RATIO);
    return placed && lists && single && quick;
  } finally {
    vms.close();
    nothings.close();
    bare.close();
    await lab.stop();
  }
}
