/**
 * All errors that the library throws on purpose. Each has a literal `code`, so that callers can branch without `instanceof` (two
 * copies of the package may be loaded). Messages are for the user: what failed, on which host and object, what the other side
 * answered, and what to do. They contain no request bodies, keys or environments.
 */

interface ErrorsByCode {
  refused: RefusedError;
  failed: FailedError;
  transport: TransportError;
  command: CommandError;
  api: ApiError;
  operation: OperationError;
  lost: LostOperationError;
  snapd: SnapdError;
  "response-shape": ResponseShapeError;
  timeout: TimeoutError;
  incomplete: IncompleteError;
}

type LxdErrorCode = keyof ErrorsByCode;

abstract class LxdError extends Error {
  abstract readonly code: LxdErrorCode;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The library declined to act, before anything was touched. The message says what to do. */
export class RefusedError extends LxdError {
  readonly code = "refused";
}

/** Something failed after a host or an object was changed. The message says what exists, and what to do. */
export class FailedError extends LxdError {
  readonly code = "failed";
}

/**
 * A host was silent: it could not be reached, or the connection to it broke. A host that answers and refuses, or that is not
 * trusted, is a {@link RefusedError}: a caller that tries several hosts skips a silent one without a message, and never skips one
 * that refuses.
 */
export class TransportError extends LxdError {
  readonly code = "transport";

  /** @param host - `user@host:port` as the user wrote it. */
  constructor(
    readonly host: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export class CommandError extends LxdError {
  readonly code = "command";

  /** @param program - Without its arguments: those may be private. */
  constructor(
    where: string,
    readonly program: string,
    readonly exitCode: number,
    outputTail: string,
  ) {
    super(`${program} on ${where} failed with exit code ${exitCode}${outputTail === "" ? "" : `: ${outputTail}`}`);
  }
}

export class ApiError extends LxdError {
  readonly code = "api";

  /**
   * @param server - The server and its host: `Incus on root@192.168.1.102`.
   * @param status - HTTP status, or the `error_code` of the answer.
   */
  constructor(
    readonly server: string,
    readonly method: string,
    readonly path: string,
    readonly status: number,
    readonly reply: string,
    note = "",
  ) {
    super(`${server} answered ${method} ${path} with ${status}: ${reply}${note}`);
  }

  /** The same answer, with a note that the object was found at its address afterwards. */
  butIsThere(): ApiError {
    return this.noting(". The object still exists: the server did not find a part of it. See the server's log on that host");
  }

  /** The same answer with a note. */
  noting(note: string): ApiError {
    const { server, method, path, status, reply } = this;
    return new ApiError(server, method, path, status, reply, note);
  }
}

/** An LXD background operation ended in failure or was cancelled. */
export class OperationError extends LxdError {
  readonly code = "operation";

  /** @param description - The server's own, such as "Creating instance". */
  constructor(
    server: string,
    description: string,
    readonly reply: string,
    readonly status = 400,
  ) {
    super(`${server}: "${description}" failed: ${reply}`);
  }
}

/**
 * LXD no longer knows an operation that it was asked to run: LXD was restarted, or nobody could ask in time. Only the object
 * shows whether the work is done.
 */
export class LostOperationError extends LxdError {
  readonly code = "lost";

  constructor(server: string, description: string, options?: ErrorOptions) {
    super(`${server} no longer knows its operation "${description}" (was it restarted?), so its result is unknown`, options);
  }
}

/** snapd refused a request, or a change failed after it had begun. */
export class SnapdError extends LxdError {
  readonly code = "snapd";

  /**
   * @param status - HTTP status of the answer; 202 when the change failed later.
   * @param kind - snapd's name for the failure, such as "snap-not-found". Empty when it gives none.
   */
  constructor(
    readonly host: string,
    readonly request: string,
    readonly status: number,
    readonly kind: string,
    readonly reply: string,
  ) {
    super(`snapd on ${host}: ${request} failed${status === 202 ? "" : ` with ${status}`}: ${reply}`);
  }
}

export class ResponseShapeError extends LxdError {
  readonly code = "response-shape";
}

export class TimeoutError extends LxdError {
  readonly code = "timeout";

  /** The same with a note. */
  noting(note: string): TimeoutError {
    return new TimeoutError(`${this.message}${note}`);
  }
}

/** The object exists and is not yet as wanted. The engine keeps it in state, and the next `pulumi up` continues. */
export class IncompleteError extends LxdError {
  readonly code = "incomplete";

  constructor(
    readonly id: string,
    readonly outputs: object,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Adds facts to what an error says. It stays the error that it is, so that callers still tell it apart. */
export function adding<Thrown>(error: Thrown, facts: string): Thrown {
  if (error instanceof Error && facts !== "") {
    error.message = `${error.message}. ${facts}`;
  }
  return error;
}

/** The end of a program's output, short enough for a message. */
export function tail(output: string): string {
  return output.trim().split("\n").slice(-5).join("\n").slice(-2000);
}

export function hasCode<Code extends LxdErrorCode>(error: unknown, code: Code): error is ErrorsByCode[Code] {
  return error instanceof Error && "code" in error && error.code === code;
}

/** For `catch`: returns `value` for errors with one of the codes, and throws all others. */
export function fallback<Value>(value: Value, ...codes: LxdErrorCode[]): (error: unknown) => Value {
  return (error) => {
    if (codes.some((code) => hasCode(error, code))) {
      return value;
    }
    throw error;
  };
}

export function isNotFound(error: unknown): boolean {
  return hasCode(error, "api") && error.status === 404;
}

/** The other side's own message in `error`, or the message of `error`. */
export function replyOf(error: unknown): string {
  return hasCode(error, "api") || hasCode(error, "operation") || hasCode(error, "snapd") ? error.reply : messageOf(error);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Turns a refusal into a {@link FailedError}, because something was touched before. */
export function afterChange(error: unknown): unknown {
  return hasCode(error, "refused") ? new FailedError(error.message, { cause: error }) : error;
}

export async function havingChanged<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw afterChange(error);
  }
}

/**
 * Takes back what work needed, whether or not the work succeeds.
 * @throws The error of the work; what `undo` says is added to it.
 */
export async function undoing<Result>(undo: () => Promise<unknown>, work: () => Promise<Result>): Promise<Result> {
  const result = await work().catch(async (error: unknown) => {
    const failed = await undo().then(
      () => "",
      (also: unknown) => `What this needed could not be taken back either: ${messageOf(also)}`,
    );
    throw adding(error, failed);
  });
  await undo();
  return result;
}
