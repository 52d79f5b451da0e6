import assert from "node:assert/strict";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { installOf } from "../../lab/real/flavours";
import { provider } from "../../provider/entry";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { disconnectAll } from "../../provider/transport/pool";
import { attachOrSkip, isInLab } from "../support/real-lab";
import { runInGuest } from "./support/guest-commands";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMIBIlXybzgiw+3WM3zDW80k40U1CblNvxDlEr0zBpvx ada";

/** An image without templates for cloud-init's data source NoCloud. The guests of Incus have no other way to their data. */
describe("an image made for LXD", () => {
  let lab: RealLab;
  let vm: { id: string; outs: Record<string, unknown> };

  const connection = (): object => ({ host: "192.168.1.102", privateKeyPath: join(lab.home, ".ssh", "id_ed25519") });
  const cluster = (): object => ({ endpoints: [connection()] });
  const onHost = async (...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec("bcn2", argv);
    assert.equal(exitCode, 0, `${argv.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  };
  const inGuest = (...argv: string[]): Promise<string> => runInGuest(lab, "web1", ...argv);
  const checked = async (kind: string, args: object): Promise<Record<string, unknown>> => {
    const urn = `urn:pulumi:images::acceptance::pulumi-nodejs:dynamic/lxd:${kind}::it`;
    const { inputs, failures } = await provider(kind).check({}, { ...args, __urn: urn });
    assert.deepEqual(failures, []);
    return inputs;
  };
  const create = async (kind: string, args: object): Promise<{ id: string; outs: Record<string, unknown> }> =>
    provider(kind).create(await checked(kind, args));
  const args = (word: string): object => ({
    ...{ cluster: cluster(), name: "web1", instanceType: "container", image: { alias: "lxd-image" } },
    ...{ rootDisk: { pool: "default" }, devices: { eth0: { type: "nic", network: "lxdbr0", name: "eth0" } } },
    waitFor: [{ for: "cloud-init" }],
    cloudInit: { userData: `#cloud-config\nwrite_files: [{ path: /etc/${word}, content: ${word} }]\n` },
  });

  before(async function () {
    lab = await attachOrSkip(this);
    await lab.resetHosts(["bcn2"]);
    await create("LxdNode", { connection: connection(), install: installOf(lab.flavour) });
    await create("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    const config = { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" };
    await create("LxdNetwork", { cluster: cluster(), name: "lxdbr0", config });
  });

  afterEach(() => disconnectAll());

  after(async () => {
    if (isInLab) {
      await lab.resetHosts(["bcn2"]);
    }
  });

  it("is imported with its fingerprint and properties", async () => {
    const folder = join(lab.home, "lxd-images", "debian-12-without-seed");
    const files = { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
    const sourceFingerprint = await fingerprintOf(files);
    const more = { public: true, properties: { "user.team": "web" }, aliases: ["lxd-image"] };
    const { outs } = await create("LxdImage", { cluster: cluster(), ...files, sourceFingerprint, ...more });
    assert.equal(outs["fingerprint"], sourceFingerprint);
    const shown = await onHost(lab.flavour.client, "image", "show", "lxd-image");
    assert.match(shown, /^public: true$/m);
    assert.match(shown, /^ {2}user\.team: web$/m);
  });

  it("gives its instance the cloud-init data", async () => {
    vm = await create("LxdVm", args("first"));
    assert.equal(await inGuest("cat", "/etc/first"), "first");
  });

  it("gives it changed data at the next start", async () => {
    await provider("LxdVm").update(vm.id, vm.outs, await checked("LxdVm", args("second")));
    await onHost(lab.flavour.client, "restart", "web1");
    await inGuest("cloud-init", "status", "--wait");
    assert.equal(await inGuest("cat", "/etc/second"), "second");
  });

  it("gives the files of its users their owner and permissions", async () => {
    const rights = { sudo: "passwordless", authorizedKeys: [KEY] };
    await create("VmUser", { cluster: cluster(), instance: "web1", name: "ada", ...rights });
    const files = ["/etc/sudoers.d/ada", "/home/ada", "/home/ada/.ssh", "/home/ada/.ssh/authorized_keys"];
    const shown = (await inGuest("stat", "--format=%U:%G %a", ...files)).trim().split("\n");
    assert.deepEqual([shown[0], ...shown.slice(2)], ["root:root 440", "ada:ada 700", "ada:ada 600"]);
    assert.match(shown[1] ?? "", /^ada:ada 7[05][05]$/);
    assert.match(await inGuest("su", "ada", "-c", "sudo -n id -un"), /^root$/m);
  });
});
