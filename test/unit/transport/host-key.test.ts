import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { connectionSchema, withDefaults } from "../../../provider/transport/connection";
import { expectedHostKey, fingerprint, knownKeys } from "../../../provider/transport/host-key";
import { type KeyPair, newKey } from "./ssh-server";
import { ownHome } from "./surroundings";

const key = newKey();
const other = newKey();
const wire = ({ public: text }: KeyPair): Buffer => Buffer.from(text.split(" ")[1] ?? "", "base64");
const textOf = ({ public: text }: KeyPair): string => text.split(" ").slice(0, 2).join(" ");

/** A host in the format of `ssh-keygen -H`. */
function hashed(place: string): string {
  const salt = Buffer.from("01234567890123456789");
  return `|1|${salt.toString("base64")}|${createHmac("sha1", salt).update(place).digest("base64")}`;
}

describe("known_hosts", () => {
  const knows = (place: string, ...lines: string[]): boolean =>
    knownKeys(place, lines.join("\n")).some((known) => !known.revoked && known.key.equals(wire(key)));

  const table: readonly (readonly [string, string, string, boolean])[] = [
    ["a plain name", "bcn2", "bcn2", true],
    ["another name", "bcn2", "bcn1", false],
    ["one of several names", "bcn1,192.168.1.102,bcn2", "192.168.1.102", true],
    ["a name in another case", "BCN2.example.org", "bcn2.Example.org", true],
    ["a name that is only a part", "bcn2", "bcn2.example.org", false],
    ["a dot, which is no wildcard", "bcn2.example", "bcn2xexample", false],
    ["a star", "*.example.org", "bcn2.example.org", true],
    ["a question mark", "bcn?", "bcn2", true],
    ["a question mark and nothing there", "bcn?", "bcn", false],
    ["a negated name", "*,!bcn1", "bcn1", false],
    ["the others beside a negated name", "*,!bcn1", "bcn2", true],
    ["nothing but a negated name", "!bcn1", "bcn2", false],
    ["a port", "[bcn2]:2222", "[bcn2]:2222", true],
    ["another port", "[bcn2]:2222", "[bcn2]:2223", false],
    ["no port for a host that is on another one", "bcn2", "[bcn2]:2222", false],
    ["an IPv6 address", "fd00::2", "fd00::2", true],
    ["a hashed name", hashed("bcn2"), "bcn2", true],
    ["a hashed name with a port", hashed("[bcn2]:2222"), "[bcn2]:2222", true],
    ["a hashed name in another case", hashed("bcn2"), "BCN2", true],
    ["another hashed name", hashed("bcn1"), "bcn2", false],
    ["a broken hash", "|1|x", "bcn2", false],
  ];
  for (const [what, patterns, place, known] of table) {
    it(`with ${what} ${known ? "knows" : "does not know"} ${place}`, () => {
      assert.equal(knows(place, `${patterns} ${textOf(key)}`), known);
    });
  }

  it("is read past comments, empty lines, broken lines, other line ends and remarks", () => {
    assert.ok(knows("bcn2", "# bcn2 hosts", "", "bcn2", "bcn2 ssh-ed25519", `  bcn2\t${textOf(key)} root@bcn2\r`));
  });

  it("may hold several keys of a host", () => {
    assert.equal(knownKeys("bcn2", `bcn2 ${textOf(key)}\nbcn2 ${textOf(other)}`).length, 2);
  });

  it("marks revoked keys, and certificate authorities are not taken for keys of hosts", () => {
    assert.deepEqual(
      knownKeys("bcn2", `@revoked bcn2 ${textOf(key)}\n@cert-authority bcn2 ${textOf(other)}`).map(({ revoked }) => revoked),
      [true],
    );
  });
});

