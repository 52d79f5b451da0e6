import pLimit from "p-limit";
import * as z from "zod";
import { type Deadline, inTurn, pause, SharedWork, until } from "../../support/deadline";
import { ApiError, hasCode, isNotFound, OperationError, RefusedError, ResponseShapeError } from "../../support/errors";
import type { Endpoint } from "./endpoint";
import { exchange, type HttpRequest, type HttpResponse, waitingFor } from "./http";

/** The envelope of every JSON answer. Success is told by `type`, not by the HTTP status. */
const envelopeSchema = z.looseObject({
  type: z.enum(["sync", "async", "error"]),
  error: z.string().optional(),
  error_code: z.number().optional(),
  metadata: z.unknown(),
});

/** A background operation. */
export const operationSchema = z.looseObject({
  id: z.string(),
  class: z.string(),
  description: z.string().default(""),
  status: z.string(),
  status_code: z.number(),
  err: z.string().default(""),
  err_code: z.number().optional(),
  resources: z.record(z.string(), z.array(z.string()).nullish()).nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
});

/** See {@link operationSchema}. */
export type Operation = z.output<typeof operationSchema>;

type Query = Readonly<Record<string, string | number | undefined>>;

/** What goes along with a request besides its path. */
export interface RequestOptions {
  readonly query?: Query;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string | number>>;
  /** Only act when the object is still as it was read. */
  readonly etag?: string | undefined;
}

/** One wait must not keep a channel for ever while other requests queue behind it. */
const WAIT_SECONDS = 5;

/** A server that does not wait at all, and answers each round at once, is not asked in a tight loop. */
const LEAST_ROUND_MS = 250;

/** Waits hold a channel each; the rest of the connection's channels stays free for requests that are answered at once. */
const CONCURRENT_WAITS = 4;

/**
 * LXD's REST API on one host, within one deadline. Members of a cluster forward to each other, so any member's API will do.
 * @see https://documentation.ubuntu.com/lxd/latest/rest-api/
 */
export class LxdClient {
  constructor(
    readonly endpoint: Endpoint,
    readonly deadline: Deadline,
    private readonly shared: SharedRequests = sharedRequestsOf(endpoint),
  ) {}

  /** The same API under another deadline. */
  within(deadline: Deadline): LxdClient {
    return new LxdClient(this.endpoint, deadline, this.shared);
  }

  /** `user@host:port` of the host that answers. */
  get host(): string {
    return this.endpoint.host;
  }

  /** Reads an object. */
  async get<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>> {
    return (await this.getWithEtag(path, schema, query)).value;
  }

  /** Reads an object, or answers `undefined` when LXD says that it does not exist. */
  async find<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema> | undefined> {
    return (await this.findWithEtag(path, schema, query))?.value;
  }

