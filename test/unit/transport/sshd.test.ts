import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { Deadline, until } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { SshConnection } from "../../../provider/transport/ssh";
import { skip } from "../../../tools/test/skip";

const SSHD = "/usr/sbin/sshd";

describe("SSH to OpenSSH's own sshd", () => {
  let folder: string;
  let sshd: ChildProcess | undefined;
  let port: number;
  const deadline = new Deadline(30, "the test");

  before(async function () {
    if (!existsSync(SSHD) || process.getuid?.() !== 0) {
      skip(
        this,
        `${existsSync(SSHD) ? "sshd needs root to log a user in" : `there is no ${SSHD} here`}; the lab's hosts have one`,
      );
    }
    folder = mkdtempSync(join(tmpdir(), "sshd-"));
    const keygen = (name: string, ...more: string[]): void => {
      execFileSync("ssh-keygen", ["-q", "-N", "", "-f", join(folder, name), ...more]);
    };
    keygen("host_ed25519", "-t", "ed25519");
    keygen("host_rsa", "-t", "rsa", "-b", "2048");
    keygen("user_ed25519", "-t", "ed25519");
    keygen("user_rsa", "-t", "rsa", "-b", "2048");
    writeFileSync(join(folder, "authorized_keys"), read("user_ed25519.pub") + read("user_rsa.pub"), { mode: 0o600 });
    mkdirSync("/run/sshd", { recursive: true });
    port = await freePort();
    const options = [
      "ListenAddress=127.0.0.1",
      `Port=${port}`,
      "UsePAM=no",
      "StrictModes=no",
      "PermitRootLogin=prohibit-password",
      "MaxSessions=10",
      `PidFile=${join(folder, "pid")}`,
      `AuthorizedKeysFile=${join(folder, "authorized_keys")}`,
      `HostKey=${join(folder, "host_rsa")}`,
      `HostKey=${join(folder, "host_ed25519")}`,
    ];
    sshd = spawn(SSHD, ["-D", "-e", "-f", "/dev/null", ...options.flatMap((option) => ["-o", option])], { stdio: "ignore" });
    await until(deadline, () => listens(port));
  });

  after(async () => {
    if (sshd !== undefined) {
      const ended = new Promise((resolve) => sshd?.once("close", resolve));
      sshd.kill();
      await ended;
      rmSync(folder, { recursive: true });
    }
  });

  const read = (name: string): string => readFileSync(join(folder, name), "utf8");
  const connection = (more: object = {}) =>
    connectionSchema.parse({
      host: "127.0.0.1",
      port,
      user: userInfo().username,
      privateKey: read("user_ed25519"),
      hostKey: read("host_ed25519.pub"),
      ...more,
    });

  for (const [user, host] of [
    ["user_ed25519", "host_ed25519"],
    ["user_rsa", "host_rsa"],
  ] as const) {
    it(`logs in with ${user} to a host that is known by ${host}`, async () => {
      const ssh = await SshConnection.dial(connection({ privateKey: read(user), hostKey: read(`${host}.pub`) }), deadline);
      assert.equal((await ssh.run(["printf", "%s", "it's $HOME"], { deadline })).stdout, "it's $HOME");
      ssh.close();
    });
  }

  it("trusts no other host key, and is not let in with another key", async () => {
    await assert.rejects(
      SshConnection.dial(connection({ hostKey: read("user_ed25519.pub") }), deadline),
      /, which is not connection\.hostKey/,
    );
    await assert.rejects(
      SshConnection.dial(connection({ privateKey: read("host_ed25519") }), deadline),
      /did not accept the login \(tried: private key\)/,
    );
  });

  it("runs many commands at once within sshd's own limit, and tells of one that fails", async () => {
    const ssh = await SshConnection.dial(connection(), deadline);
    const results = await Promise.all(Array.from({ length: 40 }, (_, index) => ssh.run(["echo", String(index)], { deadline })));
    assert.deepEqual(
      results.map(({ stdout }) => stdout),
      Array.from({ length: 40 }, (_, index) => `${index}\n`),
    );
    await assert.rejects(
      ssh.run(["ls", "/nowhere"], { deadline }),
      /ls on \S+ failed with exit code 2: .*No such file or directory/,
    );
    ssh.close();
  });

  it("tells whether anything listens on a unix socket", async () => {
    const ssh = await SshConnection.dial(connection(), deadline);
    const path = join(folder, "unix.socket");
    const server = createServer().listen(path);
    assert.equal(await ssh.listens(path, deadline), true);
    assert.equal(await ssh.listens(join(folder, "none"), deadline), false);
    server.close();
    ssh.close();
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function listens(port: number): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(undefined));
  });
}
