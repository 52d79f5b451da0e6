import assert from "node:assert/strict";
import { parseSudoRules, SUDO_RIGHTS, sudoRules } from "../../../provider/machine/users/sudo";

const file = (content: string, more: object = {}) => ({
  type: "file" as const,
  uid: 0,
  gid: 0,
  mode: 0o440,
  content,
  ...more,
});

describe("the file in sudoers.d", () => {
  for (const rights of SUDO_RIGHTS) {
    it(`is read back as ${rights} when it was written so`, () => {
      assert.equal(parseSudoRules("alice", file(sudoRules("alice", rights))), rights);
    });
  }

  it("grants nothing when it does not exist", () => assert.equal(parseSudoRules("alice", undefined), "none"));

  for (const [what, changed] of [
    ["a rule of another user", file(sudoRules("bob", "passwordless"))],
    ["an additional rule", file(`${sudoRules("alice", "password")}alice ALL=(root) /bin/ls\n`)],
    ["another mode, with which sudo ignores it", file(sudoRules("alice", "password"), { mode: 0o666 })],
    ["another owner", file(sudoRules("alice", "password"), { uid: 1000 })],
    ["a link in its place", file("/etc/passwd", { type: "symlink" })],
  ] as const) {
    it(`is custom with ${what}`, () => assert.equal(parseSudoRules("alice", changed), "custom"));
  }

  it("means the same with other blanks and comments", () => {
    assert.equal(parseSudoRules("alice", file("# hi\n\nalice  ALL=(ALL:ALL)\tNOPASSWD: ALL")), "passwordless");
  });
});
