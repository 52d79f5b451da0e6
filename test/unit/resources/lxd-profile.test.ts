import assert from "node:assert/strict";
import * as z from "zod";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { Managed, type SimulatedCluster, startStandalone } from "./simulated-cluster";

const shown = z.looseObject({
  description: z.string(),
  config: z.record(z.string(), z.string()),
  devices: z.record(z.string(), z.record(z.string(), z.string())),
});

describe("LxdProfile", () => {
  let server: SimulatedCluster;
  let profile: Managed;
  let name: string;

  const args = (more: object = {}): object => ({
    cluster: server.cluster,
    name: "web",
    config: { "limits.memory": "1GiB" },
    ...more,
  });
  const live = async (which = "web") => (await server.byHand()).find(`/1.0/profiles/${which}`, shown);
  const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}): Promise<void> => {
    await (await server.byHand()).change(method, path, { body });
  };

  beforeEach(async () => {
    server = await startStandalone();
    profile = new Managed(profileLifecycle as never, "web");
    name = `root@127.0.0.1:${server.lab.host("bcn2").port}`;
  });

  afterEach(async () => {
    const { defects } = server.lab;
    await server.stop();
    assert.deepEqual(defects, []);
  });

  it("is created, marked as its own, and unchanged by a second up", async () => {
    assert.equal(await profile.up(args({ description: "the shop" })), "created");
    const { config, description } = (await live()) ?? assert.fail();
    const { "user.pulumi.urn": mark, ...others } = config;
    assert.deepEqual(others, { "limits.memory": "1GiB" });
    assert.match(mark ?? "", /^urn:pulumi:lab::tests::pulumi-nodejs:dynamic\/lxd:LxdProfile::web \[[0-9a-f]{16}\]$/);
    assert.equal(description, "the shop");
    const since = server.lab.requests.length;
    assert.equal(await profile.up(args({ description: "the shop" })), "same");
    assert.deepEqual(server.lab.mutations(since), []);
  });

  it("is changed, with a warning, when LXD saves it and then reports a failure that concerns no running instance", async () => {
    await profile.up(args());
    const error = {
      type: "error",
      error: "Failed clearing netprio rules: device name is empty",
      error_code: 500,
      metadata: null,
    };
    const fault = server.lab.faults.add({
      when: { method: "PUT", path: /^\/1\.0\/profiles/ },
      effect: { answer: (response) => void response.writeHead(500).end(JSON.stringify(error)) },
    });
    const wanted = args({ config: { "limits.memory": "2GiB" } });
    assert.equal(await profile.up(wanted), "updated");
    assert.match(
      profile.warnings.join(),
      /^Profile "web" of project "default" was changed, although LXD on .* reported a failure:\n {2}- Failed clearing netprio rules/,
    );
    assert.equal((await live())?.config["limits.memory"], "2GiB");
    fault.remove();
    assert.equal(await profile.up(wanted), "same");
  });

  it("shows a manual change, and repairs it; another spelling is no change", async () => {
    await profile.up(args());
    await byHand("PUT", "/1.0/profiles/web", { description: "", config: { "limits.memory": "1024MiB" }, devices: {} });
    assert.equal(await profile.preview(args()), "same");
    await byHand("PUT", "/1.0/profiles/web", {
      description: "",
      config: { "limits.memory": "2GiB", "limits.cpu": "2" },
      devices: {},
    });
    assert.equal(await profile.preview(args()), "updated");
    assert.deepEqual(profile.inState("config"), { "limits.memory": "2GiB", "limits.cpu": "2" });
    assert.equal(await profile.up(args()), "updated");
    assert.equal((await live())?.config["limits.cpu"], undefined);
  });

  it("is recreated when it was removed manually, and a second removal is no error", async () => {
    await profile.up(args());
    await byHand("DELETE", "/1.0/profiles/web");
    assert.equal(await profile.up(args()), "created");
    await byHand("DELETE", "/1.0/profiles/web");
    await profile.destroy();
    assert.equal(await live(), undefined);
  });

  it("is not adopted by default: the refusal describes the object and what to do", async () => {
    await byHand("POST", "/1.0/profiles", { name: "web", config: { "limits.cpu": "2" } });
    await assert.rejects(
      profile.up(args()),
      (error: Error) =>
        error.message ===
        `Profile "web" of project "default" already exists on ${name} and it was not made by Pulumi (it holds limits.cpu; used by 0 instances). ` +
          "Set adopt: true to manage it from here without recreating it, choose another name, or remove it first",
    );
    assert.deepEqual((await live())?.config, { "limits.cpu": "2" });
    assert.equal(await profile.up(args({ adopt: true })), "created");
    assert.equal((await live())?.config["limits.cpu"], undefined);
  });

  it("is not taken from another stack, which is named", async () => {
    await profile.up(args());
    const other = new Managed(profileLifecycle as never, "shop");
    await assert.rejects(other.up(args()), /it belongs to the Pulumi resource "web" of stack "lab", project "tests"/);
  });

  it("continues after its own interrupted create", async () => {
    server.lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/profiles/, nth: 1 }, effect: "drop-after" });
    await assert.rejects(profile.up(args()), /broke during POST \/1\.0\/profiles/);
    assert.equal(await profile.up(args()), "created");
    assert.equal(await profile.up(args()), "same");
  });

  describe("of the name default", () => {
    const wanted = (more: object = {}): object => args({ name: "default", ...more });

    it("is managed, and restored afterwards", async () => {
      await byHand("PUT", "/1.0/profiles/default", { description: "as it was", config: { "limits.cpu": "3" }, devices: {} });
      assert.equal(await profile.up(wanted()), "created");
      assert.equal((await live("default"))?.config["limits.cpu"], undefined);
      assert.equal(await profile.up(wanted({ config: { "limits.memory": "2GiB" } })), "updated");
      await profile.destroy();
      const { config, description } = (await live("default")) ?? assert.fail();
      assert.deepEqual([config, description], [{ "limits.cpu": "3" }, "as it was"]);
    });
  });

  it("reports in check what is wrong, by property", async () => {
    assert.deepEqual(
      await profile.faults(
        args({ name: "web/db", config: { "limits.memory": "4 giga" }, devices: { eth0: { network: "lxdbr0" } }, adpot: true }),
      ),
      [
        "adpot is not a known property; did you mean adopt?",
        'name is not a valid name of a profile: it must not be empty, "." or "..", or have control characters or slashes',
        'config.limits.memory is neither a size such as "4GiB" nor a share such as "50%"',
        "devices.eth0 needs a type, such as nic or disk",
      ],
    );
  });
});
