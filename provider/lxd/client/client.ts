import type { Duplex } from "node:stream";
import * as z from "zod";
import { Deadline, until } from "../../support/deadline";
import { sameJson } from "../../support/equality";
import { type ApiError, FailedError, fallback, hasCode, isNotFound, messageOf, ResponseShapeError } from "../../support/errors";
import { type Config, OWNER_KEY } from "../config";
import { isRead, jsonOf, listOf, metadataOf, parseAnswer, SQL, saysLater, unlessNotFound } from "./answers";
import { type Endpoint, namesOf, type ServerNames } from "./endpoint";
import { type Elements, exchange, type HttpRequest, type HttpResponse, waitingFor } from "./http";
import { type Operation, operationSchema, untilKnown } from "./operations";
import { api, type Query, withQuery } from "./path";
import { noteOfQuorum } from "./quorum-loss";
import { type SharedRequests, sharedRequestsOf } from "./shared-requests";
import { isServerFailure } from "./transient-failures";
import { downIn } from "./unheard";

export type { Operation };
export { api };

type ChangeMethod = "POST" | "PUT" | "PATCH" | "DELETE";

interface ChangeOptions {
  readonly query?: Query | undefined;
  readonly body?: unknown;
  /** Makes LXD act only when the object still has this ETag. */
  readonly etag?: string | undefined;
}

interface Told {
  /** Receives each JSON body before it is sent, because LXD may quote it in an error. */
  readonly sending?: (body: unknown) => void;
  readonly waiting?: (text: string) => void;
}

export interface Tagged<Value> {
  readonly value: Value;
  readonly etag: string | undefined;
}

/** Attempts at a change when the object changes meanwhile, or LXD loses the operation. */
const ATTEMPTS = 5;

/** Time for LXD to report who it is, or which members are down, after a request failed. */
const IDENTITY_SECONDS = 5;
/** Time for the same after a call has failed, which the grace of the call contains. */
const QUORUM_SECONDS = 3;
const statusesSchema = listOf(z.looseObject({ server_name: z.string().default(""), status: z.string() }));
const identitySchema = z.looseObject({
  environment: z.looseObject({ server_name: z.string().default(""), server_clustered: z.boolean().default(false) }),
});

/**
 * What is repeated: reads that fail, and requests that LXD says to send later; only the latter; or nothing, for questions about a failure and
 * for a first look at a host.
 */
export type Patience = "patient" | "impatient" | "once";

/** Requests that only a cluster answers. */
const OF_CLUSTER = /^\/(1\.0|internal)\/cluster\b/;

/**
 * LXD's REST API on one host, within one deadline. Cluster members forward requests to each other, so any member's API works. Repeats a
 * read that fails in LXD, or during which the daemon stops, for as long as a restart takes. Never repeats a change.
 * @see https://documentation.ubuntu.com/lxd/latest/rest-api/
 */
export class LxdClient {
  constructor(
    readonly endpoint: Endpoint,
    readonly deadline: Deadline,
    private readonly told: Told = {},
    private readonly shared: SharedRequests = sharedRequestsOf(
      endpoint,
      (at, within, all) => new LxdClient(at, within, {}, all, "impatient"),
    ),
    private readonly patience: Patience = "patient",
    /** Whether the caller has no time left after the deadline, and so nothing else to try. */
    private readonly isLast = true,
  ) {}

  /** The same API with reads that are made once, for callers that have an alternative when LXD fails. */
  get impatient(): LxdClient {
    return new LxdClient(this.endpoint, this.deadline, this.told, this.shared, "impatient");
  }

  within(deadline: Deadline): LxdClient {
    return new LxdClient(this.endpoint, deadline, this.told, this.shared, this.patience, false);
  }

  get host(): string {
    return this.endpoint.host;
  }

  /** The server and its host in messages: `Incus on root@192.168.1.102`. */
  get title(): string {
    return this.endpoint.title;
  }

  /** Names of the server, for messages. */
  get names(): ServerNames {
    return namesOf(this.endpoint.socket.packaging);
  }

  async get<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>> {
    return (await this.getWithEtag(path, schema, query)).value;
  }

  find<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema> | undefined> {
    return unlessNotFound(this.get(path, schema, query));
  }

  async getWithEtag<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<Tagged<z.output<Schema>>> {
    const { metadata, response, sent } = await this.send({ method: "GET", path: withQuery(path, query) });
    return { value: parseAnswer(this.title, schema, metadata, sent), etag: response.headers.etag };
  }

