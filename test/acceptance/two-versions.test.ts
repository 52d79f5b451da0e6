import assert from "node:assert/strict";
import { NEWER_REPOSITORY } from "../../lab/real/base";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { statesOnceHeard } from "./support/member-states";
import { UpgradedCluster } from "./support/upgraded-cluster";

/** Incus 6.0 of Debian 13, and 7.0 of its backports: another schema of the database, and more API extensions. */
describe("The upgrade of a cluster to the next version of Incus", () => {
  const hosts = bareHosts(undefined, " --flavour trixie-incus");
  const cluster = new UpgradedCluster(hosts);
  const { names, up } = cluster;
  let newer = "";

  const versionOf = async (name: HostName): Promise<string> =>
    (await cluster.query<{ environment: { server_version: string } }>(name, "/1.0")).environment.server_version;

  before(async () => {
    await cluster.create();
    const source = `deb [trusted=yes lang=none] file:${NEWER_REPOSITORY} ./`;
    for (const name of names) {
      await hosts.inShell(name, `echo '${source}' >/etc/apt/sources.list.d/newer.list; apt-get update -q`);
    }
    newer = await hosts.inShell("bcn2", "apt-cache madison incus-base | cut -d '|' -f 2 | sort -V | tail -1 | tr -d ' '");
  });

  it("changes nothing while the program names no version, though a newer one can be had", async () => {
    assert.match(newer, /^1?:?7\.0/);
    for (const name of names) {
      assert.match(await versionOf(name), /^6\.0/);
      assert.equal(await up(name, {}), false, name);
    }
  });

  it("goes through all members, which wait for the last one, while a container keeps running", async () => {
    const pid = await cluster.runningPid();
    assert.deepEqual(await Promise.all(names.map((name) => up(name, { version: newer }))), [true, true, true]);
    for (const name of names) {
      assert.match(await versionOf(name), /^7\.0/, name);
    }
    assert.deepEqual(await statesOnceHeard(hosts.lab, "bcn3"), { bcn1: "Online", bcn2: "Online", bcn3: "Online" });
    assert.equal(await cluster.runningPid(), pid);
  });

  it("has ended: the next up changes nothing", async () => {
    for (const name of names) {
      assert.equal(await up(name, { version: newer }), false, name);
      assert.deepEqual(cluster.upgradeOf(name), ["up to date", "none"]);
      assert.match(String(cluster.nodes.get(name)?.outs["lxdVersion"]), /^7\.0/);
    }
  });
});
