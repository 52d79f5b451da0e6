import assert from "node:assert/strict";
import { posix } from "node:path";
import type { InstanceFile } from "../../../provider/lxd/instances/files";
import type { Account } from "../../../provider/machine/users/accounts";
import { describeObstacle, findKeys } from "../../../provider/machine/users/strict-modes";

const alice: Account = { name: "alice", uid: 1000, gid: 1000, home: "/home/alice", shell: "/bin/bash" };
const accounts = {
  users: [alice, { name: "bob", uid: 1001, gid: 1001, home: "/home/bob", shell: "/bin/bash" }],
  groups: [
    { name: "staff", gid: 50, members: ["alice"] },
    { name: "others", gid: 60, members: ["bob"] },
  ],
};
const KEYS = "/home/alice/.ssh/authorized_keys";

/** Files of a guest in which alice can log in. */
function guestWith(files: Record<string, Partial<InstanceFile> | undefined>) {
  const all: Record<string, Partial<InstanceFile> | undefined> = {
    "/": { type: "directory", uid: 0, gid: 0 },
    "/home": { type: "directory", uid: 0, gid: 0 },
    "/home/alice": { type: "directory" },
    "/home/alice/.ssh": { type: "directory", mode: 0o700 },
    [KEYS]: { type: "file", mode: 0o600, content: "key\n" },
    ...files,
  };
  return {
    readFile: (path: string): Promise<InstanceFile | undefined> => {
      const found = all[path];
      return Promise.resolve(found && { type: "file", uid: 1000, gid: 1000, mode: 0o755, content: "", ...found });
    },
  };
}

const find = (files: Parameters<typeof guestWith>[0]) => findKeys(guestWith(files), alice, accounts);

describe("findKeys", () => {
  const positions = { home: "/home/alice", ".ssh": "/home/alice/.ssh", file: KEYS } as const;

  // All mode bits that sshd or the kernel check, at each path, for each owner and group: the expectation follows sshd's
  // man page.
  for (const [position, path] of Object.entries(positions)) {
    for (const uid of [0, alice.uid, 1001, 4711]) {
      for (const gid of [0, alice.gid, 50, 60]) {
        it(`keys are valid where sshd accepts them: ${position} of uid ${uid} and gid ${gid} with all modes`, async () => {
          const type = position === "file" ? "file" : "directory";
          for (let mode = 0; mode <= 0o777; mode += 1) {
            const { obstacle } = await find({ [path]: { type, uid, gid, mode, content: "key\n" } });
            const digits = mode.toString(8).padStart(3, "0").split("").map(Number);
            const writable = [digits[1], digits[2]].some((digit = 0) => (digit & 2) === 2);
            const mine = uid === alice.uid ? digits[0] : gid === 0 || gid === 60 ? digits[2] : digits[1];
            const reaches = ((mine ?? 0) & (type === "file" ? 4 : 1)) !== 0;
            const heeded = (uid === 0 || uid === alice.uid) && !writable && reaches;
            assert.equal(obstacle === undefined, heeded, `mode ${mode.toString(8)}: ${obstacle?.fact ?? "heeded"}`);
            assert.equal(obstacle?.isOurs ?? position !== "home", position !== "home");
            assert.equal(obstacle?.path ?? path, path);
          }
        });
      }
    }
  }

  it("reports none if the file or its directory does not exist", async () => {
    for (const missing of [KEYS, "/home/alice/.ssh"]) {
      const { content, obstacle } = await find({ [missing]: undefined });
      assert.deepEqual([content, obstacle], ["", undefined]);
    }
  });

  it("names a path component that is not a directory, or a path that is not a file", async () => {
    for (const [path, file, fact] of [
      ["/home/alice", undefined, "does not exist"],
      ["/home/alice", { type: "file" }, "is not a directory"],
      ["/home/alice/.ssh", { type: "file" }, "is not a directory"],
      [KEYS, { type: "directory" }, "is a directory"],
    ] as const) {
      const { obstacle } = await find({ [path]: file });
      assert.deepEqual([obstacle?.path, obstacle?.fact, obstacle?.isOurs], [path, fact, false]);
    }
  });

  // Outside the home sshd checks all directories up to the root.
  const elsewhere = {
    "/srv": { type: "directory", uid: 0 },
    "/srv/keys": { type: "directory", uid: 0 },
    "/srv/keys/alice": { type: "directory" },
    "/home/alice/.ssh": { type: "symlink", content: "../../srv/keys/alice", mode: 0o777 },
  } as const;

  it("follows a link in place of .ssh", async () => {
    assert.equal((await find(elsewhere)).obstacle, undefined);
  });

  for (const path of ["/", "/srv", "/srv/keys", "/srv/keys/alice"] as const) {
    it(`checks ${path} on the path to the target of a link in place of .ssh`, async () => {
      for (const spoilt of [{ uid: 1001 }, { mode: 0o775 }, { mode: 0o757 }]) {
        const { obstacle } = await find({ ...elsewhere, [path]: { type: "directory", uid: 0, ...spoilt } });
        assert.deepEqual([obstacle?.path, obstacle?.isOurs], [path, false]);
      }
    });
  }

  it("treats a home that is a link as the directory it points to", async () => {
    const link = { "/home/alice": { type: "symlink", content: "/srv/keys/alice", mode: 0o777 } } as const;
    const { "/home/alice/.ssh": _, ...outside } = elsewhere;
    assert.equal((await find({ ...outside, ...link })).obstacle, undefined);
    const { obstacle } = await find({ ...outside, ...link, "/srv/keys/alice": { type: "directory", mode: 0o777 } });
    assert.equal(obstacle?.path, "/srv/keys/alice");
  });

  it("does not follow circular links endlessly", async () => {
    const { obstacle } = await find({ "/home/alice": { type: "symlink", content: posix.basename("/home/alice") } });
    assert.equal(obstacle?.fact, "is not a directory");
  });

  it("names the directory, its owner, and the command to run", async () => {
    const { obstacle } = await find({ "/home/alice": { type: "directory", uid: 1001, mode: 0o750 } });
    assert.ok(obstacle);
    assert.equal(
      describeObstacle({ place: 'in instance "web1" (LXD on root@bcn2)' }, "alice", obstacle),
      'sshd ignores the keys of user "alice" in instance "web1" (LXD on root@bcn2): /home/alice belongs to user "bob", mode 750. ' +
        "It must belong to the user or root, and others must not be able to write to it. Type there: chown alice /home/alice",
    );
  });
});
