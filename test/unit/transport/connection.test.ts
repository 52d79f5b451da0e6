import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import fc from "fast-check";
import * as z from "zod";
import { checkProperties } from "../../../provider/engine/check";
import { withoutUndefined } from "../../../provider/support/equality";
import {
  connectionSchema,
  describeConnection,
  expandHome,
  resolveCredentials,
  withDefaults,
} from "../../../provider/transport/connection";
import { ownHome } from "./surroundings";

const schema = z.strictObject({ connection: connectionSchema });
const failuresOf = (connection: unknown): string[] =>
  checkProperties(schema, { connection }).failures.map(({ property, reason }) => `${property} ${reason}`);

describe("a connection", () => {
  it("has the defaults of @pulumi/command's remote connection", () => {
    assert.deepEqual(
      connectionSchema.parse({ host: "bcn2" }),
      { host: "bcn2" },
      "values that the program does not set are not stored",
    );
    assert.deepEqual(withDefaults({ host: "bcn2", user: undefined }), {
      host: "bcn2",
      port: 22,
      user: "root",
      hostKeyPolicy: "known-hosts",
      dialErrorLimit: 10,
      perDialTimeout: 15,
    });
  });

  for (const host of ["bcn2", "bcn2.example.org", "192.168.1.102", "fd00::2", "fe80::1%eth0", "a-b", "1"]) {
    it(`may be to ${host}`, () => {
      assert.deepEqual(failuresOf({ host }), []);
    });
  }

  const bad: readonly (readonly [unknown, string])[] = [
    [undefined, "connection is required"],
    ["bcn2", "connection must be an object"],
    [{}, "connection.host is required"],
    [{ host: "bcn 2" }, "connection.host is neither a host name nor an IP address"],
    [{ host: "-oProxyCommand=x" }, "connection.host is neither a host name nor an IP address"],
    [{ host: "root@bcn2" }, "connection.host is neither a host name nor an IP address"],
    [{ host: "[fd00::2]" }, "connection.host is an IPv6 address in brackets: give fd00::2"],
    [{ host: "[fe80::1%eth0]:2222" }, "connection.host is an IPv6 address in brackets: give fe80::1%eth0 here, and 2222 as port"],
    [{ host: "bcn2:2222" }, "connection.host has a port in it: give bcn2 here, and 2222 as port"],
    [
      { host: "fe80::1" },
      "connection.host is a link-local address without an interface: give it with its interface, as in fe80::1%eth0",
    ],
    [{ host: "fd00::2::3" }, "connection.host is neither a host name nor an IP address"],
    [{ host: "bcn2", port: 0 }, "connection.port must be at least 1"],
    [{ host: "bcn2", port: 65536 }, "connection.port must be at most 65535"],
    [{ host: "bcn2", port: 22.5 }, "connection.port must be a whole number"],
    [{ host: "bcn2", port: "22" }, "connection.port must be a number"],
    [{ host: "bcn2", user: "" }, "connection.user must not be empty"],
    [{ host: "bcn2", privateKeyPath: "" }, "connection.privateKeyPath must not be empty"],
    [{ host: "bcn2", hostKey: "SHA256:abc" }, 'connection.hostKey is not a public host key such as "ssh-ed25519 AAAA..."'],
    [{ host: "bcn2", hostKeyPolicy: "none" }, 'connection.hostKeyPolicy must be "known-hosts" or "insecure"'],
    [{ host: "bcn2", dialErrorLimit: -2 }, "connection.dialErrorLimit must be at least -1"],
    [{ host: "bcn2", perDialTimeout: -1 }, "connection.perDialTimeout must be at least 0"],
    [{ host: "bcn2", privatekey: "x" }, "connection.privatekey is not a known property; did you mean privateKey?"],
    [{ host: "bcn2", proxy: {} }, "connection.proxy.host is required"],
    [
      { host: "bcn2", proxy: { host: "jump", proxy: { host: "x" } } },
      "connection.proxy.proxy is not a known property; known are host, port, user, password, privateKey, privateKeyPath, " +
        "privateKeyPassword, agentSocketPath, hostKey, hostKeyPolicy, dialErrorLimit, perDialTimeout",
    ],
    [
      { host: "bcn2", perDialTimeout: "15s" },
      "connection.perDialTimeout must be a number of seconds, such as 15, or 0 for no limit",
    ],
    [{ host: "192.168.1.300" }, "connection.host is neither a host name nor an IP address"],
  ];
  for (const [connection, failure] of bad) {
    it(`is refused when it is wrong: ${failure}`, () => {
      assert.deepEqual(failuresOf(connection), [failure]);
    });
  }

  it("is named in messages as a user would write it", () => {
    assert.equal(describeConnection({ user: "root", host: "bcn2", port: 22 }), "root@bcn2");
    assert.equal(describeConnection({ user: "operator", host: "fd00::2", port: 2222 }), "operator@[fd00::2]:2222");
  });

  it("never accepts a host that a shell or ssh would interpret as an option or a command", () => {
    fc.assert(fc.property(fc.string(), (host) => failuresOf({ host }).length > 0 || /^[A-Za-z0-9:][\w.:%-]*$/.test(host)));
  });
});

describe("credentials", () => {
  const home = ownHome();
  const resolve = (more: object) => withoutUndefined(resolveCredentials(connectionSchema.parse({ host: "bcn2", ...more })));

  it("are read at the moment of use, so that a rotated key needs no plan", () => {
    writeFileSync(home.path("key"), "old");
    assert.deepEqual(resolve({ privateKeyPath: "~/key" }), { privateKey: "old" });
    writeFileSync(home.path("key"), "new");
    assert.deepEqual(resolve({ privateKeyPath: "~/key" }), { privateKey: "new" });
  });

  it("come from the connection before the environment", () => {
    process.env["SSH_AUTH_SOCK"] = "/run/agent";
    assert.deepEqual(resolve({}), { agentSocketPath: "/run/agent" });
    assert.deepEqual(resolve({ agentSocketPath: "/run/own", password: "p", privateKey: "k", privateKeyPassword: "w" }), {
      privateKey: "k",
      privateKeyPassword: "w",
      password: "p",
      agentSocketPath: "/run/own",
    });
  });

  it("are refused when a key file cannot be read, naming property, file and host", () => {
    const path = home.path("absent");
    assert.throws(() => resolve({ privateKeyPath: path }), {
      code: "refused",
      message: `The private key for root@bcn2 cannot be read (connection.privateKeyPath): ENOENT: no such file or directory, open '${path}'`,
    });
  });

  it("are refused when there are none at all, with the options to set some", () => {
    assert.throws(() => resolve({}), {
      code: "refused",
      message:
        "There is no way to log in to root@bcn2: give connection.privateKeyPath, connection.privateKey or connection.password, or start an " +
        "SSH agent (SSH_AUTH_SOCK is not set)",
    });
  });

  it("know the home directory of the user who runs Pulumi, and no other", () => {
    assert.equal(expandHome("~/x"), home.path("x"));
    assert.equal(expandHome("~"), home.path("").replace(/\/$/, ""));
    assert.equal(expandHome("~other/x"), "~other/x");
    assert.equal(expandHome("/a/~/b"), "/a/~/b");
  });
});
