import { spawn } from "node:child_process";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import {
  type Algorithms,
  type AuthContext,
  type ServerChannel,
  type Session,
  type Connection as SshClient,
  Server as SshServer,
  utils,
} from "ssh2";
import { type FramedCommandLine, takeOutOfFrame } from "../../../lab/simulated/framed-command";
import { listenOnLoopback } from "../../../lab/simulated/loopback-port";
import { type Connection, connectionSchema } from "../../../provider/transport/connection";

/** A key pair in ssh-keygen's format. */
export interface KeyPair {
  readonly private: string;
  readonly public: string;
}

/** A new key pair; with a passphrase, its private half is encrypted. */
export function newKey(passphrase?: string): KeyPair {
  // 16 rounds are bcrypt's usual ones, and a noticeable time; one is enough to be encrypted.
  for (;;) {
    const pair =
      passphrase === undefined
        ? utils.generateKeyPairSync("ed25519")
        : utils.generateKeyPairSync("ed25519", { passphrase, cipher: "aes256-cbc", rounds: 1 });
    // One in about 400 of the keys that ssh2 makes is malformed: it drops a leading zero.
    if (!(utils.parseKey(pair.private, passphrase) instanceof Error)) {
      return pair;
    }
  }
}

/** Behaviour of the server; all of it may be changed while it runs. */
export interface Behaviour {
  /** Accepted logins; `undefined` to decide later. @default user root with {@link TestSshServer.key} */
  accepts: (login: AuthContext) => boolean | undefined;
  /**
   * Result of a command, given without its frame. @default it ends at once, with exit code 0 and its command line as
   * output
   */
  command: (line: string, channel: ServerChannel, server: TestSshServer) => void;
  /** Whether it connects to unix sockets and other hosts, or never answers that request. @default true */
  forwarding: boolean | "never";
  /** How many sessions it refuses to open before it opens one. @default 0 */
  refusedSessions: number;
  /** How many sessions one connection may have, as sshd's MaxSessions. @default 10 */
  maxSessions: number;
}

/** An SSH server on the loopback interface, in this process. */
export class TestSshServer {
  readonly key = newKey();
  readonly hostKey: KeyPair;
  readonly lines: string[] = [];
  /** Connections so far. */
  connections = 0;
  /** Maximum number of channels open at the same time on one connection. */
  mostChannels = 0;
  behaviour: Behaviour = {
    accepts: (login) => login.username === "root" && this.knows(login, this.key),
    command: (line, channel) => finish(channel, 0, line),
    forwarding: true,
    refusedSessions: 0,
    maxSessions: 10,
  };
  private readonly sockets = new Set<Socket>();
  private readonly ssh: SshServer;
  private readonly listener: Server;

  private constructor(hostKey: KeyPair, algorithms: Algorithms) {
    this.hostKey = hostKey;
    this.ssh = new SshServer({ hostKeys: [hostKey.private], algorithms }, (client) => this.serve(client));
    this.listener = createServer((socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
      socket.on("error", () => undefined);
      this.connections++;
      this.ssh.injectSocket(socket);
    });
  }

