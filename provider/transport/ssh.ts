import { Agent } from "node:http";
import type { Duplex } from "node:stream";
import pLimit from "p-limit";
import type { Client, ClientChannel } from "ssh2";
import { Deadline, until } from "../support/deadline";
import { CommandError, hasCode, RefusedError, TransportError } from "../support/errors";
import { type Connection, describeConnection } from "./connection";
import { dialClient, openTunnel } from "./dial";
import { commandLine } from "./quote";

/** sshd's default MaxSessions is 10; two are left to the person who is logged in at the same time. */
const CHANNELS_PER_CONNECTION = 8;

/** What the programs that are run here write is small; what is more than this is not kept. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** How long a host may have no place for one more session. */
const SESSION_PATIENCE_SECONDS = 5;

/** What a command left behind. */
export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One SSH connection to a host, shared by all that is done there within this process. */
export class SshConnection {
  private readonly channels = pLimit(CHANNELS_PER_CONNECTION);
  private closed: Error | undefined;
  /** Channels to unix sockets that are open. */
  private readonly sockets = new Set<Duplex>();

  private constructor(
    private readonly client: Client,
    /** `user@host:port`, as messages name the host. */
    readonly name: string,
    private readonly user: string,
  ) {
    client.on("error", (error) => {
      this.closed ??= error;
    });
    client.on("close", () => {
      this.closed ??= new Error("the connection was closed by the host");
      for (const socket of this.sockets) {
        socket.destroy(); // one that is idle would not notice, and be given the next request for ever
      }
    });
  }

  /** Whether the connection can still be used. */
  get open(): boolean {
    return this.closed === undefined;
  }

  /**
   * Dials once, for at most `perDialTimeout` seconds for each host on the way.
   * @throws RefusedError for a host key or credentials that are not accepted; TransportError for everything else.
   */
  static async dial(connection: Connection, deadline: Deadline): Promise<SshConnection> {
    const name = describeConnection(connection);
    if (connection.proxy === undefined) {
      return new SshConnection(await dialClient(connection, deadline), name, connection.user);
    }
    const jump = await dialClient(connection.proxy, deadline);
    try {
      const client = await dialClient(connection, deadline, await openTunnel(jump, connection, deadline));
      client.on("close", () => jump.end());
      return new SshConnection(client, name, connection.user);
    } catch (error) {
      jump.end();
      throw error;
    }
  }

  /** Ends the connection; what still runs on it fails. */
  close(): void {
    this.closed ??= new Error("the connection was closed");
    this.client.end();
  }

  /**
   * Runs a command as root, through `sudo -n` when the connection's user is another one.
   * @param argv - Program and arguments; no shell looks at them.
   * @param options.stdin - What the command reads.
   * @throws CommandError when it ends with another exit code than 0 (unless `allowFailure`).
   */
  async run(
    argv: readonly string[],
    options: { deadline: Deadline; stdin?: string | Buffer; allowFailure?: boolean },
  ): Promise<CommandResult> {
    const program = argv[0] ?? "";
    const { deadline, stdin } = options;
    const doing = `running ${program} on ${this.name}`;
    const slot = this.channels(async () => {
      deadline.check(doing); // nothing is started for a caller who has gone
      const { channel, ended } = await this.session(argv, (opened) => ({ channel: opened, ended: collect(opened, stdin) }));
      return deadline
        .race(ended, doing, () => channel.destroy())
        .catch((error: unknown) => {
          throw error instanceof FloodedError
            ? new TransportError(
                this.name,
                `${program} on ${this.name} wrote more than ${MAX_OUTPUT_BYTES} bytes. Run it there to see why`,
              )
            : error;
        });
    });
    const result = await deadline.race(slot, doing);
    if (result.exitCode === -1) {
      throw new TransportError(this.name, `The connection to ${this.name} broke while ${program} was running`);
    }
    this.refuseWithoutSudo(result);
    if (result.exitCode !== 0 && options.allowFailure !== true) {
      throw new CommandError(this.name, program, result.exitCode, tail(result.stderr || result.stdout));
    }
    return result;
  }

