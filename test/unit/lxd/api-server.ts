import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import pLimit from "p-limit";
import { LxdClient } from "../../../provider/lxd/client/client";
import type { Endpoint } from "../../../provider/lxd/client/endpoint";
import { Deadline } from "../../../provider/support/deadline";

/** One request as received. */
export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** An answer: LXD's envelope, or a function for anything else. */
export type Answer = object | ((response: ServerResponse, received: Received) => void);

/** An HTTP server that sends the test's answers, one after the other. */
export class ApiServer {
  readonly received: Received[] = [];
  private readonly answers: Answer[] = [];
  private readonly agents: Agent[] = [];
  private constructor(private readonly server: Server) {}

  static async start(): Promise<ApiServer> {
    const server = createServer();
    const api = new ApiServer(server);
    server.on("request", (incoming: IncomingMessage, response: ServerResponse) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => api.answer(incoming, response, Buffer.concat(chunks).toString("utf8")));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return api;
  }

  /** Queues answers to the next requests. */
  next(...answers: readonly Answer[]): void {
    this.answers.push(...answers);
  }

  /** Removes answers that were not requested. */
  forget(): void {
    this.answers.length = 0;
  }

  /** A client of this server, with its own endpoint unless one is given. */
  client(seconds = 60, endpoint = this.endpoint()): LxdClient {
    return new LxdClient(endpoint, new Deadline(seconds, "the test"));
  }

  endpoint(): Endpoint {
    const { port } = this.server.address() as AddressInfo;
    const agent = Object.assign(new Agent({ keepAlive: true }), { createConnection: () => connect(port, "127.0.0.1") });
    this.agents.push(agent);
    return {
      host: "root@bcn2",
      title: "LXD on root@bcn2",
      socket: { path: "/var/lib/lxd/unix.socket", packaging: "deb" },
      agent,
      isOpen: () => true,
      requests: pLimit(agent.maxSockets),
    };
  }

  /** "GET /1.0", one line per request. */
  get lines(): string[] {
    return this.received.map(({ method, path }) => `${method} ${path}`);
  }

  async stop(): Promise<void> {
    for (const agent of this.agents) {
      agent.destroy();
    }
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private answer(incoming: IncomingMessage, response: ServerResponse, body: string): void {
    const received = { method: incoming.method ?? "", path: incoming.url ?? "", headers: incoming.headers, body };
    this.received.push(received);
    const answer = this.answers.shift() ?? failed(500, `the test expected no ${received.method} ${received.path}`);
    if (typeof answer === "function") {
      (answer as (response: ServerResponse, received: Received) => void)(response, received);
      return;
    }
    const status = "error_code" in answer ? Number(answer.error_code) : 200;
    response
      .writeHead(status, { "content-type": "application/json", etag: `"tag${this.received.length}"` })
      .end(JSON.stringify(answer));
  }
}

/** LXD's answer with a result. */
export const done = (metadata: unknown): object => ({ type: "sync", status: "Success", status_code: 200, metadata });

/** LXD's answer that refuses. */
export const failed = (status: number, error: string): object => ({ type: "error", error, error_code: status, metadata: null });

/** A background operation. */
export const operation = (more: object = {}): object => ({
  id: "b1946ac9",
  class: "task",
  description: "Creating instance",
  status: "Running",
  status_code: 103,
  err: "",
  resources: {},
  metadata: null,
  ...more,
});

/** LXD's answer that it works in the background. */
export const begun = (more: object = {}): object => ({
  type: "async",
  status: "Operation created",
  status_code: 100,
  metadata: operation(more),
});
