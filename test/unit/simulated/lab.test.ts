import assert from "node:assert/strict";
import * as z from "zod";
import { SimulatedLab } from "../../../lab/simulated";
import { bringSnap } from "../../../provider/host/snapd";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { listMembers } from "../../../provider/lxd/cluster/cluster";
import { runInInstance } from "../../../provider/lxd/instances/exec";
import { getInstanceState } from "../../../provider/lxd/instances/instances";
import { getServer, setServerConfig } from "../../../provider/lxd/server";
import { Deadline, until } from "../../../provider/support/deadline";
import { hasCode, replyOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";
import { startCluster } from "../../lifecycles/worlds";

describe("The simulated lab", () => {
  let lab: SimulatedLab;

  const deadline = (): Deadline => new Deadline(60, "the test");
  const ssh = (host = "bcn2"): Promise<SshConnection> =>
    connect(connectionSchema.parse(lab.host(host).connection), { deadline: deadline() });
  const api = async (host = "bcn2"): Promise<LxdClient> =>
    new LxdClient(await endpointOf(await ssh(host), deadline()), deadline());
  const start = async (...options: Parameters<typeof SimulatedLab.start>): Promise<void> => {
    lab = await SimulatedLab.start(...options);
  };
  /** A pool and a profile that instances can be seeded with. */
  const furnish = async (): Promise<LxdClient> => {
    const lxd = await api();
    await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "zfs" } });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    await lxd.change("PUT", "/1.0/profiles/default", { body: { config: {}, description: "", devices } });
    return lxd;
  };

  afterEach(async () => {
    await disconnectAll();
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  it("answers an unknown command with 127 and records it for the test", async () => {
    await start({ hosts: [{ name: "bcn2" }] });
    const connection = await ssh();
    for (const argv of [
      ["no-such-program", "a b"],
      ["ls", "--no-such-option"],
    ]) {
      assert.equal((await connection.run(argv, { deadline: deadline(), allowFailure: true })).exitCode, 127);
    }
    assert.deepEqual(lab.host("bcn2").unknownCommands, ["no-such-program 'a b'", "ls --no-such-option"]);
  });

  it("refuses the eleventh session on one connection, as sshd does", async () => {
    await start({ hosts: [{ name: "bcn2" }] });
    lab.faults.add({ when: { exec: /^cat/ }, effect: "hang" });
    const connections = await Promise.all([ssh(), ssh()]);
    assert.equal(connections[0], connections[1]);
    const { Client } = await import("ssh2");
    const client = new Client();
    await new Promise<void>((resolve) => {
      const { connection } = lab.host("bcn2");
      client.on("ready", resolve).on("error", () => undefined);
      client.connect({ host: connection.host, port: connection.port, username: "root", privateKey: connection.privateKey });
    });
    const opened = Array.from(
      { length: 11 },
      () => new Promise<boolean>((resolve) => client.exec("cat", (error) => resolve(error === undefined))),
    );
    assert.deepEqual(await Promise.all(opened), [...Array<boolean>(10).fill(true), false]);
    assert.equal(lab.host("bcn2").counters.refusedSessions, 1);
    client.destroy();
  });

  it("closes connections that are idle, where it simulates Incus: the next change opens another one", async () => {
    await start({ flavour: "trixie-incus", hosts: [{ name: "bcn2", lxd: "deb" }], timings: { idleMs: 500 } });
    const lxd = await api();
    const { counters } = lab.host("bcn2");
    for (const value of ["1", "2"]) {
      const before = counters.forwards;
      await setServerConfig(lxd, { "user.a": value });
      assert.equal(counters.forwards, before + 1);
      const kept = (): boolean => Object.keys(lxd.endpoint.agent.freeSockets).length > 0;
      await until(deadline(), () => Promise.resolve(kept() ? undefined : true));
    }
    assert.equal((await getServer(lxd)).config["user.a"], "2");
  });

  it("lets a user that is not root reach the API through sudo, and reports when there is none", async () => {
    await start({
      hosts: [
        { name: "bcn2", lxd: "deb", user: "operator" },
        { name: "bcn1", lxd: "deb", user: "nosudo", sudo: false },
      ],
    });
    assert.equal((await getServer(await api())).environment.server, "lxd");
    await assert.rejects(api("bcn1"), /may not become root: sudo: a password is required/);
    assert.deepEqual(lab.host("bcn2").unknownCommands, []);
  });

  it("keeps a host's files over a power cut, and refuses connections while it is off", async () => {
    await start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    await setServerConfig(await api(), { "user.kept": "yes" });
    await lab.host("bcn2").powerOff();
    await disconnectAll();
    await assert.rejects(ssh(), (error: unknown) => hasCode(error, "transport"));
    await lab.host("bcn2").powerOn();
    await disconnectAll();
    assert.equal((await getServer(await api())).config["user.kept"], "yes");
  });

  it("restarts the daemon on an emptied data directory, and when its socket is opened", async () => {
    await start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    await setServerConfig(await api(), { "user.kept": "yes" });
    const connection = await ssh();
    for (const argv of [
      ["systemctl", "stop", "lxd.service", "lxd.socket"],
      ["find", "/var/lib/lxd", "-mindepth", "1", "-delete"],
      ["systemctl", "start", "lxd.socket"],
    ]) {
      await connection.run(argv, { deadline: deadline() });
    }
    assert.deepEqual((await getServer(await api())).config, {});
  });

  for (const [flavour, status] of [
    ["trixie-lxd", "Online"],
    ["trixie-incus7", "Offline"],
  ] as const) {
    it(`lists the member that answers as ${status} after it has lost a peer, with ${flavour}`, async () => {
      lab = await startCluster(flavour);
      lab.timings.heartbeatMs = 60_000;
      await lab.host("bcn1").powerOff();
      const statuses = z.array(z.looseObject({ server_name: z.string(), status: z.string() }));
      const listed = await (await api()).get("/1.0/cluster/members", statuses, { recursion: 1 });
      assert.deepEqual(Object.fromEntries(listed.map((member) => [member.server_name, member.status])), {
        bcn2: status,
        bcn1: "Offline",
      });
      const own = (await listMembers(await api())).find(({ server_name }) => server_name === "bcn2");
      assert.equal(own?.status, "Online");
    });
  }

  it("behaves like a newer LXD on request, with its waits and its background work", async () => {
    await start({ hosts: [{ name: "bcn2", snapd: true }], flavour: "lxd-6" });
    const patience = { deadline: deadline(), progress: () => undefined };
    await bringSnap(await ssh(), { channel: "6/stable", cohort: true, hold: true }, patience);
    const lxd = await api();
    assert.equal((await getServer(lxd)).environment.server_version, "6.9");
    const operation = await lxd.begin("POST", "/1.0/storage-pools", {
      body: { name: "p", driver: "dir", config: { source: "/nope" } },
    });
    assert.ok(operation);
    await assert.rejects(lxd.finish(operation), (error: unknown) => {
      assert.equal(replyOf(error), "Source path '/nope' does not exist");
      return true;
    });
    const again = await lxd.begin("POST", "/1.0/storage-pools", { body: { name: "p", driver: "dir" } });
    assert.ok(again);
    await lxd.finish(again);
    const raw = await lxd.getRaw(`/1.0/operations/${operation.id}/wait`);
    assert.deepEqual([raw.status, z.object({ type: z.string() }).parse(JSON.parse(raw.body.toString())).type], [200, "error"]);
  });

  it("lets a virtual machine's agent answer after its delay, and changes only what a running one accepts", async () => {
    await start({ hosts: [{ name: "bcn2", lxd: "deb" }], timings: { agentMs: 60_000 } });
    const lxd = await furnish();
    lab.seedImage("bcn2", { alias: "vm", type: "virtual-machine" });
    const config = { "limits.memory": "1GiB" };
    await lxd.change("POST", "/1.0/instances", {
      body: { name: "v1", type: "virtual-machine", config, source: { type: "image", alias: "vm" } },
    });
    await lxd.change("PUT", "/1.0/instances/v1/state", { body: { action: "start" } });
    const which = { lxd, project: "default", name: "v1" };
    assert.equal((await getInstanceState(which)).processes, -1);
    await assert.rejects(runInInstance(which, { argv: ["true"] }), /agent isn't currently running/);
    const change = (more: object): Promise<unknown> =>
      lxd.change("PATCH", "/1.0/instances/v1", { body: { config: more, description: "" } });
    await assert.rejects(change({ "raw.qemu": "-x" }), /Key "raw\.qemu" cannot be updated when VM is running/);
    await assert.rejects(
      change({ "limits.memory": "2GiB" }),
      /beyond boot time size.*\(Boot time size 1024MiB, new size 2048MiB\)/,
    );
    await assert.rejects(change({ "limits.cpu": "0-3" }), /Cannot change CPU pinning/);
    await change({ "limits.memory": "512MiB", "limits.cpu": "2", "user.a": "b" });
  });

  it("carries a thousand instances", async () => {
    await start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    const lxd = await furnish();
    lab.seedInstances(1000, { host: "bcn2", prefix: "vm" });
    const list = z.array(z.looseObject({ name: z.string(), status: z.string() }));
    const instances = await lxd.get("/1.0/instances", list, { recursion: 2 });
    assert.deepEqual([instances.length, new Set(instances.map(({ status }) => status))], [1000, new Set(["Running"])]);
  });

  describe("with faults", () => {
    const requests = (path: string): number => lab.requests.filter((request) => request.path.startsWith(path)).length;

    beforeEach(() => start({ hosts: [{ name: "bcn2", lxd: "deb" }] }));

    it("cuts the connection before or after a request is carried out", async () => {
      const body = (name: string) => ({ body: { name } });
      for (const [effect, exists] of [
        ["drop-before", false],
        ["drop-after", true],
      ] as const) {
        const fault = lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/profiles/ }, effect });
        await assert.rejects((await api()).change("POST", "/1.0/profiles", body(effect)), (error: unknown) =>
          hasCode(error, "transport"),
        );
        assert.equal(fault.hits, 1);
        fault.remove();
        const found = await (await api()).find(`/1.0/profiles/${effect}`, z.looseObject({}));
        assert.equal(found !== undefined, exists, effect);
      }
    });

    it("answers the n-th request with an error, and no other", async () => {
      const fault = lab.faults.add({
        when: { path: /^\/1\.0\/profiles/, nth: 2 },
        effect: { status: 400, error: "out of luck" },
      });
      const lxd = await api();
      const read = (): Promise<unknown> => lxd.get("/1.0/profiles", z.unknown());
      await read();
      await assert.rejects(read(), /out of luck/);
      await read();
      assert.deepEqual([fault.matches, fault.hits, requests("/1.0/profiles")], [3, 1, 3]);
    });

    it("lets an operation fail without doing anything", async () => {
      lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/instances/ }, effect: { failOperation: "disk is full" } });
      const lxd = await furnish();
      lab.seedImage("bcn2", { alias: "deb" });
      const making = lxd.change("POST", "/1.0/instances", { body: { name: "c1", source: { type: "image", alias: "deb" } } });
      await assert.rejects(making, (error: unknown) => hasCode(error, "operation") && replyOf(error) === "disk is full");
      assert.deepEqual(await lxd.get("/1.0/instances", z.unknown()), []);
    });

    it("forgets operations and tokens when the daemon restarts", async () => {
      const lxd = await api();
      await setServerConfig(lxd, { "core.https_address": "192.168.1.101:8443" });
      await lxd.change("PUT", "/1.0/cluster", { body: { server_name: "bcn2", enabled: true } });
      await lxd.begin("POST", "/1.0/cluster/members", { body: { server_name: "bcn1" } });
      lab.faults.add({ when: { path: /^\/1\.0\/profiles/, nth: 1 }, effect: "daemon-restart" });
      await lxd.get("/1.0/profiles", z.unknown());
      assert.deepEqual(await (await api()).get("/1.0/operations", z.unknown(), { recursion: 1 }), {});
    });

    it("lets a command fail", async () => {
      lab.faults.add({ when: { exec: /^cat / }, effect: { status: 5, error: "broken disk" } });
      const result = await (await ssh()).run(["cat", "/etc/hostname"], { deadline: deadline(), allowFailure: true });
      assert.deepEqual(result, { exitCode: 5, stdout: "", stderr: "broken disk\n" });
    });
  });
});
