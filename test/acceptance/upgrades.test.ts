import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { provider } from "../../provider/entry";
import { messageOf } from "../../provider/support/errors";
import { disconnectAll } from "../../provider/transport/pool";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { eventually } from "./support/eventually";
import { statesOnceHeard } from "./support/member-states";
import { UpgradedCluster } from "./support/upgraded-cluster";

/** Where a host has packages with newer versions. */
const NEWER = "/srv/newer";

/**
 * Builds the installed server's packages again with other version numbers, as a package source of the host. They have the same programs.
 * $1: the package of the daemon; all others: the ends of the new versions.
 */
const REBUILD = `
set -e
daemon=$1; shift
mkdir -p ${NEWER}; cd ${NEWER}
old=$(dpkg-query --show --showformat='\${Version}' $daemon)
source=$(dpkg-query --show --showformat='\${source:Package}' $daemon)
for name in $(dpkg-query --show --showformat='\${source:Package} \${Package}\\n' | sed -n "s/^$source //p"); do
  apt-get -q download $name
  dpkg-deb --raw-extract $name\\_*.deb root
  for end in "$@"; do
    cp root/DEBIAN/control control
    sed -i "/^Version: /s/$old/$old$end/; /Depends: /s/= $old)/= $old$end)/g" root/DEBIAN/control
    dpkg-deb -Znone --build root $name$end.deb
    { dpkg-deb --field $name$end.deb; stat --format='Filename: ./%n
Size: %s' $name$end.deb; sha256sum $name$end.deb | sed 's/ .*//; s/^/SHA256: /'; echo; } >>Packages
    mv control root/DEBIAN/control
  done
  rm -r root $name\\_*.deb
done
echo 'deb [trusted=yes lang=none] file:${NEWER} ./' >/etc/apt/sources.list.d/newer.list
echo $old
`;

