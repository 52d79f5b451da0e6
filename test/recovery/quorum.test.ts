import assert from "node:assert/strict";
import { provider } from "../../provider/entry";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../provider/resources/lxd-project";
import { statesOnceHeard } from "../acceptance/support/member-states";
import { type BareHosts, bareHosts, type HostName } from "../support/bare-hosts";
import { createResource, type Made } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";
import { recipe } from "./support/recipes";

const ALL = ["bcn2", "bcn1", "bcn3"] as const;
const [FIRST] = ALL;
const NEW_ADDRESS = "192.168.1.202";

/** The missing quorum, and what to do. */
const SAYS_QUORUM = /root@192\.168\.1\.101[^]*\(quorum\): bring the other hosts back\.[^]*docs\/guide\/recovery\.md/;

/** Runs the commands of the guide under a heading. */
async function follow(hosts: BareHosts, heading: string): Promise<void> {
  for (const { on, script } of recipe(heading, hosts.lab.flavour)) {
    for (const host of on) {
      await hosts.inShell(host as HostName, `set -e\n${script}`);
    }
  }
}

/**
 * Members that fail, and the recipes of the guide for those that never return. The hosts' power is cut. The tests run in order.
 */
describe("A cluster that loses members", () => {
  const hosts = bareHosts(ALL);
  const { to, node, member, inShell, membersOf } = hosts;
  const managed = (lifecycle: object, name: string): Managed => new Managed(lifecycle as never, name);
  const nodes = new Map<HostName, Made>();
  const members = new Map<HostName, Managed>();
  const profile = managed(profileLifecycle, "web");
  const project = managed(projectLifecycle, "dev");
  /** Long enough for the choice of another leader. */
  const timeouts = { read: 60 };
  let fingerprint: unknown;

  const cluster = (...through: readonly HostName[]): object => ({
    endpoints: through.map((name) => to(name)),
    certificateFingerprint: fingerprint,
  });
  const install = async (name: HostName): Promise<void> => void nodes.set(name, await createResource("LxdNode", node(name)));
  const refreshNode = (name: HostName): Promise<unknown> => {
    const made = nodes.get(name);
    assert.ok(made);
    return provider("LxdNode").read(made.id, made.outs);
  };
  const memberOf = (name: HostName, more: object = {}): Promise<string> => {
    const it = members.get(name) ?? managed(clusterMemberLifecycle, name);
    members.set(name, it);
    const others = ALL.filter((each) => each !== name);
    const way = name === FIRST ? { peers: others.map((each) => to(each)) } : { cluster: cluster(...others) };
    return it.up({ ...member(name), ...way, timeouts: { create: 300, ...timeouts }, ...more });
  };
  const profileThrough = (...through: readonly HostName[]): Promise<string> =>
    profile.up({ cluster: cluster(...through), name: "web", config: { "user.note": "x" }, timeouts });
  const projectThrough = (...through: readonly HostName[]): Promise<string> =>
    project.up({ cluster: cluster(...through), name: "dev", timeouts });

  before(async () => {
    await Promise.all(ALL.map((name) => install(name)));
    await memberOf(FIRST);
    fingerprint = members.get(FIRST)?.inState("certificateFingerprint");
    for (const name of ["bcn1", "bcn3"] as const) {
      await memberOf(name, { cluster: cluster(FIRST) });
    }
    assert.equal(await profileThrough(...ALL), "created");
    assert.equal(await projectThrough(...ALL), "created");
  });

  for (const lost of ALL) {
    it(`answers through another member while ${lost} is off: only what is on that host fails`, async () => {
      await hosts.lab.powerOff(lost);
      assert.equal(await profileThrough(...ALL), "same");
      assert.equal(await projectThrough(...ALL), "same");
      for (const name of ALL) {
        assert.equal(await memberOf(name), "same", `the membership of ${name}`);
      }
      await assert.rejects(refreshNode(lost), ({ message }: Error) => {
        assert.ok(message.includes(`root@${hosts.at(lost).address} cannot be reached by SSH`), message);
        return true;
      });
      await hosts.lab.boot(lost);
      assert.deepEqual(await statesOnceHeard(hosts.lab, lost), { bcn1: "Online", bcn2: "Online", bcn3: "Online" });
    });
  }

  it("has a member at a new address, by the guide", async () => {
    const link = (await inShell("bcn2", "ip -o -4 address show to 192.168.1.102")).split(/\s+/)[1] ?? "";
    await inShell("bcn2", `ip address add ${NEW_ADDRESS}/24 dev ${link}`); // SSH keeps the old one
    await follow(hosts, "A member with a new address");
    const urls = await inShell("bcn1", `${hosts.lab.flavour.client} query /1.0/cluster/members/bcn2`);
    assert.equal((JSON.parse(urls) as { url: string }).url, `https://${NEW_ADDRESS}:8443`);
    await statesOnceHeard(hosts.lab, "bcn1");
    assert.equal(await memberOf("bcn2", { address: NEW_ADDRESS }), "same");
    assert.equal(await projectThrough(...ALL), "same");
  });

  it("does not answer while two members are off, which the error says, with the host that was asked and what to do", async () => {
    await hosts.lab.powerOff("bcn2");
    await hosts.lab.powerOff("bcn3");
    await assert.rejects(projectThrough(...ALL), SAYS_QUORUM);
  });

  it("is recovered by the guide from the one voter that is left", async () => {
    await follow(hosts, "Lost quorum");
    assert.deepEqual(await membersOf("bcn1"), ["bcn1"]);
    assert.equal(await profileThrough(...ALL), "same");
    assert.equal(await projectThrough(...ALL), "same");
  });
});

/** Of two members only the leader votes. The other one has a copy of the database. */
describe("A cluster of two that loses its leader", () => {
  const hosts = bareHosts(["bcn2", "bcn1"]);
  const { to, node, member, inShell, membersOf } = hosts;
  const profile = new Managed(profileLifecycle as never, "web");
  const up = (): Promise<string> =>
    profile.up({
      cluster: { endpoints: [to("bcn2"), to("bcn1")] },
      name: "web",
      config: { "user.note": "x" },
      timeouts: { read: 20 },
    });

  before(async () => {
    await Promise.all((["bcn2", "bcn1"] as const).map((name) => createResource("LxdNode", node(name))));
    await createResource("LxdClusterMember", member("bcn2"));
    await createResource("LxdClusterMember", member("bcn1"));
    assert.equal(await up(), "created");
    const copy = `${hosts.lab.flavour.dataDirectory}/database/global`;
    await inShell("bcn1", `until ls ${copy} | grep -q ^open-; do sleep 0.1; done`);
  });

  it("does not answer, which the error says, with the host that was asked and what to do", async () => {
    await hosts.lab.powerOff("bcn2");
    await assert.rejects(up(), SAYS_QUORUM);
  });

  it("is recovered by the guide from the copy of the other one", async () => {
    await follow(hosts, "A lost leader of two");
    assert.deepEqual(await membersOf("bcn1"), ["bcn1"]);
    assert.equal(await up(), "same");
  });
});
