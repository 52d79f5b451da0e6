import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { messageOf } from "../../../provider/support/errors";
import { Managed } from "./simulated-cluster";

describe("LxdClusterMember of Incus", () => {
  let lab: SimulatedLab;
  let first: Managed;

  const nameOf = (host: string): string => `root@127.0.0.1:${lab.host(host).port}`;
  const args = (host: string, more: object = {}): object => {
    const { connection, lanAddress } = lab.host(host);
    return { connection, name: host, address: lanAddress, ...more };
  };
  const joining = (host: string, more: object = {}): object =>
    args(host, { cluster: { endpoints: [lab.host("bcn2").connection] }, ...more });
  const another = (name: string): Managed => new Managed(clusterMemberLifecycle as never, name);
  const refusal = (work: Promise<unknown>): Promise<string> => work.then(() => assert.fail("it was not refused"), messageOf);

  before(async () => {
    lab = await SimulatedLab.start({
      hosts: [
        { name: "bcn2", flavour: "trixie-incus", lxd: "deb" },
        { name: "bcn1", flavour: "trixie-incus", lxd: "deb" },
        { name: "bcn3", flavour: "bookworm-lxd", lxd: "deb" },
        { name: "bcn4", flavour: "trixie-incus7", lxd: "deb" },
      ],
    });
    first = another("bcn2");
    assert.equal(await first.up(args("bcn2")), "created");
  });

  after(async () => {
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await lab.stop();
  });

  it("says which server the cluster runs, and a second up changes nothing", async () => {
    assert.equal(first.inState("server"), "incus");
    assert.equal(await first.up(args("bcn2")), "same");
  });

  it("joins, leaves a host that can join again, and stops and starts Incus's units for it", async () => {
    const member = another("bcn1");
    assert.equal(await member.up(joining("bcn1")), "created");
    assert.equal(member.inState("server"), "incus");
    await member.destroy();
    const ran = lab.host("bcn1").commands.map((argv) => argv.join(" "));
    assert.ok(ran.some((line) => line.startsWith("systemctl stop incus.socket incus.service")));
    assert.ok(ran.some((line) => line.startsWith("systemctl start incus.socket incus.service")));
    assert.ok(!ran.some((line) => /\blxd\.|\/var\/lib\/lxd\//.test(line)));
    assert.equal(await member.up(joining("bcn1")), "created");
  });

  it("is refused under another name with the command of Incus's client", async () => {
    assert.equal(
      await refusal(another("other").up(joining("bcn1", { name: "other" }))),
      `Incus on ${nameOf("bcn1")} is already in a cluster, as "bcn1". Use that name, or rename it there (incus cluster rename bcn1 other)`,
    );
  });

  it("is refused on a host with LXD, and neither is changed", async () => {
    const since = lab.requests.length;
    assert.equal(
      await refusal(another("bcn3").up(joining("bcn3"))),
      `${nameOf("bcn3")} runs LXD, and the cluster at ${nameOf("bcn2")} runs Incus. All members of a cluster run the same server. If nothing on ` +
        `${nameOf("bcn3")} is needed, remove LXD there (apt-get purge lxd), and give its LxdNode the install of the other members`,
    );
    assert.deepEqual(lab.mutations(since), []);
  });

  it("is refused on a host with another version, with how hosts get the same", async () => {
    assert.match(
      await refusal(another("bcn4").up(joining("bcn4"))),
      /has Incus 7\.0\.2 \(\d+ API extensions\), and the cluster at .* has 6\.0\.4 \(\d+\)\. All members need the same version\. Use the same Debian release, and the same targetRelease and repository of install$/,
    );
  });
});
