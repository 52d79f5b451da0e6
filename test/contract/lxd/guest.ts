import assert from "node:assert/strict";
import { readAccounts } from "../../../provider/guest/accounts";
import { type Guest, guestOf } from "../../../provider/guest/guest";
import { markInstance } from "../../../provider/guest/instance";
import { ensureAccess, ensureAccount, readUser, removeUser, requirePossible, type UserSpec } from "../../../provider/guest/users";
import { isNotRunning, runInInstance } from "../../../provider/lxd/instances/exec";
import { readInstanceFile, removeInstanceFile } from "../../../provider/lxd/instances/files";
import { findInstance, startInstance } from "../../../provider/lxd/instances/instances";
import { waitFor } from "../../../provider/lxd/instances/wait";
import { isNotFound } from "../../../provider/support/errors";
import { type ContractLab, refused } from "./harness";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake ada";
const OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOtherOtherOtherOtherOtherOtherOtherOtherOth bob";
const HASH = "$6$contract$Q6nVhZgWb1L6n0b1kQv0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789abcdefghijklmnopqrstuvwxyzABCDEF.";

/** The inside of an instance: commands, files, and the users made of both. */
export function guestContract(lab: () => ContractLab): void {
  const guest = async (): Promise<Guest> => guestOf(await lab().lxd(), { project: lab().project, instance: lab().instance });
  const run = async (argv: string[], as?: { uid: number; gid: number }) =>
    (await guest()).run(argv, { allowFailure: true, ...(as === undefined ? {} : { as }) });

  describe("a stopped container", () => {
    it("shows its files and runs no commands", async () => {
      const work = await lab().work();
      const file = await readInstanceFile(work.lxd, { project: lab().project, instance: lab().instance, path: "/etc/passwd" });
      assert.match(file?.content ?? "", /^root:x:0:0:/);
      await assert.rejects(
        runInInstance(work.lxd, { project: lab().project, instance: lab().instance, argv: ["true"] }),
        isNotRunning,
      );
      await startInstance(await lab().work(), { status: "Stopped" });
      await waitFor(await lab().work(), [{ for: "cloud-init" }, { for: "command", command: ["true"] }]);
    });
  });

  describe("a command in an instance", () => {
    it("answers its output, its exit code and its errors", async () => {
      assert.deepEqual(await run(["echo", "a b", "it's"]), { exitCode: 0, stdout: "a b it's\n", stderr: "" });
      assert.equal((await run(["false"])).exitCode, 1);
      const missing = await run(["cat", "/nonexistent"]);
      assert.deepEqual([missing.exitCode, missing.stdout], [1, ""]);
      assert.match(missing.stderr, /No such file or directory/);
      assert.equal((await run(["no-such-program"])).exitCode, 127);
      assert.equal((await run(["/etc/passwd"])).exitCode, 126);
    });

    it("runs as root in LXD's environment, or as another user", async () => {
      assert.equal((await run(["id", "-u"])).stdout, "0\n");
      assert.match((await run(["env"])).stdout, /^HOME=\/root$/m);
      assert.equal((await run(["id", "-u"], { uid: 1, gid: 1 })).stdout, "1\n");
      assert.equal((await run(["mkdir", "/root/denied"], { uid: 1, gid: 1 })).exitCode, 1);
    });

    it("leaves nothing of its output on the host", async () => {
      const { lxd } = await lab().work();
      const started = await lxd.begin("POST", "/1.0/instances/c1/exec", {
        body: { command: ["echo", "x"], "record-output": true, interactive: false, "wait-for-websocket": false },
      });
      assert.ok(started);
      const { output } = (await lxd.finish(started)).metadata as { output: Record<string, string> };
      const url = output["1"] ?? "";
      assert.equal((await lxd.getRaw(url)).body.toString(), "x\n");
      await lxd.change("DELETE", url);
      await assert.rejects(lxd.change("DELETE", url), isNotFound);
    });

    it("is refused in an instance that is not there", async () => {
      const { lxd } = await lab().work();
      await refused(runInInstance(lxd, { project: lab().project, instance: "nope", argv: ["true"] }), 404, /Instance not found/);
    });
  });

  describe("a file in an instance", () => {
    const at = (path: string) => ({ project: lab().project, instance: lab().instance, path });

    it("has its owner and mode from the request that makes it, and keeps them when it is written again", async () => {
      const inside = await guest();
      await inside.createFile("/root/f1", { content: "one", uid: 5, gid: 6, mode: 0o640 });
      assert.deepEqual(await inside.readFile("/root/f1"), { type: "file", content: "one", uid: 5, gid: 6, mode: 0o640 });
      await inside.createFile("/root/f1", { content: "two", uid: 0, gid: 0, mode: 0o600 });
      assert.deepEqual(await inside.readFile("/root/f1"), { type: "file", content: "two", uid: 5, gid: 6, mode: 0o640 });
    });

    it("is replaced with new owner and mode, unless the new one is not accepted", async () => {
      const inside = await guest();
      const file = { content: "three", uid: 0, gid: 0, mode: 0o600 };
      await inside.replaceFile("/root/f1", file);
      assert.deepEqual(await inside.readFile("/root/f1"), { type: "file", ...file });
      const judge = inside.replaceFile("/root/f1", { ...file, content: "four" }, async (path) => {
        assert.equal((await inside.readFile(path))?.content, "four");
        throw new Error("not accepted");
      });
      await assert.rejects(judge, /not accepted/);
      assert.equal((await inside.readFile("/root/f1"))?.content, "three");
      assert.equal(await inside.readFile("/root/.f1.pulumi-new"), undefined);
    });

    it("that is not there is told so, and removed without complaint", async () => {
      const { lxd } = await lab().work();
      assert.equal(await readInstanceFile(lxd, at("/root/nope")), undefined);
      await removeInstanceFile(lxd, at("/root/f1"));
      await removeInstanceFile(lxd, at("/root/f1"));
      await refused(
        (await guest()).createFile("/root/no/f", { content: "", uid: 0, gid: 0, mode: 0o600 }),
        404,
        /Not Found|not found/i,
      );
    });

    it("may be a directory, which shows its owner and mode and goes only when it is empty", async () => {
      const inside = await guest();
      await run(["mkdir", "-m", "700", "/root/d"]);
      const { type, mode, uid } = (await inside.readFile("/root/d")) ?? {};
      assert.deepEqual({ type, mode, uid }, { type: "directory", mode: 0o700, uid: 0 });
      await inside.createFile("/root/d/x", { content: "", uid: 0, gid: 0, mode: 0o600 });
      await refused(inside.removeFile("/root/d"), 500, /directory not empty/);
      await inside.removeFile("/root/d/x");
      await inside.removeFile("/root/d");
    });
  });

  describe("a user in an instance", () => {
    const ada: UserSpec = {
      name: "ada",
      shell: "/bin/bash",
      groups: ["sudo"],
      sudo: "passwordless",
      authorizedKeys: [KEY],
      authorizedKeysMode: "exclusive",
      passwordHash: HASH,
    };
    const everything = { authorizedKeys: true, passwordHash: true };
    const ensure = async (spec: UserSpec): Promise<void> => {
      const inside = await guest();
      const accounts = await readAccounts(inside);
      await requirePossible(inside, spec, accounts);
      await ensureAccess(inside, spec, await ensureAccount(inside, spec, accounts), []);
    };

    it("is made with home, groups, sudo, keys and password", async () => {
      assert.equal(await readUser(await guest(), "ada", everything), undefined);
      await ensure(ada);
      const user = await readUser(await guest(), "ada", everything);
      assert.deepEqual(
        { ...user, account: { home: user?.account.home, shell: user?.account.shell } },
        {
          account: { home: "/home/ada", shell: "/bin/bash" },
          groups: ["sudo"],
          sudo: "passwordless",
          authorizedKeys: [KEY],
          passwordHash: HASH,
        },
      );
      const owner = String(user?.account.uid);
      const { stdout } = await run(["stat", "-c", "%a %u", "/home/ada/.ssh", "/home/ada/.ssh/authorized_keys"]);
      assert.equal(stdout, `700 ${owner}\n600 ${owner}\n`);
    });

    it("is changed in place", async () => {
      await ensure({
        ...ada,
        uid: 1500,
        shell: "/bin/sh",
        groups: ["adm"],
        sudo: "none",
        authorizedKeys: [OTHER_KEY],
        passwordHash: undefined,
      });
      const user = await readUser(await guest(), "ada", everything);
      assert.deepEqual(
        [user?.account.uid, user?.account.shell, user?.groups, user?.sudo, user?.authorizedKeys, user?.passwordHash],
        [1500, "/bin/sh", ["adm"], "none", [OTHER_KEY], HASH],
      );
    });

    it("is refused with a group, a shell or a number that cannot be", async () => {
      await assert.rejects(ensure({ ...ada, name: "bob", groups: ["nope"] }), /it has no group "nope"/);
      await assert.rejects(ensure({ ...ada, name: "bob", shell: "/bin/nope" }), /it has no shell \/bin\/nope/);
      await assert.rejects(ensure({ ...ada, name: "bob", uid: 1500 }), /the uid 1500 belongs to the user "ada"/);
      assert.equal(await readUser(await guest(), "bob", everything), undefined);
    });

    it("gets the owner of a home that was kept, and is removed with it", async () => {
      const options = { deadline: lab().deadline(), warn: () => undefined };
      await removeUser(await guest(), "ada", { ...options, home: "keep" });
      assert.equal(await readUser(await guest(), "ada", everything), undefined);
      await ensure(ada);
      assert.equal((await readUser(await guest(), "ada", everything))?.account.uid, 1500);
      await removeUser(await guest(), "ada", { ...options, home: "remove" });
      await removeUser(await guest(), "ada", { ...options, home: "remove" });
      assert.equal(await (await guest()).readFile("/home/ada"), undefined);
      assert.equal(await (await guest()).readFile("/etc/sudoers.d/ada"), undefined);
    });

    it("can be marked in the instance's config, which keeps its description", async () => {
      const work = { ...(await lab().work()), instance: lab().instance };
      await work.lxd.change("PATCH", "/1.0/instances/c1", { body: { description: "kept", config: {} } });
      await markInstance(work, { "user.contract": "marked" });
      const found = (await findInstance(await lab().work()))?.value;
      assert.deepEqual([found?.description, found?.config["user.contract"]], ["kept", "marked"]);
    });
  });
}
