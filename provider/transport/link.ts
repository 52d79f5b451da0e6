import type { Duplex } from "node:stream";
import type { Client, ClientChannel } from "ssh2";
import { TransportError } from "../support/errors";

/** One login at a host, with its open channels. */
export class Link {
  sessions = 0;
  private ended: Error | undefined;
  private readonly sockets = new Set<Duplex>();

  constructor(
    private readonly client: Client,
    private readonly name: string,
  ) {
    client.on("error", (error) => {
      this.ended ??= error;
    });
    client.on("close", () => {
      this.ended ??= new Error("the connection was closed by the host");
      for (const socket of this.sockets) {
        socket.destroy(); // an idle socket would not notice, and would receive each next request
      }
    });
  }

  get open(): boolean {
    return this.ended === undefined;
  }

  onClose(listener: () => void): void {
    this.client.once("close", listener);
  }

  close(): void {
    this.ended ??= new Error("the connection was closed");
    this.client.end();
  }

  exec<T>(doing: string, line: string, attach: (channel: ClientChannel) => T): Promise<T> {
    return this.channel(doing, (callback) => this.client.exec(line, callback), attach);
  }

  /** Asks sshd to connect to a unix socket of the host. */
  forward<T>(path: string, attach: (channel: ClientChannel) => T): Promise<T> {
    return this.channel(`opening ${path}`, (callback) => this.client.openssh_forwardOutStreamLocal(path, callback), attach);
  }

  /** Turns a channel into a socket for an HTTP client, which ends with the link. `done` resolves when it has ended. */
  socket(channel: ClientChannel): { socket: Duplex; done: Promise<void> } {
    channel.on("error", () => undefined); // "close" follows, which the HTTP client turns into a request error
    const destroy = channel.destroy.bind(channel);
    channel.destroy = () => {
      // ssh2 emits "close" only after everything has been read. Until then, the channel counts as open.
      channel.resume();
      return destroy();
    };
    // A daemon that closes an idle connection, as Incus does after 30 seconds, ends only one direction of the channel. The HTTP client would
    // keep it for the next request.
    channel.once("end", () => channel.destroy());
    this.sockets.add(channel);
    const done = new Promise<void>((release) => {
      channel.once("close", () => {
        this.sockets.delete(channel);
        release();
      });
    });
    return { socket: socketLike(channel), done };
  }

  /** @param attach - Called at once: the same packet may already contain the exit status of a quick command. */
  private channel<T>(
    doing: string,
    open: (callback: (error: Error | undefined, channel: ClientChannel) => void) => void,
    attach: (channel: ClientChannel) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const onClose = (): void => fail(this.ended ?? new Error("the connection was closed"));
      const fail = (error: Error): void => {
        this.client.off("close", onClose);
        reject(new TransportError(this.name, `${doing} on ${this.name} failed: ${error.message}`, { cause: error }));
      };
      if (this.ended !== undefined) {
        fail(this.ended);
        return;
      }
      this.client.once("close", onClose);
      try {
        open((error, channel) => {
          if (error) {
            fail(error);
          } else {
            this.client.off("close", onClose);
            resolve(attach(channel));
          }
        });
      } catch (error) {
        fail(error as Error);
      }
    });
  }
}

/** Whether the host refused to open a channel on a working connection. */
export function isRefusedChannel(error: unknown): boolean {
  return error instanceof TransportError && error.cause instanceof Error && "reason" in error.cause && error.cause.reason !== "";
}

/** Adds what Node's HTTP client calls on its sockets. */
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
