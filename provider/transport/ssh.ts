import { Agent } from "node:http";
import type { Duplex } from "node:stream";
import pLimit from "p-limit";
import type { ClientChannel } from "ssh2";
import { Deadline } from "../support/deadline";
import { CommandError, RefusedError, TransportError, tail } from "../support/errors";
import { SingleFlight } from "../support/single-flight";
import { type Connection, describeConnection, withDefaults } from "./connection";
import { login } from "./dial";
import { type CommandResult, type FramedCommand, framed, skipToMark, unframe } from "./frame";
import { isRefusedChannel, Link } from "./link";
import { CONNECTED, FIND_LISTENER, RELAY } from "./relay";
import { Sessions } from "./sessions";

/** sshd's default MaxSessions is 10. Two are left for a person who is logged in at the same time. */
const CHANNELS_PER_CONNECTION = 8;

/** The programs that run here write little. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Most bytes that a shell may write before it runs its command. One that writes more does not run it. */
const MAX_GREETING_BYTES = 1024 * 1024;

/** How long a further connection, or becoming root for a socket, may take. */
const FURTHER_SECONDS = 60;

export type { CommandResult };

/** One SSH connection to a host, shared by all work on the host within this process. */
export class SshConnection {
  private readonly channels = pLimit(CHANNELS_PER_CONNECTION);
  private readonly sessions: Sessions;
  private readonly root = new SingleFlight<true>();
  /** Whether sshd has connected to a socket, so that it allows forwarding. */
  private forwards = false;
  /** Whether sockets need a relay, because the user may not open them or sshd may not forward to them. */
  private relayed: boolean;

  private constructor(
    private readonly link: Link,
    /** `user@host:port`, as messages name the host. */
    readonly name: string,
    readonly user: string,
    further: () => Promise<Link>,
  ) {
    this.relayed = user !== "root";
    this.sessions = new Sessions(link, name, further);
    link.onClose(() => this.sessions.close());
  }

  get open(): boolean {
    return this.link.open;
  }

  /** @throws RefusedError for a host key or credentials that are not accepted, or no SSH server; TransportError when nothing answers. */
  static async dial(connection: Connection, deadline: Deadline): Promise<SshConnection> {
    const name = describeConnection(connection);
    const link = async (within: Deadline): Promise<Link> => new Link(await login(connection, within), name);
    return new SshConnection(await link(deadline), name, withDefaults(connection).user, () =>
      link(new Deadline(FURTHER_SECONDS, `a further connection to ${name}`)),
    );
  }

  /** Everything that still runs on the connection fails. */
  close(): void {
    this.sessions.close();
  }

  /**
   * Runs a command as root, through `sudo -n` for any other user, in the locale C and with umask 022: what it creates does not depend on
   * the user's own. The result omits what the user's shell writes by itself.
   * @param argv - Program and arguments; no shell interprets them.
   * @throws CommandError for an exit code other than 0 (unless `allowFailure`); RefusedError when the host does not let the command run.
   */
  async run(
    argv: readonly string[],
    options: { deadline: Deadline; stdin?: string | Buffer; allowFailure?: boolean },
  ): Promise<CommandResult> {
    await this.becomeRoot(options.deadline);
    const result = await this.execute(argv, { ...options, sudo: this.user !== "root" });
    if (result.exitCode !== 0 && options.allowFailure !== true) {
      throw new CommandError(this.name, argv[0] ?? "", result.exitCode, tail(result.stderr || result.stdout));
    }
    return result;
  }

  /**
   * An HTTP agent whose sockets connect to a unix socket on the host. For root, sshd forwards to it. A relay is used where sshd does not
   * allow that, and for other users: only root (and its group) may open the socket.
   */
  unixSocketAgent(path: string): Agent {
    const agent = new Agent({ keepAlive: true, maxSockets: CHANNELS_PER_CONNECTION - 1 });
    const createConnection = (_options: unknown, callback: (error: Error | null, socket?: Duplex) => void): void => {
      this.openUnixSocket(path).then(
        (socket) => callback(null, socket),
        (error: unknown) => callback(error as Error),
      );
    };
    return Object.assign(agent, { createConnection });
  }

