/**
 * LXD's operations: work that it does in the background. It forgets one five seconds after its end, and all of them when it is restarted.
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
import { api } from "./path";

/** A background operation. */
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

/** See {@link operationSchema}. */
export type Operation = z.output<typeof operationSchema>;

/** Operations as LXD lists them, by their status. */
export const operationsSchema = z.record(z.string(), z.array(operationSchema).nullish()).nullish();

/** What a watcher needs of the API. */
export interface Api {
  get<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query?: Readonly<Record<string, string | number>>,
  ): Promise<z.output<Schema>>;
}

/** The ways to the API that a watcher has. */
export interface WaysToAsk {
  readonly host: string;
  /** Whether the connection to the host still stands. */
  isOpen(): boolean;
  /** For a question that is answered at once, and never stands behind other requests. */
  now(deadline: Deadline): Api;
  /** For one whose answer may take a while. */
  eventually(deadline: Deadline): Api;
}

/** Operations of which LXD is asked to tell the end. They hold a channel each; what is beyond them is seen by looking. */
const OPEN_WAITS = 3;

/** LXD is not asked to wait for longer, so that other operations get the channel too. */
const WAIT_SECONDS = 5;

/** How often it is seen to that something is done. */
const TICK_MS = 250;

/** How often all operations are looked at while LXD is to tell the end of each. An end is there to be seen for five seconds. */
const LOOK_MS = 2000;

/** How long the answer to a look may take; twice as long after each that did not come. */
const PATIENCE_SECONDS = { first: 2, longest: 60 };

/** How long an operation may be out of sight, because LXD or the member that works on it does not answer, before that is an error. */
const OUT_OF_SIGHT_MS = 30_000;

/** An operation that somebody waits for. */
class Watched {
  /** Whether LXD is asked to tell its end. */
  isWaitedFor = false;
  /** When LXD last told anything of it. */
  heardAt = performance.now();
  /** Why it could not be asked for, when it was last tried. */
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
 * Watches all operations of one endpoint that anybody waits for. LXD is asked to tell the end of a few of them, which is quickest; and all
 * are looked at, in one request, often enough to miss none. So a wait needs no channel of its own, and an answer that is late or lost
 * does no harm.
 */
export class OperationWatcher {
  private readonly watched = new Set<Watched>();
  private openWaits = 0;
  private isWatching = false;
  private lookedAt = 0;
  private patience = PATIENCE_SECONDS.first;

  constructor(private readonly ways: WaysToAsk) {}

  /**
   * Waits until an operation has ended.
   * @param onProgress - Told of it each time that it is seen, the last time included.
   * @throws OperationError when it failed; LostOperationError when LXD no longer knows it: then the object itself tells.
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
    const { host } = this.ways;
    const since = trouble === undefined ? "" : ` when it last told of it; since then: ${messageOf(trouble)}`;
    return `LXD on ${host} was still at "${operation.description}"${since}`;
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

  /** The youngest first: what takes long is seen in time by looking. */
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
        this.settle(watched, () => watched.reject(error));
        return;
      }
      // Versions tell by an error that the operation failed, or that it takes longer than this wait. One of these can only be the first.
      const isFailure = hasCode(error, "api") && !isNotFound(error) && performance.now() - since < seconds * 1000;
      await this.askFor(watched, error, isFailure ? error : undefined);
    } finally {
      this.openWaits -= 1;
      watched.isWaitedFor = false;
    }
  }

  /** Looks at operations, in one request if that is possible. */
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
      await this.askFor(watched); // one after the other, or the last ones would have no time left to be answered
      if (hasCode(watched.trouble, "timeout")) {
        return;
      }
    }
  }

  /** All operations that LXD lists; `undefined` when no answer came in time. */
  private async list(all: readonly Watched[]): Promise<Map<string, Operation> | undefined> {
    try {
      const byStatus = await this.ask("/1.0/operations", operationsSchema, { recursion: 1, "all-projects": "true" });
      const operations = Object.values(byStatus ?? {}).flatMap((each) => each ?? []);
      return new Map(operations.map((operation) => [operation.id, operation]));
    } catch (error) {
      if (hasCode(error, "timeout") || hasCode(error, "transport")) {
        for (const watched of all) {
          this.couldNotAsk(watched, error);
        }
        return undefined;
      }
      return new Map(); // such as a member that does not answer; each one is asked for separately
    }
  }

  /**
   * Asks for one operation, at its own address.
   * @param why - What has made it necessary.
   * @param failure - What LXD has said of its end, in case it is gone.
   */
  private async askFor(watched: Watched, why?: unknown, failure?: ApiError): Promise<void> {
    const { id, description } = watched.operation;
    const { host } = this.ways;
    if (!this.watched.has(watched)) {
      return;
    }
    if (!this.ways.isOpen() && hasCode(why, "transport")) {
      this.settle(watched, () => watched.reject(why));
      return;
    }
    try {
      this.saw(watched, await this.ask(api`/1.0/operations/${id}`, operationSchema));
    } catch (error) {
      if (isNotFound(error)) {
        const end =
          failure === undefined
            ? new LostOperationError(host, description, { cause: error })
            : new OperationError(host, description, failure.reply, failure.status);
        this.settle(watched, () => watched.reject(end));
      } else {
        this.couldNotAsk(watched, error);
      }
    }
  }

  private async ask<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    query?: Record<string, string | number>,
  ): Promise<z.output<Schema>> {
    const { patience } = this;
    const longestMs = Math.max(...[...this.watched].map(({ deadline }) => deadline.remainingMs));
    const doing = `looking at the operations of LXD on ${this.ways.host}`;
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

  /** An operation that could not be asked for may be well: what passes is waited for. */
  private couldNotAsk(watched: Watched, error: unknown): void {
    watched.trouble = error;
    const isInSight = performance.now() - watched.heardAt < OUT_OF_SIGHT_MS;
    const mayPass = hasCode(error, "api") || (hasCode(error, "transport") && this.ways.isOpen());
    if (!hasCode(error, "timeout") && !(isInSight && mayPass)) {
      this.settle(watched, () => watched.reject(error));
    }
  }

  private saw(watched: Watched, operation: Operation): void {
    const { host } = this.ways;
    const { id } = watched.operation;
    if (!this.watched.has(watched)) {
      return;
    }
    if (operation.id !== id) {
      const message = `LXD on ${host} was asked for the operation ${id} and told of another, ${operation.id}`;
      this.settle(watched, () => watched.reject(new ResponseShapeError(message)));
      return;
    }
    const isFirst = operation === watched.operation;
    Object.assign(watched, { operation, heardAt: performance.now(), trouble: undefined });
    if (!isFirst) {
      watched.onProgress?.(operation);
    }
    const { status, status_code: code, description, err, err_code } = operation;
    if (code === 200) {
      this.settle(watched, () => watched.resolve(operation));
    } else if (code > 200) {
      this.settle(watched, () => watched.reject(new OperationError(host, description, err || status, err_code)));
    }
  }

  private settle(watched: Watched, tell: () => void): void {
    if (this.watched.delete(watched)) {
      tell();
    }
  }
}

/** How often a change is asked for whose operation is lost sight of each time. */
const ATTEMPTS = 3;

/**
 * Makes a change that may be asked for again. When its operation is lost sight of, the object decides.
 * @param isDone - Whether the object is as wanted, read again.
 * @throws LostOperationError when it still is not after some attempts.
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
