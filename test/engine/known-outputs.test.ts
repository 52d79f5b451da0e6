import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SimulatedLab } from "../../lab/simulated";
import {
  LxdImage,
  type LxdImageArgs,
  LxdNode,
  type LxdNodeArgs,
  LxdProfile,
  LxdVm,
  type LxdVmArgs,
  VmUser,
  type VmUserArgs,
} from "../../provider/index";
import { byHand } from "./cluster-program";
import { EngineStack, type Step } from "./workspace";

/** What a test may have otherwise. */
interface Changes {
  node?: Partial<LxdNodeArgs>;
  image?: Partial<LxdImageArgs>;
  web?: { description?: string; config?: Record<string, string> };
  vm?: Partial<LxdVmArgs>;
  user?: Partial<VmUserArgs>;
}

const POOL = { name: "default", driver: "dir" };

describe("outputs that an update does not change", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;

  /** Each resource uses outputs of the one before it; the last profile those of all. */
  const program = ({ node, image, web, vm, user }: Changes = {}) => {
    const [host] = lab.hosts;
    const directory = dirname(lab.knownHostsPath);
    const [metadataPath, rootfsPath] = [join(directory, "metadata.tar"), join(directory, "rootfs.squashfs")];
    writeFileSync(metadataPath, "metadata");
    writeFileSync(rootfsPath, "rootfs");
    stack.define(() => {
      const bcn2 = new LxdNode("bcn2", {
        connection: host?.connection ?? { host: "" },
        install: { method: "deb" },
        adopt: true,
        ...node,
      });
      const cluster = { endpoints: [bcn2.connection] };
      const debian = new LxdImage("debian", { cluster, metadataPath, rootfsPath, aliases: ["debian"], ...image });
      const profile = new LxdProfile("web", {
        cluster,
        name: "web",
        ...web,
        devices: { root: { type: "disk", path: "/", pool: "default" }, eth0: { type: "nic", nictype: "bridged", parent: "br0" } },
      });
      const web1 = new LxdVm("web1", {
        cluster,
        name: "web1",
        instanceType: "container",
        image: { fingerprint: debian.fingerprint },
        profiles: [profile.name],
        ...vm,
      });
      const ops = new VmUser("ops", { cluster, instance: web1.name, name: "ops", ...user });
      new LxdProfile("notes", {
        cluster,
        name: "notes",
        config: {
          "user.version": bcn2.lxdVersion,
          "user.image": debian.fingerprint,
          "user.mac": web1.macAddresses.apply((macs) => macs["eth0"] ?? ""),
          "user.made-from": web1.imageFingerprint,
          "user.uid": ops.uid,
        },
      });
    });
  };

  /** What a preview plans besides the refresh, sorted: what does not depend on each other is planned in any order. */
  const planned = async (changes: Changes): Promise<string[]> => {
    program(changes);
    const { ok, text, steps } = await stack.preview();
    assert.ok(ok, text);
    return steps
      .filter(({ op }: Step) => op !== "refresh")
      .map(({ op, type, name }) => `${op} ${type} ${name}`)
      .sort();
  };

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: POOL }));
    stack = await EngineStack.open();
    program();
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
  });
  after(async () => {
    stack.close();
    await lab.stop();
  });

  it("stay known in its preview, so that what uses them is not shown as changing", async () => {
    assert.deepEqual(await planned({ image: { aliases: ["debian", "debian-12"] } }), ["update LxdImage debian"]);
    assert.deepEqual(await planned({ vm: { description: "web server" } }), ["update LxdVm web1"]);
    assert.deepEqual(await planned({ node: { config: { "core.debug_address": "127.0.0.1:8444" } } }), ["update LxdNode bcn2"]);
    assert.deepEqual(await planned({ web: { description: "web servers" } }), ["update LxdProfile web"]);
  });

  it("stay known when only the way to the host changes: how patiently it is dialled is kept with the host alone", async () => {
    const [host] = lab.hosts;
    const connection = { ...host?.connection, host: host?.address ?? "" };
    assert.deepEqual(await planned({ node: { connection: { ...connection, perDialTimeout: 14 } } }), ["update LxdNode bcn2"]);
    const plan = await planned({ node: { connection: { ...connection, agentSocketPath: "/run/agent" } } });
    assert.deepEqual(plan, [
      "update LxdImage debian",
      "update LxdNode bcn2",
      "update LxdProfile notes",
      "update LxdProfile web",
      "update LxdVm web1",
      "update VmUser ops",
    ]);
  });

  it("are not known where the change may change them, and what uses them is then shown as changing", async () => {
    const eth1 = { type: "nic", nictype: "bridged", parent: "br0" };
    assert.deepEqual(await planned({ vm: { devices: { eth1 } } }), ["update LxdProfile notes", "update LxdVm web1"]);
  });

  it("are what the preview said: `up` changes nothing else, and then there is no change", async () => {
    const changes = { image: { aliases: ["debian", "debian-12"] }, vm: { description: "web server" } };
    program(changes);
    const { ok, text, steps } = await stack.up();
    assert.ok(ok, text);
    assert.deepEqual(
      steps
        .filter(({ op }) => op !== "refresh")
        .map(({ op, name }) => `${op} ${name}`)
        .sort(),
      ["update debian", "update web1"],
    );
    assert.deepEqual(await planned(changes), []);
  });
});
