/** One LXD daemon on one simulated host: its life cycle, its own settings, and the handling of a request. */
import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { FaultEffect } from "../faults";
import { type Certificate, makeCertificate } from "./certificate";
import { type Config, Database, type LxdServer, type Member, STUCK, type Surroundings } from "./database";
import { messageOf } from "./errors";
import { type Behaviour, behaviourOf, type Flavour, inWordsOf } from "./flavours";
import { Operation, type OperationOptions, Operations } from "./operations";
import { envelope, LxdError, type Reply } from "./reply";
import type { ApiRequest } from "./request";
import type { Router } from "./router";
import { workingDrivers } from "./storage-drivers";
import type { DaemonHost, RequestRecord } from "./surroundings";

/** An LXD daemon. */
export class Daemon implements LxdServer {
  readonly operations = new Operations();
  behaviour: Behaviour;
  drivers: string[] = [];
  localConfig: Config = {};
  certificate: Certificate = { pem: "", fingerprint: "" };
  database = new Database();
  /** Identifies its process: changes at each start. */
  pid = 511;
  private readyAt = 0;
  private heardAt = 0;
  private endedAt = Number.NEGATIVE_INFINITY;
  private running = false;
  /** Whether its cluster had a leader since it was started. */
  private hadLeader = false;

  constructor(
    readonly host: DaemonHost,
    readonly surroundings: Surroundings,
    private readonly router: Router,
    flavour: Flavour,
    /** `/var/lib/lxd`, or the directory of the snap. */
    readonly dataDirectory: string,
  ) {
    this.behaviour = behaviourOf(flavour);
  }

  /** Whether it accepts requests from other members. */
  get answers(): boolean {
    return this.host.powered && this.running;
  }

  /** Whether the others have its heartbeats. They miss these some time after its end. */
  get heard(): boolean {
    return this.answers ? Date.now() >= this.heardAt : Date.now() < this.endedAt + this.surroundings.timings.missedMs;
  }

  /** Delays the arrival of its next heartbeat at the other members. */
  delayHeartbeat(ms: number): void {
    this.heardAt = Date.now() + ms;
  }

  losePeer(): void {
    if (this.behaviour.losesItself) {
      this.delayHeartbeat(this.surroundings.timings.heartbeatMs);
    }
  }

  get ready(): boolean {
    return this.running && Date.now() >= this.readyAt && !this.waits;
  }

  get waits(): boolean {
    return this.behaviour.waitsForExtensions && this.extensionsOfMembers(Math.min) < this.behaviour.apiExtensions.length;
  }

  get isBehind(): boolean {
    return !this.behaviour.waitsForExtensions && this.extensionsOfMembers(Math.max) > this.behaviour.apiExtensions.length;
  }

  /** The smallest or greatest number of API extensions that a member has. */
  private extensionsOfMembers(choose: (...numbers: number[]) => number): number {
    const own = this.behaviour.apiExtensions.length;
    const others = this.database.members.filter(({ daemon }) => daemon !== this && daemon.database === this.database);
    return choose(own, ...others.map(({ daemon }) => daemon.behaviour.apiExtensions.length));
  }

  /** This daemon's own row among the members. */
  get member(): Member {
    const member = this.database.members.find((each) => each.daemon === this);
    if (member === undefined) {
      throw new LxdError(500, "Failed to begin transaction: no such member");
    }
    return member;
  }

  /**
   * Whether its start hangs, as LXD's does if it believes to be a member but cannot reach its cluster: systemd holds
   * the socket, and no process answers.
   */
  private get isStuck(): boolean {
    return this.host.files.exists(this.path(STUCK));
  }

  /**
   * Aborts a join at the point where LXD up to 5.0.3 does not roll back: the cluster's certificate exists, the own
   * database is gone.
   */
  cutOffJoin(certificate: string): void {
    this.stop();
    this.host.files.writeFile(this.path("cluster.crt"), certificate);
    this.host.files.writeFile(this.path(STUCK), "");
    this.start();
  }

  path(...parts: string[]): string {
    return [this.dataDirectory, ...parts].join("/");
  }

  /** Starts it with the content of the data directory. An empty directory makes a new server. */
  start(): void {
    if (this.running) {
      return;
    }
    const { files } = this.host;
    for (const directory of ["database/global", "storage-pools", "disks", "networks", "images"]) {
      files.makeDirectory(this.path(directory), { parents: true, mode: 0o711 });
    }
    if (!files.exists(this.path("server.crt"))) {
      this.certificate = makeCertificate(this.host.name);
      files.writeFile(this.path("server.crt"), this.certificate.pem);
    }
    if (!files.exists(this.path("database/local.db")) || !files.exists(this.path("database/global/db.bin"))) {
      this.reset();
    }
    this.drivers = workingDrivers(this.host);
    this.hadLeader = this.database.leader() !== undefined;
    this.running = true;
    this.pid += 1;
    this.readyAt = Date.now() + this.surroundings.timings.daemonStartMs;
  }

