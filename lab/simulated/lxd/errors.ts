/** The errors that LXD answers with. */

/** An error that LXD answers with: HTTP status and text. */
export class LxdError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** The text of an error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
