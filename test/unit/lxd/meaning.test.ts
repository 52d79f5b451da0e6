import assert from "node:assert/strict";
import fc from "fast-check";
import { sameConfigValue } from "../../../provider/lxd/config";
import {
  sameAddresses,
  sameFingerprint,
  sameImage,
  sameListener,
  sameMac,
  sameNames,
  samePath,
  samePci,
  sameServer,
} from "../../../provider/lxd/meaning";

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef")), minLength: length, maxLength: length });
const anyCase = (text: string) => fc.constantFrom(text, text.toUpperCase());
const octet = fc.nat(255);
const ipv4 = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join("."));
const group = fc.integer({ min: 1, max: 0xffff });
/** An IPv6 address with a gap of zeros, as its eight groups. */
const ipv6 = fc.tuple(group, group, group).map(([a, b, c]) => [a, b, 0, 0, 0, 0, 0, c]);
const spelledIpv6 = (groups: number[]) =>
  fc.constantFrom(
    groups.map((each) => each.toString(16)).join(":"),
    groups.map((each) => each.toString(16).padStart(4, "0").toUpperCase()).join(":"),
    `${(groups[0] ?? 0).toString(16)}:${(groups[1] ?? 0).toString(16)}::${(groups[7] ?? 0).toString(16)}`,
  );
const word = fc
  .string({ unit: fc.constantFrom(...Array.from("abcxyz019-")), minLength: 1, maxLength: 8 })
  .filter((text) => /^\w/.test(text));

/** For each type of text: how it is compared, and one value in two spellings. */
const KINDS: Record<string, { same: (a: string, b: string) => boolean; spelled: fc.Arbitrary<[string, string, string]> }> = {
  "a MAC address": {
    same: sameMac,
    spelled: fc.array(hex(2), { minLength: 6, maxLength: 6 }).chain((parts) => pairs(parts.join(":"), anyCase)),
  },
  "a PCI address": {
    same: samePci,
    spelled: fc
      .tuple(hex(2), hex(2), fc.nat(7))
      .chain(([bus, device, func]) =>
        pairs(`${bus}:${device}.${func}`, (text) => fc.constantFrom(text, `0000:${text}`, text.toUpperCase())),
      ),
  },
  "an IPv6 network": {
    same: sameAddresses,
    spelled: fc
      .tuple(ipv6, fc.integer({ min: 0, max: 128 }))
      .chain(([groups, prefix]) =>
        pairs(`${groups.join()}/${prefix}`, () => spelledIpv6(groups).map((text) => `${text}/${prefix}`)),
      ),
  },
  "a list of addresses": {
    same: sameAddresses,
    spelled: fc
      .array(ipv4, { minLength: 1, maxLength: 3 })
      .chain((list) => pairs(list.join(), () => fc.constantFrom(list.join(), list.join(", "), list.join(" ,")))),
  },
  "a list of names": {
    same: sameNames,
    spelled: fc
      .uniqueArray(fc.constantFrom("web", "office", "db"), { minLength: 1 })
      .chain((list) =>
        pairs([...list].sort().join(), () => fc.constantFrom(list.join(), list.join(" , "), [...list].reverse().join())),
      ),
  },
  "an address to listen on": {
    same: sameListener,
    spelled: fc.oneof(
      ipv4.chain((address) => pairs(address, (text) => fc.constantFrom(text, `${text}:8443`))),
      ipv6.chain((groups) =>
        pairs(groups.join(), () => spelledIpv6(groups).chain((text) => fc.constantFrom(text, `[${text}]`, `[${text}]:8443`))),
      ),
    ),
  },
  "an image server": {
    same: sameServer,
    spelled: fc
      .tuple(word, word)
      .chain(([host, path]) =>
        pairs(`https://${host}.example/${path}`, (text) =>
          fc.constantFrom(
            text,
            `${text}/`,
            `${text}//`,
            `https://${host.toUpperCase()}.Example/${path}`,
            `HTTPS://${host}.example:443/${path}/`,
          ),
        ),
      ),
  },
  "a path": {
    same: samePath,
    spelled: fc
      .array(word, { minLength: 1, maxLength: 3 })
      .chain((parts) =>
        pairs(`/${parts.join("/")}`, (text) =>
          fc.constantFrom(text, `${text}/`, `/${text}`, `/${parts.join("//")}`, `/./${parts.join("/./")}`, `${text}/.`),
        ),
      ),
  },
  "a fingerprint": {
    same: sameFingerprint,
    spelled: hex(64).chain((text) =>
      fc
        .tuple(
          fc.integer({ min: 12, max: 64 }).map((length) => text.slice(0, length)),
          anyCase(text),
        )
        .map(([a, b]) => [a, b, text]),
    ),
  },
};