  /** @throws TransportError or RefusedError when the host cannot be asked. */
  async listens(path: string, deadline: Deadline): Promise<boolean> {
    return (await this.listener([path], deadline)) !== undefined;
  }

  /** Finds the first of these unix sockets on which something listens. See {@link listens} for errors. */
  async listener(paths: readonly string[], deadline: Deadline): Promise<string | undefined> {
    if (!this.relayed) {
      for (const path of paths) {
        if (await this.forwardOpens(path, deadline)) {
          return path;
        }
      }
      if (this.forwards) {
        return undefined;
      }
    }
    return this.askForListener(paths, deadline);
  }

  /** Asks by a command on the host: sshd answers the same for a socket without a listener and a forbidden one. */
  private async askForListener(paths: readonly string[], deadline: Deadline): Promise<string | undefined> {
    const { stdout } = await this.run(["perl", "-e", FIND_LISTENER, ...paths], { deadline });
    const found = stdout === "" ? undefined : paths[Number(stdout)];
    this.relayed ||= found !== undefined;
    return found;
  }

  private async forwardOpens(path: string, deadline: Deadline): Promise<boolean> {
    const opening = this.inSlot(() => this.forward(path));
    try {
      const socket = await deadline.race(opening, `opening ${path} on ${this.name}`, () => {
        opening.then((late) => late.destroy()).catch(() => undefined); // otherwise it would keep its slot
      });
      socket.destroy();
      return true;
    } catch (error) {
      if (this.open && isRefusedChannel(error)) {
        return false;
      }
      throw error;
    }
  }

  private async openUnixSocket(path: string): Promise<Duplex> {
    if (!this.relayed) {
      try {
        return await this.inSlot(() => this.forward(path));
      } catch (error) {
        const deadline = new Deadline(FURTHER_SECONDS, `opening ${path} on ${this.name}`);
        if (this.forwards || !isRefusedChannel(error) || (await this.askForListener([path], deadline)) === undefined) {
          throw error;
        }
      }
    }
    await this.becomeRoot(new Deadline(FURTHER_SECONDS, `opening ${path} on ${this.name}`));
    return this.inSlot(() => this.relay(path));
  }

