import assert from "node:assert/strict";
import { bareHosts } from "../support/bare-hosts";
import { createResource, installByHand } from "../support/real-lab";

/** A server that somebody set up by hand, and that is in use. */
describe("a real server with a running instance", () => {
  const hosts = bareHosts(["bcn2", "bcn1", "bcn3"]);
  const { to, node, member, imageFiles, inShell, onHost, membersOf } = hosts;

  const query = async (path: string): Promise<{ [key: string]: unknown }> =>
    JSON.parse(await onHost("bcn2", hosts.lab.flavour.client, "query", path)) as { [key: string]: unknown };
  /** The first process of the instance, and when it started. */
  const firstProcess = async (): Promise<{ pid: unknown; started: string }> => {
    const { pid } = await query("/1.0/instances/web/state");
    return { pid, started: await inShell("bcn2", `cut --delimiter=' ' --fields=22 /proc/${String(pid)}/stat`) };
  };

  before(async () => {
    const { client } = hosts.lab.flavour;
    await inShell("bcn2", installByHand(hosts.lab.flavour).join(" && "));
    await inShell(
      "bcn2",
      [
        `${client} storage create default dir`,
        `${client} network create lxdbr0 ipv4.address=10.9.9.1/24 ipv6.address=none`,
        `${client} profile device add default root disk pool=default path=/`,
        `${client} profile device add default eth0 nic network=lxdbr0`,
      ].join(" && "),
    );
    await createResource("LxdImage", { cluster: { endpoints: [to("bcn2")] }, ...(await imageFiles("idle")), aliases: ["idle"] });
    await onHost("bcn2", client, "launch", "idle", "web");
  });

  it("becomes the first member, and the instance runs on", async () => {
    const before = await firstProcess();
    await createResource("LxdNode", node("bcn2", { adopt: true }));
    await createResource("LxdClusterMember", member("bcn2"));
    assert.deepEqual(await membersOf("bcn2"), ["bcn2"]);
    assert.deepEqual(await firstProcess(), before);
    const { status, location } = await query("/1.0/instances/web");
    assert.deepEqual({ status, location }, { status: "Running", location: "bcn2" });
    assert.equal(await onHost("bcn2", hosts.lab.flavour.client, "exec", "web", "--", "echo", "alive"), "alive");
  });

  it("lets a host join, with the pool and the network that were made by hand, while somebody adds another one", async () => {
    const before = await firstProcess();
    await Promise.all([createResource("LxdNode", node("bcn1")), inShell("bcn3", installByHand(hosts.lab.flavour).join(" && "))]);
    await Promise.all([createResource("LxdClusterMember", member("bcn1")), hosts.joinByHand("bcn3")]);
    assert.deepEqual(await membersOf("bcn2"), ["bcn1", "bcn2", "bcn3"]);
    assert.deepEqual(await firstProcess(), before);
    assert.equal((await query("/1.0/storage-pools/default"))["status"], "Created");
    assert.equal((await query("/1.0/networks/lxdbr0"))["status"], "Created");
  });
});
