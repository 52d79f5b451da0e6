import assert from "node:assert/strict";
import { type Account, readAccounts } from "../../../provider/guest/accounts";
import type { Guest, NewFile } from "../../../provider/guest/guest";
import {
  accountChanges,
  ensureAccess,
  ensureAccount,
  readUser,
  removeUser,
  requirePossible,
  type UserSpec,
} from "../../../provider/guest/users";
import type { CommandResult } from "../../../provider/lxd/instances/exec";
import type { InstanceFile } from "../../../provider/lxd/instances/files";
import { Deadline } from "../../../provider/support/deadline";

const alice: Account = { name: "alice", uid: 1000, gid: 1000, home: "/home/alice", shell: "/bin/bash" };
const spec: UserSpec = { name: "alice", shell: "/bin/bash", sudo: "none", authorizedKeysMode: "exclusive" };
const passwd = "root:x:0:0:root:/root:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/bash\n";
const aliceLine = "alice:x:1000:1000::/home/alice:/bin/bash\n";

/** A guest that only records: what is run in it, and the files that are written. */
class RecordingGuest implements Guest {
  readonly name = 'instance "web1" (LXD on root@bcn2)';
  readonly files = new Map<string, InstanceFile>();
  readonly commands: string[] = [];
  readonly written: string[] = [];
  /** Exit codes by program, one per run; then 0. */
  readonly exits: Record<string, number[]> = {};

  constructor(files: Record<string, string | Partial<InstanceFile>> = {}) {
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
    return Promise.resolve({ exitCode, stdout: "", stderr: exitCode === 0 ? "" : `${argv[0] ?? ""} says no` });
  }
  readFile(path: string): Promise<InstanceFile | undefined> {
    return Promise.resolve(this.files.get(path));
  }
  createFile(path: string, file: NewFile): Promise<void> {
    this.written.push(`${path} ${file.uid}:${file.gid} ${file.mode.toString(8)} ${file.content}`);
    this.files.set(path, { type: "file", ...file });
    return Promise.resolve();
  }
  async replaceFile(path: string, file: NewFile, accept?: (temporaryPath: string) => Promise<void>): Promise<void> {
    await accept?.(`${path}.new`);
    await this.createFile(path, file);
  }
  removeFile(path: string): Promise<void> {
    this.files.delete(path);
    return Promise.resolve();
  }
}

const removal = (home: "keep" | "remove") => ({ home, deadline: new Deadline(5, "removing"), warn: () => undefined });

describe("accountChanges", () => {
  for (const [what, wanted, argv] of [
    ["nothing when all is as wanted", {}, []],
    ["nothing for groups in another order", { groups: ["b", "a", "b"] }, []],
    ["a shell", { shell: "/bin/sh" }, ["--shell", "/bin/sh"]],
    ["groups as a whole", { groups: ["a", "c"] }, ["--groups", "a,c"]],
    ["no groups", { groups: [] }, ["--groups", ""]],
    ["a number", { uid: 2000 }, ["--uid", "2000"]],
    ["a home with what is in it", { home: "/srv/alice" }, ["--home", "/srv/alice", "--move-home"]],
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
      guest.commands.filter((command) => !/^(test|visudo --version)/.test(command)),
      [],
    );
    return changed.join();
  };

  it("has nothing against a user that can be", async () => assert.equal(await refusal({ groups: ["adm"] }), ""));

  it("names every group that is missing", async () => {
    assert.match(
      await refusal({ groups: ["adm", "docker", "kvm"] }),
      /has no group "docker", "kvm"\..*groupadd docker; groupadd kvm/,
    );
  });

  it("names the user who has the uid", async () => {
    assert.match(await refusal({ uid: 1001 }), /the uid 1001 belongs to the user "bob"/);
  });

  it("does not make a group of others the user's own", async () => {
    const guest = new RecordingGuest({ "/etc/group": "alice:x:500:bob\n" });
    assert.match(await refusal({}, guest), /a group of that name already.*groupdel alice/);
  });

  it("names a shell that is not there", async () => {
    const guest = new RecordingGuest();
    guest.exits["test"] = [1];
    assert.match(await refusal({ shell: "/bin/zsh" }, guest), /it has no shell \/bin\/zsh\. Install it/);
  });

  it("asks for sudo to be installed when it is wanted", async () => {
    const guest = new RecordingGuest();
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

  it("makes a user with all it is to have", async () => {
    const guest = new RecordingGuest();
    assert.deepEqual(await ensure(guest, { uid: 1000, groups: ["adm"] }), alice);
    assert.deepEqual(guest.commands, [
      "useradd --create-home --home-dir /home/alice --shell /bin/bash --user-group --uid 1000 --groups adm alice",
    ]);
  });

  it("gives a kept home back to the user it belonged to", async () => {
    const guest = new RecordingGuest({ "/home/alice": { type: "directory", uid: 1234 } });
    await ensure(guest);
    assert.match(guest.commands.join(), /--uid 1234 alice$/);
  });

  it("does not give away the home of another user", async () => {
    const guest = new RecordingGuest({ "/home/alice": { type: "directory", uid: 1001 } });
    await assert.rejects(ensure(guest), /\/home\/alice exists and belongs to the user "bob"\. Give another home/);
    assert.deepEqual(guest.commands, []);
  });

  it("changes nothing about a user that is as wanted", async () => {
    const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine });
    await ensure(guest);
    assert.deepEqual(guest.commands, []);
  });

  it("tells how to go on when the user is logged in", async () => {
    const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine });
    guest.exits["usermod"] = [8];
    await assert.rejects(ensure(guest, { uid: 5 }), /runs processes, so its uid or home cannot change now \(usermod says no\)/);
  });

  it("tells what an instance without useradd needs", async () => {
    const guest = new RecordingGuest();
    guest.exits["useradd"] = [127];
    await assert.rejects(ensure(guest), /has no useradd.*shadow on Alpine/);
  });
});

