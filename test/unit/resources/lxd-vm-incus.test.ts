import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { Managed } from "./simulated-cluster";

describe("LxdVm on Incus, whose guests have no /dev/lxd", () => {
  let lab: SimulatedLab;
  let vm: Managed;
  const userData = "#cloud-config\npackages: [nginx]\n";
  const args = (more: object = {}): object => ({
    cluster: { endpoints: [lab.host("bcn2").connection] },
    name: "web1",
    instanceType: "container",
    image: { alias: "debian" },
    rootDisk: { pool: "default" },
    waitFor: [{ for: "cloud-init" }],
    ...more,
  });
  const requestsOf = (since: number): string[] =>
    lab.requests
      .slice(since)
      .filter(({ method, path }) => method !== "GET" && path.startsWith("/1.0/instances"))
      .map(({ method, path }) => `${method} ${path}`);
  const templates = () => {
    const { files = {}, texts = new Map<string, string>() } =
      lab.host("bcn2").daemon?.database.instance("default", "web1").templates ?? {};
    return { files: Object.keys(files), texts };
  };
  const seed = (...names: string[]): string[] => names.map((name) => `/var/lib/cloud/seed/nocloud-net/${name}`);

  beforeEach(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }], flavour: "trixie-incus" });
    await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    lab.seedImage("bcn2", { alias: "debian", type: "container" });
    vm = new Managed(vmLifecycle as never, "web1");
  });
  afterEach(async () => {
    assert.deepEqual([lab.defects, lab.host("bcn2").unknownCommands], [[], []]);
    await lab.stop();
  });

  it("gets templates for cloud-init's data before its first start, with no data in them", async () => {
    const since = lab.requests.length;
    assert.equal(await vm.up(args({ cloudInit: { userData } })), "created");
    const path = "/1.0/instances/web1";
    assert.deepEqual(requestsOf(since).slice(0, 6), [
      "POST /1.0/instances?project=default",
      ...["meta-data", "user-data", "vendor-data"].map(
        (kind) => `POST ${path}/metadata/templates?project=default&path=pulumi-cloud-init-${kind}.tpl`,
      ),
      `PUT ${path}/metadata?project=default`,
      `PUT ${path}/state?project=default`,
    ]);
    const { files, texts } = templates();
    assert.deepEqual(files, seed("meta-data", "user-data", "vendor-data"));
    assert.doesNotMatch([...texts.values()].join(), /nginx/);
    assert.equal(await vm.up(args({ cloudInit: { userData } })), "same");
  });

  it("gets them when the data comes later, and one for the network only when there is such data", async () => {
    await vm.up(args());
    assert.deepEqual(templates().files, []);
    const stopped = { running: false };
    assert.equal(await vm.up(args({ ...stopped, cloudInit: { userData } })), "updated");
    assert.deepEqual(templates().files, seed("meta-data", "user-data", "vendor-data"));
    assert.equal(await vm.up(args({ ...stopped, cloudInit: { userData, networkConfig: "version: 2\n" } })), "updated");
    assert.deepEqual(templates().files, seed("meta-data", "user-data", "vendor-data", "network-config"));
  });

  it("keeps the templates of its image", async () => {
    await vm.up(args({ running: false }));
    const own = { [seed("user-data")[0] ?? ""]: { when: ["create"], template: "cloud-init-user.tpl" } };
    await lab.byHand("bcn2", "PUT", "/1.0/instances/web1/metadata", { templates: own });
    assert.equal(await vm.up(args({ cloudInit: { userData } })), "updated");
    assert.deepEqual(templates().files, seed("user-data"));
  });

  describe("in a preview of changed cloud-init data", () => {
    const changed = { cloudInit: { userData: "#cloud-config\n{}\n" } };
    const warningsAbout = async (more: object): Promise<string[]> => {
      vm.warnings.length = 0;
      await vm.preview(args(more));
      return vm.warnings;
    };
    const giveImagesSeed = (when: string): Promise<unknown> => {
      const templates = Object.fromEntries(seed("meta-data", "user-data").map((file) => [file, { when: [when], template: "t" }]));
      return lab.byHand("bcn2", "PUT", "/1.0/instances/web1/metadata", { templates });
    };

    it("says that a running instance takes it at its next start", async () => {
      await vm.up(args({ cloudInit: { userData } }));
      const [warning, ...others] = await warningsAbout(changed);
      assert.match(warning ?? "", /^The change of cloud-init\.user-data takes effect at the next start of instance "web1"/);
      assert.deepEqual(others, []);
      await giveImagesSeed("start");
      assert.deepEqual(await warningsAbout(changed), [warning]);
    });

    it("says that it has no effect when the image passes the data on only at creation", async () => {
      await vm.up(args({ cloudInit: { userData } }));
      await giveImagesSeed("create");
      const [warning, ...others] = await warningsAbout(changed);
      assert.match(
        warning ?? "",
        /^The change of cloud-init\.user-data has no effect on instance "web1": .* when an instance is created.*--replace URN$/,
      );
      assert.deepEqual(others, []);
      await lab.byHand("bcn2", "PUT", "/1.0/instances/web1/state", { action: "stop", force: true, timeout: 5 });
      assert.deepEqual(await warningsAbout({ ...changed, running: false }), [warning]);
    });

    it("says nothing for an instance that is stopped and takes it, or has never started", async () => {
      await vm.up(args({ running: false, cloudInit: { userData } }));
      assert.deepEqual(await warningsAbout({ ...changed, running: false }), []);
      await giveImagesSeed("create");
      assert.deepEqual(await warningsAbout({ ...changed, running: false }), []);
    });
  });

  it("is not finished when cloud-init found no data", async () => {
    await vm.up(args({ running: false }));
    await lab.byHand("bcn2", "PUT", "/1.0/instances/web1/state", { action: "start" });
    await assert.rejects(
      vm.up(args({ cloudInit: { userData } })),
      /did not find its data when it booted, so nothing of cloud-init\.user-data is in effect.*\(incus restart web1\).*NoCloud/,
    );
  });
});
