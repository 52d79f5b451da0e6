import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { compileFunction } from "node:vm";
import ts from "typescript";
import * as z from "zod";
import { makeCertificate } from "../../lab/simulated/lxd/certificate";
import type { LxdClient } from "../../provider/lxd/client/client";
import { figure } from "../support/figure";
import { type SimulatedCluster, startTwoMembers } from "../unit/resources/simulated-cluster";
import { EngineStack, type Run } from "./workspace";

const REPOSITORY = resolve(__dirname, "../..");
const SERVER = "https://images.example.org";
const HASH = "$6$saltsalt$qRPK7m23GJusamGpoGLby.Jw2RWzHdMjLgDPvZ8Jc0kNvCbAC7YOK3sXZ3jX2c8O4gDg6IWDRuO2OJ6j8q.M/";
const USER_DATA = `#cloud-config\nusers:\n  - name: ops\n    hashed_passwd: ${HASH}\n`;
const TOKEN = "sup3r-t0ken";
const anything = z.unknown();

/** What a person has made with lxc over the years. */
async function furnish(lxd: LxdClient): Promise<void> {
  const post = (path: string, body: object, query = {}) => lxd.change("POST", path, { body, query });
  for (const [target, config] of [
    ["bcn2", { size: "10GiB" }],
    ["bcn1", { source: "/dev/sdb" }],
  ] as const) {
    await post("/1.0/storage-pools", { name: "fast", driver: "btrfs", config }, { target });
    await post("/1.0/storage-pools", { name: "local", driver: "dir" }, { target });
    await post("/1.0/networks", { name: "lxdbr0" }, { target });
  }
  await post("/1.0/storage-pools", { name: "fast", driver: "btrfs", config: { "volume.size": "20GiB" }, description: "SSDs" });
  await post("/1.0/storage-pools", { name: "local", driver: "dir" });
  const rule = { action: "allow", state: "enabled" };
  await post("/1.0/network-acls", { name: "web", config: { "user.note": "for the shop" } });
  await post("/1.0/network-acls", { name: "office", egress: [rule] });
  await post("/1.0/network-acls", { name: "db", ingress: [{ ...rule, source: "web,10.9.0.7", description: "from web" }] });
  await post("/1.0/networks", {
    name: "lxdbr0",
    config: {
      "security.acls": "office, web",
      "ipv4.address": "10.9.0.1/24",
      "ipv4.nat": "true",
      "ipv6.address": "none",
      "bgp.peers.up.password": TOKEN,
    },
  });
  await post(
    "/1.0/networks/lxdbr0/forwards",
    { listen_address: "192.0.2.1", ports: [{ protocol: "tcp", listen_port: "80", target_address: "10.9.0.7" }] },
    { target: "bcn1" },
  );
  await post(
    "/1.0/storage-pools/fast/volumes/custom",
    { name: "orders", description: "keep", config: { size: "5GiB", "snapshots.schedule": "@daily", "user.note": "of the shop" } },
    { target: "bcn1" },
  );
  const root = { type: "disk", path: "/", pool: "local" };
  const eth0 = { type: "nic", name: "eth0", network: "lxdbr0" };
  await lxd.change("PUT", "/1.0/profiles/default", {
    body: { description: "Default LXD profile", config: {}, devices: { root, eth0 } },
  });
  await post("/1.0/profiles", {
    name: "web-servers",
    description: 'says "hello"',
    config: { "limits.memory": "1GiB", "cloud-init.user-data": USER_DATA, "environment.API": TOKEN, "user.note": "for the shop" },
    devices: { root: { ...root, pool: "fast" }, eth0 },
  });
  await lxd.change("PATCH", "/1.0", {
    body: { config: { "images.auto_update_interval": "24", "loki.auth.password": TOKEN, "core.trust_password": TOKEN } },
  });
  await post("/1.0/cluster/groups", { name: "gpu", description: "with a GPU", members: ["bcn1"] });
  await post("/1.0/projects", { name: "dev", config: { "features.profiles": "true", "features.images": "false" } });
  await lxd.change("PUT", "/1.0/profiles/default", {
    query: { project: "dev" },
    body: { description: "", config: {}, devices: { root } },
  });
  const trusted = { type: "client", certificate: makeCertificate("ci").pem, restricted: true, projects: ["dev"] };
  await post("/1.0/certificates", { name: "ci of the shop", ...trusted });
  await post("/1.0/images", {
    source: { type: "image", mode: "pull", server: SERVER, protocol: "simplestreams", alias: "12" },
    aliases: [{ name: "debian-12" }, { name: "stable" }],
  });
  const source = { type: "image", alias: "uploaded" };
  const instance = async (name: string, body: object, query = {}, start = true): Promise<void> => {
    await post("/1.0/instances", { name, type: "container", source, ...body }, query);
    if (start) {
      await lxd.change("PUT", `/1.0/instances/${name}/state`, { query, body: { action: "start" } });
    }
  };
  await instance("web-1", { profiles: ["default", "web-servers"], description: "shop" }, { target: "bcn2" });
  await instance(
    "db1",
    {
      source: { type: "image", alias: "vm" },
      type: "virtual-machine",
      config: { "limits.cpu": "2", "limits.memory": "4GiB", "security.secureboot": "false" },
      devices: {
        root: { ...root, size: "30GiB", "boot.priority": "1" },
        data: { type: "disk", source: "/srv", path: "/srv" },
        orders: { type: "disk", pool: "fast", source: "orders", path: "/orders" },
      },
    },
    { target: "bcn1" },
  );
  await instance("old", { profiles: [], devices: { root } }, { target: "bcn1" }, false);
  await instance("web-1", { config: { "environment.DB_PASSWORD": TOKEN } }, { project: "dev", target: "bcn2" });
  await instance("ice", {}, { target: "bcn2" });
  await lxd.change("PUT", "/1.0/instances/ice/state", { body: { action: "freeze" } });
  const member = await lxd.get("/1.0/cluster/members/bcn1", z.looseObject({}));
  await lxd.change("PUT", "/1.0/cluster/members/bcn1", {
    body: { ...member, failure_domain: "rack2", config: { "scheduler.instance": "manual", "user.key": TOKEN } },
  });
}