describe("the key that a host is expected to present", () => {
  const home = ownHome();
  const expectation = (more: object = {}) => expectedHostKey(withDefaults(connectionSchema.parse({ host: "bcn2", ...more })));
  const shown = `ssh-ed25519 ${fingerprint(wire(key))}`;
  const accepts = ({ refusal }: ReturnType<typeof expectation>, pair: KeyPair): boolean => refusal(wire(pair)) === undefined;
  const expectedOne = `ssh-ed25519 ${fingerprint(wire(other))}`;

  it("has the fingerprint that ssh-keygen shows", () => {
    assert.match(fingerprint(wire(key)), /^SHA256:[A-Za-z0-9+/]{43}$/);
  });

  it("is the connection's hostKey, whatever known_hosts says", () => {
    home.knowHosts(`bcn2 ${textOf(other)}`);
    const expected = expectation({ hostKey: `${textOf(key)} root@bcn2` });
    assert.deepEqual([accepts(expected, key), accepts(expected, other), expected.types?.[0]], [true, false, "ssh-ed25519"]);
    assert.equal(
      expectation({ hostKey: textOf(other) }).refusal(wire(key)),
      `the host presented the key ${shown}, which is not connection.hostKey (${expectedOne}). If the host was reinstalled, set hostKey to ` +
        "its new key; if not, somebody may be between you and the host",
    );
  });

  it("is in known_hosts of the user who runs Pulumi", () => {
    home.knowHosts(`bcn2 ${textOf(key)}`);
    const expected = expectation();
    assert.deepEqual([accepts(expected, key), accepts(expected, other), expected.types?.[0]], [true, false, "ssh-ed25519"]);
  });

  it("may be an RSA key that signs with SHA-2", () => {
    home.knowHosts("bcn2 ssh-rsa AAAAB3NzaC1yc2E=");
    assert.deepEqual(expectation().types?.slice(0, 4), ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa", "ssh-ed25519"]);
  });

  it("is unknown without an entry: nothing is accepted, and the refusal says how to get one", () => {
    const expected = expectation();
    assert.deepEqual([accepts(expected, key), expected.types], [false, undefined]);
    assert.equal(
      expected.refusal(wire(key)),
      `its host key is not known: it presented ${shown}. Verify that key on the host's console (ssh-keygen -lf ` +
        "/etc/ssh/ssh_host_ed25519_key.pub), then give it as connection.hostKey or add the host to ~/.ssh/known_hosts (ssh-keyscan bcn2)",
    );
    assert.match(expectation({ port: 2222 }).refusal(wire(key)) ?? "", /\(ssh-keyscan -p 2222 bcn2\)$/);
  });

  for (const [host, port, scan, place] of [
    ["fd00::2", 22, "ssh-keyscan fd00::2", "fd00::2"],
    ["fd00::2", 2222, "ssh-keyscan -p 2222 fd00::2", "[fd00::2]:2222"],
    ["fe80::1%eth0", 22, "ssh-keyscan fe80::1%eth0", "fe80::1%eth0"],
    ["fe80::1%eth0", 2222, "ssh-keyscan -p 2222 fe80::1%eth0", "[fe80::1%eth0]:2222"],
  ] as const) {
    it(`is looked up as ssh does, with matching commands, at ${host} on port ${port}`, () => {
      assert.ok(expectation({ host, port }).refusal(wire(key))?.endsWith(`(${scan})`));
      home.knowHosts(`${place} ${textOf(other)}`);
      assert.ok(accepts(expectation({ host, port }), other));
      assert.match(
        expectation({ host, port }).refusal(wire(key)) ?? "",
        new RegExp(`\\(ssh-keygen -R '${place.replace(/[[\]]/g, "\\$&")}'\\)`),
      );
      home.knowHosts();
    });
  }

  it("is refused when it has changed, with the command that removes the old one", () => {
    home.knowHosts(`[bcn2]:2222 ${textOf(other)}`);
    assert.equal(
      expectation({ port: 2222 }).refusal(wire(key)),
      `its host key has changed: it presented ${shown}, and known_hosts has another one (${expectedOne}). If the host was reinstalled, remove the old key ` +
        "(ssh-keygen -R '[bcn2]:2222') and add the new one; if not, somebody may be between you and the host",
    );
  });

  it("is refused when it is revoked, also when another line still lists it", () => {
    home.knowHosts(`bcn2 ${textOf(key)}`, `@revoked * ${textOf(key)}`);
    const expected = expectation();
    assert.equal(accepts(expected, key), false);
    assert.equal(
      expected.refusal(wire(key)),
      `it presented the key ${shown}, which known_hosts marks as revoked. Give the host a new key, and do not use the old one`,
    );
    home.knowHosts(`@revoked * ${textOf(other)}`);
    assert.equal(expectation().types, undefined);
    assert.match(expectation().refusal(wire(key)) ?? "", /^its host key is not known/);
  });

  it("may be any key when the user sets insecure, unless the key is set too", () => {
    assert.equal(accepts(expectation({ hostKeyPolicy: "insecure" }), key), true);
    assert.equal(accepts(expectation({ hostKeyPolicy: "insecure", hostKey: textOf(other) }), key), false);
  });
});
