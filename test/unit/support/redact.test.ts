import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { redact } from "../../../provider/support/redact";

const secretName = fc.constantFrom("password", "privateKey", "privateKeyPassword", "passwordHash");
const secret = fc.string({ minLength: 4, maxLength: 40 });

describe("redact", () => {
  it("keeps ordinary text unchanged", () => {
    const text = 'LXD on root@192.168.1.102 answered PUT /1.0/profiles/web with 400: Invalid key "limits.cpus"';
    assert.equal(redact(text, { connection: { host: "192.168.1.102", user: "root" } }), text);
  });

  it("removes every secret of the properties, at any position", () => {
    fc.assert(
      fc.property(secretName, secret, fc.string(), fc.string(), (name, value, before, after) => {
        for (const properties of [
          { [name]: value },
          { connection: { [name]: value } },
          { cluster: { endpoints: [{ [name]: value }] } },
        ]) {
          const safe = redact(`${before}${value}${after}`, properties);
          // The mark itself may happen to contain a short secret, such as "cret".
          assert.ok(!safe.replaceAll("[secret]", "").includes(value) || "[secret]".includes(value));
        }
      }),
    );
  });

  it("removes a longer secret completely that begins with a shorter one", () => {
    assert.equal(redact("it was pass1234!", { a: { password: "pass" }, b: { password: "pass1234!" } }), "it was [secret]");
  });

  it("removes private keys of every type, also partial ones and ones with escaped line ends", () => {
    const pem = generateKeyPairSync("rsa", { modulusLength: 1024 })
      .privateKey.export({ type: "pkcs1", format: "pem" })
      .toString();
    assert.equal(redact(`before\n${pem}after`, {}), "before\n[private key]\nafter");
    assert.equal(redact(`before ${JSON.stringify(pem)}`, {}), 'before "[private key]\\n"');
    assert.equal(redact(pem.slice(0, 200), {}), "[private key]");
    assert.equal(redact("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb", {}), "[private key]");
    assert.equal(redact("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n-----END ENCRYPTED PRIVATE KEY-----", {}), "[private key]");
  });

  it("removes join tokens, which are base64 of a JSON object", () => {
    const token = Buffer.from(JSON.stringify({ server_name: "bcn1", fingerprint: "ab".repeat(32), secret: "cd".repeat(32) }));
    assert.equal(redact(`joining with ${token.toString("base64")} failed`, {}), "joining with [token] failed");
  });

  it("keeps public keys and fingerprints, which a user needs to see", () => {
    const text = "it presented ssh-ed25519 SHA256:6HVtxvCdpVvmWCPRMYVGzkHZEZqyZVDBRRSgkP9VTcQ";
    assert.equal(redact(text, {}), text);
  });

  it("keeps texts that are too short to be distinguished from ordinary ones", () => {
    assert.equal(redact("root may not log in", { connection: { password: "may" } }), "root may not log in");
  });

  it("accepts properties of any form", () => {
    fc.assert(fc.property(fc.string(), fc.anything(), (text, properties) => typeof redact(text, properties) === "string"));
  });
});
