import assert from "node:assert/strict";
import { endingsIn, GUEST_COMMANDS, reportOn } from "../../../cli/verify/guest-commands";
import { runInInstance } from "../../../provider/lxd/instances/exec";
import { findInstance, setInstanceConfig, startInstance } from "../../../provider/lxd/instances/instances";
import { waitFor } from "../../../provider/lxd/instances/wait";
import { guestOf } from "../../../provider/machine/guest";
import type { Machine } from "../../../provider/machine/machine";
import { readAccounts } from "../../../provider/machine/users/accounts";
import { journalOf, requireIdle } from "../../../provider/machine/users/home";
import {
  ensureAccess,
  ensureAccount,
  findAccount,
  readUser,
  removeUser,
  requirePossible,
  type UserSpec,
} from "../../../provider/machine/users/users";
import { until } from "../../../provider/support/deadline";
import { isNotFound } from "../../../provider/support/errors";
import { type ContractLab, refused } from "./harness";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake ada";
const OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOtherOtherOtherOtherOtherOtherOtherOtherOth bob";
const HASH = "$6$contract$Q6nVhZgWb1L6n0b1kQv0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789abcdefghijklmnopqrstuvwxyzABCDEF.";

/** The inside of an instance: commands, files, and the users made of both. */
export function guestContract(lab: () => ContractLab): void {
  const guest = async (): Promise<Machine> => guestOf(await lab().work());
  const run = async (argv: string[], as?: { uid: number; gid: number }) =>
    (await guest()).run(argv, { allowFailure: true, ...(as === undefined ? {} : { as }) });

  describe("a stopped container", () => {
    it("shows its files and runs no commands", async () => {
      const work = await lab().work();
      const inside = await guest();
      assert.match((await inside.readFile("/etc/passwd"))?.content ?? "", /^root:x:0:0:/);
      assert.equal(await inside.readFile("/root/nope"), undefined);
      await inside.createFile("/root/made while it was off", { content: "x", uid: 0, gid: 0, mode: 0o600 });
      await inside.removeFile("/root/made while it was off");
      assert.equal(await inside.readFile("/root/made while it was off"), undefined);
      await refused(runInInstance(work, { argv: ["true"] }), 400, /not running/);
      await startInstance(await lab().work(), { status: "Stopped" });
      await waitFor(await lab().work(), [{ for: "cloud-init" }, { for: "command", command: ["true"] }]);
    });
  });

  describe("a command in an instance", () => {
    it("returns its output, exit code and errors", async () => {
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

    it("leaves none of its output on the host", async () => {
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

    it("whose output is not wanted leaves none to fetch or remove", async () => {
      const work = await lab().work();
      const silent = { output: "none", allowFailure: true } as const;
      assert.deepEqual(await runInInstance(work, { ...silent, argv: ["true"] }), { exitCode: 0, stdout: "", stderr: "" });
      assert.equal((await runInInstance(work, { ...silent, argv: ["false"] })).exitCode, 1);
      assert.equal((await runInInstance(work, { ...silent, argv: ["no-such-program"] })).exitCode, 127);
    });

    it("is refused in an instance that does not exist", async () => {
      await refused(runInInstance(await lab().work("nope"), { argv: ["true"] }), 404, /Instance not found/);
    });
  });

  describe("a file in an instance", () => {
    it("gets owner and mode from the request that creates it, whatever was there before", async () => {
      const inside = await guest();
      for (const file of [
        { content: "one", uid: 5, gid: 6, mode: 0o640 },
        { content: "", uid: 0, gid: 0, mode: 0o600 },
        { content: "ä€", uid: 7, gid: 0, mode: 0o755 },
      ]) {
        await inside.createFile("/root/f1", file);
        assert.deepEqual(await inside.readFile("/root/f1"), { type: "file", ...file });
      }
    });

    it("is not written through a link at its path", async () => {
      const inside = await guest();
      await run(["ln", "-s", "/root/f1", "/root/link"]);
      const before = await inside.readFile("/root/f1");
      await inside.createFile("/root/link", { content: "own", uid: 0, gid: 0, mode: 0o600 });
      assert.equal((await inside.readFile("/root/link"))?.type, "file");
      assert.deepEqual(await inside.readFile("/root/f1"), before);
      await inside.removeFile("/root/link");
    });

    it("may be a link, which shows its target path and not the target", async () => {
      const inside = await guest();
      for (const [target, absolute] of [
        ["f1", "/root/f1"],
        ["/nowhere/at all", "/nowhere/at all"],
      ] as const) {
        await run(["ln", "-s", target, "/root/link"]);
        const { type, content } = (await inside.readFile("/root/link")) ?? {};
        assert.deepEqual([type, content], ["symlink", absolute]);
        await inside.removeFile("/root/link");
        assert.equal(await inside.readFile("/root/link"), undefined);
      }
      assert.equal((await inside.readFile("/root/f1"))?.type, "file");
    });

    it("may have any name", async () => {
      const inside = await guest();
      for (const name of [
        "a b",
        "-rf",
        "it's",
        '"$HOME"',
        "*",
        "a\\b",
        "line\nbreak",
        "ä€😀",
        "x".repeat(255),
        "%2F",
        "?a=b&c",
      ]) {
        const file = { content: name, uid: 0, gid: 0, mode: 0o600 };
        await inside.createFile(`/root/${name}`, file);
        assert.deepEqual(await inside.readFile(`/root/${name}`), { type: "file", ...file }, JSON.stringify(name));
        await inside.removeFile(`/root/${name}`);
        assert.equal(await inside.readFile(`/root/${name}`), undefined, JSON.stringify(name));
      }
    });

    it("may be larger than a packet, and one of many requested at once", async () => {
      const inside = await guest();
      const sizes = [1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 1_000_000];
      const texts = sizes.map((size) => "0123456789abcdef\n".repeat(size / 17 + 1).slice(0, size));
      await Promise.all(
        texts.map((content, index) => inside.createFile(`/root/big${index}`, { content, uid: 0, gid: 0, mode: 0o600 })),
      );
      const read = await Promise.all(texts.map((_, index) => inside.readFile(`/root/big${index}`)));
      assert.ok(read.every((file, index) => file?.content === texts[index]));
      await Promise.all(texts.map((_, index) => inside.removeFile(`/root/big${index}`)));
    });

    it("does not exist below a path that is not a directory", async () => {
      const inside = await guest();
      assert.equal(await inside.readFile("/root/f1/x"), undefined);
      assert.equal(await inside.readFile("/root/f1/x/y"), undefined);
      assert.equal(await inside.readFile("/root/nope/x/y"), undefined);
      await inside.removeFile("/root/f1/x");
      await refused(inside.createFile("/root/f1/x", { content: "", uid: 0, gid: 0, mode: 0o600 }), 500, /./);
    });

    it("of an instance that does not exist is an error, not a missing file", async () => {
      const nowhere = guestOf(await lab().work("nope"));
      await refused(nowhere.readFile("/etc/passwd"), 404, /Instance not found/);
      await refused(nowhere.removeFile("/etc/passwd"), 404, /Instance not found/);
    });

    it("can be reached through another member of the cluster", async () => {
      const there = guestOf({ ...(await lab().work()), lxd: await lab().lxd("secondary") });
      await there.createFile("/root/f3", { content: "three", uid: 5, gid: 6, mode: 0o640 });
      assert.deepEqual(await there.readFile("/root/f3"), await (await guest()).readFile("/root/f3"));
      await there.removeFile("/root/f3");
    });

    it("is a program when it is executable, or links to one", async () => {
      const inside = await guest();
      await run(["ln", "-s", "/bin/sh", "/root/link"]);
      await run(["ln", "-s", "/nowhere", "/root/dead"]);
      for (const [path, expected] of [
        ["/bin/sh", true],
        ["/root/link", true],
        ["/root/dead", false],
        ["/etc/passwd", false],
        ["/etc", false],
        ["/root/nope", false],
        ["/etc/passwd/x", false],
      ] as const) {
        assert.equal(await inside.isProgram(path), expected, path);
      }
      assert.match((await inside.findProgram("visudo")) ?? "", /^\/.*\/visudo$/);
      assert.equal(await inside.findProgram("no-such-program"), undefined);
      await Promise.all(["link", "dead"].map((name) => inside.removeFile(`/root/${name}`)));
    });

    it("that is missing is reported so, and removed without an error", async () => {
      const inside = await guest();
      assert.equal(await inside.readFile("/root/nope"), undefined);
      await inside.removeFile("/root/f1");
      await inside.removeFile("/root/f1");
      await refused(inside.createFile("/root/no/f", { content: "", uid: 0, gid: 0, mode: 0o600 }), 404, /not exist|no such/i);
    });

    it("may be a directory, which shows its owner and mode and is removed only when empty", async () => {
      const inside = await guest();
      await run(["mkdir", "-m", "700", "/root/d"]);
      const { type, mode, uid, content } = (await inside.readFile("/root/d")) ?? {};
      assert.deepEqual({ type, mode, uid, content }, { type: "directory", mode: 0o700, uid: 0, content: '{"metadata":[]}' });
      await inside.createFile("/root/d/x", { content: "", uid: 0, gid: 0, mode: 0o600 });
      await refused(inside.removeFile("/root/d"), 500, /./);
      for (let index = 0; index < 250; index += 1) {
        await inside.createFile(`/root/d/ä ${index}`, { content: "", uid: 0, gid: 0, mode: 0o600 });
      }
      const { metadata: names } = JSON.parse((await inside.readFile("/root/d"))?.content ?? "") as { metadata: string[] };
      assert.deepEqual(names, [...names].sort());
      assert.deepEqual([names.length, names.includes("x"), names.includes("ä 249")], [251, true, true]);
      await Promise.all(names.map((name) => inside.removeFile(`/root/d/${name}`)));
      await inside.removeFile("/root/d");
    });
  });

  describe("steps in an instance", () => {
    const scratch = "/run/.contract";
    const words = ["a b", "it's", '"$HOME"', "`id`", "*", "", "-n", "line\nbreak", "ä;|&<>()#~!", "${1}", "\\\\"];

    it("get their arguments and input unchanged, and end when one of them fails", async () => {
      const inside = await guest();
      const text = { content: "one\ntwo\n", uid: 0, gid: 0, mode: 0o600 };
      await inside.createFile("/root/in", text);
      await inside.runSteps(
        [
          { argv: ["mkdir", "-p", ...words.slice(0, 3).map((word) => `/root/steps/${word}`)] },
          { argv: ["test", "-e", "/root/steps/it's"] },
          { argv: ["mv", "-f", "-T", "/root/in", "/root/steps/in"] },
        ],
        { scratch },
      );
      assert.equal((await inside.readFile("/root/steps/in"))?.content, text.content);
      assert.equal((await inside.readFile('/root/steps/"$HOME"'))?.type, "directory");
      const failing = inside.runSteps(
        [
          { argv: ["rm", "-f", "/root/steps/in"] },
          { argv: ["cat", ...words.map((word) => `/nonexistent/${word}`)] },
          { argv: ["rm", "-rf", "/root/steps"] },
        ],
        { scratch },
      );
      await assert.rejects(failing, { code: "command", program: "cat", exitCode: 1, message: /No such file or directory/ });
      assert.equal(await inside.readFile("/root/steps/in"), undefined);
      assert.equal((await inside.readFile("/root/steps"))?.type, "directory");
      await assert.rejects(inside.runSteps([{ argv: ["no-such-program"] }], { scratch }), { code: "command", exitCode: 127 });
      await run(["rm", "-rf", "/root/steps"]);
    });

    it("run as another user, and leave nothing behind", async () => {
      const inside = await guest();
      await assert.rejects(inside.runSteps([{ argv: ["mkdir", "/root/denied"] }], { scratch, as: { uid: 1, gid: 1 } }), {
        code: "command",
        program: "mkdir",
      });
      await inside.runSteps([{ argv: ["mkdir", "/tmp/of-daemon"] }], { scratch, as: { uid: 1, gid: 1 } });
      assert.equal((await inside.readFile("/tmp/of-daemon"))?.uid, 1);
      await inside.removeFile("/tmp/of-daemon");
      assert.equal(await inside.readFile(scratch), undefined);
    });
  });

  describe("a report on commands in an instance", () => {
    it("has the exit code and the output of each", async () => {
      const commands = [["echo", "a b", "it's"], ["false"], ["no-such-program"], ["cat", "/nonexistent"], ["id", "-u"]];
      assert.deepEqual(endingsIn((await run(reportOn(commands))).stdout), [
        { exitCode: 0, stdout: "a b it's" },
        { exitCode: 1, stdout: "" },
        { exitCode: 127, stdout: "" },
        { exitCode: 1, stdout: "" },
        { exitCode: 0, stdout: "0" },
      ]);
    });

    it("tells the routes and the failed units", async () => {
      const [routes, units] = endingsIn((await run(reportOn([GUEST_COMMANDS.routes, GUEST_COMMANDS.failedUnits]))).stdout);
      assert.match(routes?.stdout ?? "", /^Iface\tDestination\tGateway \tFlags\t/);
      assert.equal(units?.exitCode, 0);
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
    const everything = { home: false, authorizedKeys: true, passwordHash: true };
    const ensure = async (spec: UserSpec): Promise<void> => {
      const inside = await guest();
      const accounts = await readAccounts(inside);
      await requirePossible(inside, spec, accounts);
      await ensureAccess(inside, spec, await ensureAccount(inside, spec, accounts), []);
    };

    it("is created with home, groups, sudo, keys and password", async () => {
      assert.equal(await readUser(await guest(), "ada", everything), undefined);
      await ensure(ada);
      const user = await readUser(await guest(), "ada", everything);
      assert.deepEqual(
        { ...user, account: { home: user?.account.home, shell: user?.account.shell } },
        {
          account: { home: "/home/ada", shell: "/bin/bash" },
          home: undefined,
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

    for (const path of ["/home/ada/.ssh/authorized_keys", "/home/ada/.ssh"]) {
      for (const spoil of [
        ["chmod", "777"],
        ["chmod", "770"],
        ["chown", "daemon"],
        ["chown", "4711"],
      ]) {
        it(`has no keys after ${spoil.join(" ")} ${path}, and has them again after a repair`, async () => {
          assert.equal((await run([...spoil, path])).exitCode, 0);
          assert.deepEqual((await readUser(await guest(), "ada", everything))?.authorizedKeys, []);
          await ensure(ada);
          assert.deepEqual((await readUser(await guest(), "ada", everything))?.authorizedKeys, [KEY]);
          const { stdout } = await run(["stat", "-c", "%a %U", "/home/ada/.ssh", "/home/ada/.ssh/authorized_keys"]);
          assert.equal(stdout, "700 ada\n600 ada\n");
        });
      }
    }

    it("whose home others can write to has no keys, and the refusal says so", async () => {
      const mode = (await run(["stat", "-c", "%a", "/home/ada"])).stdout.trim();
      await run(["chmod", "777", "/home/ada"]);
      assert.deepEqual((await readUser(await guest(), "ada", everything))?.authorizedKeys, []);
      await assert.rejects(ensure(ada), /\/home\/ada belongs to user "ada", mode 777: others can write to it.*chmod go-w/);
      await run(["chmod", mode, "/home/ada"]);
      assert.deepEqual((await readUser(await guest(), "ada", everything))?.authorizedKeys, [KEY]);
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

    it("moves with its home and to another uid, and back", async () => {
      await run(["touch", "/home/ada/letter"], { uid: 1500, gid: 1500 });
      for (const [home, uid] of [
        ["/srv/ada", 1500],
        ["/srv/ada", 1501],
        ["/home/ada", 1500],
      ] as const) {
        await ensure({ ...ada, home, uid });
        const account = (await readUser(await guest(), "ada", everything))?.account;
        assert.deepEqual([account?.home, account?.uid], [home, uid]);
        const { stdout } = await run(["stat", "-c", "%u", home, `${home}/letter`, `${home}/.ssh/authorized_keys`]);
        assert.equal(stdout, `${uid}\n${uid}\n${uid}\n`);
      }
      assert.equal(await (await guest()).readFile("/srv/ada"), undefined);
    });

    it("resumes or reverts a move that ended between the files and passwd", async () => {
      const inside = await guest();
      await run(["mv", "-T", "/home/ada", "/srv/ada"]);
      await ensure({ ...ada, home: "/srv/ada" });
      assert.equal((await readUser(inside, "ada", everything))?.account.home, "/srv/ada");
      await inside.createFile(journalOf("ada"), { uid: 0, gid: 0, mode: 0o600, content: "/home/ada\n/srv/ada\n" });
      await run(["mv", "-T", "/srv/ada", "/home/ada"]);
      await ensure({ ...ada, home: "/srv/ada" });
      assert.equal((await inside.readFile("/srv/ada/letter"))?.uid, 1500);
      await ensure({ ...ada, home: "/home/ada" });
      assert.equal((await inside.readFile("/home/ada/letter"))?.uid, 1500);
      assert.equal(await inside.readFile(journalOf("ada")), undefined);
    });

    it("keeps its home when it cannot be moved in one step", async () => {
      await run(["mkdir", "-p", "/srv/full/x"]);
      await assert.rejects(ensure({ ...ada, home: "/srv/full" }), /\/srv\/full exists and is not empty/);
      await assert.rejects(ensure({ ...ada, home: "/srv/no/ada" }), /there is no directory \/srv\/no/);
      await assert.rejects(ensure({ ...ada, home: "/run/ada" }), /that is on another file system \(\/run\)/);
      await assert.rejects(ensure({ ...ada, home: "/home/ada/x" }), /that is inside of it/);
      assert.equal((await (await guest()).readFile("/home/ada/letter"))?.uid, 1500);
      await run(["rm", "-r", "/srv/full"]);
    });

    it("that runs a process cannot get another home or uid", async () => {
      const spec = { ...ada, home: "/srv/ada" };
      const sleep = run(["sleep", "600"], { uid: 1500, gid: 1500 });
      await until(lab().deadline(), async () =>
        (await run(["find", "/proc", "-maxdepth", "1", "-user", "1500"])).stdout === "" ? undefined : true,
      );
      const account = findAccount(await readAccounts(await guest()), "ada");
      assert.ok(account);
      await assert.rejects(requireIdle(await guest(), spec, account), /"ada" .* runs processes.*\(process \d+\)/);
      await assert.rejects(ensure(spec), /"ada" .* runs processes/); // by usermod; the files are moved back
      assert.equal((await (await guest()).readFile("/home/ada/letter"))?.uid, 1500);
      assert.equal((await run(["pkill", "-KILL", "-U", "1500"])).exitCode, 0);
      assert.equal((await sleep).exitCode, 137);
      await requireIdle(await guest(), spec, account);
    });

    it("is refused with an invalid group, shell or uid", async () => {
      await assert.rejects(ensure({ ...ada, name: "bob", groups: ["nope"] }), /there is no group "nope"/);
      await assert.rejects(ensure({ ...ada, name: "bob", shell: "/bin/nope" }), /there is no shell \/bin\/nope/);
      await assert.rejects(ensure({ ...ada, name: "bob", uid: 1500 }), /the uid 1500 belongs to the user "ada"/);
      assert.equal(await readUser(await guest(), "bob", everything), undefined);
    });

    it("becomes owner of a home that was kept, and is removed with it", async () => {
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
      const work = await lab().work();
      await work.lxd.change("PATCH", "/1.0/instances/c1", { body: { description: "kept", config: {} } });
      await setInstanceConfig(work, { "user.contract": "marked" });
      const found = (await findInstance(await lab().work()))?.value;
      assert.deepEqual([found?.description, found?.config["user.contract"]], ["kept", "marked"]);
    });
  });
}