function pairs(meaning: string, spell: (meaning: string) => fc.Arbitrary<string>): fc.Arbitrary<[string, string, string]> {
  return fc.tuple(spell(meaning), spell(meaning)).map(([a, b]) => [a, b, meaning]);
}

describe("equality by meaning", () => {
  for (const [kind, { same, spelled }] of Object.entries(KINDS)) {
    it(`treats spellings of one ${kind} as equal, and another one as different`, () => {
      fc.assert(
        fc.property(spelled, spelled, ([a, b, meaning], [other, , otherMeaning]) => {
          assert.ok(same(a, b), `${a} is ${b}`);
          assert.ok(same(b, a));
          assert.equal(same(a, other), meaning.toLowerCase() === otherMeaning.toLowerCase(), `${a}, ${other}`);
        }),
      );
    });
  }

  it("keeps .. in a path, and compares other texts literally", () => {
    assert.ok(!samePath("/a/../b", "/b"));
    assert.ok(!samePath("tank/a", "tank/A"));
    assert.ok(samePath("/", "//"));
    assert.ok(!samePath("/", ""));
    assert.ok(!sameListener("", ":8443"));
    assert.ok(!sameServer("nonsense", "nonsense/"));
    assert.ok(!sameFingerprint("abc", "abcd"), "too short for LXD, too");
  });

  it("is that of the keys of config and devices", () => {
    const table: [key: string, a: string, b: string, same: boolean][] = [
      ["hwaddr", "00:16:3E:AA:BB:CC", "00:16:3e:aa:bb:cc", true],
      ["path", "/data", "/data/", true],
      ["source", "/dev//sdb", "/dev/sdb", true],
      ["source", "/srv/a", "/srv/b", false],
      ["pci", "01:00.0", "0000:01:00.0", true],
      ["ipv6.address", "FD42:0::1/64", "fd42::1/64", true],
      ["ipv6.address", "auto", "AUTO ", true],
      ["ipv4.address", "10.0.0.1/24", "10.0.0.1/16", false],
      ["ipv4.dhcp.ranges", "10.0.0.2-10.0.0.9, 10.0.0.20-10.0.0.30", "10.0.0.2-10.0.0.9,10.0.0.20-10.0.0.30", true],
      ["core.https_address", "192.168.1.102", "192.168.1.102:8443", true],
      ["core.https_address", "", ":8443", false],
      ["cluster.https_address", "[FD00::2]:8443", "[fd00:0::2]:8443", true],
      ["limits.read", "30MB", "30000kB", true],
      ["user.path", "/a", "/a/", false],
      ["environment.source", "/a", "/a/", false],
    ];
    for (const [key, a, b, same] of table) {
      assert.equal(sameConfigValue(key, a, b), same, `${key}: ${a}, ${b}`);
    }
  });
});

describe("the image that an instance was made from", () => {
  const server = "https://cloud-images.ubuntu.com/releases/";
  const fingerprint = "0123456789abcdef".repeat(4);
  const simplestreams = { alias: "24.04", server, protocol: "simplestreams" };
  const table: [title: string, made: object, wanted: object, same: boolean][] = [
    ["of a server without its slash", simplestreams, { ...simplestreams, server: server.slice(0, -1) }, true],
    ["pinned by its fingerprint", simplestreams, { fingerprint, server, protocol: "simplestreams" }, true],
    [
      "pinned by a shortened fingerprint in capitals",
      simplestreams,
      { fingerprint: fingerprint.slice(0, 12).toUpperCase() },
      true,
    ],
    ["of the cluster, by the fingerprint", { alias: "debian" }, { fingerprint }, true],
    ["pinned to another fingerprint", simplestreams, { fingerprint: "f".repeat(64) }, false],
    ["of another server", simplestreams, { ...simplestreams, server: "https://images.example" }, false],
    ["of the cluster instead of a server", simplestreams, { alias: "24.04" }, false],
    ["by another alias", { alias: "a" }, { alias: "b" }, false],
    ["by another protocol", simplestreams, { ...simplestreams, protocol: "lxd" }, false],
    ["by an alias in place of the fingerprint", { fingerprint }, { alias: "debian" }, false],
  ];
  for (const [title, image, wanted, same] of table) {
    it(`${title}, is ${same ? "the same" : "another"}`, () => {
      assert.equal(sameImage({ image, fingerprint }, wanted), same);
    });
  }

  it("is decided by the program's former value where LXD does not know it", () => {
    assert.ok(sameImage({ image: { fingerprint }, fingerprint: "" }, { fingerprint: fingerprint.slice(0, 20) }));
    assert.ok(!sameImage({ image: { alias: "a" }, fingerprint: "" }, { fingerprint }));
  });
});
