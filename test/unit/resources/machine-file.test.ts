import assert from "node:assert/strict";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import { MACHINES } from "./machines";
import { Managed, type SimulatedCluster, startWithInstance } from "./simulated-cluster";

const PATH = "/srv/app/app.conf";

for (const [prefix, lifecycle] of [
  ["Vm", vmFileLifecycle],
  ["Host", hostFileLifecycle],
] as const) {
  const machine = MACHINES[prefix];

  describe(`${prefix}File`, () => {
    let one: SimulatedCluster;
    let files: MemoryFiles;
    let file: Managed;

    const args = (more: object = {}): object => ({ ...machine.where(one), path: PATH, content: "a = 1\n", ...more });
    const shown = (path = PATH): string => {
      const node = files.get(path, false);
      return node === undefined ? "absent" : `${node.uid}:${node.gid} ${node.mode.toString(8)} ${node.content.toString()}`;
    };
    const leftovers = (): string[] => files.tree("/").filter((path) => path.includes("pulumi") || path.startsWith("/srv/"));

    beforeEach(async () => {
      one = await startWithInstance("container");
      files = machine.files(one);
      file = new Managed(lifecycle as never, "conf");
    });
    afterEach(() => one.stop());

    it("is made with its directories, changed in one step, and removed with them", async () => {
      assert.equal(await file.up(args()), "created");
      assert.equal(shown(), "0:0 644 a = 1\n");
      assert.equal(shown("/srv/app"), "0:0 755 ");
      assert.equal(await file.preview(args()), "same");
      assert.equal(await file.up(args({ content: "a = 2\n", mode: "0600", owner: "daemon", group: "daemon" })), "updated");
      assert.equal(shown(), "1:1 600 a = 2\n");
      await file.destroy();
      assert.deepEqual(leftovers(), []);
    });

    it("keeps a directory that others use, too", async () => {
      await file.up(args());
      files.writeFile("/srv/app/other", "");
      await file.destroy();
      assert.deepEqual(leftovers(), ["/srv/app", "/srv/app/other"]);
    });

    it("takes content that is no text", async () => {
      const contentBase64 = Buffer.from([0, 255, 1]).toString("base64");
      await file.up(args({ content: undefined, contentBase64 }));
      assert.deepEqual(files.get(PATH)?.content, Buffer.from([0, 255, 1]));
      assert.equal(await file.preview(args({ content: undefined, contentBase64 })), "same");
    });

    it("is repaired without a look at foreign content", async () => {
      await file.up(args());
      files.writeFile(PATH, "password of somebody\n");
      assert.equal(await file.preview(args()), "updated");
      assert.doesNotMatch(JSON.stringify([file.state, file.notes, file.warnings]), /somebody/);
      assert.equal(await file.up(args()), "updated");
      assert.equal(shown(), "0:0 644 a = 1\n");
    });

    it("is not taken from others, and restored when it was adopted", async () => {
      files.makeDirectory("/srv/app");
      files.writeFile(PATH, "theirs\n", { mode: 0o640, uid: 1, gid: 1 });
      await file.preview(args());
      assert.match(file.notes.join(), /pulumi up will refuse this.*already exists/);
      await assert.rejects(
        file.up(args()),
        /already exists on .* and it was not made by Pulumi \(a file, mode 0640\).*adopt: true/,
      );
      assert.equal(shown(), "1:1 640 theirs\n");
      assert.equal(await file.up(args({ adopt: true })), "created");
      assert.equal(shown(), "0:0 644 a = 1\n");
      await file.up(args({ adopt: true, content: "a = 2\n" }));
      await file.destroy();
      assert.equal(shown(), "1:1 640 theirs\n");
      assert.deepEqual(leftovers(), ["/srv/app", PATH]);
    });

    for (const [onDelete, after] of [
      ["remove", "absent"],
      ["keep", "0:0 644 a = 1\n"],
    ] as const) {
      it(`is ${onDelete === "keep" ? "kept" : "removed"} with onDelete: "${onDelete}", also one that was adopted`, async () => {
        files.makeDirectory("/srv/app");
        files.writeFile(PATH, "theirs\n");
        await file.up(args({ adopt: true, onDelete }));
        await file.destroy();
        assert.equal(shown(), after);
        assert.deepEqual(
          leftovers().filter((path) => path.includes("pulumi")),
          [],
        );
      });
    }

    it("runs onChange after each change, and again after a failure", async () => {
      const runs = "/srv/runs";
      const onChange = ["install", "-m", "600", "/dev/null", runs];
      await file.up(args({ onChange }));
      assert.equal(shown(runs), "0:0 600 ");
      files.remove(runs);
      assert.equal(await file.up(args({ onChange })), "same");
      assert.equal(shown(runs), "absent");
      await assert.rejects(file.up(args({ content: "a = 2\n", onChange: ["false"] })), /is not finished: false on .* failed/);
      assert.equal(shown(), "0:0 644 a = 2\n");
      assert.equal(await file.preview(args({ content: "a = 2\n", onChange })), "updated");
      assert.equal(await file.up(args({ content: "a = 2\n", onChange })), "updated");
      assert.equal(shown(runs), "0:0 600 ");
      assert.equal(await file.preview(args({ content: "a = 2\n", onChange })), "same");
    });

    it("is not written through a link, nor over a directory", async () => {
      files.makeDirectory("/srv/app");
      files.makeSymlink(PATH, "/etc/passwd");
      await assert.rejects(file.up(args({ adopt: true })), /it is a link, which is not followed/);
      files.remove(PATH);
      files.makeDirectory(PATH);
      await assert.rejects(file.up(args({ adopt: true })), /it is a directory/);
      assert.match(files.readText("/etc/passwd"), /^root:/);
    });

    it("is written as the user in whose directory it is, and refused there for another owner", async () => {
      files.writeFile("/etc/passwd", `${files.readText("/etc/passwd")}al:x:1000:1000::/home/al:/bin/sh\n`);
      files.writeFile("/etc/group", `${files.readText("/etc/group")}al:x:1000:\n`);
      files.makeDirectory("/home/al", { uid: 1000, gid: 1000 });
      const inHome = (more: object = {}): object => args({ path: "/home/al/.config/app/rc", ...more });
      await assert.rejects(
        file.up(inHome()),
        /\/home\/al belongs to user "al", who could lead a file of another owner elsewhere/,
      );
      await file.up(inHome({ owner: "al", group: "al" }));
      assert.equal(shown("/home/al/.config/app/rc"), "1000:1000 644 a = 1\n");
      assert.equal(shown("/home/al/.config"), "1000:1000 755 ");
      await file.destroy();
      assert.deepEqual(files.list("/home/al"), []);
    });

    for (const [what, wrong, says] of [
      ["an owner that does not exist", { owner: "nobodyhere" }, /there is no user "nobodyhere"/],
      ["a group that does not exist", { group: "nogrouphere" }, /there is no group "nogrouphere"/],
      ["a path through a file", { path: "/etc/hostname/x" }, /\/etc\/hostname is not a directory/],
    ] as const) {
      it(`is refused with ${what}, in the preview, too`, async () => {
        await file.preview(args(wrong));
        assert.match(file.notes.join(), says);
        await assert.rejects(file.up(args(wrong)), says);
      });
    }

    for (const [what, wrong, says] of [
      ["the accounts", { path: "/etc/passwd" }, /reason: .path holds accounts.*VmUser or HostUser/],
      ["a path of the kernel", { path: "/proc/sys/vm/swappiness" }, /reason: .path is made by the kernel/],
      ["a relative path", { path: "motd" }, /reason: .path is not an absolute path/],
      ["a path with ..", { path: "/srv/../etc/motd" }, /reason: .path must have no empty part/],
      ["a mode that is a number", { mode: 644 }, /reason: .mode must be a string of octal digits/],
      ["a mode that is not octal", { mode: "0888" }, /reason: .mode is not a mode of octal digits/],
      ["no content", { content: undefined }, /reason: .content must be given/],
      ["two contents", { contentBase64: "AA==" }, /reason: .content must be given.*only one/],
      ["a command that is an option", { onChange: ["-x"] }, /reason: .onChange must begin with a program/],
      ["a command with a NUL", { onChange: ["echo", "a\0b"] }, /reason: .onChange\.1 must have no NUL/],
      ["a large file", { content: "x".repeat(2 ** 20 + 1) }, /reason: .content is larger than 1 MiB/],
    ] as const) {
      it(`is refused in check with ${what}`, async () => {
        await assert.rejects(file.preview(args(wrong)), (error: Error) => says.test(error.message));
      });
    }
  });
}