  /**
   * An HTTP agent whose sockets end at a unix socket on the host. Root opens it by SSH's own forwarding; another user through a
   * relay under `sudo -n`, because the socket is open to root (and its group) alone.
   */
  unixSocketAgent(path: string): Agent {
    const agent = new Agent({ keepAlive: true, maxSockets: CHANNELS_PER_CONNECTION - 1 });
    const createConnection = (_options: unknown, callback: (error: Error | null, socket?: Duplex) => void): void => {
      this.openUnixSocket(path).then(
        (socket) => callback(null, socket),
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error))),
      );
    };
    return Object.assign(agent, { createConnection });
  }

  /**
   * Whether something listens on a unix socket of the host.
   * @throws TransportError when the host cannot say.
   */
  async listens(path: string, deadline: Deadline): Promise<boolean> {
    if (this.user !== "root") {
      return (await this.run(["test", "-S", path], { deadline, allowFailure: true })).exitCode === 0;
    }
    try {
      const opening = this.openUnixSocket(path);
      const socket = await deadline.race(opening, `opening ${path} on ${this.name}`, () => {
        opening.then((late) => late.destroy()).catch(() => undefined); // or it would hold its place for ever
      });
      socket.destroy();
      return true;
    } catch (error) {
      if (this.open && hasCode(error, "transport")) {
        return false;
      }
      throw error;
    }
  }

  private openUnixSocket(path: string): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      // The slot is held for as long as the socket lives.
      void this.channels(async () => {
        try {
          const attach = (channel: ClientChannel): { socket: Duplex; done: Promise<void> } => {
            channel.on("error", () => undefined); // "close" follows, which the HTTP client turns into a request error
            const destroy = channel.destroy.bind(channel);
            channel.destroy = () => {
              channel.resume(); // ssh2 emits "close" only when everything has been read, and until then the slot is not free again
              return destroy();
            };
            this.sockets.add(channel);
            const done = new Promise<void>((release) => {
              channel.once("close", () => {
                this.sockets.delete(channel);
                release();
              });
            });
            return { socket: socketLike(channel), done };
          };
          const { socket, done } = await (this.user === "root"
            ? this.forward(path, attach)
            : this.session(["perl", "-e", RELAY, path], attach));
          resolve(socket);
          await done;
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  private forward<T>(path: string, attach: (channel: ClientChannel) => T): Promise<T> {
    return this.channel(`opening ${path}`, (callback) => this.client.openssh_forwardOutStreamLocal(path, callback), attach);
  }

  private session<T extends object>(argv: readonly string[], attach: (channel: ClientChannel) => T): Promise<T> {
    const line = commandLine(this.user === "root" ? argv : ["sudo", "-n", "--", ...argv]);
    const doing = `starting ${argv[0] ?? ""}`;
    const patience = new Deadline(SESSION_PATIENCE_SECONDS, doing);
    return until(patience, async () => {
      try {
        return await this.channel(doing, (callback) => this.client.exec(line, callback), attach);
      } catch (error) {
        // sshd has the place of a session free only a little after the client has seen it end. Nothing was started, so it may be asked again.
        if (patience.remainingMs > 0 && isRefusedChannel(error)) {
          return undefined;
        }
        throw error;
      }
    });
  }

  /**
   * Opens a channel.
   * @param attach - Called at once: the exit status of a quick command may already stand behind the channel in the same packet.
   */
  private channel<T>(
    doing: string,
    open: (callback: (error: Error | undefined, channel: ClientChannel) => void) => void,
    attach: (channel: ClientChannel) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        reject(new TransportError(this.name, `${doing} on ${this.name} failed: ${error.message}`, { cause: error }));
      };
      if (this.closed !== undefined) {
        fail(this.closed);
        return;
      }
      const onClose = (): void => {
        fail(this.closed ?? new Error("the connection was closed"));
      };
      this.client.once("close", onClose);
      try {
        open((error, channel) => {
          this.client.off("close", onClose);
          if (error) {
            fail(error);
          } else {
            resolve(attach(channel));
          }
        });
      } catch (error) {
        this.client.off("close", onClose);
        fail(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  private refuseWithoutSudo(result: CommandResult): void {
    if (this.user !== "root" && result.exitCode !== 0 && /^sudo: |sudo: command not found/m.test(result.stderr)) {
      throw new RefusedError(
        `${this.name} may not become root: ${tail(result.stderr)}. Log in as root (connection.user), or let this user run sudo ` +
          `without a password: echo '${this.user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/${this.user}`,
      );
    }
  }
}

/** Copies bytes between its own standard streams and a unix socket. Perl's base package is on every Debian and Ubuntu host. */
const RELAY = `
use strict; use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "cannot open $ARGV[0]: $!\\n";
sub copy { my ($in, $out) = @_; my $buffer;
  while (sysread($in, $buffer, 65536)) { my $sent = 0; while ($sent < length $buffer) { $sent += syswrite($out, $buffer, length($buffer) - $sent, $sent) // exit } } }
my $child = fork; if ($child == 0) { copy(\\*STDIN, $socket); shutdown($socket, 1); exit }
copy($socket, \\*STDOUT); kill "TERM", $child;
`.trim();

/** Whether the host has refused to open a channel, while the connection itself is well. */
function isRefusedChannel(error: unknown): boolean {
  return error instanceof TransportError && error.cause instanceof Error && "reason" in error.cause && error.cause.reason !== "";
}

function collect(channel: ClientChannel, stdin?: string | Buffer): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let bytes = 0;
    let exitCode = -1;
    const keep =
      (chunks: Buffer[]) =>
      (chunk: Buffer): void => {
        bytes += chunk.length;
        if (bytes <= MAX_OUTPUT_BYTES) {
          chunks.push(chunk);
        } else {
          reject(new FloodedError());
          channel.destroy(); // what still comes is read and forgotten, so that the channel can close
        }
      };
    channel.on("data", keep(stdout));
    channel.stderr.on("data", keep(stderr));
    channel.on("exit", (code: number | null) => {
      exitCode = code ?? 128; // ended by a signal
    });
    channel.on("error", () => undefined); // "close" follows
    channel.on("close", () =>
      resolve({ exitCode, stdout: Buffer.concat(stdout).toString("utf8"), stderr: Buffer.concat(stderr).toString("utf8") }),
    );
    channel.end(stdin);
  });
}

class FloodedError extends Error {}

/** Node's HTTP client sets these on the sockets that it is given. */
function socketLike(channel: Duplex): Duplex {
  const ignored = (): Duplex => channel;
  return Object.assign(channel, {
    setKeepAlive: ignored,
    setNoDelay: ignored,
    setTimeout: ignored,
    ref: ignored,
    unref: ignored,
    destroySoon: () => channel.destroy(),
  });
}

function tail(output: string): string {
  return output.trim().split("\n").slice(-5).join("\n").slice(-2000);
}
