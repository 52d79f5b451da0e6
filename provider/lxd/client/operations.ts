/**
 * LXD's operations: its background work. LXD forgets an operation five seconds after its end, and all of them at a restart.
 * @see https://documentation.ubuntu.com/lxd/latest/rest-api/#background-operation
 */
import * as z from "zod";
import { Deadline } from "../../support/deadline";
import {
  type ApiError,
  hasCode,
  isNotFound,
  LostOperationError,
  messageOf,
  OperationError,
  ResponseShapeError,
} from "../../support/errors";
import type { Endpoint } from "./endpoint";
import { api, type Query } from "./path";

export const operationSchema = z.looseObject({
  id: z.string(),
  class: z.string(),
  description: z.string().default(""),
  status: z.string(),
  status_code: z.number(),
  err: z.string().default(""),
  err_code: z.number().optional(),
  created_at: z.string().default(""),
  resources: z.record(z.string(), z.array(z.string()).nullish()).nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
});

export type Operation = z.output<typeof operationSchema>;

/** LXD lists operations by their status. */
export const operationsSchema = z
  .record(z.string(), z.array(operationSchema).nullish())
  .nullish()
  .transform((byStatus) => Object.values(byStatus ?? {}).flatMap((operations) => operations ?? []));

export interface Api {
  get<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>>;
}

export interface WaysToAsk extends Pick<Endpoint, "host" | "title"> {
  isOpen(): boolean;
  /** For a query that LXD answers at once. It never waits behind other requests. */
  now(deadline: Deadline): Api;
  /** For a query whose answer may take a while. */
  eventually(deadline: Deadline): Api;
}

/** Concurrent requests that wait for the end of an operation. Each holds a channel. Polling covers the other operations. */
const OPEN_WAITS = 3;

/** Longest wait to request from LXD, so that other operations get the channel too. */
const WAIT_SECONDS = 5;

const TICK_MS = 250;

/** Interval of polling while a request waits for each operation. LXD shows an ended operation for five seconds. */
const LOOK_MS = 2000;

/** Timeout of a poll. It doubles after each poll without an answer. */
const PATIENCE_SECONDS = { first: 2, longest: 60 };

/** How long LXD, or the member that works on an operation, may leave queries unanswered before that is an error. */
const OUT_OF_SIGHT_MS = 30_000;

class Watched {
  /** Whether a request waits for its end. */
  isWaitedFor = false;
  heardAt = performance.now();
  trouble: unknown;
  readonly ended: Promise<Operation>;
  resolve: (operation: Operation) => void = () => undefined;
  reject: (error: unknown) => void = () => undefined;

  constructor(
    public operation: Operation,
    readonly deadline: Deadline,
    readonly onProgress: ((operation: Operation) => void) | undefined,
  ) {
    this.ended = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }
}

/**
 * Watches all awaited operations of one endpoint. Asks LXD to report the end of a few of them, which is fastest, and polls all of them in
 * one request often enough to miss none. So a wait needs no separate channel, and a late or lost answer does no harm.
 */
export class OperationWatcher {
  private readonly watched = new Set<Watched>();
  private openWaits = 0;
  private isWatching = false;
  private lookedAt = 0;
  private patience = PATIENCE_SECONDS.first;

  constructor(private readonly ways: WaysToAsk) {}

  /**
   * @param onProgress - Receives the operation each time LXD reports it, including the last time.
   * @throws OperationError when it failed; LostOperationError when LXD no longer knows it: then the object itself shows the result.
   */
  async finish(operation: Operation, deadline: Deadline, onProgress?: (operation: Operation) => void): Promise<Operation> {
    const watched = new Watched(operation, deadline, onProgress);
    this.watched.add(watched);
    this.saw(watched, operation);
    this.openMoreWaits();
    void this.watch();
    try {
      return await deadline.race(watched.ended, "");
    } catch (error) {
      throw deadline.remainingMs === 0 && hasCode(error, "timeout") ? deadline.expired(this.stillAt(watched)) : error;
    } finally {
      this.watched.delete(watched);
    }
  }

  private stillAt({ operation, trouble }: Watched): string {
    const since = trouble === undefined ? "" : ` when it last reported it; since then: ${messageOf(trouble)}`;
    return `${this.ways.title} was still at "${operation.description}"${since}`;
  }

  private async watch(): Promise<void> {
    if (this.isWatching) {
      return;
    }
    this.isWatching = true;
    this.lookedAt = performance.now();
    while (this.watched.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      this.openMoreWaits();
      const all = [...this.watched];
      if (all.length > 0 && (all.some((each) => !each.isWaitedFor) || performance.now() - this.lookedAt >= LOOK_MS)) {
        await this.lookAt(all);
        this.lookedAt = performance.now();
      }
    }
    this.isWatching = false;
  }

  /** Prefers the youngest operations: polling sees the end of long ones in time. */
  private openMoreWaits(): void {
    for (const watched of [...this.watched].reverse()) {
      if (this.openWaits < OPEN_WAITS && !watched.isWaitedFor) {
        void this.waitFor(watched);
      }
    }
  }

