import assert from "node:assert/strict";
import type { CommandResult } from "../../../provider/lxd/instances/exec";
import type { FileDigest, Machine, MachineFile, NewFile, Step } from "../../../provider/machine/machine";
import { type Account, readAccounts } from "../../../provider/machine/users/accounts";
import {
  accountChanges,
  ensureAccess,
  ensureAccount,
  readUser,
  removeUser,
  requirePossible,
  requireRemovable,
  type UserSpec,
} from "../../../provider/machine/users/users";
import { Deadline } from "../../../provider/support/deadline";
import { CommandError } from "../../../provider/support/errors";

const alice: Account = { name: "alice", uid: 1000, gid: 1000, home: "/home/alice", shell: "/bin/bash" };
const spec: UserSpec = { name: "alice", shell: "/bin/bash", sudo: "none", authorizedKeysMode: "exclusive" };
const passwd = "root:x:0:0:root:/root:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/bash\n";
const aliceLine = "alice:x:1000:1000::/home/alice:/bin/bash\n";

/** A guest that only records commands and written files. */
class RecordingGuest implements Machine {
  readonly name = 'instance "web1" (LXD on root@bcn2)';
  readonly place = `in ${this.name}`;
  readonly files = new Map<string, MachineFile>();
  readonly commands: string[] = [];
  readonly written: string[] = [];
  /** Exit codes by program, one per run; then 0. */
  readonly exits: Record<string, number[]> = {};
  /** Output of every program. */
  output = "";
  /** Programs that it does not have. */
  readonly lacks: string[] = [];

  constructor(files: Record<string, string | Partial<MachineFile>> = {}) {
    const all: typeof files = { "/etc/passwd": passwd, "/etc/group": "root:x:0:\nadm:x:4:\n", ...files };
    for (const [path, given] of Object.entries(all)) {
      const file = typeof given === "string" ? { content: given } : given;
      this.files.set(path, { type: "file", uid: 0, gid: 0, mode: 0o644, content: "", ...file });
    }
  }

  run(argv: readonly string[], options: { as?: { uid: number; gid: number } } = {}): Promise<CommandResult> {
    this.commands.push(`${options.as === undefined ? "" : `[${options.as.uid}:${options.as.gid}] `}${argv.join(" ")}`);
    if (argv[0] === "useradd") {
      this.files.set("/etc/passwd", { type: "file", uid: 0, gid: 0, mode: 0o644, content: passwd + aliceLine });
      const group = (this.files.get("/etc/group")?.content ?? "").replace(/^adm:x:4:$/m, argv.includes("adm") ? "$&alice" : "$&");
      this.files.set("/etc/group", { type: "file", uid: 0, gid: 0, mode: 0o644, content: group });
    }
    const exitCode = this.exits[argv[0] ?? ""]?.shift() ?? 0;
    return Promise.resolve({ exitCode, stdout: this.output, stderr: exitCode === 0 ? "" : `${argv[0] ?? ""} says no` });
  }
  async runSteps(steps: readonly Step[], options: { as?: { uid: number; gid: number } }): Promise<void> {
    for (const { argv } of steps) {
      const { exitCode, stderr } = await this.run(argv, options);
      if (exitCode !== 0) {
        throw new CommandError(this.name, argv[0] ?? "", exitCode, stderr);
      }
    }
  }
  readFile(path: string): Promise<MachineFile | undefined> {
    return Promise.resolve(this.files.get(path));
  }
  digestFile(): Promise<FileDigest | undefined> {
    throw new Error("no user needs it");
  }
  createFile(path: string, file: NewFile): Promise<void> {
    this.written.push(`${path} ${file.uid}:${file.gid} ${file.mode.toString(8)} ${String(file.content)}`);
    this.files.set(path, { type: "file", ...file, content: String(file.content) });
    return Promise.resolve();
  }
  isProgram(path: string): Promise<boolean> {
    return Promise.resolve(!this.lacks.includes(path));
  }
  findProgram(name: string): Promise<string | undefined> {
    return Promise.resolve(this.lacks.includes(name) ? undefined : `/usr/bin/${name}`);
  }
  removeFile(path: string): Promise<void> {
    this.files.delete(path);
    return Promise.resolve();
  }
}

const removal = (home: "keep" | "remove") => ({ home, deadline: new Deadline(60, "removing"), warn: () => undefined });

describe("accountChanges", () => {
  for (const [what, wanted, argv] of [
    ["nothing when the user is as wanted", {}, []],
    ["nothing for groups in another order", { groups: ["b", "a", "b"] }, []],
    ["a shell", { shell: "/bin/sh" }, ["--shell", "/bin/sh"]],
    ["groups as a whole", { groups: ["a", "c"] }, ["--groups", "a,c"]],
    ["no groups", { groups: [] }, ["--groups", ""]],
    ["a uid", { uid: 2000 }, ["--uid", "2000"]],
    ["a home, whose files are moved before", { home: "/srv/alice" }, ["--home", "/srv/alice"]],
  ] as const) {
    it(`changes ${what}`, () => assert.deepEqual(accountChanges({ ...spec, ...wanted }, alice, ["a", "b"]), argv));
  }
});