  /** Reads an object together with the ETag that guards its next change. */
  async getWithEtag<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query?: Query,
  ): Promise<{ value: z.output<Schema>; etag: string | undefined }> {
    const { metadata, response, sent } = await this.send({ method: "GET", path: withQuery(path, query) });
    return { value: this.parse(schema, metadata, sent), etag: response.headers.etag };
  }

  /** {@link getWithEtag}, with `undefined` for what does not exist. */
  async findWithEtag<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query?: Query,
  ): Promise<{ value: z.output<Schema>; etag: string | undefined } | undefined> {
    try {
      return await this.getWithEtag(path, schema, query);
    } catch (error) {
      if (isNotFound(error)) {
        return undefined;
      }
      throw error;
    }
  }

  /**
   * A read whose answer is shared by all who ask for the same within this process, until something is changed through it: a
   * refresh of many objects costs one request.
   */
  getShared<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>> {
    const sent = withQuery(path, query);
    const shared = this.shared.reading(sent);
    return shared.join(this.deadline, waitingFor({ method: "GET", path: sent }, this.host), () =>
      this.get(path, schema, query),
    ) as Promise<z.output<Schema>>;
  }

  /**
   * Changes something, and waits for the operation when LXD does it in the background. Which calls are asynchronous depends on
   * LXD's version, so every caller treats both alike.
   * @returns The finished operation, or `undefined` when LXD answered at once.
   * @throws ApiError when LXD refuses; OperationError when the operation fails.
   */
  async change(
    method: "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    options: RequestOptions = {},
  ): Promise<Operation | undefined> {
    const operation = await this.begin(method, path, options);
    return operation === undefined ? undefined : this.finish(operation);
  }

  /** {@link change}, treating "does not exist" as done. */
  async remove(path: string, query?: Query): Promise<void> {
    try {
      await this.change("DELETE", path, query === undefined ? {} : { query });
    } catch (error) {
      if (!isNotFound(error)) {
        throw error;
      }
    }
  }

  /** Changes something without waiting for the operation, which is returned. */
  async begin(
    method: "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    options: RequestOptions = {},
  ): Promise<Operation | undefined> {
    const json = options.body === undefined ? undefined : JSON.stringify(options.body);
    return this.beginRaw({
      method,
      path: withQuery(path, options.query),
      headers: {
        ...(json === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(json) }),
        ...(options.etag === undefined ? {} : { "if-match": options.etag }),
        ...options.headers,
      },
      ...(json === undefined ? {} : { body: json }),
    });
  }

  /** {@link begin} with a body that is not JSON, such as an image. */
  async beginRaw(sent: HttpRequest): Promise<Operation | undefined> {
    this.shared.forget();
    try {
      const { type, metadata } = await this.send(sent);
      return type === "async" ? this.parse(operationSchema, metadata, sent) : undefined;
    } finally {
      this.shared.forget(); // what was read while the change was under way may be either
    }
  }

  /**
   * Waits until an operation has ended. LXD forgets an operation five seconds after it ended, so the wait must begin at once.
   * @throws OperationError when it failed; ApiError 404 when LXD no longer knows it: then the object itself tells.
   */
  async finish(operation: Operation, onProgress?: (operation: Operation) => void): Promise<Operation> {
    let current = operation;
    while (current.status_code < 200) {
      const asked = performance.now();
      current = await inTurn(this.shared.waits, this.deadline, stillAt(this.host, current), () => this.waitOnce(current));
      onProgress?.(current);
      if (this.deadline.remainingMs === 0 && current.status_code < 200) {
        throw this.deadline.expired(stillAt(this.host, current));
      }
      if (current.status_code < 200) {
        await pause(LEAST_ROUND_MS - (performance.now() - asked), this.deadline);
      }
    }
    this.shared.forget();
    if (current.status_code !== 200) {
      throw new OperationError(this.host, current.description, current.err, current.err_code);
    }
    return current;
  }

  /** Cancels an operation, such as a join token; one that is gone is done. */
  async cancel(operation: Pick<Operation, "id">): Promise<void> {
    await this.remove(api`/1.0/operations/${operation.id}`);
  }

  /** Reads a body that is not JSON. */
  async getRaw(path: string, query?: Query): Promise<HttpResponse> {
    const sent = { method: "GET", path: withQuery(path, query) };
    const response = await exchange(this.endpoint, sent, this.deadline);
    if (response.status >= 400) {
      this.envelope(response, sent);
    }
    return response;
  }

  /** One round of waiting: the operation as it is after at most a few seconds. LXD's versions answer failure in three ways. */
  private async waitOnce(operation: Operation): Promise<Operation> {
    const path = api`/1.0/operations/${operation.id}`;
    const seconds = Math.max(1, Math.min(WAIT_SECONDS, Math.ceil(this.deadline.remainingMs / 1000)));
    try {
      const deadline = this.deadline.atMost(seconds + 30, `waiting for "${operation.description}" on ${this.host}`);
      const now = await this.within(deadline).get(`${path}/wait`, operationSchema, { timeout: seconds });
      if (now.id !== operation.id) {
        throw new ResponseShapeError(
          `LXD on ${this.host} was asked for the operation ${operation.id} and told of another, ${now.id}`,
        );
      }
      return now;
    } catch (error) {
      if (this.deadline.remainingMs === 0 && hasCode(error, "timeout")) {
        throw this.deadline.expired(stillAt(this.host, operation));
      }
      if (!hasCode(error, "api") || isNotFound(error)) {
        throw error;
      }
      // Newer versions answer an error when the operation failed, and also when only this wait timed out.
      const now = await this.find(path, operationSchema);
      if (now !== undefined) {
        return now;
      }
      const { reply, status } = error as unknown as ApiError;
      throw new OperationError(this.host, operation.description, reply, status);
    }
  }

  private async send(
    sent: HttpRequest,
  ): Promise<{ type: "sync" | "async"; metadata: unknown; response: HttpResponse; sent: HttpRequest }> {
    return until(this.deadline, async (report) => {
      const response = await exchange(this.endpoint, sent, this.deadline);
      try {
        return { ...this.envelope(response, sent), response, sent };
      } catch (error) {
        if (isPassing(error, sent.method)) {
          report((error as ApiError).message);
          return undefined;
        }
        throw error;
      }
    });
  }

  private envelope(response: HttpResponse, sent: HttpRequest): { type: "sync" | "async"; metadata: unknown } {
    let json: unknown;
    try {
      json = JSON.parse(response.body.toString("utf8"));
    } catch {
      json = undefined;
    }
    const { type, error, error_code, metadata } = this.parse(envelopeSchema, json, sent);
    if (type === "error") {
      throw new ApiError(this.host, sent.method, sent.path, error_code ?? response.status, (error ?? "no reason given").trim());
    }
    return { type, metadata };
  }

  private parse<Schema extends z.ZodType>(
    schema: Schema,
    value: unknown,
    sent: Pick<HttpRequest, "method" | "path">,
  ): z.output<Schema> {
    const parsed = schema.safeParse(value);
    if (!parsed.success) {
      throw new ResponseShapeError(
        `The answer of ${this.host} to ${sent.method} ${sent.path} is not what LXD's API describes: ` +
          `${z.prettifyError(parsed.error).slice(0, 1000)}\nLook at it there: lxc query '${sent.path}'`,
      );
    }
    return parsed.data;
  }
}

