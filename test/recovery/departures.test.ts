import assert from "node:assert/strict";
import { provider } from "../../provider/entry";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { disconnectAll } from "../../provider/transport/pool";
import { eventually } from "../acceptance/support/eventually";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { checkedInputs, createResource, type Made } from "../support/real-lab";
import { tinyImage } from "../support/tiny-image";

const HOSTS: readonly HostName[] = ["bcn2", "bcn1", "bcn3"];

describe("members of a real cluster of three", () => {
  const hosts = bareHosts(HOSTS);
  const { node, imageFiles, onHost } = hosts;
  const members = new Map<HostName, Made>();

  const to = (name: HostName): object => hosts.to(name, { dialErrorLimit: 1 }); // no long wait for a host that is off
  const args = (name: HostName, more: object = {}): object => {
    const others = { cluster: { endpoints: HOSTS.filter((each) => each !== name).map(to) } };
    return hosts.member(name, { connection: to(name), ...(name === "bcn2" ? {} : others), ...more });
  };
  const client = (...argv: string[]): Promise<string> => onHost("bcn2", hosts.lab.flavour.client, ...argv);
  /** A refresh and an update, as `pulumi up` makes them, or `undefined` when there is nothing to change. */
  const up = async (name: HostName, more: object): Promise<Record<string, unknown> | undefined> => {
    const { id, outs } = members.get(name) ?? assert.fail();
    const inputs = await checkedInputs("LxdClusterMember", args(name, more));
    const seen = await provider("LxdClusterMember").read(id, outs);
    const { changes } = await provider("LxdClusterMember").diff(id, seen.props, inputs);
    const props = changes ? (await provider("LxdClusterMember").update(id, seen.props, inputs)).outs : seen.props;
    members.set(name, { id, outs: props });
    await disconnectAll();
    return changes ? props : undefined;
  };
  const remove = async (name: HostName): Promise<void> => {
    const { id, outs } = members.get(name) ?? assert.fail();
    await provider("LxdClusterMember").delete(id, outs);
    await disconnectAll();
  };
  /** Location and status of an instance. */
  const at = async (instance: string, project = "default"): Promise<string> => {
    const found = JSON.parse(await client("query", `/1.0/instances/${instance}?project=${project}`)) as Record<string, string>;
    return `${found["status"]} on ${found["location"]}`;
  };
  const launch = async (instance: string, target: HostName, ...more: string[]): Promise<void> => {
    await client("init", "idle", instance, "--target", target, "--storage", "default", ...more);
    await client("start", instance);
  };

  before(async () => {
    await Promise.all(HOSTS.map((host) => createResource("LxdNode", node(host))));
    for (const host of HOSTS) {
      members.set(host, await createResource("LxdClusterMember", hosts.member(host)));
    }
    const cluster = { endpoints: HOSTS.map((name) => to(name)) };
    await createResource("LxdStoragePool", { cluster, name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster, ...(await imageFiles("idle")), aliases: ["idle"] });
    await disconnectAll();
  });

  it("are evacuated and restored: a container that runs moves away and back, one that is bound to its host stops", async () => {
    await launch("c1", "bcn1");
    await launch("c2", "bcn1", "--config", "cluster.evacuate=stop");
    assert.equal((await up("bcn1", { evacuated: true }))?.["status"], "Evacuated");
    assert.match(await at("c1"), /^Running on bcn[23]$/);
    assert.equal(await at("c2"), "Stopped on bcn1");
    assert.equal(await up("bcn1", { evacuated: true }), undefined);
    assert.equal((await up("bcn1", {}))?.["status"], "Online");
    assert.deepEqual([await at("c1"), await at("c2")], ["Running on bcn1", "Running on bcn1"]);
    assert.equal(await up("bcn1", {}), undefined);
  });

  it("leave with leaving: nothing is moved while something would stay; afterwards the instances move, and the host joins again", async () => {
    await up("bcn1", { leaving: "auto" });
    await assert.rejects(remove("bcn1"), {
      message: /cannot be emptied by an evacuation .* stopped, and stay: c2 \(cluster\.evacuate: stop\)\. Nothing was changed/,
    });
    assert.deepEqual([await at("c1"), await at("c2")], ["Running on bcn1", "Running on bcn1"]);
    await client("config", "unset", "c2", "cluster.evacuate");
    await client("config", "set", "cluster.images_minimal_replica=1");
    const files = tinyImage("only there");
    const image = { ...files, sourceFingerprint: await fingerprintOf(files), aliases: ["only-there"] };
    await createResource("LxdImage", { cluster: { endpoints: [to("bcn1")] }, ...image });
    await assert.rejects(remove("bcn1"), {
      message:
        /cannot be emptied by an evacuation .* leaves on it: images only-there\. Nothing was changed\. .*cluster\.images_minimal_replica/,
    });
    assert.deepEqual([await at("c1"), await at("c2")], ["Running on bcn1", "Running on bcn1"]);
    await client("config", "set", "cluster.images_minimal_replica=2");
    await remove("bcn1");
    assert.match(await client("image", "list", "--format", "csv"), /^only-there,/m);
    await client("image", "delete", "only-there");
    await client("config", "unset", "cluster.images_minimal_replica");
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn2", "bcn3"]);
    assert.match(await at("c1"), /^Running on bcn[23]$/);
    assert.match(await at("c2"), /^Running on bcn[23]$/);
    members.set("bcn1", await createResource("LxdClusterMember", args("bcn1")));
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn1", "bcn2", "bcn3"]);
    await disconnectAll();
    assert.equal(await up("bcn1", {}), undefined);
  });

  it("whose power was cut are removed by force alone, and nothing of others goes with them", async () => {
    await client("delete", "--force", "c1", "c2");
    await client("init", "idle", "c1", "--target", "bcn1", "--storage", "default");
    await client("project", "create", "shop", "-c", "features.images=false", "-c", "features.profiles=false");
    await client("init", "idle", "c1", "--project", "shop", "--target", "bcn3", "--storage", "default");
    for (const target of ["bcn1", "bcn3"]) {
      await client("storage", "volume", "create", "default", "data", "--target", target);
    }
    await hosts.lab.powerOff("bcn1");
    await eventually("bcn1 is offline", async () => {
      assert.equal(await up("bcn1", {}), undefined);
      return members.get("bcn1")?.outs["status"] === "Offline";
    });
    await assert.rejects(remove("bcn1"), {
      message: /bcn1 is offline .* removal: "force" .* loses instances c1; custom-volumes default\/data/,
    });
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn1", "bcn2", "bcn3"]);
    assert.equal((await up("bcn1", { removal: "force" }))?.["status"], "Offline");
    await remove("bcn1");
    assert.deepEqual(await hosts.membersOf("bcn2"), ["bcn2", "bcn3"]);
    assert.equal(await at("c1", "shop"), "Stopped on bcn3");
    const volumes = JSON.parse(await client("query", "/1.0/storage-pools/default/volumes/custom?recursion=1")) as {
      location: string;
    }[];
    assert.deepEqual(
      volumes.map(({ location }) => location),
      ["bcn3"],
    );
    assert.deepEqual(JSON.parse(await client("query", "/1.0/instances")), []);
  });
});