describe("ensureAccess", () => {
  const HASH = "$6$salt$hash";

  it("hands a password hash on in a file of root, never in a command, and removes the file", async () => {
    const guest = new RecordingGuest({ "/etc/shadow": "alice:!:1::::::\n" });
    await ensureAccess(guest, { ...spec, passwordHash: HASH }, alice, []);
    assert.deepEqual(guest.written, [`/run/.pulumi-user-alice 0:0 600 alice:${HASH}\n`]);
    assert.deepEqual(guest.commands, ['sh -c exec chpasswd --encrypted < "$1" sh /run/.pulumi-user-alice']);
    assert.equal(guest.files.has("/run/.pulumi-user-alice"), false);
  });

  it("removes the file with the hash also when the password is not taken", async () => {
    const guest = new RecordingGuest();
    guest.run = () => Promise.reject(new Error("no chpasswd"));
    await assert.rejects(ensureAccess(guest, { ...spec, passwordHash: HASH }, alice, []), /no chpasswd/);
    assert.equal(guest.files.has("/run/.pulumi-user-alice"), false);
  });

  it("writes keys as the user, so that a link in its home leads nowhere", async () => {
    const guest = new RecordingGuest();
    await ensureAccess(guest, { ...spec, authorizedKeys: ["k1"] }, alice, []);
    assert.deepEqual(guest.commands, [
      "[1000:1000] mkdir -m 700 /home/alice/.ssh",
      "[1000:1000] install -m 600 -T /run/.pulumi-user-alice /home/alice/.ssh/authorized_keys.pulumi-new",
      "[1000:1000] mv -f -T /home/alice/.ssh/authorized_keys.pulumi-new /home/alice/.ssh/authorized_keys",
    ]);
  });

  it("leaves keys, password and sudo alone that are as wanted, or not managed", async () => {
    const guest = new RecordingGuest({
      "/home/alice/.ssh/authorized_keys": "# mine\nk2\nk1\n",
      "/etc/shadow": `alice:${HASH}:1::::::\n`,
    });
    await ensureAccess(guest, { ...spec, passwordHash: HASH, authorizedKeys: ["k1", "k2"] }, alice, []);
    await ensureAccess(guest, spec, alice, []);
    assert.deepEqual([guest.commands, guest.written], [[], []]);
  });

  it("puts sudo rules in place only after visudo has taken them", async () => {
    const guest = new RecordingGuest();
    guest.run = () => Promise.reject(new Error("syntax error"));
    await assert.rejects(ensureAccess(guest, { ...spec, sudo: "password" }, alice, []), /syntax error/);
    assert.equal(guest.files.has("/etc/sudoers.d/alice"), false);
  });
});

describe("readUser", () => {
  it("reads shadow and authorized_keys only when they are managed", async () => {
    const read: string[] = [];
    const guest = new RecordingGuest({ "/etc/passwd": passwd + aliceLine });
    const readFile = guest.readFile.bind(guest);
    guest.readFile = (path) => {
      read.push(path);
      return readFile(path);
    };
    assert.equal((await readUser(guest, "alice", { authorizedKeys: false, passwordHash: false }))?.account.uid, 1000);
    assert.deepEqual(read, ["/etc/passwd", "/etc/group", "/etc/sudoers.d/alice"]);
    await readUser(guest, "alice", { authorizedKeys: true, passwordHash: true });
    assert.deepEqual(read.slice(-2).sort(), ["/etc/shadow", "/home/alice/.ssh/authorized_keys"]);
  });
});

describe("removeUser", () => {
  const present = () => new RecordingGuest({ "/etc/passwd": passwd + aliceLine, "/etc/sudoers.d/alice": "x" });

  it("takes the sudo rules away first, and keeps the home unless it is to go", async () => {
    const guest = present();
    await removeUser(guest, "alice", removal("keep"));
    assert.equal(guest.files.has("/etc/sudoers.d/alice"), false);
    await removeUser(guest, "alice", removal("remove"));
    assert.deepEqual(guest.commands, ["userdel alice", "userdel --remove alice"]);
  });

  it("ends the user's processes when there are any", async () => {
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

  it("removes the user from under its processes where nothing can end them", async () => {
    const guest = present();
    guest.exits["userdel"] = [8];
    guest.exits["pkill"] = [127];
    await removeUser(guest, "alice", removal("keep"));
    assert.deepEqual(guest.commands, ["userdel alice", "pkill -KILL -U 1000", "userdel --force alice"]);
  });

  it("says which home could not be removed", async () => {
    const guest = present();
    guest.exits["userdel"] = [12];
    const warnings: string[] = [];
    await removeUser(guest, "alice", { ...removal("remove"), warn: (text) => void warnings.push(text) });
    assert.match(warnings.join(), /"alice" is removed .* its home is not: userdel says no/);
  });

  it("is done when the user is gone", async () => {
    const guest = new RecordingGuest();
    await removeUser(guest, "alice", removal("keep"));
    assert.deepEqual(guest.commands, []);
  });
});
