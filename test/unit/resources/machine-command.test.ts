import assert from "node:assert/strict";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { hostCommandLifecycle, vmCommandLifecycle } from "../../../provider/resources/machine-command";
import { MACHINES } from "./machines";
import { Managed, type SimulatedCluster, startWithInstance } from "./simulated-cluster";

const RAN = "/srv/ran";

for (const [prefix, lifecycle] of [
  ["Vm", vmCommandLifecycle],
  ["Host", hostCommandLifecycle],
] as const) {
  const machine = MACHINES[prefix];

  describe(`${prefix}Command`, () => {
    let one: SimulatedCluster;
    let files: MemoryFiles;
    let command: Managed;

    const args = (more: object = {}): object => ({ ...machine.where(one), command: ["touch", RAN], ...more });
    /** Whether it has run since the last call. */
    const hasRun = (): boolean => {
      const ran = files.exists(RAN);
      if (ran) {
        files.remove(RAN);
      }
      return ran;
    };

    beforeEach(async () => {
      one = await startWithInstance("container");
      files = machine.files(one);
      command = new Managed(lifecycle as never, "it");
    });
    afterEach(() => one.stop());

    it("runs once, never in a preview, and again when what is run or a trigger changes", async () => {
      await command.preview(args());
      assert.equal(hasRun(), false);
      assert.equal(await command.up(args()), "created");
      assert.equal(hasRun(), true);
      assert.equal(await command.up(args()), "same");
      assert.equal(hasRun(), false);
      for (const change of [{ triggers: [1] }, { triggers: [1, { a: 2 }] }, { environment: { A: "1" } }, { stdin: "x" }]) {
        assert.equal(await command.preview(args(change)), "updated");
        assert.equal(hasRun(), false);
        assert.equal(await command.up(args(change)), "updated");
        assert.equal(hasRun(), true, JSON.stringify(change));
      }
    });

    it("runs nothing when only onDelete changes, and that when it is removed", async () => {
      await command.up(args());
      hasRun();
      assert.equal(await command.up(args({ onDelete: ["touch", RAN] })), "updated");
      assert.equal(hasRun(), false);
      await command.destroy();
      assert.equal(hasRun(), true);
    });

    it("gets its environment and its input, and keeps its output", async () => {
      const value = 'a\\b\n"$HOME" it\'s ä';
      await command.up(args({ command: ["printenv", "VALUE"], environment: { OTHER: "1", VALUE: value } }));
      assert.equal(command.inState("stdout"), `${value}\n`);
      await command.up(args({ command: ["cat"], environment: { OTHER: "1" }, stdin: "\n\nlines\n" }));
      assert.equal(command.inState("stdout"), "\n\nlines\n");
      await command.up(args({ command: ["cat"], stdin: "x".repeat(20_000) }));
      assert.match(String(command.inState("stdout")), /^\(3616 characters are left out\)\nx{16384}$/);
    });

    it("does not run while what it creates exists, and again when that is gone", async () => {
      assert.equal(await command.up(args({ creates: "/etc/hostname" })), "created");
      assert.equal(hasRun(), false);
      assert.equal(await command.up(args({ creates: RAN })), "updated");
      assert.equal(files.exists(RAN), true);
      assert.equal(await command.preview(args({ creates: RAN })), "same");
      files.remove(RAN);
      assert.equal(await command.preview(args({ creates: RAN })), "updated");
      assert.equal(await command.up(args({ creates: RAN })), "updated");
      assert.equal(files.exists(RAN), true);
    });

    it("does not run while unless succeeds", async () => {
      await command.up(args({ unless: ["test", "-e", "/etc/hostname"] }));
      assert.equal(hasRun(), false);
      await command.up(args({ unless: ["test", "-e", "/nowhere"], triggers: [1] }));
      assert.equal(hasRun(), true);
    });

    it("that fails says what it wrote, stays in state as unfinished, and runs again", async () => {
      const failing = args({ command: ["cat", "/nowhere"] });
      await assert.rejects(command.up(failing), /Command "cat" of .* is not finished: cat on .* exit code 1.*No such file/);
      assert.equal(await command.preview(failing), "updated");
      await assert.rejects(command.up(failing), /No such file/);
      assert.equal(await command.up(args()), "updated");
      assert.equal(hasRun(), true);
      assert.equal(await command.preview(args()), "same");
    });

    for (const [what, wrong, says] of [
      ["no program", { command: [] }, /command must name a program/],
      ["an option as program", { command: ["-rf"] }, /command must begin with a program/],
      ["a NUL", { command: ["echo", "a\0"] }, /command\.1 must have no NUL/],
      ["a variable that is none", { environment: { "A B": "1" } }, /environment/],
      ["a relative path", { creates: "ran" }, /creates is not an absolute path/],
    ] as const) {
      it(`is refused in check with ${what}`, async () => {
        await assert.rejects(command.preview(args(wrong)), says);
      });
    }
  });
}

describe("VmCommand", () => {
  it("is not run twice when LXD loses sight of it, until the next up", async () => {
    const one = await startWithInstance("container");
    const command = new Managed(vmCommandLifecycle as never, "it");
    const args = { ...MACHINES.Vm.where(one), command: ["touch", RAN] };
    const files = MACHINES.Vm.files(one);
    one.lab.faults.add({ when: { path: /^\/1\.0\/operations\/.*\/wait/, nth: 1 }, effect: "forget-operation" });
    await assert.rejects(
      command.up(args),
      /It is not known whether touch has run in instance "web1".*The next pulumi up runs it again/,
    );
    assert.equal(files.exists(RAN), true);
    files.remove(RAN);
    assert.equal(await command.up(args), "updated");
    assert.equal(files.exists(RAN), true);
    await one.stop();
  });
});
