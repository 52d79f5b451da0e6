import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installOf } from "../../lab/real/flavours";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { getServer } from "../../provider/lxd/server";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { Deadline } from "../../provider/support/deadline";
import { messageOf } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { connect } from "../../provider/transport/pool";
import { ADDRESSES, bareHosts } from "../support/bare-hosts";
import { Managed } from "../unit/resources/simulated-cluster";

type Host = "bcn2" | "bcn1";

/** The life of two hosts on the server that the lab has, LXD or Incus: each step depends on those before it. */
describe("Hosts with a real server", () => {
  const hosts = bareHosts();
  const { to, node, inShell } = hosts;
  const nodes = { bcn2: new Managed(nodeLifecycle as never, "bcn2"), bcn1: new Managed(nodeLifecycle as never, "bcn1") };
  const newMember = (host: Host) => new Managed(clusterMemberLifecycle as never, host);
  const members = { bcn2: newMember("bcn2"), bcn1: newMember("bcn1") };

  const member = (host: Host): object =>
    host === "bcn2"
      ? hosts.member(host)
      : hosts.member(host, {
          cluster: { endpoints: [to("bcn2")], certificateFingerprint: members.bcn2.inState("certificateFingerprint") },
        });
  const names = async (host: Host, path: string): Promise<string[]> => {
    // Incus 6.0 answers null for no pools, which its client prints as nothing.
    const list = JSON.parse((await inShell(host, `${hosts.lab.flavour.client} query '/1.0/${path}'`)) || "[]") as string[];
    return list.map((url) => url.split("/").at(-1) ?? "").sort();
  };
  const refusalOf = (work: Promise<unknown>): Promise<string> => work.then(() => assert.fail("it was not refused"), messageOf);

  it("get the server by its package, and a second up changes nothing", async () => {
    for (const host of ["bcn2", "bcn1"] as const) {
      const args = node(host, { config: { "core.https_address": `${ADDRESSES[host]}:8443` } });
      assert.equal(await nodes[host].up(args), "created");
      assert.equal(await nodes[host].up(args), "same");
      assert.equal(nodes[host].inState("server"), hosts.lab.flavour.server);
      assert.equal(nodes[host].inState("socket"), `${hosts.lab.flavour.dataDirectory}/unix.socket`);
    }
  });

  it("refuse the other server, and install nothing", async () => {
    const other = hosts.lab.flavour.server === "lxd" ? { method: "deb", server: "incus" } : { method: "deb" };
    const packages = await inShell("bcn2", "dpkg-query --show");
    const [has, asks] = hosts.lab.flavour.server === "lxd" ? ["LXD", "Incus"] : ["Incus", "LXD"];
    const said = await refusalOf(new Managed(nodeLifecycle as never, "other").up(node("bcn2", { install: other })));
    assert.ok(said.startsWith(`root@192.168.1.102 has ${has}, and install asks for ${asks}. A host runs one of the two.`), said);
    assert.equal(await inShell("bcn2", "dpkg-query --show"), packages);
  });

  it("are reached by a user with sudo; membership of the server's group is not enough", async () => {
    const group = hosts.lab.flavour.server === "incus" ? "incus-admin" : "lxd";
    await inShell("bcn2", `usermod --append --groups ${group} nosudo`);
    const serverFor = async (user: string): Promise<unknown> => {
      const deadline = new Deadline(60, "the test");
      const ssh = await connect(connectionSchema.parse(to("bcn2", { user })), { deadline });
      const lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
      return [lxd.names.server, (await getServer(lxd)).environment.server];
    };
    assert.deepEqual(await serverFor("operator"), [hosts.lab.flavour.server, hosts.lab.flavour.server]);
    assert.match(
      await refusalOf(serverFor("nosudo")),
      /^nosudo@192\.168\.1\.102 may not become root: sudo: a password is required/,
    );
  });

  it("get packages from a repository with its own key, by its release", async () => {
    const home = mkdtempSync(join(tmpdir(), "hosts-gpg-"));
    try {
      const gpg = (args: string[], input = ""): string =>
        execFileSync("gpg", ["--homedir", home, "--batch", "--quiet", "--passphrase", "", ...args], { encoding: "utf8", input });
      gpg(["--quick-generate-key", "Lab <lab@example.org>", "ed25519", "sign", "never"]);
      const signedBy = gpg(["--armor", "--export"]);
      await inShell(
        "bcn2",
        "mkdir -p /srv/probe/lab-probe/DEBIAN && cd /srv/probe && " +
          "printf 'Package: lab-probe\\nVersion: 1\\nArchitecture: all\\nMaintainer: Lab <lab@example.org>\\nDescription: probe\\n' >lab-probe/DEBIAN/control && " +
          "dpkg-deb --build lab-probe lab-probe.deb && rm -r lab-probe && " +
          "{ dpkg-deb --field lab-probe.deb; echo 'Filename: ./lab-probe.deb'; stat --format='Size: %s' lab-probe.deb; " +
          "sha256sum lab-probe.deb | sed 's/\\([0-9a-f]*\\).*/SHA256: \\1/'; } >Packages && " +
          "{ printf 'Suite: probe-release\\nSHA256:\\n %s %s Packages\\n' $(sha256sum Packages | cut -d' ' -f1) $(stat --format=%s Packages); } >Release",
      );
      const release = await inShell("bcn2", "cat /srv/probe/Release");
      const { exitCode } = await hosts.lab.hostExec("bcn2", ["dd", "of=/srv/probe/InRelease", "status=none"], {
        stdin: gpg(["--clearsign"], `${release}\n`),
      });
      assert.equal(exitCode, 0);
      const install = {
        ...installOf(hosts.lab.flavour),
        packages: ["lab-probe"],
        repository: { uris: ["file:/srv/probe"], suites: ["./"], signedBy },
        targetRelease: "probe-release",
      };
      const args = node("bcn2", { install, config: { "core.https_address": `${ADDRESSES.bcn2}:8443` } });
      assert.equal(await nodes.bcn2.up(args), "updated");
      assert.match(await inShell("bcn2", "dpkg-query --show lab-probe"), /^lab-probe\s+1$/);
      assert.equal(await nodes.bcn2.up(args), "same");
      const since = nodes.bcn2.warnings.length;
      assert.equal(await nodes.bcn2.up(node("bcn2", { config: { "core.https_address": `${ADDRESSES.bcn2}:8443` } })), "updated");
      assert.deepEqual(nodes.bcn2.warnings.slice(since), []);
      assert.equal(await inShell("bcn2", "ls /etc/apt/sources.list.d"), "");
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  it("form a cluster, and a second up changes nothing", async () => {
    await inShell("bcn2", `${hosts.lab.flavour.client} query -X POST -d '{"name": "local", "driver": "dir"}' /1.0/storage-pools`);
    for (const host of ["bcn2", "bcn1"] as const) {
      assert.equal(await members[host].up(member(host)), "created");
      assert.equal(await members[host].up(member(host)), "same");
      assert.equal(members[host].inState("server"), hosts.lab.flavour.server);
    }
    assert.deepEqual(await names("bcn1", "cluster/members"), ["bcn1", "bcn2"]);
    assert.deepEqual(await names("bcn1", "storage-pools"), ["local"]);
  });

  it("join again after a removal by force that their server did not notice", async () => {
    const { units, client } = hosts.lab.flavour;
    await inShell("bcn1", `systemctl stop ${units.join(" ")}`);
    await inShell("bcn2", `${client} query -X DELETE '/1.0/cluster/members/bcn1?force=1'`);
    await inShell("bcn1", `systemctl start --no-block ${units.join(" ")}`); // it does not become ready
    assert.deepEqual(await names("bcn2", "cluster/members"), ["bcn2"]);
    members.bcn1 = newMember("bcn1"); // a refresh would only wait for the answer that does not come
    assert.equal(await members.bcn1.up(member("bcn1")), "created");
    assert.deepEqual(await names("bcn1", "cluster/members"), ["bcn1", "bcn2"]);
    assert.equal(await members.bcn1.up(member("bcn1")), "same");
  });

  it("leave the cluster, and are empty servers, which get their own config again", async () => {
    await members.bcn1.destroy();
    assert.deepEqual(await names("bcn2", "cluster/members"), ["bcn2"]);
    assert.deepEqual(await names("bcn1", "storage-pools"), []);
    const { environment } = JSON.parse(await inShell("bcn1", `${hosts.lab.flavour.client} query /1.0`)) as {
      environment: { server_clustered: boolean };
    };
    assert.equal(environment.server_clustered, false);
    // The wipe before the second join could not ask the server for its own config.
    assert.equal(await nodes.bcn1.up(node("bcn1", { config: { "core.https_address": "192.168.1.101:8443" } })), "updated");
    await members.bcn2.destroy();
    assert.deepEqual(await names("bcn2", "storage-pools"), []);
  });

  it("are wiped when the policy names what they hold: pools, volumes and bridges are gone, and the server is empty", async () => {
    const { client, dataDirectory } = hosts.lab.flavour;
    const post = (path: string, body: object): string => `${client} query -X POST -d '${JSON.stringify(body)}' '/1.0/${path}'`;
    await inShell(
      "bcn1",
      [
        post("storage-pools", { name: "local", driver: "dir" }),
        post("storage-pools/local/volumes/custom", { name: "data" }),
        post("networks", { name: "br7", type: "bridge" }),
      ].join(" && "),
    );
    const anew = new Managed(nodeLifecycle as never, "anew");
    const policy = ["custom-volumes", "storage-pools"];
    const said = await refusalOf(anew.up(node("bcn1", { resetPolicy: policy })));
    assert.match(said, /custom-volumes local\/data.*networks br7.*Add "networks" to resetPolicy/);
    assert.equal(await anew.up(node("bcn1", { resetPolicy: [...policy, "networks"] })), "created");
    assert.deepEqual(
      [await names("bcn1", "storage-pools"), await inShell("bcn1", `ls ${dataDirectory}/storage-pools`)],
      [[], ""],
    );
    assert.equal(await inShell("bcn1", "ip -brief link show type bridge | grep br7 || true"), "");
    assert.equal(await anew.up(node("bcn1", { resetPolicy: [...policy, "networks"] })), "same");
    assert.equal(await inShell("bcn1", `systemctl is-active ${hosts.lab.flavour.units.join(" ")}`), "active\nactive");
  });
});
