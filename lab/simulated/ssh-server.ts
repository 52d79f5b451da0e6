/**
 * The SSH side of a simulated host: login by public key and password, exec, forwarding to a unix socket and to another
 * host of the lab, with sshd's limits. The host decides what a command does and which sockets answer.
 */
import { connect as connectTcp, createServer, type Server as NetServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type AuthContext, type Connection, type ServerChannel, type Session, Server as SshServer, utils } from "ssh2";

import type { FaultEffect, SshStep } from "./faults";
import { listenOnLoopback } from "./loopback-port";

/** Settings of sshd; a test may change them while it runs. */
export interface SshdSettings {
  /** Sessions on one connection; forwarded channels do not count. @default 10 */
  maxSessions: number;
  /** Whether it connects to unix sockets (AllowStreamLocalForwarding). @default true */
  forwarding: boolean;
}

/** Accepted logins. A method that is empty or absent is refused. */
export interface AcceptedLogin {
  users: string[];
  /** In authorized_keys format. */
  publicKeys: string[];
  password?: string;
}

/** Callbacks of the host for its SSH server. */
export interface SshServices {
  login(): AcceptedLogin;
  settings(): SshdSettings;
  /** The fault at this step. */
  fault(step: SshStep): FaultEffect | undefined;
  /** Runs one command line; resolves with its exit status. */
  run(line: string, user: string, channel: CommandChannel): Promise<number>;
  /** Accepts a channel to a unix socket; returns false if nothing listens there. */
  connect(socketPath: string, user: string, channel: () => ServerChannel, connection: { drop: () => void }): boolean;
}

/** The streams of one command. */
export interface CommandChannel {
  /** Resolves when the client has closed its end. */
  stdin(): Promise<Buffer>;
  stdout(text: string | Buffer): void;
  stderr(text: string | Buffer): void;
  /** Input and output as one stream, for a command that relays it. Replaces the three above. */
  stream(): ServerChannel;
  /** Cuts the connection that the command runs on. */
  drop(): void;
  /** Resolves when the client closes the channel, for commands that never end by themselves. */
  closed: Promise<void>;
}

/** Counters for tests. */
export interface SshCounters {
  /** Connections that logged in. */
  connections: number;
  /** TCP connections, logged in or not. */
  attempts: number;
  refusedLogins: number;
  commands: number;
  forwards: number;
  refusedSessions: number;
  /** Maximum number of session and forward channels open at once on one connection. */
  mostChannels: number;
}

/** One SSH server on 127.0.0.1. */
export class SimulatedSshServer {
  readonly counters: SshCounters = {
    connections: 0,
    attempts: 0,
    refusedLogins: 0,
    commands: 0,
    forwards: 0,
    refusedSessions: 0,
    mostChannels: 0,
  };
  private readonly sockets = new Set<Socket>();
  private ssh: SshServer;
  /** Connections to cut as soon as they have logged in. */
  private readonly doomed = new WeakSet<Socket>();
  private listener: NetServer | undefined;
  private listeningPort = 0;

  constructor(
    hostKey: string,
    private readonly services: SshServices,
  ) {
    this.ssh = this.serverWith(hostKey);
  }

  /** Uses another host key from now on. */
  changeHostKey(hostKey: string): void {
    this.ssh = this.serverWith(hostKey);
  }

  private serverWith(hostKey: string): SshServer {
    return new SshServer({ hostKeys: [hostKey], ident: "OpenSSH_9.2p1 Debian-2+deb12u7" }, (connection, info) =>
      this.accept(
        connection,
        [...this.sockets].find((socket) => socket.remotePort === info.port),
      ),
    );
  }

  /** Port on 127.0.0.1; stays the same after a power cycle. */
  get port(): number {
    return this.listeningPort;
  }

  async listen(): Promise<void> {
    const listener = createServer((socket) => {
      this.sockets.add(socket);
      this.counters.attempts += 1;
      socket.on("error", () => socket.destroy());
      socket.on("close", () => this.sockets.delete(socket));
      socket.setNoDelay(true);
      const effect = this.services.fault("connection");
      if (effect === "hang") {
        return; // connected, but silent
      }
      if (effect === "drop-before") {
        socket.destroy();
        return;
      }
      if (effect === "drop-after") {
        this.doomed.add(socket);
      }
      this.ssh.injectSocket(socket);
    });
    this.listener = listener;
    this.listeningPort = await listenOnLoopback(listener, this.listeningPort === 0 ? undefined : this.listeningPort);
  }

  /** Stops listening and cuts every connection. */
  async close(): Promise<void> {
    const listener = this.listener;
    this.listener = undefined;
    this.dropConnections();
    if (listener !== undefined) {
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    }
  }

