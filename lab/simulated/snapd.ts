/** snapd on a simulated host: its API behind `/run/snapd.socket`. */
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { FaultEffect } from "./faults";
import type { Surroundings } from "./lxd/database";
import type { RequestRecord } from "./lxd/surroundings";
import { SnapdFault } from "./snapd-changes";
import { type SnapdHost, SnapdModel } from "./snapd-model";

/** Path of its socket. */
export const SNAPD_SOCKET = "/run/snapd.socket";

/** The daemon. */
export class SimulatedSnapd {
  readonly model: SnapdModel;
  private readonly http = new HttpServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  private readonly drops = new WeakMap<object, () => void>();

  constructor(
    private readonly host: SnapdHost,
    private readonly surroundings: Surroundings,
    version: string,
  ) {
    this.model = new SnapdModel(host, surroundings, version);
    this.http.on("request", (incoming, response) => {
      this.serve(incoming, response, this.drops.get(incoming.socket) ?? (() => incoming.socket.destroy())).catch(
        (error: unknown) => {
          if (error !== incoming.errored) {
            this.surroundings.defects.push(error);
          }
          incoming.socket.destroy();
        },
      );
    });
    this.http.on("clientError", (_error, socket) => socket.destroy());
  }

  /** Accepts a connection; `drop` cuts the SSH connection below it. */
  attach(channel: Duplex, drop: () => void): void {
    this.drops.set(channel, drop);
    this.http.emit("connection", channel);
  }

  close(): void {
    this.http.closeAllConnections();
  }

  private async serve(incoming: IncomingMessage, response: ServerResponse, drop: () => void): Promise<void> {
    const url = new URL(incoming.url ?? "/", "http://snapd");
    const method = incoming.method ?? "GET";
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) {
      chunks.push(chunk as Buffer);
    }
    const path = url.pathname + url.search;
    const route = url.pathname
      .replace(/^(\/v2\/snaps)\/(?!system\/)[^/]+(\/conf)?$/, "$1/{name}$2")
      .replace(/^(\/v2\/changes)\/.+/, "$1/{id}");
    const record: RequestRecord = { host: this.host.name, method, path, route, mutating: method !== "GET" };
    this.surroundings.requests.push(record);
    const effect = this.surroundings.faults.forRequest({ host: this.host.name, method, path });
    if (effect === "hang") {
      return;
    }
    if (effect === "drop-before") {
      drop();
      return;
    }
    if (effect === "daemon-restart") {
      incoming.socket.destroy(); // its changes continue after the restart
      return;
    }
    if (typeof effect === "object" && "delayMs" in effect) {
      await new Promise((resolve) => setTimeout(resolve, effect.delayMs));
    }
    const [status, answer] = this.answer(effect, method, url, Buffer.concat(chunks).toString("utf8"));
    record.answer = { status };
    if (effect === "drop-after") {
      drop();
      return;
    }
    const text = JSON.stringify(answer);
    if (typeof effect === "object" && "answer" in effect) {
      effect.answer(response, text);
      return;
    }
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(text);
  }

  private answer(effect: FaultEffect | undefined, method: string, url: URL, body: string): [number, object] {
    try {
      if (typeof effect === "object" && "status" in effect) {
        throw new SnapdFault(effect.status, effect.error);
      }
      if (typeof effect === "object" && "quote" in effect) {
        throw new SnapdFault(400, effect.quote(body));
      }
      if (method === "GET") {
        return [200, { type: "sync", "status-code": 200, status: "OK", result: this.model.read(url) }];
      }
      const fails = effect === "fail-operation" || (typeof effect === "object" && "failOperation" in effect);
      const sent = JSON.parse(body) as Record<string, unknown>;
      const change =
        method === "PUT" ? this.model.configure(url.pathname, sent, fails) : this.model.act(url.pathname, sent, fails);
      return [202, { type: "async", "status-code": 202, status: "Accepted", result: null, change: change.id }];
    } catch (error) {
      if (!(error instanceof SnapdFault)) {
        throw error;
      }
      const { status, message, kind, value } = error;
      const result = { message, ...(kind === undefined ? {} : { kind }), ...(value === undefined ? {} : { value }) };
      return [status, { type: "error", "status-code": status, status: "Error", result }];
    }
  }
}
