import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { provider } from "../../provider/entry";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect } from "../../provider/transport/pool";
import { bareHosts } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { createResource, isInLab } from "../support/real-lab";
import { SshAgent } from "../support/ssh-agent";

const execute = promisify(execFile);

const TARGET = "192.168.1.102";
const JUMP = "192.168.1.101";
const PASSWORD = "correct horse: 'battery' \\ staple";
const PASSPHRASE = "another long one";

/** Key formats, with the arguments of ssh-keygen. */
const KEYS = {
  ed25519: ["-t", "ed25519"],
  rsa: ["-t", "rsa", "-b", "2048"],
  ecdsa: ["-t", "ecdsa", "-b", "256"],
  "rsa in PEM": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
  "ecdsa in PEM": ["-t", "ecdsa", "-b", "384", "-m", "PEM"],
  "rsa in PKCS#8": ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
  "ecdsa in PKCS#8": ["-t", "ecdsa", "-b", "256", "-m", "PKCS8"],
  "ed25519 with another cipher": ["-t", "ed25519", "-Z", "chacha20-poly1305@openssh.com"],
} as const;
type KeyName = keyof typeof KEYS;

/** Settings of sshd: each user may log in by one method, and become root without a password. */
const SSHD = `
UseDNS no
Match User by-password
  AuthenticationMethods password
  PasswordAuthentication yes
Match User by-keyboard
  AuthenticationMethods keyboard-interactive
  KbdInteractiveAuthentication yes
  PasswordAuthentication no
Match User operator,root
  AuthenticationMethods publickey
Match User few
  MaxSessions 1
`;

/** Output of a shell's start-up file. */
const GREETING = `printf '{"type":"sync"} HTTP/1.1 500 Welcome'; printf Welcome >&2\n`;

/** Options of root's keys in authorized_keys. */
const RESTRICTED = {
  "no-forwarding": "no-port-forwarding",
  forced: `no-port-forwarding,command="echo 'Please login as the user \\"ubuntu\\".'; exit 142"`,
};