describe("The upgrade of a cluster", () => {
  const hosts = bareHosts();
  const cluster = new UpgradedCluster(hosts);
  const { onHost } = hosts;
  const { names, clientOn } = cluster;
  let first = "";

  const statuses = async (through: HostName): Promise<string[]> => {
    const members = await cluster.query<{ server_name: string; status: string }[]>(through, "/1.0/cluster/members?recursion=1");
    return members.map(({ server_name, status }) => `${server_name} ${status}`).sort();
  };
  const assertAllOnline = async (through: HostName): Promise<void> =>
    assert.deepEqual(await statesOnceHeard(hosts.lab, through), { bcn1: "Online", bcn2: "Online", bcn3: "Online" });
  const installed = (name: HostName): Promise<string> =>
    onHost(name, "dpkg-query", "--show", "--showformat=${Version}", hosts.lab.flavour.package);
  const up = (name: HostName, version: string, more: object = {}, args: object = {}): Promise<boolean> =>
    cluster.up(name, { version, ...more }, args);
  const refusal = (name: HostName, version: string): Promise<string> =>
    up(name, version).then(
      () => assert.fail("it was not refused"),
      (thrown: unknown) => messageOf(thrown),
    );

  before(async () => {
    await cluster.create();
    const { package: daemon } = hosts.lab.flavour;
    [first = ""] = await Promise.all(
      names.map((name) => onHost(name, "sh", "-c", REBUILD, "sh", daemon, ".1", ".2", ".3", ".4")),
    );
    first = first.split("\n").at(-1) ?? "";
  });

  it("waits for a member whose heartbeats are late, because its host is busy", async () => {
    const daemon = hosts.lab.flavour.server === "lxd" ? "lxd" : "incusd";
    const signal = (name: string): Promise<string> => onHost("bcn3", "pkill", `--signal=${name}`, "--exact", daemon);
    await signal("STOP");
    try {
      await eventually("bcn3 is offline", async () => (await statuses("bcn2")).includes("bcn3 Offline"));
      const upgrade = up("bcn2", `${first}.1`);
      await setTimeout(5000);
      assert.equal(await installed("bcn2"), first);
      await signal("CONT");
      assert.equal(await upgrade, true);
    } finally {
      await signal("CONT");
    }
    assert.equal(await installed("bcn2"), `${first}.1`);
  });

  it("upgrades the members one after the other, while a container keeps running", async () => {
    const pid = await cluster.runningPid();
    assert.deepEqual(await Promise.all(names.map((name) => up(name, `${first}.2`))), [true, true, true]);
    assert.deepEqual(await Promise.all(names.map(installed)), Array(3).fill(`${first}.2`));
    await assertAllOnline("bcn2");
    assert.equal(await cluster.runningPid(), pid);
    assert.deepEqual(await Promise.all(names.map((name) => up(name, `${first}.2`))), [false, false, false]);
    const { package: daemon } = hosts.lab.flavour;
    assert.deepEqual(await Promise.all(names.map((name) => onHost(name, "apt-mark", "showhold"))), Array(3).fill(daemon));
  });

  it("refuses an older version, and nothing is touched", async () => {
    assert.match(await refusal("bcn3", first), /in version \S+\.2, but install\.version is \S+, which is older/);
    assert.equal(await installed("bcn3"), `${first}.2`);
  });

  it("evacuates a member before its upgrade, and restores it after that", async () => {
    const before = await cluster.runningPid();
    await up("bcn1", `${first}.3`, { evacuate: true });
    assert.equal(await installed("bcn1"), `${first}.3`);
    await assertAllOnline("bcn1");
    const c1 = await cluster.query<{ location: string; status: string }>("bcn1", "/1.0/instances/c1");
    assert.deepEqual([c1.location, c1.status], ["bcn1", "Running"]);
    assert.notEqual(await cluster.runningPid(), before);
    assert.equal(await up("bcn1", `${first}.3`, { evacuate: true }), false);
    assert.deepEqual(cluster.upgradeOf("bcn1"), ["up to date", "none"]);
  });

  it("does not start while an evacuated member is switched off, which fails no refresh, and does when that answers", async () => {
    await clientOn("bcn2", "cluster", "evacuate", "--force", "bcn3");
    await hosts.lab.powerOff("bcn3");
    assert.ok((await statuses("bcn2")).includes("bcn3 Evacuated"));
    const former = await installed("bcn2");
    assert.match(await refusal("bcn2", `${first}.3`), /member bcn3 is offline\. /);
    assert.equal(await installed("bcn2"), former);
    await disconnectAll(); // the next operation of the engine
    const { props } = await provider("LxdStoragePool").read(cluster.pool.id, cluster.pool.outs);
    assert.deepEqual(props["memberStatus"], { bcn1: "Created", bcn2: "Created", bcn3: "Evacuated" });
    await hosts.lab.boot("bcn3");
    await clientOn("bcn3", "query", "/1.0");
    await up("bcn2", `${first}.3`);
    assert.equal(await installed("bcn2"), `${first}.3`);
    await clientOn("bcn3", "cluster", "restore", "--force", "bcn3");
  });

  it("lets an upgraded member wait for the others when their database is older, and the last one ends that", async () => {
    const { admin } = hosts.lab.flavour;
    const pid = await cluster.runningPid();
    // A real second version with a newer database cannot be had: the others' rows say that theirs is older.
    await onHost("bcn2", ...admin, "sql", "global", "UPDATE nodes SET schema = schema - 1");
    const waiting = { timeouts: { update: 90 } }; // it waits for half of what remains
    await up("bcn3", `${first}.4`, {}, waiting);
    assert.equal(await installed("bcn3"), `${first}.4`);
    const blocked = await hosts.lab.hostExec("bcn3", ["timeout", "5", hosts.lab.flavour.client, "query", "/1.0"]);
    assert.notEqual(blocked.exitCode, 0, "bcn3 answers although the others are older");
    assert.equal((await statesOnceHeard(hosts.lab, "bcn2"))["bcn3"], "Online"); // Incus shows the others as Blocked
    await up("bcn1", `${first}.4`, {}, waiting);
    assert.equal(await up("bcn3", `${first}.4`, {}, waiting), false);
    await up("bcn2", `${first}.4`);
    await assertAllOnline("bcn3");
    assert.equal(await cluster.runningPid(), pid);
  });
});
