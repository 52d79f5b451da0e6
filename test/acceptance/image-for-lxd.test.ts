import assert from "node:assert/strict";
import { provider } from "../../provider/entry";
import { bareHosts } from "../support/bare-hosts";
import { checkedInputs, createResource, type Made } from "../support/real-lab";
import { runInGuest } from "./support/guest-commands";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMIBIlXybzgiw+3WM3zDW80k40U1CblNvxDlEr0zBpvx ada";

/** An image without templates for cloud-init's data source NoCloud. The guests of Incus have no other way to their data. */
describe("an image made for LXD", () => {
  const hosts = bareHosts(["bcn2"]);
  const { to, node, imageFiles, onHost } = hosts;
  let vm: Made;

  const cluster = (): object => ({ endpoints: [to("bcn2")] });
  const inGuest = (...argv: string[]): Promise<string> => runInGuest(hosts.lab, "web1", ...argv);
  const args = (word: string): object => ({
    ...{ cluster: cluster(), name: "web1", instanceType: "container", image: { alias: "lxd-image" } },
    ...{ rootDisk: { pool: "default" }, devices: { eth0: { type: "nic", network: "lxdbr0", name: "eth0" } } },
    waitFor: [{ for: "cloud-init" }],
    cloudInit: { userData: `#cloud-config\nwrite_files: [{ path: /etc/${word}, content: ${word} }]\n` },
  });

  before(async () => {
    await createResource("LxdNode", node("bcn2"));
    await createResource("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    const config = { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" };
    await createResource("LxdNetwork", { cluster: cluster(), name: "lxdbr0", config });
  });

  it("is imported with its fingerprint and properties", async () => {
    const files = await imageFiles("debian-12-without-seed");
    const more = { public: true, properties: { "user.team": "web" }, aliases: ["lxd-image"] };
    const { outs } = await createResource("LxdImage", { cluster: cluster(), ...files, ...more });
    assert.equal(outs["fingerprint"], files.sourceFingerprint);
    const shown = await onHost("bcn2", hosts.lab.flavour.client, "image", "show", "lxd-image");
    assert.match(shown, /^public: true$/m);
    assert.match(shown, /^ {2}user\.team: web$/m);
  });

  it("gives its instance the cloud-init data", async () => {
    vm = await createResource("LxdVm", args("first"));
    assert.equal(await inGuest("cat", "/etc/first"), "first");
  });

  it("gives it changed data at the next start", async () => {
    await provider("LxdVm").update(vm.id, vm.outs, await checkedInputs("LxdVm", args("second")));
    await onHost("bcn2", hosts.lab.flavour.client, "restart", "web1");
    await inGuest("cloud-init", "status", "--wait");
    assert.equal(await inGuest("cat", "/etc/second"), "second");
  });

  it("gives the files of its users their owner and permissions", async () => {
    const rights = { sudo: "passwordless", authorizedKeys: [KEY] };
    await createResource("VmUser", { cluster: cluster(), instance: "web1", name: "ada", ...rights });
    const files = ["/etc/sudoers.d/ada", "/home/ada", "/home/ada/.ssh", "/home/ada/.ssh/authorized_keys"];
    const shown = (await inGuest("stat", "--format=%U:%G %a", ...files)).trim().split("\n");
    assert.deepEqual([shown[0], ...shown.slice(2)], ["root:root 440", "ada:ada 700", "ada:ada 600"]);
    assert.match(shown[1] ?? "", /^ada:ada 7[05][05]$/);
    assert.match(await inGuest("su", "ada", "-c", "sudo -n id -un"), /^root$/m);
  });
});