  /** Restarts as another version of the program. */
  becomeFlavour(flavour: Flavour): void {
    this.stop();
    this.behaviour = behaviourOf(flavour);
    this.start();
  }

  /** Restarts as a version of the same server with further API extensions. */
  becomeVersion(extensions: readonly string[]): void {
    this.stop();
    const behaviour = behaviourOf(this.behaviour.flavour);
    this.behaviour = { ...behaviour, apiExtensions: [...behaviour.apiExtensions, ...extensions] };
    this.start();
  }

  stop(): void {
    this.running = false;
    this.endedAt = Date.now();
    this.operations.clear();
    this.host.closeApiConnections();
  }

  /** Resets it to a pristine standalone server, as leaving a cluster does too. The caller handles its addresses. */
  reset(keepLocalConfig = false): void {
    const { files } = this.host;
    if (!keepLocalConfig) {
      this.localConfig = {};
    }
    this.database = new Database();
    this.database.members.push({
      name: "none",
      address: "",
      description: "",
      config: {},
      groups: ["default"],
      failureDomain: "default",
      manualRoles: [],
      evacuated: false,
      daemon: this,
    });
    this.database.voters = [...this.database.members];
    files.writeFile(this.path("database/local.db"), "");
    files.writeFile(this.path("database/global/db.bin"), "");
    for (const name of ["cluster.crt", "cluster.key"]) {
      if (files.exists(this.path(name))) {
        files.remove(this.path(name));
      }
    }
  }

  /** Starts an operation on this daemon. */
  operate(options: OperationOptions, work: (operation: Operation) => Promise<void> | void): Operation {
    const { operationFailure: failure, operationLost } = this.surroundings;
    const { operationMs } = this.surroundings.timings;
    if (operationLost) {
      return new Operation(options, this.member.name);
    }
    const { pid } = this;
    return this.operations.start(options, this.member.name, async (operation) => {
      if (operationMs > 0) {
        await new Promise((resolve) => setTimeout(resolve, operationMs));
      }
      if (this.pid !== pid) {
        return; // it ended with the process that ran it
      }
      if (failure !== undefined) {
        throw new LxdError(500, failure);
      }
      try {
        await work(operation);
      } catch (error) {
        throw error instanceof LxdError ? new LxdError(error.code, inWordsOf(this.behaviour, error.message)) : error;
      }
    });
  }

  /** Records a lifecycle event. */
  event(action: string, source: string, project = "default"): void {
    this.surroundings.lifecycle.push({ action, source, project, location: this.member.name });
  }

  /** Handles one HTTP request from a socket. */
  async serve(incoming: IncomingMessage, response: ServerResponse, drop: () => void): Promise<void> {
    const url = new URL(incoming.url ?? "/", "http://unix.socket");
    const method = incoming.method ?? "GET";
    const body = await readAll(incoming);
    const path = url.pathname + url.search;
    const route = this.router.patternOf(url.pathname);
    const record: RequestRecord = { host: this.host.name, method, path, route, mutating: isMutating(method, url.pathname) };
    this.surroundings.requests.push(record);
    const effect = this.surroundings.faults.forRequest({ host: this.host.name, method, path });
    if (effect === "hang" || this.isStuck) {
      return;
    }
    if (effect === "drop-before") {
      drop();
      return;
    }
    if (effect === "daemon-restart") {
      this.stop();
      this.start();
      return;
    }
    const request = { method, path: url.pathname, query: url.searchParams, headers: incoming.headers, body };
    const reply = await this.answerWith(effect, request);
    record.answer = answerOf(reply);
    if (effect === "drop-after") {
      drop();
      return;
    }
    if (typeof effect === "object" && "answer" in effect) {
      effect.answer(response, reply.kind === "raw" ? reply.body.toString("latin1") : envelopeOf(reply));
      return;
    }
    send(reply, method, response);
  }

  /** Handles a request to switch to another protocol on the same connection. */
  async serveUpgrade(incoming: IncomingMessage, connection: Socket, drop: () => void): Promise<void> {
    const response = new ServerResponse(incoming);
    response.assignSocket(connection);
    response.shouldKeepAlive = false;
    response.on("finish", () => connection.end());
    await this.serve(incoming, response, drop);
  }

