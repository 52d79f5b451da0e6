import fc from "fast-check";

/** A YAML document whose aliases expand to 9^10 words. */
const LAUGHS = Array.from("bcdefghij").reduce(
  (text, name, index) => `${text}${name}: &${name} [${`*${"abcdefghi"[index] ?? ""}, `.repeat(9)}]\n`,
  "#cloud-config\na: &a [x, x, x, x, x, x, x, x, x]\n",
);

/**
 * Texts that often break programs: other scripts and directions, control characters, and syntax of shells, URLs and
 * paths.
 */
export const HOSTILE_TEXTS: readonly string[] = [
  "",
  " ",
  ".",
  "..",
  "/",
  "a/b",
  "../../etc/passwd",
  "/etc/../etc/shadow",
  "/proc/self/environ",
  "a?project=other",
  "a&project=other",
  "a#b",
  "a%2fb",
  "%2e%2e",
  "%",
  "a;b",
  "a=b",
  "a+b",
  "a b",
  "a:b",
  "a@b",
  "a\\b",
  "-rf",
  "--help",
  "~",
  "~root",
  "$(reboot)",
  "`reboot`",
  "${HOME}",
  "; reboot",
  "| reboot",
  "&& reboot",
  "> /etc/passwd",
  "'; reboot; '",
  '"; reboot; "',
  "*",
  "!!",
  "a\nb",
  "a\rb",
  "a\r\nX-LXD-mode: 0777",
  "a\0b",
  "\u0007\u001b[31m",
  "\u007f",
  "\u202egnp.exe",
  "\u2066web\u2069",
  "e\u0301\u0301\u0301",
  "\ufeffweb",
  "\u200b",
  "wéb",
  "веб",
  "网络",
  "ｗｅｂ",
  "\u{1f469}\u200d\u{1f4bb}",
  "\ud800",
  "web\udc00",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "null",
  "undefined",
  "true",
  "NaN",
  "0",
  "-1",
  "1e999",
  `${"9".repeat(400)}GiB`,
  "none",
  "default",
  "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
  "#cloud-config\n[",
  "#cloud-config\na: *nowhere",
  "#cloud-config\na: &a [*a, *a]",
  LAUGHS,
  "#cloud-config\n? {a: b}\n: c",
  "#cloud-config\n!!js/function 'reboot'",
  "#cloud-config\n__proto__: {polluted: true}",
  `#cloud-config\n${"[".repeat(5000)}`,
  "[".repeat(20_000),
  `ssh-ed25519 ${"A".repeat(60)}`,
  `command="${"\\".repeat(999)}" ssh-ed25519 AAAA`,
  "-----BEGIN OPENSSH PRIVATE KEY-----",
  "fe80::1%eth0",
  "999.1.1.1",
  "host.example.com:22",
  "root@host",
  "https://user:password@example.com/../..",
  "x".repeat(64),
  "x".repeat(5000),
];

/** Texts of about a megabyte, each built to make a careless pattern slow or deep. */
export const HUGE_TEXTS: readonly string[] = [
  "x".repeat(1_000_000),
  `${"a-".repeat(500_000)}!`,
  "/a".repeat(500_000),
  "9".repeat(1_000_000),
  "0,".repeat(500_000),
  "\u{1f600}".repeat(250_000),
  `command="${"\\a".repeat(500_000)}" ssh-ed25519 AAAA`,
  "a,".repeat(500_000),
  `#cloud-config\n${"a: [\n".repeat(200_000)}`,
  `#cloud-config\n${"- a\n".repeat(100_000)}`,
  "-----BEGIN PRIVATE KEY-----".repeat(37_000),
  `https://${"a.".repeat(500_000)}`,
  "eyJ".repeat(330_000),
];

/** Keys with a meaning to JavaScript, LXD or the engine. */
const KEYS = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "__defineGetter__",
  "__urn",
  "__provider",
  "4dabf18193072939515e22adb298388d",
  "",
  " ",
  "a.b",
  "0",
  "length",
  "volatile.uuid",
  "user.pulumi.urn",
  "Name",
  "nmae",
  "\u202e",
  "\ud800",
  "k".repeat(10_000),
];

/** An object with own properties of any names, also `__proto__`. */
export function objectOf(entries: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const [key, value] of entries) {
    Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return made;
}

/** Nested lists or objects. */
function nested(levels: number, kind: "list" | "object"): unknown {
  let value: unknown = "core";
  for (let level = 0; level < levels; level += 1) {
    value = kind === "list" ? [value] : { a: value };
  }
  return value;
}

const badText: fc.Arbitrary<string> = fc.oneof(
  { arbitrary: fc.constantFrom(...HOSTILE_TEXTS), weight: 4 },
  { arbitrary: fc.string({ unit: "grapheme" }), weight: 1 },
  { arbitrary: fc.string({ unit: "binary" }), weight: 1 },
  {
    arbitrary: fc.string({ unit: fc.constantFrom("\ud800", "\udfff", "a", "\u0301", "\u202e", "'", "\0", "/", ".") }),
    weight: 1,
  },
);

/** An arbitrary key. */
export const badKey: fc.Arbitrary<string> = fc.oneof(fc.constantFrom(...KEYS), badText);

const badNumber = fc.constantFrom(
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  0,
  -1,
  0.5,
  1e-320,
  65_536,
  2 ** 31,
  2 ** 32,
  Number.MAX_SAFE_INTEGER,
  Number.MAX_VALUE,
);

/** The last ones are deeper than recursion can go. */
const DEEP = [nested(30, "list"), nested(40, "object"), nested(12_000, "list"), nested(12_000, "object")];

/** A value of any type in place of another. */
export const badValue: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown; leaf: unknown }>((tie) => ({
  leaf: fc.oneof(
    { arbitrary: badText, weight: 4 },
    { arbitrary: badNumber, weight: 2 },
    { arbitrary: fc.constantFrom(null, undefined, true, false), weight: 2 },
  ),
  value: fc.oneof(
    { maxDepth: 4 },
    { arbitrary: tie("leaf"), weight: 20 },
    { arbitrary: fc.array(tie("value"), { maxLength: 4 }), weight: 4 },
    { arbitrary: fc.array(fc.tuple(badKey, tie("value")), { maxLength: 4 }).map(objectOf), weight: 6 },
    { arbitrary: fc.constantFrom(...DEEP), weight: 1 },
  ),
})).value;
