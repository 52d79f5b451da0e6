import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostArgs } from "../../../cli/arguments";
import { refuseToOverwrite } from "../../../cli/project";
import { readStatus } from "../../../cli/status";
import type { ClusterStatus } from "../../../cli/status/contents";
import { drawStatus } from "../../../cli/status/picture";
import { describeStatus } from "../../../cli/status/text";
import { OWNER_KEY } from "../../../provider/lxd/config";
import { type SimulatedCluster, startMembers, startStandalone } from "../resources/simulated-cluster";

const URN = "urn:pulumi:prod::shop::pulumi-nodejs:dynamic/lxd:LxdVm::web";
const CLAIM = "0123456789abcdef";

describe("The status of a cluster", () => {
  let three: SimulatedCluster;
  let told: string[];

  const read = (endpoints = three.cluster.endpoints, seconds?: number): Promise<ClusterStatus> =>
    readStatus(endpoints as unknown as HostArgs[], (text) => void told.push(text), seconds);
  const byHand = (method: "POST" | "PATCH", path: string, body: object): Promise<unknown> =>
    three.lab.byHand("bcn2", method, path, body);

  beforeEach(async () => {
    told = [];
    three = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    for (const [collection, body] of [
      ["/1.0/storage-pools", { name: "local", driver: "dir" }],
      ["/1.0/networks", { name: "lxdbr0", type: "bridge" }],
    ] as const) {
      for (const target of ["bcn2", "bcn1", "bcn3"]) {
        await byHand("POST", `${collection}?target=${target}`, body);
      }
      await byHand("POST", collection, body);
    }
    const devices = {
      root: { type: "disk", path: "/", pool: "local" },
      eth0: { type: "nic", network: "lxdbr0" },
    };
    const eth1 = { type: "nic", nictype: "bridged", parent: "br0" }; // so that it cannot move
    const config = { [OWNER_KEY]: `${URN} [${CLAIM}]`, "user.pulumi.user.alice": `${URN}-alice [${CLAIM}]` };
    three.lab.seedInstances(1, { host: "bcn2", prefix: "web", type: "container", devices, config });
    await byHand("POST", "/1.0/projects", { name: "shop", config: { "features.images": "false", "features.profiles": "false" } });
    three.lab.seedInstances(1, { host: "bcn2", prefix: "db", project: "shop", type: "container", devices: { ...devices, eth1 } });
  });
  afterEach(async () => {
    assert.deepEqual(three.lab.defects, []);
    await three.stop();
  });

  it("has its members, pools, networks, instances with their users and owners, and changes nothing", async () => {
    const since = three.lab.requests.length;
    const text = describeStatus(await read());
    assert.deepEqual(
      three.lab.mutations(since).filter(({ path }) => path !== "/internal/sql"),
      [],
    );
    assert.match(text, /^LXD 5\.0\.2, a cluster of 3 members, asked on root@127\.0\.0\.1:\d+\n/);
    assert.match(text, /^bcn2 +Online +192\.168\.1\.102:8443 +database-leader, database +\d$/m);
    assert.match(text, /^local +dir +Created +-$/m);
    assert.match(text, /^lxdbr0 +bridge +Created +-$/m);
    assert.match(text, /^web1 +container +Running +bcn\d +10\.[\d.]+, fd42[0-9a-f:]+ +alice +shop\/prod: web$/m);
    assert.match(text, /^shop\/db1 +container +Running +bcn\d +10\./m);
    assert.match(text, /\n\nNothing is unfinished\.\n$/);
    assert.deepEqual(told, []);
  });

  it("names what is unfinished: half-made objects, an evacuated member, and what is away from it", async () => {
    await byHand("POST", "/1.0/storage-pools?target=bcn1", { name: "half", driver: "dir" });
    await byHand("PATCH", "/1.0/storage-pools/local", {
      config: { [OWNER_KEY]: `${URN.replace("::web", "::local")} [${CLAIM} creating]` },
    });
    const placeOf = async (wanted: string) => (await read()).instances.find(({ name }) => name === wanted)?.member ?? "";
    const [web, db] = [await placeOf("web1"), await placeOf("db1")];
    assert.equal(web, db);
    await (await three.byHand()).change("POST", `/1.0/cluster/members/${web}/state`, { body: { action: "evacuate" } });
    const { unfinished } = await read();
    assert.notEqual(await placeOf("web1"), web);
    assert.deepEqual([...unfinished].sort(), [
      `Instance shop/db1 is stopped until ${db} is restored`,
      `Instance web1 is on ${await placeOf("web1")} until ${web} is restored`,
      `Member ${web} is evacuated. When its maintenance is over: lxc cluster restore ${web}, or evacuated: false`,
      "Storage pool half is Pending on bcn2, bcn1, bcn3",
      'Storage pool local is not finished: pulumi up of stack "prod", project "shop", continues with local',
    ]);
  });

  it("is read while a member is down, which is named once, with what can still fail", async () => {
    three.lab.timings.missedMs = 0;
    await three.lab.host("bcn3").powerOff();
    const status = await read();
    assert.equal(status.members.find(({ name }) => name === "bcn3")?.status, "Offline");
    assert.match(describeStatus(status), /^local +dir +Created \(bcn2\), Created \(bcn1\), Offline \(bcn3\) +-$/m);
    const [down, quorum, ...others] = status.unfinished;
    assert.match(down ?? "", /^Member bcn3 is down: .*Its instances are listed without their contents$/);
    assert.match(
      quorum ?? "",
      /^The cluster has 2 of 3 voters of its database online: if one of bcn2, bcn1 fails, no member's API answers$/,
    );
    assert.deepEqual(others, []);
  });

  it("is read through another member when the first one does not answer", async () => {
    await three.lab.host("bcn3").powerOff();
    assert.equal((await read([...three.cluster.endpoints].reverse())).members.length, 3);
  });

  it("is read without addresses when the state of an instance does not come", async () => {
    three.lab.faults.add({ when: { method: "GET", path: /^\/1\.0\/instances\?.*recursion=2/ }, effect: "hang" });
    const { instances } = await read(three.cluster.endpoints, 5);
    assert.deepEqual(
      instances.map(({ name, status, addresses }) => [name, status, addresses]),
      [
        ["web1", "Running", []],
        ["db1", "Running", []],
      ],
    );
    assert.match(told.join(), /^Addresses are not shown: reading the state of the instances did not finish within 2\.\d+ s/);
  });

  it("is drawn with each member, its instances, networks and pools, whatever their names are", async () => {
    const status = await read();
    const svg = drawStatus({ ...status, title: 'LXD <5> & "more"' });
    assert.match(
      svg,
      /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" [^>]+>\n<title id="title">LXD &#60;5&#62; &#38; &#34;more&#34;, cluster of 3<\/title>/,
    );
    for (const name of ["bcn2", "bcn1", "bcn3", "web1", "shop/db1"]) {
      assert.equal(svg.split(`>${name}<`).length, 2, name);
    }
    assert.equal(svg.split(">network lxdbr0, bridge<").length, 4);
    assert.equal(svg.split(">pool local, dir<").length, 4);
    assert.equal(svg.split('class="wire"').length, 4);
    assert.equal(svg.split(">interface br0 of the host<").length, 2);
    assert.doesNotMatch(svg, /fault"/);
  });
});

describe("The status of a standalone server", () => {
  it("has one member without a cluster", async () => {
    const one = await startStandalone();
    try {
      const status = await readStatus(one.cluster.endpoints as unknown as HostArgs[], () => undefined);
      assert.match(
        describeStatus(status),
        /^LXD 5\.0\.2, a standalone server on root@[^\n]+\n\nMEMBER +STATUS[^\n]+\nbcn2 +Online +- +- +0\n/,
      );
      assert.match(drawStatus(status), /, standalone server</);
    } finally {
      await one.stop();
    }
  });
});

describe("The file of a picture", () => {
  const CHOICE = "another file with --svg";

  it("is not overwritten without --force", () => {
    const folder = mkdtempSync(join(tmpdir(), "status-"));
    try {
      const file = join(folder, "cluster.svg");
      refuseToOverwrite(file, false, CHOICE);
      writeFileSync(file, "<svg/>");
      assert.throws(() => refuseToOverwrite(file, false, CHOICE), {
        message: /exists\. Choose another file with --svg, or overwrite it with --force/,
      });
      refuseToOverwrite(file, true, CHOICE);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
