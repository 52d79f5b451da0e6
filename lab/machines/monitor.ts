import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";

/** One line that QEMU or the agent in a machine sends. */
interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/**
 * A connection to one of QEMU's sockets: its monitor (QMP), or its guest agent. Both take one JSON object a line and answer
 * each in its order. The sockets serve one client at a time; others wait.
 */
class Conversation {
  private readonly lines: string[] = [];
  private isClosed = false;
  private wake: () => void = () => undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly path: string,
  ) {
    createInterface({ input: socket })
      .on("line", (line) => {
        this.lines.push(line);
        this.wake();
      })
      // It passes on the errors of the socket. Nobody handles them there: whoever waits sees that the connection has ended.
      .on("error", () => undefined);
    socket.on("close", () => {
      this.isClosed = true;
      this.wake();
    });
  }

  static async open(path: string): Promise<Conversation> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (error) => reject(new Error(`Unable to reach ${path}: ${error.message}`, { cause: error })));
    });
    // The end of the connection is seen by its reader.
    socket.on("error", () => undefined);
    return new Conversation(socket, path);
  }

  close(): void {
    this.socket.destroy();
  }

  /** Sends a command and returns what it returns. Skips events, the greeting, and answers that `accepts` does not. */
  async ask(execute: string, args: object = {}, accepts: (answer: unknown) => boolean = () => true): Promise<unknown> {
    this.socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    for (;;) {
      const value = await this.nextLine(execute);
      // The agent marks the begin of its answers by a byte that is not JSON.
      const message = JSON.parse(value.replace(/^\xff/, "")) as Message;
      if (message.error !== undefined) throw new Error(`${execute}: ${message.error.desc}`);
      if ("return" in message && accepts(message.return)) return message.return;
    }
  }

  private async nextLine(execute: string): Promise<string> {
    for (;;) {
      const line = this.lines.shift();
      if (line !== undefined) return line;
      if (this.isClosed) throw new Error(`${this.path} was closed during ${execute}.`);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

/** Runs commands of QEMU's machine protocol one after the other, and returns what the last one returns. */
export async function askMonitor(
  socket: string,
  commands: readonly (readonly [execute: string, args?: object])[],
): Promise<unknown> {
  const conversation = await Conversation.open(socket);
  try {
    await conversation.ask("qmp_capabilities");
    let answer: unknown;
    for (const [execute, args] of commands) answer = await conversation.ask(execute, args);
    return answer;
  } finally {
    conversation.close();
  }
}

/**
 * Runs a command of QEMU's monitor for people, for what the machine protocol does not have.
 * @throws Error with what the monitor prints, because these commands print only when they fail.
 */
export async function askHumanMonitor(socket: string, line: string): Promise<void> {
  const printed = String(await askMonitor(socket, [["human-monitor-command", { "command-line": line }]]));
  if (printed.trim() !== "") throw new Error(`${line}: ${printed.trim()}`);
}

/**
 * Runs a command of the agent in a machine.
 * @throws Error when it fails, or does not answer within `timeoutSeconds`.
 */
export async function askAgent(socket: string, execute: string, args: object, timeoutSeconds: number): Promise<unknown> {
  const conversation = await Conversation.open(socket);
  const deadline = new AbortController();
  const timer = setTimeout(() => {
    deadline.abort();
    conversation.close();
  }, timeoutSeconds * 1000);
  try {
    // Answers to a client that has gone come to the next one.
    const id = Math.floor(Math.random() * 2 ** 31);
    await conversation.ask("guest-sync", { id }, (answer) => answer === id);
    return await conversation.ask(execute, args);
  } catch (error) {
    if (deadline.signal.aborted)
      throw new Error(`The agent did not answer to ${execute} within ${timeoutSeconds} s.`, { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
    conversation.close();
  }
}
