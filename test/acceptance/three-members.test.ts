import assert from "node:assert/strict";
import { installOf } from "../../lab/real/flavours";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { IMAGES_BY_MEMBER } from "../../provider/lxd/images/places";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { createResource } from "../support/real-lab";
import { tinyImage } from "../support/tiny-image";
import { eventually } from "./support/eventually";
import { statesOnceHeard } from "./support/member-states";
import { Backend, type Project, repositoryConfig, type StackConfigFile } from "./support/project";

const FOLDER = "stacks/three-members";
const HOSTS: readonly HostName[] = ["bcn2", "bcn1", "bcn3"];

interface HostConfig {
  readonly name: HostName;
  readonly connection: object;
  readonly node: object;
  readonly member?: object;
  readonly [argument: string]: unknown;
}

interface Located {
  readonly name: string;
  readonly location: string;
}

/** The program of three members, on real hosts. The tests run in order: each continues from the one before. */
describe("The program of three members", () => {
  const hosts = bareHosts(HOSTS);
  const { inShell, onHost } = hosts;
  const backend = new Backend();
  let stack: Project;
  let config: StackConfigFile;
  /** The entries of the hosts in the config. */
  let all: readonly HostConfig[];

  /** Runs the server's client on the primary. Returns its output. */
  const client = (...argv: string[]): Promise<string> => onHost("bcn2", hosts.lab.flavour.client, ...argv);
  const query = async <Answer>(path: string): Promise<Answer> => JSON.parse(await client("query", path)) as Answer;
  /** Sets keys of the stack's config, for this test and those after it. */
  const set = (keys: object): void => {
    config = {
      ...config,
      ...Object.fromEntries(Object.entries(keys).map(([key, value]) => [`lxd-three-members:${key}`, value])),
    };
    stack.configure(config);
  };
  /** Runs `pulumi up`. Returns its steps as text, in order of the alphabet. */
  const up = async (): Promise<string[]> => (await stack.up()).map(({ op, type, name }) => `${op} ${type} ${name}`).sort();
  /** Runs `pulumi`, which must succeed. Returns its screen. */
  const pulumi = async (...argv: string[]): Promise<string> => {
    const run = stack.start(argv);
    assert.equal(await run.ended, 0, run.screen);
    return run.screen;
  };
  /** Takes resources out of state, by the ends of their URNs. */
  const forget = async (endings: readonly string[]): Promise<void> => {
    const { deployment } = JSON.parse(await stack.exportState()) as { deployment: { resources: { urn: string }[] } };
    for (const ending of endings) {
      const { urn } = deployment.resources.find((each) => each.urn.endsWith(ending)) ?? assert.fail(`no ${ending}`);
      await pulumi("state", "delete", "--yes", urn);
    }
  };
  const assertNoChange = async (): Promise<void> => assert.deepEqual(await stack.up({ expectNoChanges: true }), []);
  /** The hosts, one of them with further arguments of its member. */
  const withMember = (name: HostName, more: object): HostConfig[] =>
    all.map((host) => (host.name === name ? { ...host, member: { ...host.member, ...more } } : host));
  /** Number of web servers on each member. */
  const spread = async (): Promise<Record<string, number>> => {
    const instances = await query<Located[]>("/1.0/instances?recursion=1&project=shop");
    return Object.fromEntries(HOSTS.map((host) => [host, instances.filter(({ location }) => location === host).length]));
  };

  /** A disk for the pool, and on bcn2 an interface for the network: both as the machine would have them at each start. */
  const addHardware = async (host: HostName): Promise<void> => {
    const unit = [
      ...[
        "[Unit]",
        "DefaultDependencies=no",
        "Before=basic.target",
        "[Service]",
        "Type=oneshot",
        "ExecStart=/usr/local/sbin/hardware",
      ],
      ...["[Install]", "WantedBy=basic.target"],
    ];
    const script = [
      "#!/bin/sh -e",
      "mkdir -p /dev/disk/by-id",
      `ln -sf "$(losetup --find --show /var/lib/disk.img)" /dev/disk/by-id/disk-of-${host}`,
      ...(host === "bcn2" ? ["ip link add ext0 type veth peer name outside"] : []),
    ];
    await inShell(
      host,
      [
        "truncate --size=2G /var/lib/disk.img",
        `printf '%s\\n' '${unit.join("' '")}' >/etc/systemd/system/hardware.service`,
        `printf '%s\\n' '${script.join("' '")}' >/usr/local/sbin/hardware`,
        "chmod 755 /usr/local/sbin/hardware",
        "systemctl daemon-reload",
        "systemctl enable --now hardware.service",
      ].join(" && "),
    );
  };

  before(async () => {
    await Promise.all(HOSTS.map(addHardware));
    config = repositoryConfig(`${FOLDER}/Pulumi.lab.yaml`);
    const written = config["lxd-three-members:hosts"] as HostConfig[];
    all = written.map(({ node, connection, ...host }) => ({
      ...host,
      ...{
        connection: { ...connection, dialErrorLimit: 1 }, // no long wait for a host that is off
        disk: `/dev/disk/by-id/disk-of-${host.name}`,
        node: { install: { packages: ["btrfs-progs"], ...installOf(hosts.lab.flavour) } },
        member: { leaving: "migrate" },
      },
    }));
    stack = await backend.project({ file: `${FOLDER}/Pulumi.yaml`, main: `${FOLDER}/index.ts`, stack: "lab", config });
    const reportsLoad = hosts.lab.flavour.server === "incus";
    set({ hosts: all, running: false, policy: reportsLoad ? "leastMemory" : "leastInstances" });
  });

  after(() => backend.remove());

  it("makes everything from bare hosts by one up, and nothing by a second", async () => {
    const steps = await up();
    assert.ok(
      steps.every((step) => step.startsWith("create ")),
      steps.join("\n"),
    );
    assert.deepEqual(await statesOnceHeard(hosts.lab, "bcn2"), { bcn1: "Online", bcn2: "Online", bcn3: "Online" });
    assert.deepEqual(await spread(), { bcn2: 3, bcn1: 3, bcn3: 3 });
    assert.match(await onHost("bcn2", "ip", "-brief", "link", "show", "master", "web"), /^ext0@/);
    for (const host of HOSTS) {
      const { config: pool } = await query<{ config: Record<string, string> }>(`/1.0/storage-pools/data?target=${host}`);
      assert.equal(pool["volatile.initial_source"], `/dev/disk/by-id/disk-of-${host}`);
    }
    await assertNoChange();
  });

  it("changes the server config", async () => {
    set({ serverConfig: { "cluster.images_minimal_replica": 2, "images.remote_cache_expiry": 5 } });
    const { steps, text } = await stack.preview();
    assert.deepEqual(
      steps.map(({ op, name }) => `${op} ${name}`),
      ["update settings"],
      text,
    );
    assert.deepEqual(await up(), ["update LxdServerConfig settings"]);
    assert.equal(await client("config", "get", "images.remote_cache_expiry"), "5");
    await assertNoChange();
  });

  it("keeps as many copies of a new image as the server config says", async () => {
    const files = tinyImage("copies");
    const sourceFingerprint = await fingerprintOf(files);
    const cluster = { endpoints: HOSTS.map((host) => hosts.to(host)) };
    const { outs } = await createResource("LxdImage", { cluster, ...files, sourceFingerprint, aliases: ["copies"] });
    const copies = async (): Promise<number> => {
      const body = JSON.stringify({ database: "global", query: IMAGES_BY_MEMBER });
      const { Results } = JSON.parse(await client("query", "--request", "POST", "--data", body, "/internal/sql")) as {
        Results: { rows: string[][] }[];
      };
      return (Results[0]?.rows ?? []).filter(([fingerprint]) => fingerprint === outs["fingerprint"]).length;
    };
    assert.equal(await copies(), 2);
    await client("config", "set", "cluster.images_minimal_replica=3");
    await eventually("each member has the image", async () => (await copies()) === 3);
    await client("config", "set", "cluster.images_minimal_replica=2");
    await client("image", "delete", "copies");
  });

  it("refuses a new pool while a host is off, and adds it when the host is back", async () => {
    set({ directories: ["logs"] });
    await hosts.lab.powerOff("bcn1");
    const { text, steps } = await stack.failingPreview();
    assert.match(text, /root@192\.168\.1\.101 cannot be reached by SSH/);
    assert.deepEqual(
      steps.filter(({ op }) => /delete|replace/.test(op)),
      [],
    );
    const unrefreshed = stack.start(["up", "--yes", "--skip-preview", "--refresh=false"]);
    assert.notEqual(await unrefreshed.ended, 0);
    assert.match(unrefreshed.screen, /Storage pool "logs" is created on all members at once, and bcn1 is offline/);
    await hosts.lab.boot("bcn1");
    await eventually("bcn1 answers", async () => (await statesOnceHeard(hosts.lab, "bcn2"))["bcn1"] === "Online");
    assert.deepEqual(await up(), ["create LxdStoragePool cluster-logs"]);
    await assertNoChange();
  });

  it("evacuates a member and restores it, as the preview says", async () => {
    set({ hosts: withMember("bcn1", { evacuated: true }) });
    const { diagnostics } = await stack.preview();
    assert.match(diagnostics, /evacuation of bcn1 .*: moved to other members.*: shop\/web\d, shop\/web\d, shop\/web\d/);
    assert.deepEqual(await up(), ["update LxdClusterMember cluster-bcn1"]);
    assert.equal((await spread())["bcn1"], 0);
    await assertNoChange();
    set({ hosts: all });
    assert.deepEqual(await up(), ["update LxdClusterMember cluster-bcn1"]);
    assert.deepEqual(await spread(), { bcn2: 3, bcn1: 3, bcn3: 3 });
    await assertNoChange();
  });

  it("removes a member, whose instances move to the others, and adds it again", async () => {
    set({ hosts: all.filter(({ name }) => name !== "bcn1") });
    const gone = await up();
    // All others only learn that there is one endpoint less.
    assert.deepEqual(
      gone.filter((step) => !step.startsWith("update ")),
      ["delete LxdClusterMember cluster-bcn1", "delete LxdNode cluster-bcn1"],
    );
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn2", "bcn3"]);
    const { bcn2 = 0, bcn3 = 0 } = await spread();
    assert.equal(bcn2 + bcn3, 9);
    await assertNoChange();
    // Nobody erases a disk but the person whose disk it is.
    await onHost("bcn1", "wipefs", "--all", "--force", "/dev/disk/by-id/disk-of-bcn1");
    set({ hosts: all });
    assert.deepEqual(await up(), [
      "create LxdClusterMember cluster-bcn1",
      "create LxdNode cluster-bcn1",
      "update LxdClusterGroup web",
    ]);
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn1", "bcn2", "bcn3"]);
    assert.equal((await spread())["bcn1"], 0, "an instance was moved back");
    await assertNoChange();
  });

  it("removes a member whose host is dead, and makes elsewhere what was on it", async () => {
    const lost = (await query<Located[]>("/1.0/instances?recursion=1&project=shop")).filter(
      ({ location }) => location === "bcn3",
    );
    await hosts.lab.powerOff("bcn3");
    await eventually("bcn3 is offline", async () => {
      const { status } = await query<{ status: string }>("/1.0/cluster/members/bcn3");
      return status === "Offline";
    });
    // None of these can be read. Those that depend on the member leave the state before it does.
    const dependents = ["::database-bcn3", ...lost.map(({ name }) => `::vms-${name}`)];
    const node = "LxdNode::cluster-bcn3";
    const withoutThese = ["up", "--yes", ...[node, ...dependents].flatMap((ending) => ["--exclude", `**${ending}`])];
    set({ hosts: withMember("bcn3", { removal: "force" }) });
    assert.match(await pulumi(...withoutThese), /loses instances shop\/web\d/);
    await forget(dependents);
    set({ hosts: all.filter(({ name }) => name !== "bcn3"), databaseOn: ["bcn2"] });
    await pulumi(...withoutThese);
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn1", "bcn2"]);
    await forget([node]);
    assert.deepEqual(
      await up(),
      lost.map(({ name }) => `create LxdVm vms-${name}`),
    );
    const { bcn2 = 0, bcn1 = 0 } = await spread();
    assert.equal(bcn2 + bcn1, 9);
    await assertNoChange();
  });

  it("leaves clean hosts", async () => {
    await stack.destroy();
    for (const host of ["bcn2", "bcn1"] as const) {
      assert.equal(await onHost(host, hosts.lab.flavour.client, "storage", "list", "--format=csv"), "");
    }
  });
});
