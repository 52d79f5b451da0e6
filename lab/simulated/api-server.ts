/** The HTTP server of a simulated host's LXD: passes requests to the daemon that runs, and reports defects of the simulator. */
import { Server as HttpServer, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { ServerChannel } from "ssh2";
import type { Daemon } from "./lxd/daemon";
import type { Surroundings } from "./lxd/database";

/** Serves LXD's API on connections that it is given. */
export class ApiServer {
  private readonly http = new HttpServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  private readonly drops = new WeakMap<object, () => void>();
  private readonly connections = new Set<ServerChannel>();
  private readonly idle = new WeakMap<object, NodeJS.Timeout>();
  private readonly closed = new WeakSet();

  /** @param findDaemon - The daemon at the time of a request; without one the connection is cut. */
  constructor(
    private readonly surroundings: Surroundings,
    findDaemon: () => Daemon | undefined,
  ) {
    const handle = (
      incoming: IncomingMessage,
      serve: (daemon: Daemon, drop: () => void) => Promise<void>,
      fail: (text: string) => void,
    ): void => {
      clearTimeout(this.idle.get(incoming.socket));
      if (this.closed.has(incoming.socket)) {
        incoming.socket.destroy();
        return;
      }
      const daemon = findDaemon();
      const drop = this.drops.get(incoming.socket) ?? (() => incoming.socket.destroy());
      if (daemon === undefined) {
        drop();
        return;
      }
      serve(daemon, drop).catch((error: unknown) => {
        if (error === incoming.errored) {
          return; // the client disconnected during its request
        }
        this.surroundings.defects.push(error);
        fail(`defect of the simulator: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      });
    };
    this.http.on("request", (incoming, response) => {
      if (findDaemon()?.behaviour.server === "incus") {
        response.once("close", () => this.closeWhenIdle(incoming.socket as Duplex as ServerChannel));
      }
      handle(
        incoming,
        (daemon, drop) => daemon.serve(incoming, response, drop),
        (text) => {
          response.writeHead(500, { "content-type": "application/json" });
          response.end(JSON.stringify({ type: "error", error_code: 500, error: text, metadata: null }));
        },
      );
    });
    this.http.on("upgrade", (incoming, connection) =>
      handle(
        incoming,
        (daemon, drop) => daemon.serveUpgrade(incoming, incoming.socket, drop),
        () => connection.destroy(),
      ),
    );
    this.http.on("clientError", (_error, socket) => socket.destroy());
  }

  /** Accepts a connection; `drop` cuts the SSH connection below it. */
  attach(channel: ServerChannel, drop: () => void): void {
    this.drops.set(channel, drop);
    this.connections.add(channel);
    channel.once("close", () => {
      this.connections.delete(channel);
      clearTimeout(this.idle.get(channel));
    });
    this.http.emit("connection", channel);
  }

  /** sshd then ends one direction of the channel, and closes it when the client writes to it. */
  private closeWhenIdle(channel: ServerChannel): void {
    const close = (): void => {
      this.closed.add(channel);
      channel.eof();
    };
    if (this.connections.has(channel)) {
      this.idle.set(channel, setTimeout(close, this.surroundings.timings.idleMs).unref());
    }
  }

  closeConnections(): void {
    for (const channel of this.connections) {
      channel.destroy();
    }
  }

  close(): void {
    this.http.closeAllConnections();
  }
}
