/**
 * All errors that the library throws on purpose. Each has a literal `code`, so that callers can branch without
 * `instanceof` (two copies of the package may be loaded). Messages are for the user: what failed, on which host and
 * object, what the other side answered, and what to do. They contain no request bodies, keys or environments.
 */

/** Classes of errors by their code. */
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

/** Discriminates the errors of this library. */
export type LxdErrorCode = keyof ErrorsByCode;

/** Base of all errors of this library. */
abstract class LxdError extends Error {
  abstract readonly code: LxdErrorCode;
}

/** The library declined to act, before anything was touched. The message names the cure. */
export class RefusedError extends LxdError {
  override readonly name = "RefusedError";
  readonly code = "refused";
}

/** Something failed after a host or an object was changed. The message says what exists, and what to do. */
export class FailedError extends LxdError {
  override readonly name = "FailedError";
  readonly code = "failed";
}

/**
 * A host was silent: it could not be reached, or the connection to it broke. A host that answers and refuses, or that
 * is not trusted, is a {@link RefusedError}: a caller that tries several hosts skips a silent one without a message,
 * and never skips one that refuses.
 */
export class TransportError extends LxdError {
  override readonly name = "TransportError";
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

/** A command on a host or in an instance ended with a non-zero exit code. */
export class CommandError extends LxdError {
  override readonly name = "CommandError";
  readonly code = "command";

  constructor(
    readonly where: string,
    /** The program, without its arguments: those may be private. */
    readonly program: string,
    readonly exitCode: number,
    /** The last lines that the program wrote. */
    readonly outputTail: string,
  ) {
    super(`${program} on ${where} failed with exit code ${exitCode}${outputTail === "" ? "" : `: ${outputTail}`}`);
  }
}

/** LXD answered a request with an error. */
export class ApiError extends LxdError {
  override readonly name = "ApiError";
  readonly code = "api";

  constructor(
    /** The host that answered. */
    readonly host: string,
    readonly method: string,
    readonly path: string,
    /** HTTP status, or the `error_code` of the answer. */
    readonly status: number,
    /** LXD's own message, word for word. */
    readonly reply: string,
    note = "",
  ) {
    super(`LXD on ${host} answered ${method} ${path} with ${status}: ${reply}${note}`);
  }

  /** The same answer, with a note that the object was found at its address afterwards. */
  butIsThere(): ApiError {
    const { host, method, path, status, reply } = this;
    const note =
      ". The object is there all the same, and was not removed: LXD misses something of it. Look at LXD's log on that host";
    return new ApiError(host, method, path, status, reply, note);
  }
}

/** An LXD background operation ended in failure or was cancelled. */
export class OperationError extends LxdError {
  override readonly name = "OperationError";
  readonly code = "operation";

  constructor(
    readonly host: string,
    /** LXD's own description, such as "Creating instance". */
    readonly description: string,
    /** LXD's own message, word for word. */
    readonly reply: string,
    /** LXD's numeric code for the failure; 400 when LXD gives none. */
    readonly status = 400,
  ) {
    super(`LXD on ${host}: "${description}" failed: ${reply}`);
  }
}

/**
 * LXD no longer knows an operation that it was asked to run: LXD was restarted, or nobody could ask in time. Only the
 * object shows whether the work is done.
 */
export class LostOperationError extends LxdError {
  override readonly name = "LostOperationError";
  readonly code = "lost";

  constructor(
    readonly host: string,
    /** LXD's own description, such as "Creating instance". */
    readonly description: string,
    options?: ErrorOptions,
  ) {
    super(
      `LXD on ${host} no longer knows its operation "${description}" (was it restarted?), so how that ended is not known`,
      options,
    );
  }
}

/** snapd refused a request, or a change failed after it had begun. */
export class SnapdError extends LxdError {
  override readonly name = "SnapdError";
  readonly code = "snapd";

  constructor(
    /** The host that answered. */
    readonly host: string,
    /** The request, such as `GET /v2/snaps/lxd`. */
    readonly request: string,
    /** HTTP status of the answer; 202 when the change failed later. */
    readonly status: number,
    /** snapd's name for the failure, such as "snap-not-found". Empty when it gives none. */
    readonly kind: string,
    /** snapd's own message, word for word. */
    readonly reply: string,
  ) {
    super(`snapd on ${host}: ${request} failed${status === 202 ? "" : ` with ${status}`}: ${reply}`);
  }
}

/** The answer of the other side does not have the form of the expected API. */
export class ResponseShapeError extends LxdError {
  override readonly name = "ResponseShapeError";
  readonly code = "response-shape";
}

/** A wait reached its deadline. */
export class TimeoutError extends LxdError {
  override readonly name = "TimeoutError";
  readonly code = "timeout";
}

/**
 * The object exists and is not yet as wanted. The engine keeps it in state, and the next `pulumi up` continues.
 */
export class IncompleteError extends LxdError {
  override readonly name = "IncompleteError";
  readonly code = "incomplete";

  constructor(
    /** Id of the object that exists. */
    readonly id: string,
    /** What is known of it. */
    readonly outputs: object,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The end of a program's output, short enough for a message. */
export function tail(output: string): string {
  return output.trim().split("\n").slice(-5).join("\n").slice(-2000);
}

/** Whether `error` is an error of this library with the given code. */
export function hasCode<Code extends LxdErrorCode>(error: unknown, code: Code): error is ErrorsByCode[Code] {
  return error instanceof Error && "code" in error && error.code === code && "name" in error;
}

/** Whether LXD answered that the object does not exist. The status decides, never the wording. */
export function isNotFound(error: unknown): boolean {
  return hasCode(error, "api") && error.status === 404;
}

/** The other side's own message in `error`, or the message of `error`. */
export function replyOf(error: unknown): string {
  if (hasCode(error, "api") || hasCode(error, "operation") || hasCode(error, "snapd")) {
    return error.reply;
  }
  return messageOf(error);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Turns a refusal after a change into a {@link FailedError}, because something was touched. */
export function afterChange(error: unknown): unknown {
  return hasCode(error, "refused") ? new FailedError(error.message, { cause: error }) : error;
}

/** Runs work that comes after a change; see {@link afterChange}. */
export async function havingChanged<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw afterChange(error);
  }
}
