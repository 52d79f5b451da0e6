import assert from "node:assert/strict";
import { hostUserLifecycle, vmUserLifecycle } from "../../../provider/resources/machine-user";
import type { Subject } from "./harness";

const PAIR = { vm: vmUserLifecycle, host: hostUserLifecycle };
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcDEy laptop";
const HASH = `$6$salt$${"h".repeat(86)}`;

/** Users. test/contract/lxd has more of users in instances. */
export function usersContract({ manage, args, output, exitCode }: Subject): void {
  const ida = (own: object = {}): object => args({ name: "ida", groups: ["adm"], authorizedKeys: [KEY], ...own });
  const line = async (): Promise<string | undefined> =>
    (await output("cat", "/etc/passwd")).split("\n").find((each) => each.startsWith("ida:"));

  it("is made, changed, repaired and removed", async () => {
    const it = manage(PAIR);
    assert.equal(await it.up(ida({ passwordHash: HASH, sudo: "passwordless", homeOnDelete: "remove" })), "created");
    assert.match((await line()) ?? "", /:\/home\/ida:\/bin\/bash$/);
    assert.equal(await output("cat", "/home/ida/.ssh/authorized_keys"), KEY);
    assert.equal(await output("stat", "--format=%a %U", "/home/ida/.ssh/authorized_keys"), "600 ida");
    const moved = { uid: 4242, home: "/srv/ida", shell: "/bin/sh", passwordHash: HASH, homeOnDelete: "remove" };
    assert.equal(await it.preview(ida({ passwordHash: HASH, sudo: "passwordless", homeOnDelete: "remove" })), "same");
    assert.equal(await it.up(ida(moved)), "updated");
    assert.match((await line()) ?? "", /^ida:x:4242:\d+:.*:\/srv\/ida:\/bin\/sh$/);
    assert.equal(await exitCode("test", "-e", "/etc/sudoers.d/ida"), 1);
    await output("usermod", "--shell", "/bin/bash", "ida");
    assert.equal(await it.preview(ida(moved)), "updated");
    assert.equal(await it.up(ida(moved)), "updated");
    await it.destroy();
    assert.equal(await line(), undefined);
    assert.equal(await exitCode("test", "-e", "/srv/ida"), 1);
  });

  it("is not taken from others, and adopted with adopt", async () => {
    await output("useradd", "--create-home", "ida");
    const it = manage(PAIR);
    await assert.rejects(it.up(ida()), /User "ida" of .* already exists .*adopt: true/);
    assert.equal(await it.up(ida({ adopt: true, homeOnDelete: "remove" })), "created");
    assert.equal(await output("cat", "/home/ida/.ssh/authorized_keys"), KEY);
    await it.destroy();
    assert.equal(await line(), undefined);
  });
}