/**
 * Builds a path; every inserted value becomes exactly one segment, whatever characters it has.
 * @example api`/1.0/instances/${name}/state`
 * @throws RefusedError for a value that cannot be a segment: the path would lead to another object.
 */
export function api(strings: TemplateStringsArray, ...values: readonly string[]): string {
  return strings.reduce((path, text, index) => path + segment(values[index - 1] ?? "") + text);
}

function segment(name: string): string {
  if (/^\.{0,2}$|\p{Surrogate}/u.test(name)) {
    throw new RefusedError(`${JSON.stringify(name)} is not a name that an object of LXD can have`);
  }
  return encodeURIComponent(name);
}

function stillAt(host: string, { description }: Operation): string {
  return `LXD on ${host} was still at "${description}"`;
}

function withQuery(path: string, query: Query = {}): string {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) {
      given.set(key, String(value));
    }
  }
  return given.size === 0 ? path : `${path}?${given.toString()}`;
}

/** Answers that say "later": nothing was done, and the same request will soon be taken. */
function isPassing(error: unknown, method: string): boolean {
  if (!hasCode(error, "api")) {
    return false;
  }
  const { status, reply } = error as unknown as ApiError;
  return (
    status === 503 || (method === "GET" && /database is locked|no available dqlite leader|driver: bad connection/.test(reply))
  );
}

/** What all clients of one endpoint share within this process. */
class SharedRequests {
  readonly waits = pLimit(CONCURRENT_WAITS);
  private readonly readings = new Map<string, SharedWork<unknown>>();

  reading(path: string): SharedWork<unknown> {
    const reading = this.readings.get(path) ?? new SharedWork<unknown>();
    this.readings.set(path, reading);
    return reading;
  }

  forget(): void {
    this.readings.clear();
  }
}

const sharedRequests = new WeakMap<Endpoint, SharedRequests>();

function sharedRequestsOf(endpoint: Endpoint): SharedRequests {
  let shared = sharedRequests.get(endpoint);
  if (shared === undefined) {
    shared = new SharedRequests();
    sharedRequests.set(endpoint, shared);
  }
  return shared;
}