  /** Holds a slot while the socket is open. */
  private inSlot(open: () => Promise<{ socket: Duplex; done: Promise<void> }>): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const held = this.channels(async () => {
        const { socket, done } = await open();
        resolve(socket);
        await done;
      });
      held.catch(reject);
    });
  }

  private async forward(path: string): Promise<{ socket: Duplex; done: Promise<void> }> {
    const opened = await this.link.forward(path, (channel) => this.link.socket(channel));
    this.forwards = true;
    return opened;
  }

  private async relay(path: string): Promise<{ socket: Duplex; done: Promise<void> }> {
    const command = framed(["perl", "-e", RELAY, path], { sudo: this.user !== "root", untilClosed: true });
    const opened = await this.sessions.open(`opening ${path}`, command.line, (channel, link) => {
      const errors: Buffer[] = [];
      channel.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
      const begun = Buffer.concat([command.mark, Buffer.from(CONNECTED)]);
      return { ...link.socket(channel), begun: skipToMark(channel, begun, MAX_GREETING_BYTES), errors, ended: endOf(channel) };
    });
    const { found, skipped } = await opened.begun;
    if (found) {
      return opened;
    }
    opened.socket.destroy();
    const stderr = Buffer.concat(opened.errors);
    if (!skipped.includes(command.mark)) {
      throw this.notOurs(await opened.ended, skipped, stderr);
    }
    const why = tail(stderr.subarray(stderr.indexOf(command.mark) + command.mark.length).toString("utf8"));
    throw new TransportError(this.name, `${path} on ${this.name} cannot be opened: ${why === "" ? "the relay has ended" : why}`);
  }

  /** Checks once whether this user may become root. The exit status decides: sudo also writes irrelevant warnings. */
  private async becomeRoot(deadline: Deadline): Promise<void> {
    if (this.user === "root") {
      return;
    }
    await this.root.join(deadline, `becoming root on ${this.name}`, async () => {
      const { exitCode, stderr } = await this.execute(["sudo", "-n", "true"], { deadline, sudo: false });
      if (exitCode !== 0) {
        throw new RefusedError(
          `${this.name} may not become root: ${tail(stderr) || `sudo -n true ended with exit code ${exitCode}`}. Log in as root (connection.user), ` +
            `or let this user run sudo without a password: echo '${this.user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/${this.user}`,
        );
      }
      return true;
    });
  }

  /** Runs a command as the user who is logged in, or as root through sudo. Returns only the command's own output. */
  private async execute(
    argv: readonly string[],
    { deadline, stdin, sudo }: { deadline: Deadline; stdin?: string | Buffer; sudo: boolean },
  ): Promise<CommandResult> {
    const program = argv[0] ?? "";
    const doing = `running ${program} on ${this.name}`;
    const command = framed(argv, { sudo });
    const flooded = (): Error =>
      new TransportError(
        this.name,
        `${program} on ${this.name} wrote more than ${MAX_OUTPUT_BYTES} bytes. Run it there to see why`,
      );
    const slot = this.channels(async () => {
      deadline.check(doing); // starts nothing after the caller's deadline
      const { channel, ended } = await this.sessions.open(`starting ${program}`, command.line, (opened) => ({
        channel: opened,
        ended: collect(opened, command, stdin, flooded),
      }));
      return deadline.race(ended, doing, () => channel.destroy());
    });
    const { end, stdout, stderr } = await deadline.race(slot, doing);
    const result = unframe(command, stdout, stderr);
    if (result !== undefined) {
      return result;
    }
    if (end === "broken") {
      throw new TransportError(this.name, `The connection to ${this.name} broke while ${program} was running`);
    }
    if (end === "signal") {
      return { exitCode: 128, stdout: "", stderr: "" };
    }
    throw this.notOurs(end, stdout, stderr);
  }

  /** The error for a login shell, a sudo or a forced command (ForceCommand, `command=` in authorized_keys) that did not run our command. */
  private notOurs(end: End, stdout: Buffer, stderr: Buffer): RefusedError | TransportError {
    if (typeof end !== "number") {
      return new TransportError(this.name, `The connection to ${this.name} broke before a command started`);
    }
    const said = tail(Buffer.concat([stderr, Buffer.from("\n"), stdout]).toString("utf8"));
    return new RefusedError(
      `${this.name} does not run the commands that it is given. Its login shell, or a forced command of sshd, answered instead, with exit ` +
        `code ${end}: ${said === "" ? "(no output)" : said}\nLog in as another user (connection.user). Or give this user a login shell such as ` +
        "/bin/bash, and remove command= from its key in authorized_keys",
    );
  }
}

/** How the program of a session ended: with an exit code, by a signal, or unknown. */
type End = number | "signal" | "broken";

function endOf(channel: ClientChannel): Promise<End> {
  return new Promise((resolve) => {
    let end: End = "broken";
    channel.on("exit", (code: number | null) => {
      end = code ?? "signal";
    });
    channel.on("close", () => resolve(end));
  });
}

function collect(
  channel: ClientChannel,
  { mark }: FramedCommand,
  stdin: string | Buffer | undefined,
  flooded: () => Error,
): Promise<{ end: End; stdout: Buffer; stderr: Buffer }> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let bytes = 0;
    const keep =
      (chunks: Buffer[]) =>
      (chunk: Buffer): void => {
        bytes += chunk.length;
        if (bytes <= MAX_OUTPUT_BYTES) {
          chunks.push(chunk);
        } else {
          reject(flooded());
          channel.destroy(); // further output is read and dropped, so that the channel can close
        }
      };
    channel.on("data", keep(stdout));
    channel.stderr.on("data", keep(stderr));
    channel.on("error", () => undefined); // "close" follows
    void endOf(channel).then((end) => resolve({ end, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) }));
    if (stdin === undefined) {
      channel.end();
      return;
    }
    // Waits for the mark: a start-up file of the shell that reads its input must not get the command's input.
    const begin = (): void => {
      if (Buffer.concat(stdout).includes(mark)) {
        channel.off("data", begin);
        channel.end(stdin);
      }
    };
    channel.on("data", begin);
  });
}
