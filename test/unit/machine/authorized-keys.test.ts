import assert from "node:assert/strict";
import fc from "fast-check";
import { utils } from "ssh2";
import { faultOfPublicKey, onlyKeys, parseAuthorizedKeys, withKeys } from "../../../provider/machine/users/authorized-keys";

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDUIKziyjfVqNvsiwT7riL0fQgpLuZ6UXTFmCp2Bw4K alice@lab";
const blob = publicKey.split(" ")[1] ?? "";

describe("faultOfPublicKey", () => {
  for (const [what, line] of [
    ["a key", publicKey],
    ["a key with a comment of several words", `${publicKey} Alice at work`],
    ["an ECDSA key", utils.generateKeyPairSync("ecdsa", { bits: 384 }).public.trim()],
    ["an RSA key", utils.generateKeyPairSync("rsa", { bits: 2048 }).public.trim()],
    ["an option", `no-pty ${publicKey}`],
    ["options with values", `from="10.0.0.0/8,*.example.com",command="echo \\"hi, you\\"",restrict ${publicKey}`],
  ] as const) {
    it(`takes ${what}`, () => assert.equal(faultOfPublicKey(line), undefined));
  }

  for (const [what, line, reason] of [
    ["nothing", "", /is not a public key such as/],
    ["a private key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n", /contains a private key; give the public one/],
    ["two keys in one", `${publicKey}\n${publicKey}`, /has several lines/],
    ["an unknown type", `ssh-dss ${blob}`, /is not a public key such as/],
    ["a misspelt type", publicKey.replace("ed25519", "ed2551"), /is not a public key such as/],
    ["invalid base64", "ssh-ed25519 AAAA*", /is damaged: what follows ssh-ed25519 is not base64/],
    ["no key after the type", "ssh-ed25519", /is not base64/],
    ["another type than its own", `ssh-rsa ${blob}`, /is damaged: it says ssh-rsa, but the key is not of that type/],
    ["a key that is cut off", `ssh-ed25519 ${blob.slice(0, 40)}`, /is damaged: the key is cut off/],
    ["a key without its last field", `ssh-ed25519 ${blob.slice(0, 20)}`, /is damaged/],
    ["an option without its closing quote", `command="ls ${publicKey}`, /is not a public key such as/],
  ] as const) {
    it(`refuses ${what}`, () => assert.match(faultOfPublicKey(line) ?? "", reason));
  }

  it("accepts or refuses any text, and accepts none by accident", () => {
    fc.assert(fc.property(fc.string(), (text) => assert.notEqual(faultOfPublicKey(text), undefined)));
  });
});

describe("authorized_keys", () => {
  const file = "# by hand\n\n  ssh-rsa A a  \nssh-rsa B b\n";

  it("holds keys, without comments and empty lines", () => {
    assert.deepEqual(parseAuthorizedKeys(file), ["ssh-rsa A a", "ssh-rsa B b"]);
  });

  it("is written with each key once", () => {
    assert.equal(onlyKeys(["k1", "k2", "k1"]), "k1\nk2\n");
    assert.equal(onlyKeys([]), "");
  });

  it("gains and loses keys without changes of its other lines", () => {
    assert.equal(withKeys(file, ["ssh-rsa C c", "ssh-rsa B b"], ["ssh-rsa A a"]), "# by hand\nssh-rsa B b\nssh-rsa C c\n");
  });

  it("keeps every foreign key, and holds every wanted one exactly once", () => {
    const keys = fc.uniqueArray(fc.stringMatching(/^ssh-rsa [A-F]$/), { maxLength: 6 });
    fc.assert(
      fc.property(keys, keys, keys, (present, added, removed) => {
        const after = parseAuthorizedKeys(withKeys(onlyKeys(present), added, removed));
        assert.deepEqual(new Set(after), new Set([...present.filter((key) => !removed.includes(key)), ...added]));
        assert.equal(after.length, new Set(after).size);
        assert.deepEqual(parseAuthorizedKeys(withKeys(onlyKeys(after), added, removed)), after);
      }),
    );
  });
});
