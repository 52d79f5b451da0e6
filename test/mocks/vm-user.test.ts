import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { VmUser } from "../../provider";

describe("the class VmUser", () => {
  const registered = new Map<string, { type: string; inputs: Record<string, unknown> }>();

  before(() =>
    pulumi.runtime.setMocks({
      newResource: ({ name, type, inputs }) => {
        registered.set(name, { type, inputs: inputs as Record<string, unknown> });
        return { id: name, state: { ...(inputs as Record<string, unknown>), uid: 1000, gid: 1000, home: "/home/alice" } };
      },
      call: () => ({}),
    }),
  );

  const args = { cluster: { endpoints: [{ host: "bcn2" }] }, instance: "web1", name: "alice" };
  const settled = (user: VmUser) => new Promise((resolve) => user.urn.apply(resolve));

  it("hands its arguments on, and has uid, gid and home as outputs", async () => {
    const user = new VmUser("web1-alice", { ...args, groups: ["adm"], sudo: "passwordless" });
    await settled(user);
    const { type, inputs } = registered.get("web1-alice") ?? {};
    assert.equal(type, "pulumi-nodejs:dynamic/lxd:VmUser");
    assert.deepEqual([inputs?.["name"], inputs?.["groups"], inputs?.["sudo"]], ["alice", ["adm"], "passwordless"]);
    const known = await new Promise((resolve) => pulumi.all([user.uid, user.gid, user.home]).apply(resolve));
    assert.deepEqual(known, [1000, 1000, "/home/alice"]);
  });

  it("keeps a password hash as a secret without being told", async () => {
    const user = new VmUser("with-password", { ...args, passwordHash: "$6$salt$hash" });
    await settled(user);
    const { passwordHash } = user as unknown as { passwordHash: pulumi.Output<string> };
    assert.equal(await pulumi.isSecret(passwordHash), true);
  });
});
