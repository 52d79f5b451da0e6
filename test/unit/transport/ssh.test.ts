import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request, type Server } from "node:http";
import { createServer, type Socket } from "node:net";
import { listenOnLoopback } from "../../../lab/simulated/loopback-port";
import { clusterEndpoint } from "../../../provider/lxd/client/cluster-endpoint";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { Deadline } from "../../../provider/support/deadline";
import type { Connection } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import { SshConnection } from "../../../provider/transport/ssh";
import { answer, finish, newKey, runForReal, runInShell, TestSshServer } from "./ssh-server";
import { ownHome } from "./surroundings";

/** A public key in the format of known_hosts. */
function sshForm(key: KeyObject): string {
  const { x = "", y = "" } = key.export({ format: "jwk" });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
  const parts = [Buffer.from("ecdsa-sha2-nistp256"), Buffer.from("nistp256"), point];
  const wire = Buffer.concat(parts.flatMap((part) => [Buffer.from([0, 0, 0, part.length]), part]));
  return `ecdsa-sha2-nistp256 ${wire.toString("base64")}`;
}

const CHECK_IT = "Check that it is switched on, and that connection.host and connection.port lead to its sshd";

describe("SSH", () => {
  const home = ownHome();
  let server: TestSshServer;
  let name: string;
  const opened: SshConnection[] = [];
  const soon = (seconds = 60): Deadline => new Deadline(seconds, "the test");

  beforeEach(async () => {
    server = await TestSshServer.start();
    name = `root@127.0.0.1:${server.port}`;
  });

  afterEach(async () => {
    for (const ssh of opened.splice(0)) {
      ssh.close();
    }
    await disconnectAll();
    await server.stop();
  });

  const dial = async (more: Record<string, unknown> = {}): Promise<SshConnection> => {
    const ssh = await SshConnection.dial(server.connection(more), soon());
    opened.push(ssh);
    return ssh;
  };
  const works = async (more: Record<string, unknown> = {}): Promise<void> => {
    assert.equal((await (await dial(more)).run(["true"], { deadline: soon() })).exitCode, 0);
  };
  const refusal = async (more: Record<string, unknown>, code: string): Promise<string> => {
    const error = await dial(more).then(
      () => assert.fail("it was let in"),
      (thrown: unknown) => thrown as Error & { code: string },
    );
    assert.equal(error.code, code, error.message);
    return error.message;
  };

  describe("trusts a host", () => {
    it("whose key is the connection's", () => works());

    it("whose key is in known_hosts, plain and hashed", async () => {
      home.knowHosts(`[127.0.0.1]:${server.port} ${server.hostKey.public}`);
      await works({ hostKey: undefined });
      execFileSync("ssh-keygen", ["-q", "-H", "-f", home.path(".ssh/known_hosts")], { stdio: "ignore" });
      await works({ hostKey: undefined });
    });

    it("with any key when the user sets insecure", () => works({ hostKey: undefined, hostKeyPolicy: "insecure" }));

    it("never when its key is unknown, and shows the presented key", async () => {
      assert.match(
        await refusal({ hostKey: undefined }, "refused"),
        /^root@127\.0\.0\.1:\d+ was not trusted: its host key is not known: it presented ssh-ed25519 SHA256:[\w+/]{43}\. Verify that key/,
      );
    });

    it("never when its key has changed", async () => {
      home.knowHosts(`[127.0.0.1]:${server.port} ${newKey().public}`);
      assert.match(
        await refusal({ hostKey: undefined }, "refused"),
        / was not trusted: its host key has changed: it presented ssh-ed25519 SHA256:\S+, and known_hosts has another one \(ssh-ed25519 SHA256:\S+\)\. /,
      );
      assert.match(
        await refusal({ hostKey: newKey().public }, "refused"),
        /, which is not connection\.hostKey \(ssh-ed25519 SHA256:\S+\)\. If the host was reinstalled/,
      );
    });

    it("never when its key is of another type than the known one, and shows both", async () => {
      const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
      const text = privateKey.export({ format: "pem", type: "sec1" }).toString();
      const hostKey = { private: text, public: sshForm(publicKey) };
      const other = await TestSshServer.start(hostKey);
      try {
        assert.match(
          await refusal({ port: other.port }, "refused"),
          /presented the key ecdsa-sha2-nistp256 SHA256:\S+, which is not connection\.hostKey \(ssh-ed25519 SHA256:\S+\)\. /,
        );
      } finally {
        await other.stop();
      }
    });

    it("never before the key is verified: no credential has left", async () => {
      const methods: string[] = [];
      server.behaviour.accepts = ({ method }) => {
        methods.push(method);
        return true;
      };
      await refusal({ hostKey: newKey().public, password: "secret-password" }, "refused");
      assert.deepEqual(methods, []);
    });
  });

  describe("logs in", () => {
    it("with a private key, given as text or as a path", async () => {
      await works();
      writeFileSync(home.path("key"), server.key.private);
      await works({ privateKey: undefined, privateKeyPath: "~/key" });
    });

    it("with an encrypted key and its passphrase", async () => {
      const encrypted = newKey("correct horse");
      server.behaviour.accepts = (login) => server.knows(login, encrypted);
      await works({ privateKey: encrypted.private, privateKeyPassword: "correct horse" });
    });

    it("with a password", async () => {
      server.behaviour.accepts = (login) => login.method === "password" && login.password === "correct-horse";
      await works({ privateKey: undefined, password: "correct-horse" });
    });

    it("with the password as the answer to a prompt", async () => {
      let asked = "";
      server.behaviour.accepts = (login) => {
        if (login.method !== "keyboard-interactive") {
          return false;
        }
        login.prompt([{ prompt: "Password: ", echo: false }], (answers) => {
          asked = answers.join();
          login.accept();
        });
        return undefined;
      };
      await works({ privateKey: undefined, password: "correct-horse" });
      assert.equal(asked, "correct-horse");
    });

    it("with the password when the host rejects the key", async () => {
      server.behaviour.accepts = (login) => login.method === "password" && login.password === "correct-horse";
      await works({ password: "correct-horse" });
    });

    it("never with a wrong key, and reports what was tried, where, and what to check", async () => {
      assert.equal(
        await refusal({ privateKey: newKey().private }, "refused"),
        `${name} did not accept the login (tried: private key). Check connection.user, and that the host has this key in its authorized_keys`,
      );
    });

    it("never with a wrong password, which is not shown", async () => {
      assert.equal(
        await refusal({ privateKey: undefined, password: "wrong-password" }, "refused"),
        `${name} did not accept the login (tried: password; keyboard-interactive). Check connection.user, and that its sshd accepts passwords and this is the right one`,
      );
    });

    for (const [what, key, message] of [
      [
        "encrypted and without a passphrase",
        () => newKey("correct horse").private,
        "it is encrypted, and its passphrase is not given. Give its passphrase as connection.privateKeyPassword, give another key",
      ],
      ["no key at all", () => "ssh-what", "Unsupported key format. Give another key"],
      ["a public key", () => newKey().public, "it is a public key. Give another key"],
    ] as const) {
      it(`never with a key that is ${what}, and blames the key, not the host`, async () => {
        assert.equal(
          await refusal({ privateKey: key() }, "refused"),
          `The private key for ${name} cannot be used: ${message}, or start an SSH agent that holds it`,
        );
        assert.equal(server.connections, 0);
      });
    }

    it("never with an encrypted key and another passphrase, which is not shown", async () => {
      const message = await refusal(
        { privateKey: newKey("correct horse").private, privateKeyPassword: "battery staple" },
        "refused",
      );
      assert.match(message, /^The private key for root@127\.0\.0\.1:\d+ cannot be used: .*passphrase/);
      assert.doesNotMatch(message, /battery staple/);
    });

    it("reports an unusable key also when something else was tried", async () => {
      assert.equal(
        await refusal({ privateKey: "ssh-what", password: "wrong-password" }, "refused"),
        `${name} did not accept the login (tried: private key, which cannot be used: Unsupported key format; password; ` +
          `keyboard-interactive). Check connection.user, ` +
          "and that the host has this key in its authorized_keys",
      );
    });

    it("reports an agent that does not answer", async () => {
      process.env["SSH_AUTH_SOCK"] = home.path("no-agent");
      assert.match(
        await refusal({ privateKey: undefined }, "refused"),
        /^root@127\.0\.0\.1:\d+ did not accept the login \(tried: SSH agent; the agent at \S+no-agent failed: .+\)\. Check connection\.user/,
      );
    });
  });

  describe("logs in with an SSH agent", () => {
    let agent: ChildProcess;
    let socket: string;

    beforeEach(async () => {
      socket = home.path("agent.sock");
      agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "inherit"] });
      await new Promise((resolve) => agent.stdout?.once("data", resolve));
      writeFileSync(home.path("key"), server.key.private, { mode: 0o600 });
      chmodSync(home.path("key"), 0o600);
      execFileSync("ssh-add", ["-q", home.path("key")], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
    });

    afterEach(async () => {
      const ended = new Promise((resolve) => agent.once("close", resolve));
      agent.kill();
      await ended;
    });

    it("of the connection", () => works({ privateKey: undefined, agentSocketPath: socket }));

    it("of the environment", async () => {
      process.env["SSH_AUTH_SOCK"] = socket;
      await works({ privateKey: undefined });
    });

    it("also when the key file of the connection is encrypted, as ssh does", () =>
      works({ privateKey: newKey("correct horse").private, agentSocketPath: socket }));

    it("never when it holds only other keys", async () => {
      execFileSync("ssh-add", ["-q", "-D"], { env: { ...process.env, SSH_AUTH_SOCK: socket }, stdio: "ignore" });
      assert.match(
        await refusal({ privateKey: undefined, agentSocketPath: socket }, "refused"),
        /did not accept the login \(tried: SSH agent\)/,
      );
    });
  });

  describe("through a jump host", () => {
    let jump: TestSshServer;
    const proxy = (more: object = {}): Record<string, unknown> => ({ ...jump.connection(), ...more });

    beforeEach(async () => {
      jump = await TestSshServer.start();
    });

    afterEach(() => jump.stop());

    it("reaches the host, with one connection to each", async () => {
      await works({ proxy: proxy() });
      assert.deepEqual([jump.connections, server.connections], [1, 1]);
    });

    it("trusts the jump host no more than another, and names it", async () => {
      const message = await refusal({ proxy: proxy({ hostKey: newKey().public }) }, "refused");
      assert.ok(message.startsWith(`root@127.0.0.1:${jump.port} was not trusted: `), message);
      assert.equal(server.connections, 0);
    });

    it("names the one of the two that rejects the login", async () => {
      const atJump = await refusal({ proxy: proxy({ privateKey: newKey().private }) }, "refused");
      assert.ok(atJump.startsWith(`root@127.0.0.1:${jump.port} did not accept the login`), atJump);
      const atHost = await refusal({ proxy: proxy(), privateKey: newKey().private }, "refused");
      assert.ok(atHost.startsWith(`${name} did not accept the login`), atHost);
    });

    it("names the host when the jump host cannot reach it", async () => {
      jump.behaviour.forwarding = false;
      assert.match(
        await refusal({ proxy: proxy() }, "transport"),
        /^root@127\.0\.0\.1:\d+ cannot be reached through the proxy: /,
      );
    });

    it("detects the end of the jump host, and survives it", async () => {
      const ssh = await dial({ proxy: proxy() });
      server.behaviour.command = () => jump.cut();
      await assert.rejects(ssh.run(["sleep", "1000"], { deadline: soon() }), { code: "transport", host: name });
      assert.equal(ssh.open, false);
    });

    it("ends the connection to the jump host with the other one", async () => {
      const ssh = await dial({ proxy: proxy() });
      const left = jump.disconnected();
      ssh.close();
      await left;
      await assert.rejects(ssh.run(["true"], { deadline: soon() }), { code: "transport" });
    });
  });

  describe("to a host that does not answer", () => {
    /** A server that accepts connections and is no SSH server. */
    const listening = async (answer: (socket: Socket) => void, test: (port: number) => Promise<void>): Promise<void> => {
      const sockets: Socket[] = [];
      const listener = createServer((socket) => {
        sockets.push(socket.on("error", () => undefined));
        answer(socket);
      });
      const port = await listenOnLoopback(listener);
      try {
        await test(port);
      } finally {
        for (const socket of sockets) {
          socket.destroy();
        }
        await new Promise((resolve) => listener.close(resolve));
      }
    };

    it("gives up after perDialTimeout, naming host and time", () =>
      listening(
        () => undefined,
        async (port) => {
          const started = performance.now();
          assert.equal(
            await refusal({ port, perDialTimeout: 0.1 }, "transport"),
            `root@127.0.0.1:${port} cannot be reached by SSH: no answer within 0.1 s. ${CHECK_IT}`,
          );
          assert.ok(performance.now() - started < 12_000, "another limit held: a dial has 15 s where none is given");
        },
      ));

    it("gives up after perDialTimeout also behind a jump host that answers", async () => {
      const jump = await TestSshServer.start();
      jump.behaviour.forwarding = "never";
      assert.equal(
        await refusal({ proxy: { ...jump.connection() }, perDialTimeout: 0.1 }, "transport"),
        `${name} cannot be reached through the proxy: no answer within 0.1 s`,
      );
      await jump.stop();
    });

    it("gives up at the deadline when a dial has no limit", () =>
      listening(
        () => undefined,
        async (port) => {
          await assert.rejects(connect(server.connection({ port, perDialTimeout: 0 }), { deadline: soon(0.5), patient: true }), {
            code: "timeout",
            message: new RegExp(
              `^the test did not finish within 0\\.5 s; at the end: root@127\\.0\\.0\\.1:${port} cannot be reached by SSH: no answer within [\\d.]+ s\\. ${CHECK_IT}$`,
            ),
          });
        },
      ));

    it("names the algorithms of a host of which none is supported", async () => {
      const old = await TestSshServer.start(newKey(), { kex: ["diffie-hellman-group1-sha1"] });
      assert.match(
        await refusal({ port: old.port }, "refused"),
        /^The SSH handshake with root@127\.0\.0\.1:\d+ failed: .*no matching key exchange algorithm\. It offers these for KEX method: diffie-hellman-group1-sha1\b.*\. This client supports: curve25519-sha256/,
      );
      await old.stop();
    });

    it("gives the reason when the host uses another protocol, or refuses the connection", async () => {
      let closed = 0;
      await listening(
        (socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"),
        async (port) => {
          closed = port;
          assert.match(await refusal({ port }, "transport"), /^root@127\.0\.0\.1:\d+ cannot be reached by SSH: ./);
        },
      );
      assert.equal(
        await refusal({ port: closed }, "transport"),
        `root@127.0.0.1:${closed} cannot be reached by SSH: connect ECONNREFUSED 127.0.0.1:${closed}. ${CHECK_IT}`,
      );
    });
  });

  describe("runs a command", () => {
    it("with exactly its arguments and its input, and returns its complete output", async () => {
      server.behaviour.command = runForReal;
      const ssh = await dial();
      const script = 'printf "%s|" "$@"; cat; echo "to stderr" >&2; exit 3';
      const result = await ssh.run(["sh", "-c", script, "sh", "it's", "$HOME", ""], {
        deadline: soon(),
        stdin: "ä\n",
        allowFailure: true,
      });
      assert.deepEqual(result, { exitCode: 3, stdout: "it's|$HOME||ä\n", stderr: "to stderr\n" });
    });

    it("with input and output of any size", async () => {
      server.behaviour.command = runForReal;
      const ssh = await dial();
      const input = Buffer.alloc(3_000_000, "0123456789");
      assert.equal((await ssh.run(["cat"], { deadline: soon(), stdin: input })).stdout, input.toString());
    });

    it("and fails when it does, with the program, the host and its last lines, but not its arguments", async () => {
      server.behaviour.command = (_line, channel) =>
        finish(channel, 100, "", "line 1\nline 2\nline 3\nline 4\nline 5\nE: Unable to locate package\n");
      const ssh = await dial();
      await assert.rejects(ssh.run(["apt-get", "install", "secret-argument"], { deadline: soon() }), {
        code: "command",
        message: `apt-get on ${name} failed with exit code 100: line 2\nline 3\nline 4\nline 5\nE: Unable to locate package`,
      });
    });

    it("and fails when a signal has ended it", async () => {
      server.behaviour.command = (_line, channel) => {
        channel.exit("KILL");
        channel.end();
        channel.resume();
      };
      const ssh = await dial();
      await assert.rejects(ssh.run(["lxd", "init"], { deadline: soon() }), {
        code: "command",
        message: `lxd on ${name} failed with exit code 128`,
      });
    });

    it("and gives it up at the deadline, also when the host never starts it", async () => {
      server.behaviour.command = () => undefined;
      const ssh = await dial();
      await assert.rejects(ssh.run(["sleep", "1000"], { deadline: soon(0.5) }), {
        code: "timeout",
        message: `the test did not finish within 0.5 s; at the end: running sleep on ${name}`,
      });
      server.behaviour.command = (line, channel) => finish(channel, 0, line);
      assert.equal((await ssh.run(["true"], { deadline: soon() })).stdout, "true");
    });

    it("and names host and program when the connection drops", async () => {
      server.behaviour.command = (_line, channel) => {
        channel.write("half", () => server.cut());
      };
      const ssh = await dial();
      await assert.rejects(ssh.run(["apt-get", "install"], { deadline: soon() }), {
        code: "transport",
        host: name,
        message: `The connection to ${name} broke while apt-get was running`,
      });
      assert.equal(ssh.open, false);
      await assert.rejects(ssh.run(["true"], { deadline: soon() }), {
        code: "transport",
        message: new RegExp(`^starting true on ${name.replaceAll(".", "\\.")} failed: `),
      });
    });

    it("also when the host has no place for a session yet, which sshd may say just after others have ended", async () => {
      server.behaviour.refusedSessions = 2;
      const ssh = await dial();
      assert.equal((await ssh.run(["true"], { deadline: soon() })).stdout, "true");
      assert.deepEqual(server.lines, ["true"]);
    });

    it("with at most eight channels at a time, so that a user can still log in beside it", async () => {
      const held: (() => void)[] = [];
      server.behaviour.command = (line, channel) => {
        held.push(() => finish(channel, 0, line));
        if (held.length === 8) {
          for (const release of held.splice(0)) {
            release();
          }
        }
      };
      const ssh = await dial();
      const results = await Promise.all(
        Array.from({ length: 24 }, (_, index) => ssh.run(["echo", String(index)], { deadline: soon() })),
      );
      assert.deepEqual(
        results.map(({ stdout }) => stdout),
        Array.from({ length: 24 }, (_, index) => `echo ${index}`),
      );
      assert.equal(server.mostChannels, 8);
      assert.equal(server.connections, 1);
    });
  });

  describe("to a host whose sshd opens no session at all", () => {
    it("reports it, and where to look", async () => {
      Object.assign(server.behaviour, { maxSessions: 0 });
      const ssh = await dial();
      await assert.rejects(ssh.run(["true"], { deadline: soon(20) }), {
        code: "transport",
        message: new RegExp(
          `^starting true on ${name.replaceAll(".", "\\.")} failed: .*opens no session: see MaxSessions in its sshd_config`,
        ),
      });
    });
  });

  describe("as a user other than root", () => {
    const user = "operator";
    let operator: string;

    beforeEach(() => {
      operator = `operator@127.0.0.1:${server.port}`;
      server.behaviour.accepts = (login) => login.username === user && server.knows(login, server.key);
    });

    it("becomes root by sudo, without a prompt", async () => {
      const ssh = await dial({ user });
      await ssh.run(["systemctl", "start", "lxd.socket"], { deadline: soon() });
      await ssh.run(["true"], { deadline: soon() });
      assert.deepEqual(server.lines, ["sudo -n true", "sudo -n -- systemctl start lxd.socket", "sudo -n -- true"]);
    });

    for (const [what, exitCode, said] of [
      ["asks for a password", 1, "sudo: a password is required"],
      ["is not there", 127, "sh: 1: sudo: command not found"],
      ["does not know the user", 1, "sudo: operator is not in the sudoers file"],
    ] as const) {
      it(`is refused, also where a failure is allowed, when sudo ${what}`, async () => {
        server.behaviour.command = (_line, channel) => finish(channel, exitCode, "", `${said}\n`);
        const ssh = await dial({ user });
        await assert.rejects(ssh.run(["true"], { deadline: soon(), allowFailure: true }), {
          code: "refused",
          message:
            `${operator} may not become root: ${said}. Log in as root (connection.user), or let this user run sudo without a password: echo ` +
            "'operator ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/operator",
        });
      });
    }

    it("is not refused when sudo only warns, and asks no more than once per connection", async () => {
      server.behaviour.command = (line, channel) =>
        finish(channel, 0, line, "sudo: unable to resolve host bcn1: Name or service not known\n");
      const ssh = await dial({ user });
      await Promise.all([1, 2, 3].map(() => ssh.run(["true"], { deadline: soon() })));
      assert.deepEqual(server.lines, ["sudo -n true", ...Array.from({ length: 3 }, () => "sudo -n -- true")]);
    });

    it("does not mistake the failure of a command for one of sudo", async () => {
      server.behaviour.command = (line, channel) =>
        line === "sudo -n true" ? finish(channel, 0) : finish(channel, 1, "", "sudo: unable to do what was asked\n");
      const ssh = await dial({ user });
      assert.equal((await ssh.run(["true"], { deadline: soon(), allowFailure: true })).exitCode, 1);
    });
  });

  describe("at a host with unusual shell output", () => {
    const GREETING = 'Welcome to bcn1!\n{"type": "sync"}\nHTTP/1.1 200 OK';
    const greets = `printf '%s' '${GREETING}'; printf '%s' '${GREETING}' >&2`;

    for (const [what, startUp] of [
      ["that is silent", ""],
      ["that prints a banner on both streams, without a line break at the end", greets],
      ["that shows each line that it runs", "set -x"],
      ["that says goodbye", `${greets}; trap 'echo Goodbye; echo Goodbye >&2; exit 9' EXIT`],
      ["that reads its input", `${greets}; IFS= read -r line < /dev/null`],
    ] as const) {
      for (const shell of ["/bin/sh", "/bin/bash"]) {
        it(`${what} (${shell}), reads the command's own output, whatever its bytes, and its exit code`, async () => {
          server.behaviour.command = (_line, channel) => runInShell(shell, startUp, channel);
          const ssh = await dial();
          const argv = ["it's", "$HOME", "a\\b\\\\", "!x", "a\nb\n", "", "\t*?[~ %s %%", "\r", "\\0101", "ä☃", "`id`"];
          const script = 'printf "%s|" "$@"; cat; printf "said" >&2; exit 3';
          assert.deepEqual(
            await ssh.run(["sh", "-c", script, "sh", ...argv], { deadline: soon(), stdin: "in\n\0put", allowFailure: true }),
            { exitCode: 3, stdout: `${argv.map((each) => `${each}|`).join("")}in\n\0put`, stderr: "said" },
          );
        });
      }
    }

    it("runs all commands with the locale C", async () => {
      server.behaviour.command = (_line, channel) => runInShell("/bin/sh", "LC_ALL=de_DE.UTF-8; export LC_ALL", channel);
      const ssh = await dial();
      assert.equal((await ssh.run(["printenv", "LC_ALL"], { deadline: soon() })).stdout, "C\n");
    });

    it("runs all commands with umask 022", async () => {
      server.behaviour.command = (_line, channel) => runInShell("/bin/sh", "umask 077", channel);
      const ssh = await dial();
      assert.equal((await ssh.run(["sh", "-c", "umask"], { deadline: soon() })).stdout, "0022\n");
    });

    it("gives the input to the command, and not to a start-up file", async () => {
      server.behaviour.command = (_line, channel) => runInShell("/bin/sh", "IFS= read -r line", channel);
      const ssh = await dial();
      await assert.rejects(ssh.run(["cat"], { deadline: soon(0.3), stdin: "precious" }), { code: "timeout" });
      assert.equal((await ssh.run(["cat"], { deadline: soon() })).stdout, "");
    });

    for (const [what, user, exitCode, said] of [
      ["an account that is closed", "root", 1, "This account is currently not available."],
      ["a forced command", "root", 142, 'Please login as the user "ubuntu" rather than the user "root".'],
      ["a shell that fails", "operator", 127, "/bin/nosuch: not found"],
    ] as const) {
      it(`reports what answered instead, and never that LXD is missing: ${what}`, async () => {
        server.behaviour.accepts = (login) => login.username === user && server.knows(login, server.key);
        server.behaviour.command = (_line, channel) => answer(channel, exitCode, `${said}\n`);
        server.behaviour.forwarding = false;
        const ssh = await dial({ user });
        const at = `${user}@127.0.0.1:${server.port}`;
        const message =
          `${at} does not run the commands that it is given. Its login shell, or a forced command of sshd, answered instead, with exit ` +
          `code ${exitCode}: ${said}\nLog in as another user (connection.user). Or give this user a login shell such as /bin/bash, and remove ` +
          "command= from its key in authorized_keys";
        await assert.rejects(ssh.run(["true"], { deadline: soon(), allowFailure: true }), { code: "refused", message });
        await assert.rejects(endpointOf(ssh, soon()), { code: "refused", message });
      });
    }
  });

  describe("to a unix socket of the host", () => {
    let http: Server;
    let path: string;

    beforeEach(async () => {
      mkdirSync(home.path("run"));
      path = home.path("run/unix.socket");
      http = createHttpServer((incoming, response) => {
        incoming.pipe(response.setHeader("x-path", incoming.url ?? ""));
      });
      await new Promise<void>((resolve) => http.listen(path, resolve));
    });

    afterEach(() => {
      http.closeAllConnections();
      http.close();
    });

    const exchange = (ssh: SshConnection, agent: ReturnType<SshConnection["unixSocketAgent"]>, body: Buffer): Promise<Buffer> =>
      new Promise((resolve, reject) => {
        const outgoing = request(
          { agent, method: "POST", path: "/1.0", headers: { host: ssh.name, "content-length": body.length } },
          (incoming) => {
            const chunks: Buffer[] = [];
            incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
            incoming.on("end", () => resolve(Buffer.concat(chunks)));
            incoming.on("error", reject);
          },
        );
        outgoing.on("error", reject);
        outgoing.end(body);
      });

    for (const user of ["root", "operator"]) {
      describe(`as ${user}`, () => {
        let ssh: SshConnection;

        beforeEach(async () => {
          server.behaviour.accepts = (login) => login.username === user && server.knows(login, server.key);
          server.behaviour.command = runForReal;
          ssh = await dial({ user });
        });

        it("transports requests and answers of any size, one after the other on the same channel", async () => {
          await ssh.run(["true"], { deadline: soon() });
          server.mostChannels = 0;
          const agent = ssh.unixSocketAgent(path);
          for (const size of [0, 10, 1_000_000, 10]) {
            const body = Buffer.alloc(size, "x");
            assert.ok((await exchange(ssh, agent, body)).equals(body));
          }
          assert.equal(server.mostChannels, 1);
          agent.destroy();
        });

        it("forgets the connections that the daemon closes while they are idle", async () => {
          http.keepAliveTimeout = 50;
          http.prependListener("request", (_, response) => response.setHeader("connection", "keep-alive")); // without a time limit
          const agent = ssh.unixSocketAgent(path);
          await Promise.all(["a", "b"].map((body) => exchange(ssh, agent, Buffer.from(body))));
          while (Object.keys(agent.freeSockets).length > 0) {
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          assert.equal(String(await exchange(ssh, agent, Buffer.from("c"))), "c");
          agent.destroy();
        });

        it("transports many at once, and leaves a channel for a command", async () => {
          const agent = ssh.unixSocketAgent(path);
          const bodies = Array.from({ length: 12 }, (_, index) => Buffer.from(`body ${index}`));
          await ssh.run(["true"], { deadline: soon() });
          server.mostChannels = 0;
          const [answers] = await Promise.all([
            Promise.all(bodies.map((body) => exchange(ssh, agent, body))),
            ssh.run(["true"], { deadline: soon() }),
          ]);
          assert.deepEqual(answers.map(String), bodies.map(String));
          assert.ok(server.mostChannels <= 8, String(server.mostChannels));
          assert.equal((await ssh.run(["true"], { deadline: soon() })).exitCode, 0);
          agent.destroy();
        });

        it("reports whether anything listens there", async () => {
          assert.equal(await ssh.listens(path, soon()), true);
          assert.equal(await ssh.listens(home.path("run/other.socket"), soon()), false);
        });

        it("recognises the socket file of a daemon that has died", async () => {
          const stale = home.path("run/stale.socket");
          const script = "use IO::Socket::UNIX; IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die";
          execFileSync("perl", ["-e", script, stale]);
          assert.ok(statSync(stale).isSocket());
          assert.equal(await ssh.listens(stale, soon()), false);
          assert.equal(await ssh.listener([stale, home.path("run/none"), path], soon()), path);
          const agent = ssh.unixSocketAgent(stale);
          await assert.rejects(exchange(ssh, agent, Buffer.from("x")), { code: "transport", message: /stale\.socket/ });
          agent.destroy();
        });

        it("works where the shell prints a banner", async () => {
          const greets = "echo HTTP/1.1 500 Greetings; printf Welcome; printf Welcome >&2";
          server.behaviour.command = (_line, channel) => runInShell("/bin/bash", greets, channel);
          const agent = ssh.unixSocketAgent(path);
          for (const size of [10, 1_000_000]) {
            const body = Buffer.alloc(size, "x");
            assert.ok((await exchange(ssh, agent, body)).equals(body));
          }
          assert.equal(await ssh.listens(path, soon()), true);
          agent.destroy();
        });

        for (const [maxSessions, connections] of [
          [1, 4],
          [2, 2],
          [3, 2],
        ] as const) {
          it(`works where sshd does not forward to sockets, and lets a connection have ${maxSessions} sessions`, async () => {
            Object.assign(server.behaviour, { forwarding: false, maxSessions });
            const agent = ssh.unixSocketAgent(path);
            assert.equal(await ssh.listens(path, soon()), true);
            const bodies = Array.from({ length: 3 }, (_, index) => Buffer.from(`body ${index}`));
            for (let round = 0; round < 2; round++) {
              const answers = await Promise.all(bodies.map((body) => exchange(ssh, agent, body)));
              assert.deepEqual(answers.map(String), bodies.map(String));
              assert.equal((await ssh.run(["echo", "beside idle relays"], { deadline: soon() })).stdout, "beside idle relays\n");
            }
            assert.equal(server.connections, connections);
            agent.destroy();
          });
        }

        it("fails when nothing listens there", async () => {
          const agent = ssh.unixSocketAgent(home.path("run/other.socket"));
          await assert.rejects(exchange(ssh, agent, Buffer.from("x")));
          agent.destroy();
        });

        it("fails when the connection drops, instead of waiting endlessly", async () => {
          http.removeAllListeners("request");
          http.on("request", () => server.cut());
          const agent = ssh.unixSocketAgent(path);
          await assert.rejects(exchange(ssh, agent, Buffer.from("x")));
          await assert.rejects(exchange(ssh, agent, Buffer.from("x")), { code: "transport" });
          await assert.rejects(ssh.listens(path, soon()), { code: "transport" });
          agent.destroy();
        });
      });
    }
  });

  describe("in one process", () => {
    it("opens one connection to a host, for all callers and in any order of its members", async () => {
      const connection = server.connection();
      const shuffled = Object.fromEntries(Object.entries(connection).reverse()) as typeof connection;
      const made = await Promise.all(
        Array.from({ length: 10 }, (_, index) => connect(index % 2 === 0 ? connection : shuffled, { deadline: soon() })),
      );
      assert.equal(new Set(made).size, 1);
      assert.equal(server.connections, 1);
    });

    it("opens another one for other credentials, and a new one when the old one has ended", async () => {
      const first = await connect(server.connection(), { deadline: soon() });
      await connect(server.connection({ password: "p" }), { deadline: soon() });
      assert.equal(server.connections, 2);
      first.close();
      const again = await connect(server.connection(), { deadline: soon() });
      assert.notEqual(again, first);
      assert.equal((await again.run(["true"], { deadline: soon() })).exitCode, 0);
    });

    it("retries a dial up to dialErrorLimit times for a caller with a long timeout, and tries once for a short one", async () => {
      const { port } = server;
      const address = server.connection();
      await server.stop();
      const connection = (more: Partial<Connection>): Connection => ({ ...address, ...more });
      await assert.rejects(connect(connection({ dialErrorLimit: 3 }), { deadline: soon(), patient: true }), {
        code: "transport",
      });
      await assert.rejects(connect(connection({ dialErrorLimit: -1 }), { deadline: soon(1), patient: true }), {
        code: "timeout",
        message: new RegExp(`at the end: root@127.0.0.1:${port} cannot be reached by SSH: connect ECONNREFUSED`),
      });
      server = await TestSshServer.start();
    });

    it("does not dial again for each object of a host that was silent a moment ago", async () => {
      server.behaviour.accepts = () => false;
      for (let object = 0; object < 5; object++) {
        await assert.rejects(connect(server.connection(), { deadline: soon() }), /did not accept the login/);
      }
      assert.equal(server.connections, 1);
    });

    it("does not let a short timeout wait as long as a long one, when both dial the same host", async () => {
      const { port } = server;
      const connection = server.connection({ dialErrorLimit: -1 });
      await server.stop();
      const ended: string[] = [];
      const dialled = (patient: boolean): Promise<void> =>
        assert.rejects(connect(connection, { deadline: soon(3), patient })).then(() => {
          ended.push(patient ? "patient" : "impatient");
        });
      await Promise.all([dialled(true), dialled(false)]);
      assert.deepEqual(ended, ["impatient", "patient"]);
      assert.equal(connection.port, port);
      server = await TestSshServer.start();
    });

    it("does not dial again after a refusal, whatever the timeout", async () => {
      server.behaviour.accepts = () => false;
      await assert.rejects(connect(server.connection(), { deadline: soon(), patient: true }), { code: "refused" });
      assert.equal(server.connections, 1);
    });
  });

  describe("to a cluster", () => {
    const within = (patient: boolean) => ({ deadline: soon(), patient, warn: () => undefined });
    const noLxd =
      /^RefusedError: Neither LXD nor Incus runs on .*: none of their API sockets answers \(\/var\/snap\/lxd\/common\/lxd\/unix\.socket, .*\)\. Install it \(LxdNode with install\), or start it$/;

    it("reports for a host without LXD what was looked for and what to do", async () => {
      server.behaviour.command = (_line, channel) => finish(channel, 0);
      const ssh = await dial();
      await assert.rejects(endpointOf(ssh, soon()), noLxd);
    });

    it("names every host and why it did not answer, if none does", async () => {
      server.behaviour.command = (_line, channel) => finish(channel, 0);
      const wrongKey = server.connection({ hostKey: newKey().public });
      const error = await clusterEndpoint({ endpoints: [wrongKey, server.connection()] }, within(false)).then(
        () => assert.fail(),
        (thrown: unknown) => thrown as Error & { code: string },
      );
      assert.equal(error.code, "transport");
      assert.match(
        error.message,
        /^No host of the cluster answers:\n {2}- root@127\.0\.0\.1:\d+ was not trusted: .*\n {2}- Neither LXD nor Incus runs on root@127\.0\.0\.1:\d+: /,
      );
    });

    it("says only the one reason when there is only one host", async () => {
      server.behaviour.command = (_line, channel) => finish(channel, 0);
      await assert.rejects(clusterEndpoint({ endpoints: [server.connection()] }, within(true)), noLxd);
    });
  });
});
