/** What LXD answers, and what its errors mean for the request. */
import * as z from "zod";
import { ApiError, hasCode, ResponseShapeError } from "../../support/errors";
import type { HttpRequest, HttpResponse } from "./http";

/** The envelope of every JSON answer. Success is told by `type`, not by the HTTP status. */
const envelopeSchema = z.looseObject({
  type: z.enum(["sync", "async", "error"]),
  error: z.string().optional(),
  error_code: z.number().optional(),
  metadata: z.unknown(),
});

/** What an answer holds, and whether LXD works on in the background. @throws ApiError when LXD refuses or fails. */
export function metadataOf(
  host: string,
  response: HttpResponse,
  sent: HttpRequest,
): { type: "sync" | "async"; metadata: unknown } {
  if (response.connection !== undefined) {
    return { type: "sync", metadata: undefined };
  }
  const json = jsonOf(response.body.toString("utf8"));
  const { type, error, error_code, metadata } = parseAnswer(host, envelopeSchema, json, sent);
  if (type === "error") {
    throw new ApiError(host, sent.method, sent.path, error_code ?? response.status, (error ?? "no reason given").trim());
  }
  return { type, metadata };
}

/** Parses what LXD answered. @throws ResponseShapeError when it is not what the schema describes. */
export function parseAnswer<Schema extends z.ZodType>(
  host: string,
  schema: Schema,
  value: unknown,
  sent: Pick<HttpRequest, "method" | "path">,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new ResponseShapeError(
      `The answer of ${host} to ${sent.method} ${sent.path} is not what LXD's API describes: ` +
        `${z.prettifyError(parsed.error).slice(0, 1000)}\nLook at it there: lxc query '${sent.path}'`,
    );
  }
  return parsed.data;
}

/** The value of a JSON text; `undefined` when it is none, of which the schema then tells what is wrong. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether nothing was done, and the same request will soon be taken. */
export function saysLater(error: unknown): boolean {
  return hasCode(error, "api") && error.status === 503;
}

/** Whether a request may be made twice. What opens a connection reaches into a guest, which fails for reasons of its own. */
export function isRead({ method, headers = {} }: HttpRequest): boolean {
  return method === "GET" && headers["upgrade"] === undefined;
}
