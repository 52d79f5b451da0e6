/** LXD's operations: background work that a client waits for. They exist in the daemon that does the work. */
import { randomUUID } from "node:crypto";
import { LxdError, messageOf } from "./errors";

/** How long a finished operation can still be read. The same in every LXD. */
const keptAfterEndMs = 5_000;

const statusNames = { 103: "Running", 105: "Pending", 200: "Success", 400: "Failure", 401: "Cancelled" } as const;

/** Status codes of LXD that an operation can have here. */
export type OperationStatus = keyof typeof statusNames;

/** Fields of a new operation. */
export interface OperationOptions {
  description: string;
  class?: "task" | "token" | "websocket";
  project?: string;
  /** URLs of the objects it works on, by type. */
  resources?: Record<string, string[]>;
  metadata?: Record<string, unknown>;
}

/** One operation. */
export class Operation {
  readonly id = randomUUID();
  readonly class: "task" | "token" | "websocket";
  readonly project: string;
  readonly createdAt = new Date();
  updatedAt = this.createdAt;
  status: OperationStatus = 103;
  metadata: Record<string, unknown> | null;
  error = "";
  errorCode = 0;
  /** Resolves when the operation has ended, whatever its result. */
  readonly ended: Promise<void>;
  private resolveEnded: () => void = () => undefined;

  constructor(
    private readonly options: OperationOptions,
    readonly location: string,
  ) {
    this.class = options.class ?? "task";
    this.project = options.project ?? "default";
    this.metadata = options.metadata ?? null;
    this.ended = new Promise<void>((resolve) => {
      this.resolveEnded = resolve;
    });
  }

  get running(): boolean {
    return this.status < 200;
  }

  /** Ends it; later calls have no effect. */
  end(status: OperationStatus, error = "", errorCode = 0): void {
    if (!this.running) {
      return;
    }
    this.status = status;
    this.error = error;
    this.errorCode = errorCode;
    this.updatedAt = new Date();
    this.resolveEnded();
  }

  /** LXD's JSON for an operation. */
  toApi(): Record<string, unknown> {
    return {
      id: this.id,
      class: this.class,
      description: this.options.description,
      created_at: this.createdAt.toISOString(),
      updated_at: this.updatedAt.toISOString(),
      status: statusNames[this.status],
      status_code: this.status,
      resources: this.options.resources ?? null,
      metadata: this.metadata,
      may_cancel: this.class === "token",
      err: this.error,
      location: this.location,
    };
  }
}

/** The operations of one daemon. */
export class Operations {
  private readonly byId = new Map<string, Operation>();
  private readonly timers = new Set<NodeJS.Timeout>();

  get(id: string): Operation | undefined {
    return this.byId.get(id);
  }

  forget(id: string): void {
    this.byId.delete(id);
  }

  list(): Operation[] {
    return [...this.byId.values()];
  }

  /** Starts work in the background. An error that it throws is the operation's failure. */
  start(options: OperationOptions, location: string, work: (operation: Operation) => Promise<void> | void): Operation {
    const operation = this.register(new Operation(options, location));
    setImmediate(() => {
      Promise.resolve()
        .then(() => work(operation))
        .then(
          () => operation.end(200),
          (error: unknown) => operation.end(400, messageOf(error), error instanceof LxdError ? error.code : 500),
        );
    });
    return operation;
  }

  /** Registers an operation that other code ends, such as a token. */
  register(operation: Operation): Operation {
    this.byId.set(operation.id, operation);
    void operation.ended.then(() => {
      const timer = setTimeout(() => {
        this.timers.delete(timer);
        this.byId.delete(operation.id);
      }, keptAfterEndMs);
      timer.unref();
      this.timers.add(timer);
    });
    return operation;
  }

  /** Effect of a daemon restart: all operations are lost, and no waiter gets a result. */
  clear(): void {
    for (const timer of this.timers) {
      clearTimeout(timer);
    }
    this.timers.clear();
    this.byId.clear();
  }
}