  static async start(hostKey = newKey(), algorithms: Algorithms = {}): Promise<TestSshServer> {
    const server = new TestSshServer(hostKey, algorithms);
    await listenOnLoopback(server.listener);
    return server;
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  /** A connection to this server with key and host key, or with the given values. */
  connection(more: Record<string, unknown> = {}): Connection {
    return connectionSchema.parse({
      host: "127.0.0.1",
      port: this.port,
      privateKey: this.key.private,
      hostKey: this.hostKey.public,
      perDialTimeout: 5,
      ...more,
    });
  }

  /** Whether the login is by this key. */
  knows(login: AuthContext, key: KeyPair): boolean {
    const known = utils.parseKey(key.public);
    if (known instanceof Error || login.method !== "publickey" || !known.getPublicSSH().equals(login.key.data)) {
      return false;
    }
    return login.blob === undefined || login.signature === undefined || known.verify(login.blob, login.signature, login.hashAlgo);
  }

  /** Cuts all connections, as a power cut would. */
  cut(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  /** Resolves when the last connection has ended. */
  async disconnected(): Promise<void> {
    await Promise.all([...this.sockets].map((socket) => new Promise((resolve) => socket.once("close", resolve))));
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.listener.close(resolve));
  }

  private serve(client: SshClient): void {
    let open = 0;
    let sessions = 0;
    const count = (channel: { once(event: "close", listener: () => void): unknown }): void => {
      open++;
      this.mostChannels = Math.max(this.mostChannels, open);
      channel.once("close", () => {
        open--;
      });
    };
    client.on("error", () => undefined);
    client.on("authentication", (login) => {
      const accepted = this.behaviour.accepts(login);
      if (accepted !== undefined) {
        (accepted ? login.accept : login.reject).call(login);
      }
    });
    client.on("session", (accept, reject) => {
      if (this.behaviour.refusedSessions > 0) {
        this.behaviour.refusedSessions--;
        reject();
        return;
      }
      if (sessions >= this.behaviour.maxSessions) {
        reject();
        return;
      }
      sessions++;
      const session: Session = accept();
      session.once("close", () => {
        sessions--;
      });
      session.on("exec", (start, _refuse, { command }) => {
        const channel = start();
        count(channel);
        channel.on("error", () => undefined);
        const framed = takeOutOfFrame(command);
        started.set(channel, { line: command, framed });
        this.lines.push(framed?.command ?? command);
        this.behaviour.command(framed?.command ?? command, channel, this);
      });
    });
    client.on("openssh.streamlocal", (accept, reject, { socketPath }) => this.relay(connect(socketPath), accept, reject, count));
    client.on("tcpip", (accept, reject, { destIP, destPort }) => this.relay(connect(destPort, destIP), accept, reject, count));
  }

  private relay(target: Socket, accept: () => ServerChannel, reject: () => void, count: (channel: ServerChannel) => void): void {
    let channel: ServerChannel | undefined;
    if (this.behaviour.forwarding === "never") {
      target.on("error", () => undefined).destroy();
      return;
    }
    target.on("error", () => (channel === undefined ? reject() : channel.destroy()));
    if (!this.behaviour.forwarding) {
      target.destroy();
      reject();
      return;
    }
    target.on("connect", () => {
      channel = accept();
      count(channel);
      channel.on("error", () => undefined);
      const opened = channel;
      opened.pipe(target).pipe(opened, { end: false });
      target.on("end", () => opened.eof()); // as sshd, which closes the channel when both directions have ended
    });
  }
}

/** A request on a channel. */
const started = new WeakMap<ServerChannel, { line: string; framed: FramedCommandLine | undefined }>();

/** Ends a command that has run in its frame. */
export function finish(channel: ServerChannel, exitCode: number, stdout = "", stderr = ""): void {
  const mark = started.get(channel)?.framed?.mark ?? "";
  answer(channel, exitCode, `${mark}${stdout}${mark}:${exitCode}.`, `${mark}${stderr}${mark}`);
}

/** Answers like a host that has not run the command. */
export function answer(channel: ServerChannel, exitCode: number, stdout = "", stderr = ""): void {
  channel.stderr.write(stderr);
  channel.write(stdout);
  channel.exit(exitCode);
  channel.end();
  channel.resume(); // the client's end of input is read, so that the channel closes
}

/** Runs the command line, as sshd does; `sudo -n` is left out. */
export function runForReal(_line: string, channel: ServerChannel): void {
  runInShell("/bin/sh", "", channel);
}

/** Runs the command line with a login shell, which reads its start-up files first. */
export function runInShell(shell: string, startUp: string, channel: ServerChannel): void {
  const line = started.get(channel)?.line ?? "";
  const child = spawn(shell, ["-c", `${startUp}\n${line.replace("sudo -n -- ", "").replace("'sudo -n true'", "true")}`]);
  channel.pipe(child.stdin);
  child.stdin.on("error", () => undefined);
  child.stdout.pipe(channel, { end: false });
  child.stderr.pipe(channel.stderr, { end: false });
  channel.on("close", () => child.kill());
  child.on("close", (code) => {
    channel.unpipe();
    if (!channel.destroyed) {
      channel.exit(code ?? 128);
      channel.end();
    }
    channel.resume();
  });
}