  findWithEtag<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query?: Query,
  ): Promise<Tagged<z.output<Schema>> | undefined> {
    return unlessNotFound(this.getWithEtag(path, schema, query));
  }

  /** Reads a path once for all callers in this process, until a change is made through the same endpoint. */
  getShared<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>> {
    const sent = withQuery(path, query);
    return this.share(sent, sent, () => this.get(path, schema, query));
  }

  findShared<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema> | undefined> {
    return unlessNotFound(this.getShared(path, schema, query));
  }

  /** {@link getShared} for a list that may be long. Parses the elements as they arrive, and keeps of each only what `keep` returns. */
  getListShared<Schema extends z.ZodType, Kept>(
    path: string,
    element: Schema,
    keep: (value: z.output<Schema>) => Kept,
    query?: Query,
  ): Promise<Kept[]> {
    const sent = { method: "GET", path: withQuery(path, query) };
    const list = async (): Promise<Kept[]> => {
      let kept: Kept[] = [];
      await this.send(sent, () => {
        kept = [];
        return (json) => void kept.push(keep(parseAnswer(this.title, element, jsonOf(json), sent)));
      });
      return kept;
    };
    return this.share(sent.path, `list ${sent.path}`, list);
  }

  /**
   * Reads the cluster's database: only for what the API does not tell.
   * @param query - A constant: no value is ever put into it.
   */
  async select<Schema extends z.ZodType>(query: string, row: Schema): Promise<z.output<Schema>[]> {
    const body = JSON.stringify({ database: "global", query });
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const { metadata, sent } = await this.send({ method: "POST", path: SQL, headers, body });
    const results = z.looseObject({ Results: listOf(z.looseObject({ rows: listOf(row) })) });
    return parseAnswer(this.title, results, metadata, sent).Results.flatMap(({ rows }) => rows);
  }

  /** {@link select}, shared as {@link getShared} is. */
  selectShared<Schema extends z.ZodType>(query: string, row: Schema): Promise<z.output<Schema>[]> {
    return this.share(SQL, query, () => this.select(query, row));
  }

  private share<Result>(path: string, key: string, read: () => Promise<Result>): Promise<Result> {
    return this.shared.reading(key).join(this.deadline, waitingFor("GET", path, this.host), read) as Promise<Result>;
  }

  /**
   * Makes a change, and waits for the operation when LXD works in the background. LXD's version decides which calls are asynchronous.
   * @returns The finished operation, or `undefined` when LXD answered at once.
   * @throws ApiError when LXD refuses; OperationError when the operation fails.
   */
  async change(method: ChangeMethod, path: string, options: ChangeOptions = {}): Promise<Operation | undefined> {
    const operation = await this.begin(method, path, options);
    return operation === undefined ? undefined : this.finish(operation);
  }

  /**
   * Changes an object: writes the result of `change` for the live contents, guarded by their ETag. Reads and writes again when the object
   * changed meanwhile (412) and kept its owner, and when LXD lost the operation and the object is not as wanted.
   * @throws FailedError, caused by LXD's error, when LXD failed after it had saved the object.
   * @param change - Returns the new contents; `undefined` for no change. May be called several times, and may refuse.
   * @param options.found - The object, when it was just read. Without its ETag, no attempt is guarded.
   * @returns Whether the object exists.
   */
  async modify<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    change: (live: z.output<Schema>) => object | undefined,
    options: { query?: Query; found?: Tagged<z.output<Schema>> | undefined; method?: "PUT" | "PATCH" } = {},
  ): Promise<boolean> {
    const { query = {}, method = "PUT" } = options;
    let found = options.found ?? (await this.findWithEtag(path, schema, query));
    const isGuarded = found?.etag !== undefined;
    for (let attempt = 1; found !== undefined; attempt += 1) {
      const { value, etag }: Tagged<z.output<Schema>> = found;
      const body = change(value);
      if (body === undefined) {
        break;
      }
      try {
        await this.change(method, path, { query, body, etag: isGuarded ? etag : undefined });
        break;
      } catch (error) {
        const isLost = hasCode(error, "lost");
        if (attempt === ATTEMPTS || !(isLost || (hasCode(error, "api") && error.status === 412))) {
          const mayBeSaved = (isServerFailure(error) || hasCode(error, "operation")) && !holds(value, body);
          const isSaved = mayBeSaved && holds(await this.find(path, schema, query).catch(() => undefined), body);
          throw isSaved ? new FailedError(`${messageOf(error)}. The change was saved nevertheless`, { cause: error }) : error;
        }
        found = await this.findWithEtag(path, schema, query);
        if (isLost && holds(found?.value, body)) {
          break;
        }
        if (!isLost && ownerOf(found?.value) !== ownerOf(value)) {
          throw error;
        }
      }
    }
    return found !== undefined;
  }

  /**
   * Removes an object. Succeeds when it does not exist. Only a read at the object's own address proves that: LXD also answers 404 when
   * something that the removal needs is missing.
   * @throws ApiError when LXD refuses, or answers 404 for an object that exists; OperationError when the operation fails.
   */
  async remove(path: string, query?: Query): Promise<void> {
    const { force: _how, ...where } = query ?? {};
    // Reads no JSON, because a file is none.
    const isGone = async (): Promise<boolean> => (await unlessNotFound(this.getRaw(path, where))) === undefined;
    const remove = async (): Promise<void> => {
      try {
        await this.change("DELETE", path, { query });
      } catch (error) {
        if (!(isNotFound(error) || hasCode(error, "operation")) || !(await isGone())) {
          throw isNotFound(error) ? (error as ApiError).butIsThere() : error;
        }
      }
    };
    await untilKnown(remove, isGone);
  }

  async begin(method: ChangeMethod, path: string, { query, body, etag }: ChangeOptions = {}): Promise<Operation | undefined> {
    const json = body === undefined ? undefined : JSON.stringify(body);
    this.told.sending?.(body);
    return this.beginRaw({
      method,
      path: withQuery(path, query),
      headers: {
        ...(json === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(json) }),
        ...(etag === undefined ? {} : { "if-match": etag }),
      },
      body: json,
    });
  }

  /** {@link begin} with a body that is not JSON, such as an image. */
  async beginRaw(sent: HttpRequest): Promise<Operation | undefined> {
    this.shared.forget();
    try {
      const { type, metadata } = await this.send(sent);
      return type === "async" ? parseAnswer(this.title, operationSchema, metadata, sent) : undefined;
    } finally {
      this.shared.forget(); // a read during the change may have seen either state
    }
  }

  /** See {@link OperationWatcher.finish}. Call it at once: LXD forgets the operation five seconds after its end. */
  async finish(operation: Operation, onProgress?: (operation: Operation) => void): Promise<Operation> {
    try {
      return await this.shared.operations.finish(operation, this.deadline, onProgress);
    } finally {
      this.shared.forget();
    }
  }

  async cancel(operation: Pick<Operation, "id">): Promise<void> {
    await this.remove(api`/1.0/operations/${operation.id}`);
  }

  /** Reads a body that is not JSON. */
  async getRaw(path: string, query?: Query): Promise<HttpResponse> {
    const sent = { method: "GET", path: withQuery(path, query) };
    return this.persistently(sent, async () => {
      const response = await exchange(this.endpoint, sent, this.deadline);
      if (response.status >= 400) {
        metadataOf(this.title, response, sent);
      }
      return response;
    });
  }

  /** Opens a connection with another protocol, such as `sftp`. It occupies a request slot: its owner sends LXD no other request meanwhile. */
  async connect(path: string, protocol: string, query?: Query): Promise<Duplex> {
    const headers = { connection: "Upgrade", upgrade: protocol };
    const { response, sent } = await this.send({ method: "GET", path: withQuery(path, query), headers });
    if (response.connection === undefined) {
      throw new ResponseShapeError(
        `${this.title} answered ${sent.method} ${sent.path} without opening a connection for ${protocol}`,
      );
    }
    return response.connection;
  }

  private async send(
    sent: HttpRequest,
    elements?: Elements,
  ): Promise<{ type: "sync" | "async"; metadata: unknown; response: HttpResponse; sent: HttpRequest }> {
    return this.persistently(sent, async () => {
      const response = await exchange(this.endpoint, sent, this.deadline, elements);
      return { ...metadataOf(this.title, response, sent), response, sent };
    });
  }

  private persistently<Answer>(sent: HttpRequest, attempt: () => Promise<Answer>): Promise<Answer> {
    let failure: unknown;
    let isDown = false;
    return until(this.deadline, async (report) => {
      try {
        const answer = await attempt();
        if (failure !== undefined) {
          this.shared.trouble.isOver();
        }
        return answer;
      } catch (error) {
        const isLater = saysLater(error) && this.patience !== "once";
        const isOfMember = isDown && !hasCode(error, "transport");
        if (isOfMember || !(isLater || (isRead(sent) && (await this.mayPass(error))))) {
          throw error;
        }
        // A request for a member that is down fails like one that came while the database had no leader, and Incus 7 answers it like a server
        // that starts. A server that has listed its members since has a leader and is not starting: the next failure is of that member.
        isDown = this.patience === "patient" && !hasCode(error, "transport") && (await this.isMemberDown());
        failure = error;
        report(messageOf(error));
        this.told.waiting?.(`asking again: ${messageOf(error)}`);
        return undefined;
      }
    }).catch(async (error: unknown) => {
      // Throws LXD's error rather than the timeout: a caller that checks for silence must not mistake a failing LXD for it.
      const isLate = hasCode(error, "timeout");
      const last = isLate && failure !== undefined && !saysLater(failure) ? failure : error;
      const isLong = failure !== undefined || this.shared.trouble.isLong;
      const mayLackQuorum = isLate
        ? this.isLast && (isRead(sent) || saysLater(failure))
        : isRead(sent) && isLong && isServerFailure(last);
      throw this.patience === "patient" && !isDown && mayLackQuorum && (hasCode(last, "api") || hasCode(last, "timeout"))
        ? last.noting(await this.noteOfQuorum(failure !== undefined))
        : last;
    });
  }

  /**
   * Whether LXD answered a request with an error because it is in no cluster. LXD has no status code for this, so it is asked. `undefined` when
   * it does not answer that either: then the caller knows no more than the error.
   * @throws TimeoutError, with the error in its text, when the time is over.
   */
  async isInNoCluster(error: unknown): Promise<boolean | undefined> {
    if (!hasCode(error, "api") || !OF_CLUSTER.test(error.path)) {
      return false;
    }
    const answer = await this.whoAnswers()
      .catch(fallback(undefined, "transport", "api", "response-shape"))
      .catch((late: unknown) => {
        const asking = `asking ${this.title} whether it is in a cluster, after: ${messageOf(error)}`;
        throw hasCode(late, "timeout") ? this.deadline.expired(asking) : late;
      });
    return answer && !answer.server_clustered;
  }

  private async mayPass(error: unknown): Promise<boolean> {
    if (this.patience !== "patient") {
      return false;
    }
    const isOfDaemon = hasCode(error, "transport") && this.endpoint.isOpen();
    const isTransient =
      isOfDaemon || (isServerFailure(error) && !(await this.soon.isInNoCluster(error).catch(fallback(undefined, "timeout"))));
    return isTransient && this.shared.trouble.lasts();
  }

  private async isMemberDown(): Promise<boolean> {
    const members = await this.soon.get("/1.0/cluster/members", statusesSchema, { recursion: 1 }).catch(() => []);
    const down = await downIn(members, (query, row) => this.soon.select(query, row).catch(() => []));
    const [only] = down;
    // The member that answers is not down, even if its own heartbeat is late.
    const answering = down.length === 1 ? await this.soon.whoAnswers().catch(() => undefined) : undefined;
    return down.length > 0 && answering?.server_name !== only;
  }

  /** {@link noteOfQuorum}. Also asks when the time is over. */
  private noteOfQuorum(isFailing: boolean): Promise<string> {
    const soon = this.asking(new Deadline(QUORUM_SECONDS, `asking ${this.title} about its cluster`));
    const members = soon.get("/1.0/cluster/members", statusesSchema, { recursion: 1 });
    return noteOfQuorum({ title: this.title, isFailing, members, itself: soon.whoAnswers() });
  }

  private async whoAnswers(): Promise<{ server_name: string; server_clustered: boolean }> {
    return (await this.get("/1.0", identitySchema)).environment;
  }

  /** The same API for questions about a failure. */
  private get soon(): LxdClient {
    return this.asking(this.deadline.atMost(IDENTITY_SECONDS, `asking ${this.title} about itself`));
  }

  private asking(deadline: Deadline): LxdClient {
    return new LxdClient(this.endpoint, deadline, {}, this.shared, "once");
  }
}

function holds(value: unknown, body: object): boolean {
  const live = (value ?? {}) as Readonly<Record<string, unknown>>;
  return Object.entries(body).every(([key, wanted]) => sameJson(live[key], wanted));
}

function ownerOf(value: unknown): unknown {
  const { config, properties } = (value ?? {}) as Partial<Record<"config" | "properties", Config | null>>;
  return (config ?? properties)?.[OWNER_KEY];
}
