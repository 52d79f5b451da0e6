/** Measures what members, pools, networks and volumes of a simulated cluster cost, whose LXD itself takes no time. */
import { type Flavour, SimulatedLab } from "../../lab/simulated";
import {
  LxdClusterMember,
  LxdNetwork,
  LxdNode,
  type LxdNodeArgs,
  LxdStoragePool,
  LxdStorageVolume,
  LxdVm,
} from "../../provider/index";
import { EngineStack } from "../engine/workspace";
import { judge, mustEndWell, say, secondsOf } from "./measure";

const MEMBERS = 10;
/** Of each kind. */
const OBJECTS = 50;
/** How many more requests a member may take in a cluster of ten than in one of five. */
const STEEPEST = 1.25;

function startLab(members: number, flavour: Flavour = "bookworm-lxd"): Promise<SimulatedLab> {
  return SimulatedLab.start({ flavour, hosts: Array.from({ length: members }, (_, index) => ({ name: `m${index + 1}` })) });
}

/** Makes a cluster of all hosts. */
function membersOf(lab: SimulatedLab, install: LxdNodeArgs["install"] = { method: "deb" }): LxdClusterMember[] {
  const members: LxdClusterMember[] = [];
  for (const { name, lanAddress: address, connection: own } of lab.hosts) {
    const { host, port, user, hostKey } = own;
    const connection = { host, port, user, hostKey, privateKeyPath: lab.privateKeyPath };
    const node = new LxdNode(name, {
      connection,
      install,
      config: { "core.https_address": `${address}:8443` },
    });
    const [first] = members;
    const cluster = first && { cluster: { endpoints: [first.connection] } };
    members.push(new LxdClusterMember(name, { connection: node.connection, name, address, ...cluster }));
  }
  return members;
}

/** Forms a cluster. Returns the requests for each member. */
async function benchJoins(members: number): Promise<number> {
  const lab = await startLab(members);
  const stack = await EngineStack.open("joins");
  try {
    stack.define(() => void membersOf(lab));
    const seconds = await secondsOf(() => mustEndWell(stack.up()));
    const requests = lab.requests.length / members;
    say(
      `${members} members: ${requests.toFixed(1)} requests and ${(seconds / members).toFixed(2)} s for each, with its installation`,
    );
    return requests;
  } finally {
    stack.close();
    await lab.stop();
  }
}

/** The collection that a request reads, or in which it reads one object. */
const COLLECTION = /^\/1\.0\/(storage-pools|networks|cluster\/members)(?:\/([^/?]+)(\/volumes)?)?/;