  /** Cuts every connection; accepts new ones. */
  dropConnections(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  private accept(connection: Connection, socket: Socket | undefined): void {
    let user = "";
    let sessions = 0;
    let channels = 0;
    const drop = () => void socket?.destroy();
    const opened = () => {
      channels += 1;
      this.counters.mostChannels = Math.max(this.counters.mostChannels, channels);
    };
    connection.on("error", () => drop());
    connection.on("authentication", (context) => {
      if (this.authenticate(context)) {
        user = context.username;
        context.accept();
      } else {
        if (context.method !== "none") {
          this.counters.refusedLogins += 1;
        }
        context.reject(["publickey", "password"]);
      }
    });
    connection.on("ready", () => {
      this.counters.connections += 1;
      if (socket !== undefined && this.doomed.has(socket)) {
        drop();
        return;
      }
      /** Refuses or drops a channel if the fault says so. */
      const fails = (fault: FaultEffect | undefined, reject: () => void): boolean => {
        if (fault === "drop-before") {
          drop();
        } else if (isRefusal(fault)) {
          reject();
        }
        return fault === "hang" || fault === "drop-before" || isRefusal(fault);
      };
      connection.on("session", (accept, reject) => {
        const fault = this.services.fault("channel");
        if (fails(fault, reject)) {
          return;
        }
        if (sessions >= this.services.settings().maxSessions) {
          this.counters.refusedSessions += 1;
          reject();
          return;
        }
        sessions += 1;
        opened();
        this.serveSession(accept(), user, drop, () => {
          sessions -= 1;
          channels -= 1;
        });
        if (fault === "drop-after") {
          drop();
        }
      });
      connection.on("tcpip", (accept, reject, { destIP, destPort }) => {
        if (destIP !== "127.0.0.1") {
          reject(); // connections of a lab stay on this machine
          return;
        }
        const target = connectTcp(destPort, destIP);
        target.once("error", () => reject());
        target.once("connect", () => {
          target.removeAllListeners("error");
          const channel: ServerChannel = accept();
          const end = () => {
            target.destroy();
            channel.destroy();
          };
          for (const stream of [target, channel]) {
            stream.on("error", end);
            stream.on("close", end);
          }
          target.pipe(channel).pipe(target);
        });
      });
      connection.on("openssh.streamlocal", (accept, reject, info) => {
        const fault = this.services.fault("channel");
        if (fails(fault, reject)) {
          return;
        }
        const open = () => {
          opened();
          const channel: ServerChannel = accept();
          channel.on("error", () => undefined);
          channel.once("close", () => {
            channels -= 1;
          });
          return channel;
        };
        if (!this.services.settings().forwarding || !this.services.connect(info.socketPath, user, open, { drop })) {
          reject();
          return;
        }
        this.counters.forwards += 1;
        if (fault === "drop-after") {
          drop();
        }
      });
    });
  }

  private authenticate(context: AuthContext): boolean {
    const login = this.services.login();
    if (!login.users.includes(context.username)) {
      return false;
    }
    if (context.method === "password") {
      return login.password !== undefined && context.password === login.password;
    }
    if (context.method !== "publickey") {
      return false;
    }
    for (const line of login.publicKeys) {
      const key = utils.parseKey(line);
      if (key instanceof Error || !key.getPublicSSH().equals(context.key.data)) {
        continue;
      }
      if (context.signature === undefined || context.blob === undefined) {
        return true;
      }
      return key.verify(context.blob, context.signature, context.hashAlgo);
    }
    return false;
  }

  private serveSession(session: Session, user: string, drop: () => void, ended: () => void): void {
    session.once("close", ended);
    session.on("env", (accept) => accept());
    session.on("exec", (accept, _reject, info) => {
      this.counters.commands += 1;
      const channel = accept();
      channel.on("error", () => undefined);
      const command: CommandChannel = {
        stdin: () => readToEnd(channel),
        stream: () => channel,
        stdout: (text) => void channel.write(text),
        stderr: (text) => void channel.stderr.write(text),
        drop,
        closed: new Promise<void>((resolve) => channel.once("close", () => resolve())),
      };
      void this.services.run(info.command, user, command).then((exitCode) => {
        if (channel.destroyed) {
          return;
        }
        channel.exit(exitCode);
        channel.end();
        channel.resume();
      });
    });
  }
}

function isRefusal(effect: FaultEffect | undefined): boolean {
  return typeof effect === "object" && "status" in effect;
}

async function readToEnd(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    stream.once("end", resolve);
    stream.once("close", () => resolve());
  });
  return Buffer.concat(chunks);
}