  private async waitFor(watched: Watched): Promise<void> {
    const { id, description } = watched.operation;
    const seconds = Math.max(1, Math.min(WAIT_SECONDS, Math.ceil(watched.deadline.remainingMs / 1000)));
    const deadline = watched.deadline.atMost(seconds + 5, `waiting for "${description}" on ${this.ways.host}`);
    const since = performance.now();
    this.openWaits += 1;
    watched.isWaitedFor = true;
    try {
      const path = api`/1.0/operations/${id}/wait`;
      this.saw(watched, await this.ways.eventually(deadline).get(path, operationSchema, { timeout: seconds }));
    } catch (error) {
      if (hasCode(error, "timeout")) {
        return;
      }
      if (hasCode(error, "response-shape")) {
        this.fail(watched, error);
        return;
      }
      // Depending on its version, LXD reports by an error that the operation failed, or that it outlasts this wait. An error before the
      // timeout can only mean the former.
      const isFailure = hasCode(error, "api") && !isNotFound(error) && performance.now() - since < seconds * 1000;
      await this.askFor(watched, error, isFailure ? error : undefined);
    } finally {
      this.openWaits -= 1;
      watched.isWaitedFor = false;
    }
  }

  private async lookAt(all: readonly Watched[]): Promise<void> {
    let missing = all;
    if (all.length > 1) {
      const listed = await this.list(all);
      if (listed === undefined) {
        return;
      }
      missing = all.filter((watched) => {
        const seen = listed.get(watched.operation.id);
        if (seen !== undefined) {
          this.saw(watched, seen);
        }
        return seen === undefined;
      });
    }
    for (const watched of missing) {
      await this.askFor(watched); // sequentially, or the last ones would have no time for an answer
      if (hasCode(watched.trouble, "timeout")) {
        return;
      }
    }
  }

  /** Lists all operations. Returns `undefined` when LXD did not answer in time. */
  private async list(all: readonly Watched[]): Promise<Map<string, Operation> | undefined> {
    try {
      const operations = await this.ask("/1.0/operations", operationsSchema, { recursion: 1, "all-projects": "true" });
      return new Map(operations.map((operation) => [operation.id, operation]));
    } catch (error) {
      if (hasCode(error, "timeout") || hasCode(error, "transport")) {
        for (const watched of all) {
          this.couldNotAsk(watched, error);
        }
        return undefined;
      }
      return new Map(); // such as for a member that does not answer; each operation is queried separately
    }
  }

  /**
   * @param why - The error that made the query necessary.
   * @param failure - LXD's report of the operation's end, in case the operation is gone.
   */
  private async askFor(watched: Watched, why?: unknown, failure?: ApiError): Promise<void> {
    const { id, description } = watched.operation;
    const { title } = this.ways;
    if (!this.watched.has(watched)) {
      return;
    }
    if (!this.ways.isOpen() && hasCode(why, "transport")) {
      this.fail(watched, why);
      return;
    }
    try {
      this.saw(watched, await this.ask(api`/1.0/operations/${id}`, operationSchema));
    } catch (error) {
      if (isNotFound(error)) {
        const end =
          failure === undefined
            ? new LostOperationError(title, description, { cause: error })
            : new OperationError(title, description, failure.reply, failure.status);
        this.fail(watched, end);
      } else {
        this.couldNotAsk(watched, error);
      }
    }
  }

  private async ask<Schema extends z.ZodType>(path: string, schema: Schema, query?: Query): Promise<z.output<Schema>> {
    const { patience } = this;
    const longestMs = Math.max(...[...this.watched].map(({ deadline }) => deadline.remainingMs));
    const doing = `looking at the operations of ${this.ways.title}`;
    try {
      const answer = await this.ways.now(new Deadline(Math.min(patience, longestMs / 1000), doing)).get(path, schema, query);
      this.patience = PATIENCE_SECONDS.first;
      return answer;
    } catch (error) {
      if (hasCode(error, "timeout")) {
        this.patience = Math.min(Math.max(this.patience, patience * 2), PATIENCE_SECONDS.longest);
      }
      throw error;
    }
  }

  /** Keeps waiting when a query failed with an error that may pass, because the operation may be well. */
  private couldNotAsk(watched: Watched, error: unknown): void {
    watched.trouble = error;
    const isInSight = performance.now() - watched.heardAt < OUT_OF_SIGHT_MS;
    const mayPass = hasCode(error, "api") || (hasCode(error, "transport") && this.ways.isOpen());
    if (!hasCode(error, "timeout") && !(isInSight && mayPass)) {
      this.fail(watched, error);
    }
  }

  private saw(watched: Watched, operation: Operation): void {
    const { title } = this.ways;
    const { id } = watched.operation;
    if (!this.watched.has(watched)) {
      return;
    }
    if (operation.id !== id) {
      const message = `${title} answered a request for the operation ${id} with another operation, ${operation.id}`;
      this.fail(watched, new ResponseShapeError(message));
      return;
    }
    const isFirst = operation === watched.operation;
    Object.assign(watched, { operation, heardAt: performance.now(), trouble: undefined });
    if (!isFirst) {
      watched.onProgress?.(operation);
    }
    const { status, status_code: code, description, err, err_code } = operation;
    if (code === 200) {
      this.watched.delete(watched);
      watched.resolve(operation);
    } else if (code > 200) {
      this.fail(watched, new OperationError(title, description, err || status, err_code));
    }
  }

  private fail(watched: Watched, error: unknown): void {
    this.watched.delete(watched);
    watched.reject(error);
  }
}

const ATTEMPTS = 3;

/**
 * Makes a change that may be repeated. When LXD loses its operation, the object's state decides.
 * @param isDone - Reads whether the object is as wanted.
 * @throws LostOperationError when it still is not after {@link ATTEMPTS} attempts.
 */
export async function untilKnown(change: () => Promise<unknown>, isDone: () => Promise<boolean>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await change();
      return;
    } catch (error) {
      if (!hasCode(error, "lost")) {
        throw error;
      }
      if (await isDone()) {
        return;
      }
      if (attempt === ATTEMPTS) {
        throw error;
      }
    }
  }
}
