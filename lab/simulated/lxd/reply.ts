/** LXD's replies: envelopes, error texts, ETags. */
import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";
import { LxdError } from "./errors";
import type { Operation } from "./operations";

export { LxdError } from "./errors";

/** A reply before its conversion to HTTP. */
export type Reply =
  | { kind: "sync"; metadata: unknown; etag?: string; location?: string }
  | { kind: "async"; operation: Operation; forwardedProject?: string }
  | { kind: "error"; code: number; error: string /** HTTP status if it differs from the code. */; httpStatus?: number }
  | { kind: "raw"; body: Buffer; headers: Record<string, string>; status?: number }
  | { kind: "upgrade"; protocol: string /** Handles the new protocol after an upgrade. */; attach: (connection: Duplex) => void };

/** A plain success. `etagOf` is hashed into the ETag header. */
export function sync(metadata: unknown = {}, etagOf?: unknown): Reply {
  return { kind: "sync", metadata, ...(etagOf === undefined ? {} : { etag: etag(etagOf) }) };
}

/** Success of a creation: 201 and a Location. */
export function created(location: string): Reply {
  return { kind: "sync", metadata: null, location };
}

/** An operation to wait for. */
export function async(operation: Operation): Reply {
  return { kind: "async", operation };
}

/** The ETag of a value: any text that changes when the value does. */
function etag(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

/** Refuses a write that is based on an outdated state of the object. */
export function requireEtag(ifMatch: string | undefined, value: unknown): void {
  if (ifMatch === undefined || ifMatch === "") {
    return;
  }
  const theirs = ifMatch.replace(/^"(.*)"$/, "$1");
  const ours = etag(value);
  if (theirs !== ours) {
    throw new LxdError(412, `ETag doesn't match: ${ours} vs ${theirs}`);
  }
}

/** LXD's JSON for a reply. */
export function envelope(reply: Exclude<Reply, { kind: "raw" | "upgrade" }>): {
  status: number;
  headers: Record<string, string>;
  body: string;
} {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (reply.kind === "sync") {
    if (reply.etag !== undefined) {
      headers["etag"] = `"${reply.etag}"`;
    }
    if (reply.location !== undefined) {
      headers["location"] = reply.location;
    }
    const body = {
      type: "sync",
      status: "Success",
      status_code: 200,
      operation: "",
      error_code: 0,
      error: "",
      metadata: reply.metadata,
    };
    return { status: reply.location === undefined ? 200 : 201, headers, body: `${JSON.stringify(body)}\n` };
  }
  if (reply.kind === "async") {
    const query = reply.forwardedProject === undefined ? "" : `?project=${encodeURIComponent(reply.forwardedProject)}`;
    const url = `/1.0/operations/${reply.operation.id}${query}`;
    headers["location"] = url;
    const body = {
      type: "async",
      status: "Operation created",
      status_code: 100,
      operation: url,
      error_code: 0,
      error: "",
      metadata: reply.operation.toApi(),
    };
    return { status: 202, headers, body: `${JSON.stringify(body)}\n` };
  }
  const body = {
    type: "error",
    status: "",
    status_code: 0,
    operation: "",
    error_code: reply.code,
    error: reply.error,
    metadata: null,
  };
  return { status: reply.httpStatus ?? reply.code, headers, body: `${JSON.stringify(body)}\n\n` };
}