/** All that LXD shows of a cluster, but for the marks. */
async function snapshot(lxd: LxdClient): Promise<unknown> {
  const lists = [
    "storage-pools",
    "storage-pools/fast/volumes/custom",
    "networks",
    "profiles",
    "images",
    "instances",
    "cluster/members",
    "cluster/groups",
  ];
  const queries = ["default", "dev"].flatMap((project) =>
    lists.map((list) => ({ path: `/1.0/${list}`, query: { project, recursion: 1 } })),
  );
  const ofMembers = ["bcn2", "bcn1"].flatMap((target) =>
    ["/1.0/storage-pools/fast", "/1.0/storage-pools/local", "/1.0/networks/lxdbr0"].map((path) => ({ path, query: { target } })),
  );
  const answers: unknown[] = [];
  for (const { path, query } of [...queries, ...ofMembers]) {
    answers.push(await lxd.get(path, anything, query));
  }
  return JSON.parse(JSON.stringify(answers, (key, value: unknown) => (key.startsWith("user.pulumi.") ? undefined : value)));
}

describe("Taking over a cluster that runs already", () => {
  let two: SimulatedCluster;
  let stack: EngineStack;
  let folder: string;
  let text: string;
  let said: string;
  let before_: unknown;

  const adopt = async (...more: string[]): Promise<string> => {
    const hosts = two.lab.hosts.flatMap(({ address, port }) => ["--host", `root@${address}:${port}`]);
    const argv = [
      join(REPOSITORY, "dist/cli/main.js"),
      "adopt",
      ...hosts,
      "--identity",
      two.lab.privateKeyPath,
      "--out",
      folder,
      ...more,
    ];
    const env = { ...process.env, HOME: stack.home, SSH_AUTH_SOCK: "" };
    return (await promisify(execFile)(process.execPath, argv, { env, cwd: stack.home })).stdout;
  };

  /** Runs the program that was written, as the CLI would from its folder. */
  const program = (source: string) => () => {
    const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.CommonJS } });
    const run = compileFunction(outputText, ["require", "exports"]) as (load: NodeJS.Require, exported: object) => void;
    run(createRequire(join(REPOSITORY, "index.ts")), {});
  };

  const changesOf = async (work: () => Promise<Run>): Promise<Run & { changes: string[] }> => {
    const since = two.lab.requests.length;
    const run = await work();
    assert.ok(run.ok, run.text);
    const changes = two.lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`);
    return { ...run, changes: changes.filter((change) => !change.endsWith("/exec")) };
  };

  before(async () => {
    two = await startTwoMembers({
      remoteImages: [
        { server: SERVER, aliases: ["12"], type: "container", fingerprint: "ab".repeat(32), properties: { os: "Debian" } },
      ],
    });
    two.lab.seedImage("bcn2", { alias: "uploaded" });
    two.lab.seedImage("bcn2", { alias: "vm", type: "virtual-machine" });
    await furnish(await two.byHand());
    stack = await EngineStack.open();
    mkdirSync(join(stack.home, ".ssh"));
    copyFileSync(two.lab.knownHostsPath, join(stack.home, ".ssh/known_hosts"));
    folder = join(stack.home, "program");
    before_ = await snapshot(await two.byHand());
  });

  after(async () => {
    stack.close();
    await two.stop();
    assert.deepEqual(two.lab.defects, []);
  });

  describe("by the command", () => {
    it("reads all that there is, and changes nothing", async () => {
      const since = two.lab.requests.length;
      said = await adopt();
      assert.deepEqual(two.lab.mutations(since), []);
      text = readFileSync(join(folder, "index.ts"), "utf8");
      assert.equal(
        said.split("\n")[0],
        "Found on bcn2, bcn1: LxdNode 2, LxdClusterMember 2, LxdClusterGroup 1, LxdServerConfig 1, LxdStoragePool 2, LxdProject 1, LxdTrustCertificate 1, LxdStorageVolume 1, LxdNetworkAcl 3, LxdNetwork 1, LxdNetworkForward 1, LxdImage 1, LxdProfile 3, LxdVm 4",
      );
    });

    it("says what it leaves out, and why", () => {
      assert.match(said, /- instance ice: it is Frozen, neither running nor stopped\. Start or stop it, and run this again/);
      assert.match(said, /- config key core\.trust_password: the server does not tell its value/);
      assert.match(said, /- image uploaded: it was uploaded, and its files are not available here/);
      assert.match(text, / \* - instance ice: it is Frozen/);
    });

    it("writes a program that compiles", () => {
      const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022 };
      const modules = { module: ts.ModuleKind.Node16, moduleResolution: ts.ModuleResolutionKind.Node16 };
      const compiled = ts.createProgram([join(folder, "index.ts")], { ...options, ...modules });
      assert.deepEqual(
        ts.getPreEmitDiagnostics(compiled).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n")),
        [],
      );
    }).timeout("60s");

    it("writes no secret, but how to bring it into the stack's config, unseen", () => {
      for (const secret of [HASH, TOKEN, "hashed_passwd", "PRIVATE KEY"]) {
        assert.ok(!text.includes(secret) && !said.includes(secret), secret);
      }
      const port = String(two.lab.hosts[0]?.port);
      assert.ok(
        said.includes(
          `ssh -p ${port} -i ${two.lab.privateKeyPath} root@127.0.0.1 'lxc profile get web-servers cloud-init.user-data' | ` +
            "pulumi config set --secret profile-web-servers-cloud-init-user-data",
        ),
        said,
      );
      assert.match(said, /'lxc storage volume get --target=bcn1 fast orders user\.note'/);
      assert.match(text, /name: "ci of the shop",\s*certificate:[^]*projects: \[\s*devProject\.name,?\s*\]/);
      assert.match(text, /orders: \{\s*type: "disk",\s*pool: fastPool\.name,\s*source: ordersVolume\.name,/);
      assert.match(text, /"environment\.DB_PASSWORD": settings\.requireSecret\(\s*"dev-web-1-environment-DB-PASSWORD",?\s*\)/);
    });

    it("does not write over a program, unless it is told to", async () => {
      await assert.rejects(adopt(), /index\.ts exists\. Choose another folder with --out, or overwrite it with --force/);
      await adopt("--force");
    });
  });

  describe("by pulumi", () => {
    let resources = 0;

    before(async () => {
      stack.define(program(text));
      await stack.setSecret("profile-web-servers-cloud-init-user-data", USER_DATA);
      await stack.setSecret("profile-web-servers-environment-API", TOKEN);
      await stack.setSecret("profile-web-servers-user-note", "for the shop");
      await stack.setSecret("network-acl-web-user-note", "for the shop");
      await stack.setSecret("storage-volume-bcn1-fast-orders-user-note", "of the shop");
      await stack.setSecret("dev-web-1-environment-DB-PASSWORD", TOKEN);
      await stack.setSecret("network-lxdbr0-bgp-peers-up-password", TOKEN);
      await stack.setSecret("cluster-bcn1-user-key", TOKEN);
      await stack.setSecret("server-config-loki-auth-password", TOKEN);
    });

    it("shows in a preview that adopting changes nothing in any object", async () => {
      const { steps, messages, changes } = await changesOf(() => stack.preview());
      resources = steps.length;
      assert.deepEqual([resources, changes], [24, []]);
      assert.deepEqual(
        steps.filter(({ op }) => op !== "create"),
        [],
      );
      const told = messages.map((message) => message.trim()).filter((message) => !message.startsWith("debug"));
      assert.deepEqual(
        told.filter((message) => !/^info.*: Adopts the existing object: nothing in it changes$/.test(message)),
        [],
      );
      assert.equal(told.length, resources);
    });

    it("changes nothing on the cluster with `up`, but for the marks", async () => {
      const { steps, changes } = await changesOf(() => stack.up());
      assert.equal(steps.filter(({ op }) => op === "create").length, resources);
      assert.deepEqual([...new Set(changes.map((change) => change.split(" ")[0]))].sort(), ["PATCH", "PUT"]);
      assert.deepEqual(await snapshot(await two.byHand()), before_);
      figure("objects taken over", resources);
    });

    it("shows no change then, and makes none", async () => {
      assert.deepEqual((await changesOf(() => stack.preview())).steps, []);
      const { steps, changes } = await changesOf(() => stack.up());
      assert.deepEqual([steps, changes], [[], []]);
    });

    it("manages from then on: a machine that is edited in the program is changed in place", async () => {
      stack.define(program(text.replace('description: "shop"', 'description: "the shop"')));
      const { steps, changes } = await changesOf(() => stack.up());
      assert.deepEqual(
        steps.map(({ op, name }) => [op, name]),
        [["update", "web-1"]],
      );
      assert.deepEqual(changes, ["PUT /1.0/instances/web-1"]);
    });

    it("is not taken from the stack by another run of the command, unless that is told to", async () => {
      const again = await adopt("--force");
      assert.match(
        again,
        /- instance web-1: it belongs to the Pulumi resource "web-1" of stack "test", project "engine-tests"; adopt it with --owned/,
      );
      assert.doesNotMatch(again, /LxdVm/);
      assert.match(await adopt("--force", "--owned"), /LxdVm 4/);
    });
  });
});
