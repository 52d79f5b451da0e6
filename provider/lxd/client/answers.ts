/** LXD's answers, and the meaning of its errors for the request. */
import * as z from "zod";
import { ApiError, hasCode, isNotFound, ResponseShapeError } from "../../support/errors";
import type { HttpRequest, HttpResponse } from "./http";

/** Envelope of every JSON answer. `type` shows success; the HTTP status does not. */
const envelopeSchema = z.looseObject({
  type: z.enum(["sync", "async", "error"]),
  error: z.string().optional(),
  error_code: z.number().optional(),
  metadata: z.unknown(),
});

/** Schema of a list in an answer. Depending on the server and its version, an empty list may be `null`. */
export function listOf<Item extends z.ZodType>(item: Item) {
  return z
    .array(item)
    .nullish()
    .transform((items) => items ?? []);
}

/** @throws ApiError when LXD refuses or fails. */
export function metadataOf(
  title: string,
  response: HttpResponse,
  sent: HttpRequest,
): { type: "sync" | "async"; metadata: unknown } {
  if (response.connection !== undefined) {
    return { type: "sync", metadata: undefined };
  }
  const json = jsonOf(response.body.toString("utf8"));
  const { type, error, error_code, metadata } = parseAnswer(title, envelopeSchema, json, sent);
  if (type === "error") {
    throw new ApiError(title, sent.method, sent.path, error_code ?? response.status, (error ?? "no reason given").trim());
  }
  return { type, metadata };
}

/** @throws ResponseShapeError when LXD's answer does not match the schema. */
export function parseAnswer<Schema extends z.ZodType>(
  title: string,
  schema: Schema,
  value: unknown,
  sent: Pick<HttpRequest, "method" | "path">,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new ResponseShapeError(
      `The answer of ${title} to ${sent.method} ${sent.path} is not what its API describes: ` +
        `${z.prettifyError(parsed.error).slice(0, 1000)}\nLook at it there: lxc or incus query '${sent.path}'`,
    );
  }
  return parsed.data;
}

/** Returns `undefined` for invalid JSON, which the schema then reports. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns `undefined` in place of a read's error that the object does not exist. */
export function unlessNotFound<Result>(read: Promise<Result>): Promise<Result | undefined> {
  return read.catch((error: unknown) => {
    if (isNotFound(error)) {
      return undefined;
    }
    throw error;
  });
}

/** Whether LXD did nothing and will soon accept the same request. */
export function saysLater(error: unknown): boolean {
  return hasCode(error, "api") && error.status === 503;
}

/** Takes statements for the server's database. The client sends it nothing but SELECT. */
export const SQL = "/internal/sql";

/** Whether a request may be repeated. An upgrade may not: it reaches into a guest, which has other causes of failure. */
export function isRead({ method, path, headers = {} }: HttpRequest): boolean {
  return (method === "GET" && headers["upgrade"] === undefined) || path === SQL;
}