/** Counts the reads of lists, and of single objects, by kind. */
function readsOf(lab: SimulatedLab, since: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { method, path } of lab.requests.slice(since)) {
    const [, collection = "others", name, volumes] = COLLECTION.exec(path) ?? [];
    const what = volumes === undefined ? `${collection}${name === undefined ? "" : ", one"}` : "volumes";
    const key = method === "GET" ? what : `${method} of ${what}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

/** Pools, networks and volumes of three members. Returns whether all limits are kept. */
async function benchObjects(): Promise<boolean> {
  const lab = await startLab(3);
  const stack = await EngineStack.open("objects");
  const define = (count: number): void =>
    stack.define(() => {
      const cluster = { endpoints: membersOf(lab).map(({ connection }) => connection) };
      const each = Array.from({ length: count }, (_, index) => index + 1);
      const pool = new LxdStoragePool("pool", { cluster, name: "pool", driver: "dir" });
      for (const index of each) {
        new LxdStoragePool(`pool${index}`, { cluster, name: `pool${index}`, driver: "dir" });
        const config = { "ipv4.address": `10.${index}.0.1/24`, "ipv6.address": "none" };
        new LxdNetwork(`net${index}`, { cluster, name: `net${index}`, config });
        new LxdStorageVolume(`data${index}`, { cluster, name: `data${index}`, pool: pool.name, target: "m1", deleteData: true });
      }
    });
  try {
    define(0);
    await mustEndWell(stack.up());
    define(OBJECTS);
    const before = lab.requests.length;
    await mustEndWell(stack.up());
    const made = lab.requests
      .slice(before)
      .filter(({ method, path }) => method === "POST" && /^\/1\.0\/(storage-pools|networks)(\?|$)/.test(path));
    const since = lab.requests.length;
    const seconds = await secondsOf(() => mustEndWell(stack.refresh()));
    const reads = readsOf(lab, since);
    say(`a refresh of ${OBJECTS} pools, networks and volumes each takes ${seconds.toFixed(2)} s: ${JSON.stringify(reads)}`);
    // Each member defines its part, then the cluster makes the object.
    const asked = judge("requests that make a pool or network", made.length / (2 * OBJECTS), lab.hosts.length + 1);
    // Servers list no member's part of an object: LXD has no such list.
    const ofEach = lab.hosts.length;
    return [
      asked,
      judge("lists of pools", reads["storage-pools"] ?? 0, 1),
      judge("lists of networks", reads["networks"] ?? 0, 1),
      judge("lists of volumes", reads["volumes"] ?? 0, 1),
      judge("reads of a member's part, for each pool", (reads["storage-pools, one"] ?? 0) / (OBJECTS + 1), ofEach),
      judge("reads of a member's part, for each network", (reads["networks, one"] ?? 0) / OBJECTS, ofEach),
    ].every((kept) => kept);
  } finally {
    stack.close();
    await lab.stop();
  }
}

/** Instances that a policy places. Returns whether the members are asked once, however many instances there are. */
async function benchPlacement(): Promise<boolean> {
  const lab = await startLab(3, "trixie-incus7"); // that tells how busy a member is
  const stack = await EngineStack.open("places");
  const define = (count: number): void =>
    stack.define(() => {
      const cluster = { endpoints: membersOf(lab, { method: "deb", server: "incus" }).map(({ connection }) => connection) };
      const pool = new LxdStoragePool("pool", { cluster, name: "pool", driver: "dir" });
      const devices = { root: { type: "disk", path: "/", pool: pool.name } };
      for (let index = 1; index <= count; index++) {
        new LxdVm(`vm${index}`, {
          ...{ cluster, name: `vm${index}`, instanceType: "container", profiles: [], devices, running: false },
          ...{ image: { alias: "debian" }, placement: { policy: "leastMemory" } },
        });
      }
    });
  try {
    define(0);
    await mustEndWell(stack.up());
    lab.seedImage("m1", { alias: "debian" });
    const state = /^\/1\.0\/(cluster\/members\/[^/]+\/state|resources)/;
    let most = 0;
    for (const count of [5, OBJECTS]) {
      define(count);
      const since = lab.requests.length;
      await mustEndWell(stack.up());
      const times = new Map<string, number>();
      for (const { host, path } of lab.requests.slice(since).filter((request) => state.test(request.path))) {
        const question = `${host}${path}`;
        times.set(question, (times.get(question) ?? 0) + 1);
      }
      say(`${count} instances: ${times.size} questions about the state of members`);
      most = Math.max(most, ...times.values());
    }
    return judge("times that each of them is asked in one up", most, 1);
  } finally {
    stack.close();
    await lab.stop();
  }
}

/** Returns whether all limits are kept. */
export async function benchClusters(): Promise<boolean> {
  console.log("\nJoins");
  const few = await benchJoins(MEMBERS / 2);
  const many = await benchJoins(MEMBERS);
  const linear = judge(
    `requests for each of ${MEMBERS} members, as a multiple of those for each of ${MEMBERS / 2}`,
    many / few,
    STEEPEST,
  );
  console.log("\nPools, networks and volumes on three members");
  const objects = await benchObjects();
  console.log("\nPlacement on three members");
  return [linear, objects, await benchPlacement()].every((kept) => kept);
}
