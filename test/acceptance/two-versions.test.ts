import assert from "node:assert/strict";
import { NEWER_REPOSITORY } from "../../lab/real/base";
import { provider } from "../../provider/entry";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { checkedInputs, createResource, type Made } from "../support/real-lab";
import { statesOnceHeard } from "./support/member-states";

const NAMES: readonly HostName[] = ["bcn2", "bcn1", "bcn3"];

/** Incus 6.0 of Debian 13, and 7.0 of its backports: another schema of the database, and more API extensions. */
describe("The upgrade of a cluster to the next version of Incus", () => {
  const hosts = bareHosts(undefined, " --flavour trixie-incus");
  const nodes = new Map<HostName, Made>();
  const { onHost } = hosts;
  let newer = "";

  const query = async <Answer>(name: HostName, path: string): Promise<Answer> =>
    JSON.parse(await onHost(name, "incus", "query", path)) as Answer;
  const versionOf = async (name: HostName): Promise<string> =>
    (await query<{ environment: { server_version: string } }>(name, "/1.0")).environment.server_version;
  const runningPid = async (): Promise<number> => (await query<{ pid: number }>("bcn1", "/1.0/instances/c1/state")).pid;
  const withVersion = (name: HostName): Promise<Record<string, unknown>> => {
    const { install, ...args } = hosts.node(name) as { install: object };
    return checkedInputs("LxdNode", { ...args, install: { ...install, version: newer } });
  };
  /** `pulumi up` of one node: refreshed, and changed if it differs. */
  const up = async (name: HostName): Promise<boolean> => {
    const { id, outs } = nodes.get(name) ?? assert.fail(name);
    const [node, inputs] = [provider("LxdNode"), await withVersion(name)];
    const { props } = await node.read(id, outs);
    const { changes } = await node.diff(id, props, inputs);
    nodes.set(name, { id, outs: changes ? (await node.update(id, props, inputs)).outs : props });
    return changes;
  };

  before(async () => {
    const made = await Promise.all(NAMES.map((name) => createResource("LxdNode", hosts.node(name))));
    NAMES.forEach((name, index) => nodes.set(name, made[index] ?? assert.fail(name)));
    for (const name of NAMES) {
      await createResource("LxdClusterMember", hosts.member(name));
    }
    const cluster = { endpoints: NAMES.map((name) => hosts.to(name)) };
    await createResource("LxdStoragePool", { cluster, name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster, ...(await hosts.imageFiles()), aliases: ["debian-12"] });
    await onHost("bcn2", "incus", "launch", "debian-12", "c1", "--storage", "default", "--target", "bcn1");
    const source = `deb [trusted=yes lang=none] file:${NEWER_REPOSITORY} ./`;
    for (const name of NAMES) {
      await hosts.inShell(name, `echo '${source}' >/etc/apt/sources.list.d/newer.list; apt-get update -q`);
    }
    newer = await hosts.inShell("bcn2", "apt-cache madison incus-base | cut -d '|' -f 2 | sort -V | tail -1 | tr -d ' '");
  });

  it("changes nothing while the program names no version, though a newer one can be had", async () => {
    assert.match(newer, /^1?:?7\.0/);
    for (const name of NAMES) {
      assert.match(await versionOf(name), /^6\.0/);
      const { id, outs } = nodes.get(name) ?? assert.fail(name);
      const node = provider("LxdNode");
      const { props } = await node.read(id, outs);
      const { changes } = await node.diff(id, props, await checkedInputs("LxdNode", hosts.node(name)));
      assert.equal(changes, false, name);
    }
  });

  it("goes through all members, which wait for the last one, while a container keeps running", async () => {
    const pid = await runningPid();
    assert.deepEqual(await Promise.all(NAMES.map(up)), [true, true, true]);
    for (const name of NAMES) {
      assert.match(await versionOf(name), /^7\.0/, name);
    }
    assert.deepEqual(await statesOnceHeard(hosts.lab, "bcn3"), { bcn1: "Online", bcn2: "Online", bcn3: "Online" });
    assert.equal(await runningPid(), pid);
  });

  it("has ended: the next up changes nothing", async () => {
    for (const name of NAMES) {
      assert.equal(await up(name), false, name);
      const { upgradeState, recommendedAction, lxdVersion } = nodes.get(name)?.outs ?? {};
      assert.deepEqual([upgradeState, recommendedAction], ["up to date", "none"]);
      assert.match(String(lxdVersion), /^7\.0/);
    }
  });
});