  /**
   * The reply to a request without SSH, faults and recording: for changes that tests make directly. Waits for an
   * operation, except a join token's.
   */
  async ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const url = new URL(path, "http://unix.socket");
    const sent = {
      method,
      path: url.pathname,
      query: url.searchParams,
      headers: {},
      body: Buffer.from(JSON.stringify(body ?? null)),
    };
    const reply = await this.answerWith(undefined, sent);
    if (reply.kind === "error") {
      throw new LxdError(reply.code, reply.error);
    }
    if (reply.kind !== "async") {
      return reply.kind === "sync" ? reply.metadata : reply.kind === "raw" ? reply.body : undefined;
    }
    const { operation } = reply;
    if (operation.class !== "token") {
      await operation.ended;
    }
    if (operation.status >= 400) {
      throw new LxdError(operation.errorCode, operation.error);
    }
    return operation.metadata;
  }

  private async answerWith(effect: FaultEffect | undefined, request: Omit<ApiRequest, "daemon" | "params">): Promise<Reply> {
    if (typeof effect === "object" && "delayMs" in effect) {
      await new Promise((resolve) => setTimeout(resolve, effect.delayMs));
    }
    if (typeof effect === "object" && "status" in effect) {
      return { kind: "error", code: effect.status, error: effect.error };
    }
    if (typeof effect === "object" && "quote" in effect) {
      return { kind: "error", code: 400, error: effect.quote(request.body.toString()) };
    }
    const failure =
      effect === "fail-operation"
        ? "simulated failure"
        : typeof effect === "object" && "failOperation" in effect
          ? effect.failOperation
          : undefined;
    if (effect === "forget-operation") {
      await this.forgetOperation(request.path);
    }
    try {
      const { handler, params, internal } = this.router.find(request.method, request.path);
      this.requireUsable(internal, request.method === "GET" && request.path === "/1.0" && !request.query.has("target"));
      this.surroundings.operationFailure = failure;
      this.surroundings.operationLost = effect === "lose-operation";
      // Handlers that start operations do so before their first await, so the failure affects no other request.
      const pending = handler({ ...request, daemon: this, params });
      Object.assign(this.surroundings, { operationFailure: undefined, operationLost: false });
      return await pending;
    } catch (error) {
      Object.assign(this.surroundings, { operationFailure: undefined, operationLost: false });
      if (!(error instanceof LxdError)) {
        throw error;
      }
      return { kind: "error", code: error.code, error: inWordsOf(this.behaviour, messageOf(error)) };
    }
  }

  private async forgetOperation(path: string): Promise<void> {
    const id = path.split("/")[3] ?? "";
    for (const { daemon } of this.database.members) {
      await daemon.operations.get(id)?.ended;
      daemon.operations.forget(id);
    }
  }

  /** A daemon that ran when its cluster lost its quorum still tells who it is. One that is started later does not. */
  private requireUsable(internal: boolean, isAboutItself: boolean): void {
    if (internal) {
      return;
    }
    if (!this.ready) {
      throw new LxdError(503, "LXD daemon setup in progress");
    }
    if (this.database.leader() !== undefined) {
      this.hadLeader = true;
    } else if (!(this.hadLeader && isAboutItself)) {
      throw new LxdError(500, "Failed to begin transaction: context deadline exceeded");
    }
  }
}

async function readAll(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

/** Commands in an instance and reads of its files change nothing that LXD stores. */
function isMutating(method: string, path: string): boolean {
  return (
    method !== "GET" && method !== "HEAD" && !/^\/1\.0\/instances\/[^/]+\/(exec|logs\/.*)$/.test(path) && path !== "/internal/sql"
  );
}

function answerOf(reply: Reply): NonNullable<RequestRecord["answer"]> {
  switch (reply.kind) {
    case "error":
      return { status: reply.code, error: reply.error };
    case "async":
      return { status: 202 };
    case "raw":
      return { status: reply.status ?? 200 };
    case "sync":
      return { status: reply.location === undefined ? 200 : 201 };
    case "upgrade":
      return { status: 101 };
  }
}

function envelopeOf(reply: Reply): string {
  return reply.kind === "raw" || reply.kind === "upgrade" ? "" : envelope(reply).body;
}

function send(reply: Reply, method: string, response: ServerResponse): void {
  if (response.destroyed) {
    return;
  }
  if (reply.kind === "upgrade") {
    const { socket: connection } = response;
    if (connection !== null) {
      response.detachSocket(connection);
      connection.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${reply.protocol}\r\nConnection: Upgrade\r\n\r\n`);
      reply.attach(connection);
    }
    return;
  }
  if (reply.kind === "raw") {
    response.writeHead(reply.status ?? 200, { ...reply.headers, "content-length": String(reply.body.length) });
    response.end(method === "HEAD" ? undefined : reply.body);
    return;
  }
  const { status, headers, body } = envelope(reply);
  response.writeHead(status, { ...headers, "content-length": String(Buffer.byteLength(body)) });
  response.end(method === "HEAD" ? undefined : body);
}