describe("requirePossible", () => {
  const refusal = async (wanted: Partial<UserSpec>, guest = new RecordingGuest()): Promise<string> => {
    const changed: string[] = [];
    try {
      await requirePossible(guest, { ...spec, ...wanted }, await readAccounts(guest));
    } catch (error) {
      changed.push((error as Error).message);
    }
    assert.deepEqual(guest.written, []);
    assert.deepEqual(
      guest.commands.filter((command) => command !== "visudo --version"),
      [],
    );
    return changed.join();
  };

  it("accepts a valid user", async () => assert.equal(await refusal({ groups: ["adm"] }), ""));

  it("names every group that is missing", async () => {
    assert.match(
      await refusal({ groups: ["adm", "docker", "kvm"] }),
      /no group "docker", "kvm"\..*groupadd docker; groupadd kvm/,
    );
  });

  it("names the user who has the uid", async () => {
    assert.match(await refusal({ uid: 1001 }), /the uid 1001 belongs to the user "bob"/);
  });

  it("does not make a shared group the user's primary one", async () => {
    const guest = new RecordingGuest({ "/etc/group": "alice:x:500:bob\n" });
    assert.match(await refusal({}, guest), /a group with the name of the user's own group already exists.*groupdel alice/);
  });

  it("names a shell that does not exist", async () => {
    const guest = new RecordingGuest();
    guest.lacks.push("/bin/zsh");
    assert.match(await refusal({ shell: "/bin/zsh" }, guest), /there is no shell \/bin\/zsh\. Install it/);
  });

  it("requires sudo when sudo rules are wanted", async () => {
    const guest = new RecordingGuest();
    guest.lacks.push("visudo");
    assert.equal(await refusal({ sudo: "password" }, guest), ""); // it may be outside PATH
    guest.exits["visudo"] = [127];
    assert.match(
      await refusal({ sudo: "password" }, guest),
      /instance "web1".*has no sudo\. Install it there \(apt-get install sudo/,
    );
  });
});

describe("ensureAccount", () => {
  const ensure = async (guest: RecordingGuest, wanted: Partial<UserSpec> = {}) =>
    ensureAccount(guest, { ...spec, ...wanted }, await readAccounts(guest));

  it("creates a user with all its properties", async () => {
    const guest = new RecordingGuest();
    assert.deepEqual(await ensure(guest, { uid: 1000, groups: ["adm"] }), alice);
    assert.deepEqual(guest.commands, [
      "useradd --create-home --home-dir /home/alice --shell /bin/bash --user-group --uid 1000 --groups adm alice",
    ]);
  });

  it("gives a kept home back to its former user", async () => {
    const guest = new RecordingGuest({ "/home/alice": { type: "directory", uid: 1234 } });
    await ensure(guest);
    assert.match(guest.commands.join(), /--uid 1234 alice$/);
  });

  it("does not give away the home of another user", async () => {
    const guest = new RecordingGuest({ "/home/alice": { type: "directory", uid: 1001 } });
    await assert.rejects(ensure(guest), /\/home\/alice exists and belongs to the user "bob"\. Set another home/);
    assert.deepEqual(guest.commands, []);
  });

  it("changes nothing for a user that is as wanted", async () => {
    const home = { type: "directory", uid: 1000 } as const;
    const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine, "/home/alice": home });
    await ensure(guest);
    assert.deepEqual(guest.commands, []);
  });

  it("says what to do when the user is logged in", async () => {
    const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine });
    guest.exits["usermod"] = [8];
    await assert.rejects(ensure(guest, { uid: 5 }), /runs processes, so its uid or home cannot change now \(usermod says no\)/);
  });

  it("sets a new user's password and sudo rules with the same command", async () => {
    const guest = new RecordingGuest();
    await ensure(guest, { passwordHash: "$6$salt$hash", sudo: "passwordless" });
    assert.deepEqual(
      guest.commands.map((command) => command.split(" ")[0]),
      ["useradd", "chpasswd", "visudo", "mv"],
    );
    assert.deepEqual([...guest.files.keys()].sort(), ["/etc/group", "/etc/passwd"]);
  });

  it("lets the next step report why a new user did not get them", async () => {
    const guest = new RecordingGuest();
    guest.exits["chpasswd"] = [1];
    assert.deepEqual(await ensure(guest, { passwordHash: "$6$salt$hash" }), alice);
  });

  it("names what an instance without useradd needs", async () => {
    const guest = new RecordingGuest();
    guest.exits["useradd"] = [127];
    await assert.rejects(ensure(guest), /has no useradd.*shadow on Alpine/);
  });
});

