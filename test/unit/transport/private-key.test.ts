import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { Deadline } from "../../../provider/support/deadline";
import { KeyProblem, readPrivateKey } from "../../../provider/transport/private-key";
import { SshConnection } from "../../../provider/transport/ssh";
import { TestSshServer } from "./ssh-server";
import { ownHome } from "./surroundings";

const PASSPHRASE = "correct horse";

/** Commands that create keys; they get the name of the file and its passphrase, or "". */
type Maker = (file: string, passphrase: string) => void;

const run = (program: string, argv: readonly string[]): void => {
  execFileSync(program, argv, { stdio: ["ignore", "ignore", "pipe"] });
};
const keygen =
  (...options: string[]): Maker =>
  (file, passphrase) =>
    run("ssh-keygen", ["-q", "-a", "1", ...options, "-N", passphrase, "-f", file]);
const openssl =
  (...make: string[]): Maker =>
  (file, passphrase) => {
    const bits = make[0] === "genrsa" ? ["1024"] : []; // which are made quickly
    run("openssl", [...make, "-out", file, ...bits]);
    if (passphrase !== "") {
      run("openssl", ["pkcs8", "-topk8", "-in", file, "-out", `${file}.p8`, "-passout", `pass:${passphrase}`]);
      run("mv", [`${file}.p8`, file]);
    }
  };
/** A key of PKCS#8 or of OpenSSL's older form, encrypted in some way. */
const encryptedBy =
  (...convert: string[]): Maker =>
  (file, passphrase) => {
    run("openssl", ["genrsa", "-traditional", "-out", `${file}.plain`, "1024"]);
    const [command = "", ...options] = convert;
    run("openssl", [command, "-in", `${file}.plain`, "-out", file, ...options, "-passout", `pass:${passphrase}`]);
  };

const KINDS = {
  ed25519: ["-t", "ed25519"],
  RSA: ["-t", "rsa", "-b", "1024"],
  "ECDSA of 256 bits": ["-t", "ecdsa", "-b", "256"],
  "ECDSA of 384 bits": ["-t", "ecdsa", "-b", "384"],
  "ECDSA of 521 bits": ["-t", "ecdsa", "-b", "521"],
  DSA: ["-t", "dsa"],
};

const CIPHERS = [
  ...["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc", "aes128-ctr", "aes192-ctr", "aes256-ctr"],
  ...["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"],
];

const MAKERS: readonly (readonly [string, Maker, "plain" | "encrypted"])[] = [
  ...Object.entries(KINDS).flatMap(([kind, options]) =>
    ["RFC4716", "PEM", "PKCS8"].flatMap((form) =>
      (["plain", "encrypted"] as const).map(
        (how) => [`${kind} of ssh-keygen -m ${form}`, keygen(...options, "-m", form), how] as const,
      ),
    ),
  ),
  ...CIPHERS.map((cipher) => [`ed25519 of ssh-keygen -Z ${cipher}`, keygen("-t", "ed25519", "-Z", cipher), "encrypted"] as const),
  ...(["plain", "encrypted"] as const).flatMap((how) => [
    ["ed25519 of openssl genpkey", openssl("genpkey", "-algorithm", "ed25519"), how] as const,
    ["RSA of openssl genrsa", openssl("genrsa"), how] as const,
    ["ECDSA of openssl ecparam, with its parameters", openssl("ecparam", "-name", "secp384r1", "-genkey"), how] as const,
  ]),
  ["RSA of openssl genrsa -traditional", openssl("genrsa", "-traditional"), "plain"],
  ["RSA of openssl pkcs8 -scrypt", encryptedBy("pkcs8", "-topk8", "-scrypt"), "encrypted"],
  ["RSA of openssl pkcs8 -v2 des3", encryptedBy("pkcs8", "-topk8", "-v2", "des3"), "encrypted"],
  ["RSA of openssl rsa -aes128", encryptedBy("rsa", "-traditional", "-aes128"), "encrypted"],
  ["RSA of openssl rsa -camellia256", encryptedBy("rsa", "-traditional", "-camellia256"), "encrypted"],
];

describe("A private key", () => {
  const home = ownHome();
  let server: TestSshServer;

  before(async () => {
    server = await TestSshServer.start();
  });

  after(() => server.stop());

  /** Whether a key logs in at a server that has its public half. */
  const logsIn = async (file: string, privateKey: string, passphrase: string): Promise<void> => {
    const published = existsSync(`${file}.pub`) ? readFileSync(`${file}.pub`, "utf8") : publicHalf(file, passphrase);
    server.behaviour.accepts = (login) => server.knows(login, { private: "", public: published });
    const given = { privateKey, ...(passphrase === "" ? {} : { privateKeyPassword: passphrase }) };
    const ssh = await SshConnection.dial(server.connection(given), new Deadline(60, "the test"));
    ssh.close();
  };
  const publicHalf = (file: string, passphrase: string): string => {
    // ssh-keygen reads only files that are private, and ed25519 in PKCS#8 not before OpenSSH 9.6.
    const key = readPrivateKey(readFileSync(file, "utf8"), passphrase);
    assert(!(key instanceof KeyProblem), (key as KeyProblem).why);
    const own = `${key.type} ${key.getPublicSSH().toString("base64")}`;
    if (key.type !== "ssh-ed25519") {
      run("chmod", ["600", file]);
      const theirs = execFileSync("ssh-keygen", ["-y", "-P", passphrase, "-f", file], { encoding: "utf8" });
      assert.equal(own, theirs.trim().split(" ").slice(0, 2).join(" "), "another public half than ssh-keygen's");
    }
    return own;
  };

  for (const [title, make, how] of MAKERS) {
    it(`logs in: ${title}, ${how}`, async () => {
      const file = home.path("key");
      const passphrase = how === "plain" ? "" : PASSPHRASE;
      make(file, passphrase);
      await logsIn(file, readFileSync(file, "utf8"), passphrase);
      if (how === "encrypted") {
        for (const [given, why] of [
          [undefined, /^it is encrypted, and its passphrase is not given$/],
          ["battery staple", /^it is encrypted, and its passphrase does not open it \(.+\)$/],
        ] as const) {
          const problem = readPrivateKey(readFileSync(file, "utf8"), given);
          assert(problem instanceof KeyProblem && problem.encrypted);
          assert.match(problem.why, why);
          assert.doesNotMatch(problem.why, /battery/);
        }
      }
    });
  }

  for (const [what, write] of [
    ["with the line breaks of Windows", (key: string) => key.replaceAll("\n", "\r\n")],
    ["without a line break at the end", (key: string) => key.trimEnd()],
    ["after other text", (key: string) => `Bag Attributes\n    friendlyName: me\n${key}`],
    ["before other text", (key: string) => `${key}\nfor bcn2 and bcn1\n`],
    ["with a byte order mark", (key: string) => `\ufeff${key}`],
  ] as const) {
    for (const form of ["RFC4716", "PEM", "PKCS8"]) {
      it(`logs in ${what}, in the form ${form}`, async () => {
        const file = home.path("key");
        keygen("-t", "ecdsa", "-m", form)(file, "");
        await logsIn(file, write(readFileSync(file, "utf8")), "");
      });
    }
  }

  for (const [what, text] of [
    ["is damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"],
    ["is cut off", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"],
    ["is none", "hello"],
  ] as const) {
    it(`that ${what} is refused, and not for a passphrase`, () => {
      const problem = readPrivateKey(text, undefined);
      assert(problem instanceof KeyProblem && !problem.encrypted);
      assert.ok(problem.why.length > 0);
    });
  }
});
