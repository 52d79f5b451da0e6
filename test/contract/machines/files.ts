import assert from "node:assert/strict";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import type { Subject } from "./harness";

const PAIR = { vm: vmFileLifecycle, host: hostFileLifecycle };
const PATH = "/srv/contract/a b/app.conf";

/** Files. */
export function filesContract({ manage, args, output, exitCode }: Subject): void {
  const file = (own: object = {}): object => args({ path: PATH, content: "a = 1\n", ...own });
  const shown = (path = PATH): Promise<string> => output("stat", "--format=%a %U %G %s", path);

  it("is made with its directories, changed, repaired, and removed with them", async () => {
    const it = manage(PAIR);
    assert.equal(await it.up(file()), "created");
    assert.equal(await output("cat", PATH), "a = 1");
    assert.equal(await shown(), "644 root root 6");
    assert.equal(await it.preview(file()), "same");
    const other = { content: "ä = 2\n", mode: "4750", owner: "daemon", group: "adm" };
    assert.equal(await it.up(file(other)), "updated");
    assert.equal(await output("cat", PATH), "ä = 2");
    assert.equal(await shown(), "4750 daemon adm 7");
    await output("chmod", "600", PATH);
    await output("chown", "root:root", PATH);
    await output("cp", "/etc/hostname", PATH);
    assert.equal(await it.preview(file(other)), "updated");
    assert.equal(await it.up(file(other)), "updated");
    assert.equal(await shown(), "4750 daemon adm 7");
    await it.destroy();
    assert.equal(await exitCode("test", "-e", "/srv/contract"), 1);
    assert.equal(await exitCode("test", "-e", "/var/lib/pulumi-lxd-cluster"), 1);
  });

  it("has bytes of any kind, and names of any kind", async () => {
    const it = manage(PAIR);
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7) % 256));
    const path = '/srv/contract/-n it\'s "$HOME" ä;|&<>*';
    const binary = { path, content: undefined, contentBase64: bytes.toString("base64"), mode: "0600" };
    assert.equal(await it.up(file(binary)), "created");
    assert.equal(await shown(path), "600 root root 100000");
    assert.equal(await it.preview(file(binary)), "same");
    await it.destroy();
    assert.equal(await exitCode("test", "-e", "/srv/contract"), 1);
  });

  it("is adopted, and restored", async () => {
    await output("mkdir", "-p", "/srv/contract/a b");
    await output("cp", "/etc/hostname", PATH);
    await output("chmod", "640", PATH);
    await output("chown", "daemon:adm", PATH);
    const [before, content] = [await shown(), await output("cat", PATH)];
    const it = manage(PAIR);
    await assert.rejects(it.up(file()), /already exists on .*adopt: true/);
    assert.equal(await it.up(file({ adopt: true })), "created");
    assert.equal(await output("cat", PATH), "a = 1");
    await it.destroy();
    assert.deepEqual([await shown(), await output("cat", PATH)], [before, content]);
    await output("rm", "-r", "/srv/contract");
  });

  it("runs onChange after a change, and again after a failure", async () => {
    const [it, ran] = [manage(PAIR), "/run/contract-ran"];
    const onChange = ["touch", ran];
    await it.up(file({ onChange }));
    assert.equal(await exitCode("test", "-e", ran), 0);
    await output("rm", ran);
    assert.equal(await it.up(file({ onChange })), "same");
    await assert.rejects(it.up(file({ content: "a = 2\n", onChange: ["false"] })), /false on .* failed with exit code 1/);
    assert.equal(await exitCode("test", "-e", ran), 1);
    assert.equal(await it.up(file({ content: "a = 2\n", onChange })), "updated");
    assert.equal(await exitCode("test", "-e", ran), 0);
    assert.equal(await it.preview(file({ content: "a = 2\n", onChange })), "same");
    await it.destroy();
    await output("rm", ran);
  });

  it("is written as the user in whose directory it is", async () => {
    await output("useradd", "--create-home", "--user-group", "fay");
    const it = manage(PAIR);
    const path = "/home/fay/.config/rc";
    await assert.rejects(it.up(file({ path })), /\/home\/fay belongs to user "fay"/);
    await it.up(file({ path, owner: "fay", group: "fay" }));
    assert.equal(await shown(path), "644 fay fay 6");
    assert.match(await shown("/home/fay/.config"), /^755 fay fay /);
    await it.up(file({ path, owner: "fay", group: "fay", content: "a = 22\n" }));
    assert.equal(await shown(path), "644 fay fay 7");
    await it.destroy();
    assert.equal(await exitCode("test", "-e", "/home/fay/.config"), 1);
    await output("userdel", "--remove", "fay");
  });

  it("is not put in the place of a link or a directory", async () => {
    await output("mkdir", "-p", PATH);
    await assert.rejects(manage(PAIR).up(file({ adopt: true })), /it is a directory/);
    await output("rmdir", PATH);
    await output("ln", "-s", "/etc/passwd", PATH);
    await assert.rejects(manage(PAIR).up(file({ adopt: true })), /it is a link, which is not followed/);
    await output("rm", "-r", "/srv/contract");
  });
}
