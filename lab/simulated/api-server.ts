/** The HTTP server of a simulated host's LXD: passes requests to the daemon that runs, and reports defects of the simulator. */
import { Server as HttpServer, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Daemon } from "./lxd/daemon";
import type { Surroundings } from "./lxd/database";

/** Serves LXD's API on connections that it is given. */
export class ApiServer {
  private readonly http = new HttpServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  private readonly drops = new WeakMap<object, () => void>();
  private readonly connections = new Set<Duplex>();

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
    this.http.on("request", (incoming, response) =>
      handle(
        incoming,
        (daemon, drop) => daemon.serve(incoming, response, drop),
        (text) => {
          response.writeHead(500, { "content-type": "application/json" });
          response.end(JSON.stringify({ type: "error", error_code: 500, error: text, metadata: null }));
        },
      ),
    );
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
  attach(channel: Duplex, drop: () => void): void {
    this.drops.set(channel, drop);
    this.connections.add(channel);
    channel.once("close", () => this.connections.delete(channel));
    this.http.emit("connection", channel);
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