/** Login methods of `connection` against OpenSSH's own sshd; LXD is read through each. */
describe("Ways to log in to real hosts", () => {
  const folder = mkdtempSync(join(tmpdir(), "credentials-"));
  const environment = process.env["SSH_AUTH_SOCK"];
  const hosts = bareHosts(["bcn2", "bcn1"]);
  let agent: SshAgent;
  let node: Record<string, unknown>;
  const tried = { ways: 0, refusals: 0 };

  before(async () => {
    await Promise.all([
      ...["stranger", ...Object.keys(RESTRICTED)].map((name) =>
        execute("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(name)]),
      ),
      ...Object.entries(KEYS).flatMap(([name, options]) =>
        ["", PASSPHRASE].map((passphrase) =>
          execute("ssh-keygen", ["-q", ...options, "-N", passphrase, "-f", file(name, passphrase)]),
        ),
      ),
    ]);
    await Promise.all([prepare("bcn2"), prepare("bcn1")]);
    agent = await SshAgent.start();
    delete process.env["SSH_AUTH_SOCK"];
    node = (await createResource("LxdNode", hosts.node("bcn2"))).outs;
  });

  after(async () => {
    rmSync(folder, { recursive: true });
    if (isInLab) {
      await agent.stop();
      if (environment !== undefined) {
        process.env["SSH_AUTH_SOCK"] = environment;
      }
      figure("login methods", tried.ways);
      figure("refused logins", tried.refusals);
    }
  });

  const file = (name: string, passphrase = ""): string =>
    join(folder, `${name.replaceAll(" ", "-")}${passphrase === "" ? "" : "-encrypted"}`);
  const key = (name: KeyName, passphrase = ""): string => readFileSync(file(name, passphrase), "utf8");

  /** Creates a host's users, and configures its sshd with the settings above. */
  async function prepare(host: string): Promise<void> {
    const authorized = Object.keys(KEYS).flatMap((name) =>
      ["", PASSPHRASE].map((phrase) => readFileSync(`${file(name, phrase)}.pub`, "utf8")),
    );
    const restricted = Object.entries(RESTRICTED).map(
      ([name, options]) => `${options} ${readFileSync(`${file(name)}.pub`, "utf8")}`,
    );
    const script = [
      "set -e",
      "for user in by-password by-keyboard; do",
      "  useradd --create-home --shell /bin/bash $user",
      '  echo "$user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/$user',
      "  printf '%s:%s\\n' $user \"$1\" | chpasswd",
      "done",
      "cat > /etc/ssh/sshd_config.d/ways.conf",
      'printf "%s" "$2$3" >> /root/.ssh/authorized_keys',
      "useradd --create-home --shell /bin/bash few",
      "echo 'few ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/few",
      "useradd --create-home --shell /usr/sbin/nologin closed",
      "for user in few closed; do",
      "  install -d -o $user -g $user -m 700 /home/$user/.ssh",
      '  printf "%s" "$2" > /home/$user/.ssh/authorized_keys',
      "done",
      'printf "%s" "$4" > /home/few/.bashrc',
      'printf "%s" "$2" >> /home/operator/.ssh/authorized_keys',
      // sshd from 9.8 on refuses an address for some time after logins that failed.
      "if sshd -T | grep -q -i ^persourcepenalties; then echo PerSourcePenalties no > /etc/ssh/sshd_config.d/penalties.conf; fi",
      "systemctl restart ssh", // which ends when sshd listens again; a reload does not wait
    ];
    const argv = ["sh", "-c", script.join("\n"), "sh", PASSWORD, authorized.join(""), restricted.join(""), GREETING];
    const { exitCode, stderr } = await hosts.lab.hostExec(host, argv, { stdin: SSHD });
    assert.equal(exitCode, 0, stderr);
  }

  const to = (connection: object): Record<string, unknown> => ({ host: TARGET, ...connection });

  /** Reads the node over another connection than the one stored in state. */
  async function read(connection: object): Promise<unknown> {
    const parsed = connectionSchema.parse(to(connection));
    const { props } = await provider("LxdNode").read(String(node["id"]), { ...node, connection: parsed });
    return props["lxdVersion"];
  }

  async function works(connection: object): Promise<void> {
    assert.match(String(await read(connection)), /^\d+\.\d+/);
    tried.ways += 1;
  }

  /** Runs a command as root over SSH. Returns its output. */
  async function output(connection: object, ...argv: string[]): Promise<string> {
    const deadline = new Deadline(60, "the test");
    const ssh = await connect(connectionSchema.parse(to(connection)), { deadline });
    return (await ssh.run(argv, { deadline })).stdout.trim();
  }

  describe("with a private key", () => {
    for (const name of Object.keys(KEYS) as KeyName[]) {
      it(`that is ${name}`, () => works({ user: "operator", privateKey: key(name) }));

      it(`that is ${name}, encrypted`, () =>
        works({ user: "operator", privateKey: key(name, PASSPHRASE), privateKeyPassword: PASSPHRASE }));
    }

    it("in a file, as root", () => works({ privateKeyPath: file("ed25519") }));

    it("in a file that is encrypted", () => works({ privateKeyPath: file("ecdsa", PASSPHRASE), privateKeyPassword: PASSPHRASE }));
  });

  describe("with an SSH agent", () => {
    afterEach(() => {
      delete process.env["SSH_AUTH_SOCK"];
      agent.empty();
    });

    for (const name of ["ed25519", "rsa", "ecdsa"] as const) {
      it(`that holds an ${name} key`, () => {
        agent.add(key(name));
        return works({ user: "operator", agentSocketPath: agent.socket });
      });
    }

    it("from the environment, as root", () => {
      agent.add(key("ed25519"));
      process.env["SSH_AUTH_SOCK"] = agent.socket;
      return works({});
    });

    it("that holds a key which the host accepts, if the host rejects the connection's own key", async () => {
      agent.add(key("ed25519"));
      const privateKeyPath = file("stranger");
      await works({ privateKeyPath, agentSocketPath: agent.socket });
    });
  });

  it("with a password", () => works({ user: "by-password", password: PASSWORD }));

  it("with the answer to a question (keyboard-interactive)", () => works({ user: "by-keyboard", password: PASSWORD }));

  describe("through a jump host", () => {
    const from = (): Promise<string> => output({ privateKey: key("ed25519"), proxy: proxy() }, "printenv", "SSH_CONNECTION");
    const proxy = (more: object = {}): object => ({ host: JUMP, privateKey: key("ecdsa"), ...more });

    it("with its own key", async () => {
      await works({ user: "operator", privateKey: key("rsa"), proxy: proxy() });
      assert.match(await from(), new RegExp(`^${JUMP.replaceAll(".", "\\.")} `));
    });

    it("with a password there and a key here", () =>
      works({ privateKey: key("ed25519"), proxy: { host: JUMP, user: "by-password", password: PASSWORD } }));

    it("with a key there and a password here", () => works({ user: "by-password", password: PASSWORD, proxy: proxy() }));

    it("with the agent there and an encrypted key here", async () => {
      agent.add(key("ed25519"));
      const proxy = { host: JUMP, user: "operator", agentSocketPath: agent.socket };
      await works({ privateKey: key("rsa", PASSPHRASE), privateKeyPassword: PASSPHRASE, proxy });
      agent.empty();
    });
  });

  describe("that are refused, with host, user and all attempts:", () => {
    const HINT =
      ". Pulumi used the connection that the last pulumi up stored; if the program has a new one, run pulumi up --refresh=false once";
    const KEY_HINT = ". Check connection.user, and that the host has this key in its authorized_keys";
    const PASSWORD_HINT = ". Check connection.user, and that its sshd accepts passwords and this is the right one";
    const stranger = (): string => readFileSync(file("stranger"), "utf8");

    const refused = async (connection: object, ...sentence: string[]): Promise<void> => {
      await assert.rejects(read(connection), (error: Error) => {
        assert.equal(error.message, sentence.join("") + HINT);
        return true;
      });
      tried.refusals += 1;
    };

    it("a key that the host rejects", () =>
      refused(
        { user: "operator", privateKey: stranger() },
        `operator@${TARGET} did not accept the login (tried: private key)`,
        KEY_HINT,
      ));

    it("a user that does not exist", () =>
      refused(
        { user: "nobody-there", privateKey: key("rsa") },
        `nobody-there@${TARGET} did not accept the login (tried: private key)`,
        KEY_HINT,
      ));

    it("an encrypted key without its passphrase, and with a wrong one", async () => {
      for (const [given, why] of [
        [{}, "it is encrypted, and its passphrase is not given"],
        [
          { privateKeyPassword: "wrong" },
          "it is encrypted, and its passphrase does not open it (OpenSSH key integrity check failed -- bad passphrase?)",
        ],
      ] as const) {
        await refused(
          { privateKey: key("ed25519", PASSPHRASE), ...given },
          `The private key for root@${TARGET} cannot be used: ${why}. Give its passphrase as connection.privateKeyPassword, give another `,
          "key, or start an SSH agent that holds it",
        );
      }
    });

    it("a wrong password", () =>
      refused(
        { user: "by-password", password: "wrong" },
        `by-password@${TARGET} did not accept the login (tried: password; keyboard-interactive)`,
        PASSWORD_HINT,
      ));

    it("a wrong answer", () =>
      refused(
        { user: "by-keyboard", password: "wrong" },
        `by-keyboard@${TARGET} did not accept the login (tried: password; keyboard-interactive)`,
        PASSWORD_HINT,
      ));

    it("an agent without keys, and one that does not exist", async () => {
      await refused({ agentSocketPath: agent.socket }, `root@${TARGET} did not accept the login (tried: SSH agent)`, KEY_HINT);
      const none = join(folder, "none");
      await refused(
        { agentSocketPath: none },
        `root@${TARGET} did not accept the login (tried: SSH agent; the agent at ${none} failed: Failed to connect to agent)`,
        KEY_HINT,
      );
    });

    it("an agent with more keys than sshd accepts attempts", async () => {
      await Promise.all(
        Array.from({ length: 8 }, (_, index) =>
          execute("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, `many${index}`)]),
        ),
      );
      for (let index = 0; index < 8; index++) {
        agent.add(readFileSync(join(folder, `many${index}`), "utf8"));
      }
      await refused(
        { agentSocketPath: agent.socket },
        `root@${TARGET} did not accept the login (tried: SSH agent): Too many authentication failures. Its sshd limits the attempts `,
        "(MaxAuthTries), and each key of an agent is one. Give the right key as connection.privateKeyPath, or keep fewer keys in the agent",
      );
    });

    it("the jump host's login, which is named", () =>
      refused(
        { privateKey: key("rsa"), proxy: { host: JUMP, user: "by-password", password: "wrong" } },
        `by-password@${JUMP} did not accept the login (tried: password; keyboard-interactive)`,
        PASSWORD_HINT,
      ));

    it("the login of the host behind the jump host", () =>
      refused(
        { user: "operator", privateKey: stranger(), proxy: { host: JUMP, privateKey: key("rsa") } },
        `operator@${TARGET} did not accept the login (tried: private key)`,
        KEY_HINT,
      ));

    it("a user that may not become root", async () => {
      await assert.rejects(
        read({ user: "nosudo", privateKeyPath: join(hosts.lab.home, ".ssh", "id_ed25519") }),
        (error: Error) => {
          assert.match(
            error.message,
            /^nosudo@192\.168\.1\.102 may not become root: sudo: a password is required\. Log in as root /,
          );
          return true;
        },
      );
      tried.refusals += 1;
    });
  });

  describe("at a host with unusual sshd and shell settings", () => {
    it("as a user whose shell prints a banner, with one session per connection", async () => {
      const connection = { user: "few", privateKey: key("ed25519") };
      await works(connection);
      assert.equal(await output(connection, "id", "-u"), "0");
    });

    it("as root, if sshd does not forward to sockets", () => works({ privateKeyPath: file("no-forwarding") }));

    for (const [what, connection, code, said] of [
      ["a forced command", () => ({ privateKeyPath: file("forced") }), 142, /Please login as the user "ubuntu"\./],
      [
        "a closed account",
        () => ({ user: "closed", privateKey: key("ed25519") }),
        1,
        /This account is currently not available\./,
      ],
    ] as const) {
      it(`and report what answered instead of LXD: ${what}`, async () => {
        await assert.rejects(read(connection()), (error: Error) => {
          assert.match(error.message, /^\w+@192\.168\.1\.102 does not run the commands that it is given\. /);
          assert.match(error.message, new RegExp(`answered instead, with exit code ${code}: .*${said.source}`));
          return true;
        });
        tried.refusals += 1;
      });
    }
  });

  describe("after the login", () => {
    it("run many commands at once within sshd's limit, and report one that fails", async () => {
      const deadline = new Deadline(60, "the test");
      const ssh = await connect(connectionSchema.parse(to({ privateKey: key("ed25519") })), { deadline });
      const results = await Promise.all(
        Array.from({ length: 40 }, (_, index) => ssh.run(["printf", "%s", `it's $HOME ${index}`], { deadline })),
      );
      assert.deepEqual(
        results.map(({ stdout }) => stdout),
        results.map((_, index) => `it's $HOME ${index}`),
      );
      await assert.rejects(
        ssh.run(["ls", "/nowhere"], { deadline }),
        /ls on \S+ failed with exit code 2: .*No such file or directory/,
      );
    });

    it("report whether anything listens on a unix socket", async () => {
      const deadline = new Deadline(60, "the test");
      const ssh = await connect(connectionSchema.parse(to({ privateKey: key("ed25519") })), { deadline });
      assert.equal(await ssh.listens(`${hosts.lab.flavour.dataDirectory}/unix.socket`, deadline), true);
      assert.equal(await ssh.listens(`${hosts.lab.flavour.dataDirectory}/none.socket`, deadline), false);
    });

    it("report by both methods that nothing listens on the socket of a daemon that died", async () => {
      const stale = "/run/stale.socket";
      const script = "use IO::Socket::UNIX; IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die";
      const { exitCode, stderr } = await hosts.lab.hostExec("bcn2", ["perl", "-e", script, stale]);
      assert.equal(exitCode, 0, stderr);
      const deadline = new Deadline(60, "the test");
      for (const user of ["root", "operator"]) {
        const ssh = await connect(connectionSchema.parse(to({ user, privateKey: key("ed25519") })), { deadline });
        const socket = `${hosts.lab.flavour.dataDirectory}/unix.socket`;
        assert.equal(await ssh.listener([stale, socket], deadline), socket);
      }
    });

    it("accept the host by another type of key than the preferred one", async () => {
      await hosts.lab.hostExec("bcn2", [
        "ssh-keygen",
        "-q",
        "-t",
        "rsa",
        "-b",
        "2048",
        "-N",
        "",
        "-f",
        "/etc/ssh/ssh_host_rsa_key",
      ]);
      await hosts.lab.hostExec("bcn2", ["systemctl", "restart", "ssh"]);
      const { stdout } = await hosts.lab.hostExec("bcn2", ["cat", "/etc/ssh/ssh_host_rsa_key.pub"]);
      await works({ privateKey: key("ed25519"), hostKey: stdout.trim() });
    });
  });
});
