import assert from "node:assert/strict";
import { hostSysctlsLifecycle } from "../../../provider/resources/host-sysctls";
import type { Subject } from "./harness";

/** A parameter of the network namespace: a lab's host shares all others with the machine that it runs on. */
const [KEY, FILE] = ["net.ipv4.tcp_rmem", "/etc/sysctl.d/60-contract.conf"];

/** Parameters of the kernel. Only of hosts. */
export function sysctlsContract({ manage, args, output, exitCode }: Subject): void {
  it("are set now and for the next boot, repaired, and restored", async () => {
    const live = async (): Promise<string> =>
      (await output("cat", `/proc/sys/${KEY.replaceAll(".", "/")}`)).replaceAll("\t", " ");
    const sysctls = (value: string): object => args({ name: "60-contract", values: { [KEY]: value } });
    const it = manage({ vm: {}, host: hostSysctlsLifecycle });
    const before = await live();
    assert.equal(await it.up(sysctls("4096 131072 7000000")), "created");
    assert.equal(await live(), "4096 131072 7000000");
    assert.match(await output("cat", FILE), /^net\.ipv4\.tcp_rmem = 4096 131072 7000000$/m);
    assert.equal(await it.preview(sysctls("4096 131072  7000000")), "same");
    await output("sysctl", "--write", `${KEY}=4096 131072 7100000`);
    assert.equal(await it.preview(sysctls("4096 131072 7000000")), "updated");
    assert.equal(await it.up(sysctls("4096 131072 7000000")), "updated");
    assert.equal(await live(), "4096 131072 7000000");
    await assert.rejects(
      manage({ vm: {}, host: hostSysctlsLifecycle }, "other").up(
        args({ name: "61-contract", values: { "net.ipv4.no_such": 1 } }),
      ),
      /has no net\.ipv4\.no_such/,
    );
    await it.destroy();
    assert.equal(await live(), before);
    assert.equal(await exitCode("test", "-e", FILE), 1);
  });
}
