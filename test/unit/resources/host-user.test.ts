import assert from "node:assert/strict";
import { hostUserLifecycle } from "../../../provider/resources/machine-user";
import { Managed, startMembers } from "./simulated-cluster";

describe("HostUser", () => {
  it("is not removed while Pulumi is logged in as that user", async () => {
    const one = await startMembers({ bcn2: { user: "operator" } });
    const { files, connection } = one.lab.host("bcn2");
    files.writeFile("/etc/passwd", `${files.readText("/etc/passwd")}operator:x:1000:1000::/home/operator:/bin/bash\n`);
    files.writeFile("/etc/group", `${files.readText("/etc/group")}operator:x:1000:\n`);
    files.makeDirectory("/home/operator", { uid: 1000, gid: 1000, parents: true });
    const [operator, other] = ["operator", "other"].map((name) => new Managed(hostUserLifecycle as never, name));
    assert(operator !== undefined && other !== undefined);
    await operator.up({ connection, name: "operator", adopt: true, sudo: "passwordless" });
    await other.up({ connection, name: "other" });
    await assert.rejects(
      operator.destroy(),
      /User "operator" on operator@.* was not removed: Pulumi is logged in as that user there/,
    );
    assert.match(files.readText("/etc/passwd"), /^operator:/m);
    assert.notEqual(operator.state, undefined);
    await other.destroy();
    assert.doesNotMatch(files.readText("/etc/passwd"), /^other:/m);
    await one.stop();
  });
});
