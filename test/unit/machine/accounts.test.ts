import assert from "node:assert/strict";
import { groupsOf, parseGroup, parsePasswd, parseShadow, readAccounts } from "../../../provider/machine/users/accounts";

const passwd = `root:x:0:0:root:/root:/bin/bash
# a comment
+nis::::::
alice:x:1000:1001:Alice,,,:/home/alice:/bin/zsh
broken:x:many:1:::
noshell:x:7:7::/:
`;

const group = "root:x:0:\nadm:x:4:syslog,alice\nvideo:x:44:alice\nalice:x:1001:\nempty:x:50:,\n";

describe("accounts", () => {
  it("are read from passwd, without invalid lines", () => {
    assert.deepEqual(parsePasswd(passwd), [
      { name: "root", uid: 0, gid: 0, home: "/root", shell: "/bin/bash" },
      { name: "alice", uid: 1000, gid: 1001, home: "/home/alice", shell: "/bin/zsh" },
      { name: "noshell", uid: 7, gid: 7, home: "/", shell: "" },
    ]);
  });

  it("have the groups whose members they are, without their primary one", () => {
    const groups = parseGroup(group);
    assert.deepEqual(groups[1], { name: "adm", gid: 4, members: ["syslog", "alice"] });
    assert.deepEqual(groups[4], { name: "empty", gid: 50, members: [] });
    assert.deepEqual(groupsOf({ users: [], groups }, "alice"), ["adm", "video"]);
    assert.deepEqual(groupsOf({ users: [], groups }, "ali"), []);
  });

  it("have the hash of their own line in shadow", () => {
    const shadow = "alice2:$6$b:1::::::\nalice:$6$a$b:1::::::\nlocked:!:1::::::\n";
    assert.equal(parseShadow(shadow, "alice"), "$6$a$b");
    assert.equal(parseShadow(shadow, "locked"), "!");
    assert.equal(parseShadow(shadow, "bob"), undefined);
  });

  it("are not reported as deleted when there is no passwd at all", async () => {
    await assert.rejects(readAccounts({ place: 'in instance "web1"', readFile: () => Promise.resolve(undefined) }), {
      code: "refused",
      message: 'There is no /etc/passwd in instance "web1", so its users cannot be managed',
    });
  });
});
