import assert from "node:assert/strict";
import { imageLifecycle } from "../../provider/resources/lxd-image";
import { vmLifecycle } from "../../provider/resources/lxd-vm";
import { bareHosts } from "../support/bare-hosts";
import { createResource } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";

/** Where Go programs look for certificates of other servers. They read it once. */
const TRUSTED = "/etc/ssl/certs/ca-certificates.crt";

/** A cluster of bcn2 and bcn1 that copies images from the server of bcn3. */
describe("an image that the real server replaces by a newer one", () => {
  const hosts = bareHosts(["bcn2", "bcn1", "bcn3"]);
  const { to, at, node, member, imageFiles, onHost, inShell } = hosts;
  const served = new Managed(imageLifecycle, "served");
  const image = new Managed(imageLifecycle, "guest");
  const vm = new Managed(vmLifecycle, "web");
  let first: string;
  let second: string;

  const cluster = (): object => ({ endpoints: [to("bcn2"), to("bcn1")] });
  const offered = async (files: string): Promise<object> => {
    const properties = { os: files };
    return { cluster: { endpoints: [to("bcn3")] }, ...(await imageFiles(files)), aliases: ["guest"], public: true, properties };
  };
  const copied = (more: object = {}): object => ({
    ...{ cluster: cluster(), instanceType: "container", aliases: ["guest"], autoUpdate: true },
    source: { server: `https://${at("bcn3").name}:8443`, protocol: hosts.lab.flavour.server, alias: "guest" },
    ...more,
  });
  const instance = (): object => ({
    ...{ cluster: cluster(), name: "web", instanceType: "container", profiles: [], target: "bcn2" },
    image: { fingerprint: image.inState("fingerprint"), formerFingerprints: image.inState("formerFingerprints") },
    devices: { root: { type: "disk", path: "/", pool: "default" } },
  });
  const query = async (path: string): Promise<Record<string, unknown>> =>
    JSON.parse(await onHost("bcn2", hosts.lab.flavour.client, "query", path)) as Record<string, unknown>;
  const fingerprints = async (): Promise<unknown> => query("/1.0/images");

  before(async () => {
    const { client, dataDirectory } = hosts.lab.flavour;
    first = (await imageFiles("debian-12")).sourceFingerprint;
    second = (await imageFiles("debian-12-newer")).sourceFingerprint;
    await createResource("LxdNode", node("bcn3"));
    await onHost("bcn3", client, "config", "set", "core.https_address", ":8443");
    const certificate = await onHost("bcn3", "cat", `${dataDirectory}/server.crt`);
    for (const host of ["bcn2", "bcn1"] as const) {
      const { name, address } = at("bcn3");
      await inShell(host, `mkdir -p /etc/ssl/certs; echo '${certificate}' >> ${TRUSTED}; echo ${address} ${name} >> /etc/hosts`);
      await createResource("LxdNode", node(host));
    }
    for (const host of ["bcn2", "bcn1"] as const) {
      await createResource("LxdClusterMember", member(host));
    }
    await createResource("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    await served.up(await offered("debian-12"));
  });

  it("is copied, and an instance is made from it", async () => {
    assert.equal(await image.up(copied()), "created");
    assert.equal(image.inState("fingerprint"), first);
    assert.equal((await query(`/1.0/images/${first}`))["auto_update"], true);
    assert.equal(await vm.up(instance()), "created");
  });

  it("is the newer one after that, and nothing else changes", async () => {
    const { pid } = await query("/1.0/instances/web/state");
    assert.equal(await served.up(await offered("debian-12-newer")), "replaced");
    await onHost("bcn1", hosts.lab.flavour.client, "image", "refresh", "guest");
    assert.deepEqual(await fingerprints(), [`/1.0/images/${second}`]);
    assert.equal(await image.up(copied()), "same");
    assert.deepEqual([image.inState("fingerprint"), image.inState("formerFingerprints")], [second, [first]]);
    assert.equal(await vm.up(instance()), "same");
    assert.equal((await query("/1.0/instances/web/state"))["pid"], pid);
  });

  it("has the properties and the mark of its own resource again, in the place of those of the image server", async () => {
    const { properties } = await query(`/1.0/images/${second}`);
    assert.match((properties as Record<string, string>)["user.pulumi.urn"] ?? "", /::served /);
    assert.equal(await image.up(copied({ properties: { "user.team": "web" } })), "updated");
    const now = (await query(`/1.0/images/${second}`))["properties"] as Record<string, string>;
    assert.deepEqual([now["user.team"], now["os"]], ["web", "debian-12-newer"]);
    assert.match(now["user.pulumi.urn"] ?? "", /::guest /);
  });

  it("stays as it is without autoUpdate", async () => {
    assert.equal(await image.up(copied({ autoUpdate: undefined })), "updated");
    assert.equal((await query(`/1.0/images/${second}`))["auto_update"], false);
    assert.equal(await image.up(copied({ autoUpdate: undefined })), "same");
  });

  it("is removed, and is removed too when it was replaced again since the last read", async () => {
    await image.up(copied());
    await served.up(await offered("debian-12"));
    await onHost("bcn2", hosts.lab.flavour.client, "image", "refresh", "guest");
    await vm.destroy({ refresh: false });
    await image.destroy({ refresh: false });
    assert.deepEqual(await fingerprints(), []);
  });
});
