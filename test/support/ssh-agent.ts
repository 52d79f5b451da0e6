import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** OpenSSH's own agent, with the test's keys. */
export class SshAgent {
  private constructor(
    private readonly folder: string,
    private readonly agent: ChildProcess,
    /** Value for `SSH_AUTH_SOCK` and `agentSocketPath`. */
    readonly socket: string,
  ) {}

  /** Starts an agent that holds these private keys, which are not encrypted. */
  static async start(...privateKeys: readonly string[]): Promise<SshAgent> {
    const folder = mkdtempSync(join(tmpdir(), "agent-"));
    const socket = join(folder, "socket");
    const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve, reject) => {
      agent.stdout.once("data", resolve);
      agent.once("error", reject);
    });
    const started = new SshAgent(folder, agent, socket);
    for (const key of privateKeys) {
      started.add(key);
    }
    return started;
  }

  /** `ssh-add`, for a key as text. */
  add(privateKey: string): void {
    const path = join(this.folder, "key");
    writeFileSync(path, privateKey, { mode: 0o600 });
    execFileSync("ssh-add", ["-q", path], { env: { ...process.env, SSH_AUTH_SOCK: this.socket } });
    rmSync(path);
  }

  /** `ssh-add -D`: removes all keys. */
  empty(): void {
    execFileSync("ssh-add", ["-q", "-D"], { env: { ...process.env, SSH_AUTH_SOCK: this.socket }, stdio: "ignore" });
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.agent.once("close", resolve));
    this.agent.kill();
    await ended;
    rmSync(this.folder, { recursive: true });
  }
}