describe("ensureAccess", () => {
  const HASH = "$6$salt$hash";
  const home = { "/home/alice": { type: "directory", uid: 1000, mode: 0o700 } } as const;

  it("passes a password hash in a file of root, never in a command, and removes the file", async () => {
    const guest = new RecordingGuest({ "/etc/shadow": "alice:!:1::::::\n" });
    await ensureAccess(guest, { ...spec, passwordHash: HASH }, alice, []);
    assert.deepEqual(guest.written, [`/run/.pulumi-user-alice 0:0 600 alice:${HASH}\n`]);
    assert.deepEqual(guest.commands, ["chpasswd --encrypted"]);
    assert.equal(guest.files.has("/run/.pulumi-user-alice"), false);
  });

  it("removes the file with the hash also when the password is refused", async () => {
    const guest = new RecordingGuest();
    guest.run = () => Promise.reject(new Error("no chpasswd"));
    await assert.rejects(ensureAccess(guest, { ...spec, passwordHash: HASH }, alice, []), /no chpasswd/);
    assert.equal(guest.files.has("/run/.pulumi-user-alice"), false);
  });

  it("changes the owner of a foreign .ssh to the user, and never that of a link's target", async () => {
    const guest = new RecordingGuest({ ...home, "/home/alice/.ssh": { type: "directory", uid: 0, mode: 0o755 } });
    await ensureAccess(guest, { ...spec, authorizedKeys: ["k1"] }, alice, []);
    assert.deepEqual(guest.commands.slice(0, -2), ["chown -h 1000:1000 /home/alice/.ssh"]);
    const loose = new RecordingGuest({ ...home, "/home/alice/.ssh": { type: "directory", uid: 1, mode: 0o775 } });
    await ensureAccess(loose, { ...spec, authorizedKeys: ["k1"] }, alice, []);
    assert.deepEqual(loose.commands.slice(0, -2), [
      "chown -h 1000:1000 /home/alice/.ssh",
      "[1000:1000] chmod 700 /home/alice/.ssh",
    ]);
  });

  it("writes keys as the user, so that a link in its home has no effect", async () => {
    const guest = new RecordingGuest(home);
    await ensureAccess(guest, { ...spec, authorizedKeys: ["k1"] }, alice, []);
    assert.deepEqual(guest.commands, [
      "[1000:1000] mkdir -m 700 /home/alice/.ssh",
      "[1000:1000] install -m 600 -T /run/.pulumi-user-alice /home/alice/.ssh/authorized_keys.pulumi-new",
      "[1000:1000] mv -f -T /home/alice/.ssh/authorized_keys.pulumi-new /home/alice/.ssh/authorized_keys",
    ]);
  });

  it("removes leftovers of an interrupted run: of keys, of rules or of a move of the home", async () => {
    const left = ["/run/.pulumi-user-alice", "/run/.pulumi-user-alice.out", "/etc/sudoers.d/.alice.pulumi-new"];
    const guest = new RecordingGuest(Object.fromEntries([...left, "/var/lib/pulumi-user-alice.home"].map((path) => [path, "x"])));
    await ensureAccess(guest, spec, alice, []);
    assert.deepEqual([...guest.files.keys()].sort(), ["/etc/group", "/etc/passwd"]);
  });

  it("does not change keys, password and sudo that are as wanted, or not managed", async () => {
    const guest = new RecordingGuest({
      ...home,
      "/home/alice/.ssh": { type: "directory", uid: 1000, mode: 0o700 },
      "/home/alice/.ssh/authorized_keys": "# mine\nk2\nk1\n",
      "/etc/shadow": `alice:${HASH}:1::::::\n`,
    });
    await ensureAccess(guest, { ...spec, passwordHash: HASH, authorizedKeys: ["k1", "k2"] }, alice, []);
    await ensureAccess(guest, spec, alice, []);
    assert.deepEqual([guest.commands, guest.written], [[], []]);
  });

  it("installs sudo rules only after visudo has accepted them", async () => {
    const guest = new RecordingGuest();
    guest.exits["visudo"] = [1];
    await assert.rejects(ensureAccess(guest, { ...spec, sudo: "password" }, alice, []), /visudo on .* failed with exit code 1/);
    assert.deepEqual(guest.commands, ["visudo -c -f /etc/sudoers.d/.alice.pulumi-new"]);
    assert.deepEqual([...guest.files.keys()].sort(), ["/etc/group", "/etc/passwd"]);
  });
});

