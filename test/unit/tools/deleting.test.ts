import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(__dirname, "../../..");

/** Commands by which a line deletes, unmounts or kills. */
const DELETING =
  /\brm(Sync)?\(|\brmdir(Sync)?\(|\bunlink(Sync)?\(|\brm -|"rm"|"rmdir"|-delete\b|--purge\b|\bpurge: true|"userdel"|"umount"|\bumount -|"link", "delete"|"pkill"|"--detach"|"link", "del|"remove", "--"|apk\("del"/;

describe("What deletes", () => {
  it("is listed in decision 6 with its safeguard, file by file", () => {
    const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "provider", "cli", "lab", "tools"], {
      cwd: root,
      encoding: "utf8",
    });
    const deleting = files
      .split("\n")
      .filter((file) => /\.(ts|js|sh)$/.test(file) && !file.startsWith("lab/simulated/programs/")) // these act on files in memory
      .filter((file) => DELETING.test(readFileSync(join(root, file), "utf8")));
    const page = readFileSync(join(root, "docs/adr/0006-deleting.md"), "utf8");
    const listed = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map((row) => row[1]);
    assert.deepEqual(deleting.sort(), listed.sort());
  });
});
