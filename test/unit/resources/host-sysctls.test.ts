import assert from "node:assert/strict";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { hostSysctlsLifecycle } from "../../../provider/resources/host-sysctls";
import { MACHINES } from "./machines";
import { Managed, type SimulatedCluster, startStandalone } from "./simulated-cluster";

const PATH = "/etc/sysctl.d/60-lxd.conf";

describe("HostSysctls", () => {
  let one: SimulatedCluster;
  let files: MemoryFiles;
  let sysctls: Managed;

  const args = (values: object = { "net.ipv4.ip_forward": 1 }, more: object = {}): object => ({
    ...MACHINES.Host.where(one),
    ...{ name: "60-lxd", values, ...more },
  });
  const live = (key: string): string => files.readText(`/proc/sys/${key.replaceAll(".", "/")}`).trim();

  beforeEach(async () => {
    one = await startStandalone();
    files = MACHINES.Host.files(one);
    sysctls = new Managed(hostSysctlsLifecycle as never, "lxd");
  });
  afterEach(() => one.stop());

  it("are set now and for the next boot, and get their former values when they are dropped", async () => {
    await sysctls.up(args({ "net.ipv4.ip_forward": true, "net.ipv4.tcp_rmem": "4096  131072 8388608" }));
    assert.equal(live("net.ipv4.ip_forward"), "1");
    assert.match(files.readText(PATH), /^net\.ipv4\.ip_forward = 1$/m);
    assert.equal(await sysctls.preview(args({ "net.ipv4.ip_forward": "1", "net.ipv4.tcp_rmem": "4096 131072 8388608" })), "same");
    await sysctls.up(args({ "net.ipv4.tcp_rmem": "4096 131072 8388608" }));
    assert.equal(live("net.ipv4.ip_forward"), "0");
    assert.doesNotMatch(files.readText(PATH), /ip_forward/);
    await sysctls.destroy();
    assert.equal(live("net.ipv4.tcp_rmem"), "4096\t131072\t6291456");
    assert.deepEqual([files.exists(PATH), files.exists("/var/lib/pulumi-lxd-cluster")], [false, false]);
  });

  it("keep the values from before the first change, however often they change", async () => {
    await sysctls.up(args({ "vm.swappiness": 10 }));
    await sysctls.up(args({ "vm.swappiness": 20 }));
    await sysctls.destroy();
    assert.equal(live("vm.swappiness"), "60");
  });

  it("are refused with the name of one that the kernel does not have, in the preview, too", async () => {
    const unknown = args({ "net.bridge.bridge-nf-call-iptables": 0 });
    await sysctls.preview(unknown);
    assert.match(
      sysctls.notes.join(),
      /has no net\.bridge\.bridge-nf-call-iptables\. Correct the name, or load the kernel's module/,
    );
    await assert.rejects(sysctls.up(unknown), /has no net\.bridge\.bridge-nf-call-iptables/);
  });

  it("fail when the kernel keeps another value, and are unfinished", async () => {
    await assert.rejects(sysctls.up(args({ "vm.swappiness": 999 })), /vm\.swappiness is 200 after it was set to 999/);
    assert.equal(await sysctls.up(args({ "vm.swappiness": 100 })), "updated");
    assert.equal(live("vm.swappiness"), "100");
  });

  it("restore the file that was adopted", async () => {
    files.writeFile(PATH, "# theirs\n");
    await assert.rejects(sysctls.up(args()), /already exists on .*the file \/etc\/sysctl\.d\/60-lxd\.conf.*adopt: true/);
    await sysctls.up(args(undefined, { adopt: true }));
    await sysctls.destroy();
    assert.equal(files.readText(PATH), "# theirs\n");
  });

  for (const [what, wrong, says] of [
    ["no parameter", { values: {} }, /values must have at least one parameter/],
    ["a name that is none", { values: { forward: 1 } }, /is not the name of a kernel parameter/],
    ["several lines", { values: { "vm.swappiness": "1\n2" } }, /must be one line of text/],
    ["a path as name", { name: "../60" }, /name is not a file name/],
  ] as const) {
    it(`are refused in check with ${what}`, () => assert.rejects(sysctls.preview(args(undefined, wrong)), says));
  }
});