describe("readUser", () => {
  it("reads shadow and authorized_keys only when they are managed", async () => {
    const read: string[] = [];
    const directory = { type: "directory", mode: 0o755 } as const;
    const guest = new RecordingGuest({
      "/etc/passwd": passwd + aliceLine,
      "/home/alice": directory,
      "/home/alice/.ssh": directory,
    });
    const readFile = guest.readFile.bind(guest);
    guest.readFile = (path) => {
      read.push(path);
      return readFile(path);
    };
    assert.equal(
      (await readUser(guest, "alice", { home: false, authorizedKeys: false, passwordHash: false }))?.account.uid,
      1000,
    );
    assert.deepEqual(read, ["/etc/passwd", "/etc/group", "/etc/sudoers.d/alice"]);
    await readUser(guest, "alice", { home: false, authorizedKeys: true, passwordHash: true });
    assert.deepEqual(read.slice(-4).sort(), [
      "/etc/shadow",
      "/home/alice",
      "/home/alice/.ssh",
      "/home/alice/.ssh/authorized_keys",
    ]);
  });
});

describe("removeUser", () => {
  const present = () => new RecordingGuest({ "/etc/passwd": passwd + aliceLine, "/etc/sudoers.d/alice": "x" });

  it("removes the sudo rules first, and keeps the home unless it is to be deleted", async () => {
    const guest = present();
    await removeUser(guest, "alice", removal("keep"));
    assert.equal(guest.files.has("/etc/sudoers.d/alice"), false);
    await removeUser(guest, "alice", removal("remove"));
    assert.deepEqual(guest.commands, ["userdel alice", "cat /proc/self/mountinfo", "userdel --remove alice"]);
  });

  it("refuses before the removal of a home that contains a mount, such as a directory of the host", async () => {
    const guest = present();
    guest.output = "36 35 98:0 /srv/precious /home/alice/my\\040data rw,noatime - ext4 /dev/sda1 rw\n";
    await assert.rejects(requireRemovable(guest, "alice", "remove"), {
      code: "refused",
      message:
        `The home of user "alice" in ${guest.name} has mounts ("/home/alice/my data"), and removing the home would delete the mounted files. ` +
        'Unmount them (in an instance, remove the disk device), or set homeOnDelete: "keep"',
    });
    assert.deepEqual(guest.commands, ["cat /proc/self/mountinfo"]);
  });

  it("ends the user's processes if there are any", async () => {
    const guest = present();
    guest.exits["userdel"] = [8, 8];
    guest.exits["pkill"] = [0, 1];
    await removeUser(guest, "alice", removal("keep"));
    assert.deepEqual(guest.commands, [
      "userdel alice",
      "pkill -KILL -U 1000",
      "userdel alice",
      "pkill -KILL -U 1000",
      "userdel alice",
    ]);
  });

  it("removes a user whose processes cannot be ended", async () => {
    const guest = present();
    guest.exits["userdel"] = [8];
    guest.exits["pkill"] = [127];
    await removeUser(guest, "alice", removal("keep"));
    assert.deepEqual(guest.commands, ["userdel alice", "pkill -KILL -U 1000", "userdel --force alice"]);
  });

  it("keeps a home that is not the user's own when it must force the removal, which ignores owners", async () => {
    for (const [uid, argv, told] of [
      [1000, "userdel --force --remove alice", /^$/],
      [0, "userdel --force alice", /its home was not: \/home\/alice does not belong to the user/],
    ] as const) {
      const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine, "/home/alice": { type: "directory", uid } });
      guest.exits["userdel"] = [8];
      guest.exits["pkill"] = [127];
      const warnings: string[] = [];
      await removeUser(guest, "alice", { ...removal("remove"), warn: (text) => void warnings.push(text) });
      assert.equal(guest.commands.at(-1), argv);
      assert.match(warnings.join(), told);
    }
  });

  it("refuses to remove a home that contains another user's", async () => {
    for (const home of ["/home/alice", "/home/alice/carol"]) {
      const guest = new RecordingGuest({ "/etc/passwd": `${passwd}${aliceLine}carol:x:1002:1002::${home}:/bin/sh\n` });
      const refusal = { code: "refused", message: /has the home of user "carol" in it .*set homeOnDelete: "keep"/ };
      await assert.rejects(requireRemovable(guest, "alice", "remove"), refusal);
      await assert.rejects(removeUser(guest, "alice", removal("remove")), refusal);
      assert.deepEqual([...new Set(guest.commands)], ["cat /proc/self/mountinfo"]);
    }
  });

  it("names a home that could not be removed", async () => {
    const guest = present();
    guest.exits["userdel"] = [12];
    const warnings: string[] = [];
    await removeUser(guest, "alice", { ...removal("remove"), warn: (text) => void warnings.push(text) });
    assert.match(warnings.join(), /"alice" was removed .* its home was not: userdel says no/);
  });

  it("succeeds when the user does not exist", async () => {
    const guest = new RecordingGuest();
    await removeUser(guest, "alice", removal("keep"));
    assert.deepEqual(guest.commands, []);
  });
});
