import assert from "node:assert/strict";
import { provider } from "../../provider/entry";
import { disconnectAll } from "../../provider/transport/pool";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { checkedInputs, createResource, type Made } from "../support/real-lab";

const HOSTS: readonly HostName[] = ["bcn2", "bcn1", "bcn3"];
const COUNT = 9;

describe("placement on three real members", () => {
  const hosts = bareHosts(HOSTS);
  const { to, node, member, imageFiles, onHost } = hosts;
  const made = new Map<string, Made>();
  /** How the nine are placed. */
  let how: object;

  const cluster = (): object => ({ endpoints: HOSTS.map((name) => to(name)) });
  const vm = (name: string, more: object): object => ({
    ...{ cluster: cluster(), name, instanceType: "container", image: { alias: "idle" } },
    ...{ rootDisk: { pool: "default", size: "1GiB" }, running: false, ...more },
  });
  /** Creates instances at once, in one operation of the engine. */
  const createAll = async (args: Readonly<Record<string, object>>): Promise<void> => {
    const creating = Object.entries(args).map(async ([name, more]) =>
      made.set(name, await createResource("LxdVm", vm(name, more))),
    );
    await Promise.all(creating);
  };
  const locationOf = (name: string): unknown => made.get(name)?.outs["location"];
  const counts = (names: readonly string[]): Record<string, number> =>
    Object.fromEntries(HOSTS.map((host) => [host, names.filter((name) => locationOf(name) === host).length]));
  const removeAll = async (): Promise<void> => {
    await Promise.all([...made.values()].map(({ id, outs }) => provider("LxdVm").delete(id, outs)));
    made.clear();
  };
  const clientOnFirst = (...argv: string[]): Promise<string> => onHost("bcn2", hosts.lab.flavour.client, ...argv);

  before(async () => {
    await Promise.all(HOSTS.map((host) => createResource("LxdNode", node(host))));
    for (const host of HOSTS) {
      await createResource("LxdClusterMember", member(host, { failureDomain: host === "bcn3" ? "rack2" : "rack1" }));
    }
    await createResource("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster: cluster(), ...(await imageFiles("idle")), aliases: ["idle"] });
  });

  it("spreads nine instances that are made at once, by the memory in use where the server tells it", async () => {
    const memory = { placement: { policy: "leastMemory" }, memory: "2GiB" };
    const isTold = hosts.lab.flavour.server === "incus";
    how = isTold ? memory : { placement: {} };
    if (!isTold) {
      await assert.rejects(createResource("LxdVm", vm("no", memory)), {
        message: /needs the API extension cluster_member_state/,
      });
    }
    const names = Array.from({ length: COUNT }, (_, index) => `web${index}`);
    await createAll(Object.fromEntries(names.map((name) => [name, how])));
    assert.deepEqual(counts(names), { bcn2: 3, bcn1: 3, bcn3: 3 });
    figure("instances spread over three members", COUNT);
  });

  it("leaves them where they are when the numbers change", async () => {
    await clientOnFirst("delete", "web0", "web1", "web2");
    const { id, outs } = made.get("web3") ?? assert.fail();
    const inputs = await checkedInputs("LxdVm", vm("web3", { ...how, placement: { policy: "roundRobin" } }));
    const seen = await provider("LxdVm").read(id, outs);
    assert.equal((await provider("LxdVm").diff(id, seen.props, inputs)).changes, false);
    assert.equal(seen.props["location"], locationOf("web3"));
    await removeAll();
  });

  it("keeps instances apart, leaves out an evacuated member, and refuses with every reason when none is left", async () => {
    const apart = { placement: { antiAffinity: "db" }, config: { "user.placement": "db" } };
    await clientOnFirst("cluster", "evacuate", "bcn3", "--force");
    await createAll({ db1: apart, db2: apart });
    assert.deepEqual(counts(["db1", "db2"]), { bcn2: 1, bcn1: 1, bcn3: 0 });
    await assert.rejects(createResource("LxdVm", vm("db3", apart)), {
      message: /bcn1 has an instance .*; bcn2 has an instance .*; bcn3 is Evacuated/,
    });
    await clientOnFirst("cluster", "restore", "bcn3", "--force");
    await disconnectAll(); // the next operation of the engine
    await createAll({ db3: apart });
    assert.equal(locationOf("db3"), "bcn3");
    await createAll({ app: { placement: { affinity: "db" } } });
    await removeAll();
  });

  it("spreads over failure domains", async () => {
    const names = ["shop1", "shop2", "shop3", "shop4"];
    await createAll(Object.fromEntries(names.map((name) => [name, { placement: { spreadFailureDomains: true } }])));
    assert.deepEqual(counts(names), { bcn2: 1, bcn1: 1, bcn3: 2 });
    await removeAll();
  });
});
