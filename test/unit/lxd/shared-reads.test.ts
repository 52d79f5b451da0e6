import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { findInstanceShared, findInstanceWithStateShared } from "../../../provider/lxd/instances/shared-reads";
import { type SimulatedCluster, startStandalone, startTwoMembers } from "../resources/simulated-cluster";
import { ApiServer, type Received } from "./api-server";

const PROJECT = "default";

describe("reads of many instances", () => {
  let server: SimulatedCluster;
  let names: string[];

  /** Reads all instances concurrently, each with its state; returns the requests to LXD. */
  const read = async (count: number): Promise<string[]> => {
    const lxd = await server.byHand();
    const since = server.lab.requests.length;
    const found = await Promise.all(
      names.slice(0, count).map((name) => findInstanceWithStateShared({ lxd, project: PROJECT, name })),
    );
    assert.deepEqual(
      found.map((instance) => [instance?.name, instance?.state?.status]),
      names.slice(0, count).map((name) => [name, "Running"]),
    );
    return server.lab.requests.slice(since).map(({ path }) => path.replace("?project=default", "").replace(/vm\d+/, "VM"));
  };
  const counted = (paths: readonly string[]): Record<string, number> =>
    paths.reduce<Record<string, number>>((counts, path) => ({ ...counts, [path]: (counts[path] ?? 0) + 1 }), {});

  beforeEach(async () => {
    server = await startStandalone();
    const lxd = await server.byHand();
    await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
  });
  afterEach(() => server.stop());

  it("request one of 2,000 individually", async () => {
    names = server.lab.seedInstances(2000, { host: "bcn2" });
    assert.deepEqual(await read(1), ["/1.0/instances/VM&recursion=1"]);
  });

  it("request a few one by one", async () => {
    names = server.lab.seedInstances(5, { host: "bcn2" });
    assert.deepEqual(counted(await read(5)), { "/1.0/instances/VM&recursion=1": 5 });
  });

  it("request a small part of many one by one", async () => {
    names = server.lab.seedInstances(300, { host: "bcn2" });
    assert.deepEqual(counted(await read(20)), { "/1.0/instances/VM&recursion=1": 20, "/1.0/instances": 1 });
  });

  it("request a list for a large part of all, and the state of running ones only", async () => {
    names = server.lab.seedInstances(40, { host: "bcn2" });
    server.lab.seedInstances(60, { host: "bcn2", prefix: "off", running: false });
    const asked = counted(await read(40));
    assert.deepEqual(asked, {
      "/1.0/instances/VM&recursion=1": 8,
      "/1.0/instances": 1,
      "/1.0/instances&recursion=1": 1,
      "/1.0/instances/VM/state": 32,
    });
  });

  it("report a missing one only when LXD says so at its own address", async () => {
    names = server.lab.seedInstances(10, { host: "bcn2" });
    const lxd = await server.byHand();
    const which = names.map((name) => ({ lxd, project: PROJECT, name }));
    server.lab.faults.add({
      when: { path: /instances\?.*recursion=1/ },
      effect: { answer: (response) => response.end('{"type":"sync","metadata":[]}') },
    });
    server.lab.host("bcn2").daemon?.database.instances.delete(`${PROJECT}/${names[3] ?? ""}`);
    const found = await Promise.all(which.map((each) => findInstanceShared(each)));
    assert.deepEqual(
      found.map((instance) => instance?.name),
      names.map((name, index) => (index === 3 ? undefined : name)),
    );
  });
});

describe("a list longer than the limit of a single answer, of instances with 32 KiB of user data each", () => {
  const COUNT = 1100;
  /** Corresponds to 300 MB for 2,000. */
  const MOST_BYTES = COUNT * 150_000;

  it("is read with little memory", async () => {
    const api = await ApiServer.start();
    const instance = (index: number): string => {
      const text = `#cloud-config\n# ${index}\n`.padEnd(32 * 1024, "x");
      const config = { "cloud-init.user-data": text };
      const shown = { name: `vm${index}`, status: "Stopped", type: "container", profiles: [], config, devices: {} };
      return JSON.stringify({ ...shown, expanded_config: config, expanded_devices: {} });
    };
    const wire = (response: ServerResponse, metadata: string): void =>
      void response.end(`{"type":"sync","metadata":${metadata}}`);
    const list = async (response: ServerResponse): Promise<void> => {
      response.write('{"type":"sync","metadata":[');
      for (let index = 0; index < COUNT; index += 1) {
        if (!response.write(`${index === 0 ? "" : ","}${instance(index)}`)) {
          await new Promise((resolve) => response.once("drain", resolve));
        }
      }
      response.end("]}");
    };
    api.next(
      ...Array.from({ length: 10 }, () => (response: ServerResponse, { path }: Received) => {
        const [, index] = /instances\/vm(\d+)/.exec(path) ?? [];
        if (index !== undefined) {
          wire(response, instance(Number(index)));
        } else if (path.includes("recursion=1")) {
          void list(response);
        } else {
          wire(response, JSON.stringify(Array.from({ length: COUNT }, (_, each) => `/1.0/instances/vm${each}`)));
        }
      }),
    );
    const lxd = api.client(60);
    const before = process.memoryUsage().rss;
    let most = before;
    const sampler = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 5);
    try {
      const found = await Promise.all(
        Array.from({ length: COUNT }, (_, index) => findInstanceShared({ lxd, project: PROJECT, name: `vm${index}` })),
      );
      assert.equal(found.filter((each) => each?.config["cloud-init.user-data"]?.length === 32 * 1024).length, COUNT);
    } finally {
      clearInterval(sampler);
      await api.stop();
    }
    assert.ok(most - before < MOST_BYTES, `${Math.round((most - before) / 1024 / 1024)} MiB more`);
  }).timeout(120_000);
});

describe("reads of many instances on a member without a recent heartbeat", () => {
  let two: SimulatedCluster;

  beforeEach(async () => {
    two = await startTwoMembers();
    const lxd = await two.byHand();
    for (const target of ["bcn2", "bcn1", undefined]) {
      await lxd.change("POST", "/1.0/storage-pools", { query: { target }, body: { name: "default", driver: "dir" } });
    }
  });
  afterEach(() => two.stop());

  const devices = { root: { type: "disk", path: "/", pool: "default" } };
  const readAll = async (names: readonly string[]): Promise<(string | undefined)[]> => {
    const lxd = await two.byHand();
    const found = await Promise.all(names.map((name) => findInstanceWithStateShared({ lxd, project: PROJECT, name })));
    return found.map((instance) => instance?.state?.status);
  };

  it("request each of them individually, when the member answers", async () => {
    const names = two.lab.seedInstances(40, { host: "bcn2", devices });
    two.lab.host("bcn1").daemon?.delayHeartbeat(600_000);
    const since = two.lab.requests.length;
    assert.deepEqual(
      await readAll(names),
      names.map(() => "Running"),
    );
    assert.equal(two.lab.requests.slice(since).filter(({ path }) => path === "/1.0?target=bcn1").length, 1);
  });

  it("report that it is off when it does not", async () => {
    const names = two.lab.seedInstances(40, { host: "bcn2", devices });
    await two.lab.host("bcn1").powerOff();
    await assert.rejects(readAll(names), /cannot be read: it is on cluster member "bcn1", which is Offline/);
  });
});
