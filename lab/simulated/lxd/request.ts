/** A request to LXD's API, and its handler. */
import type { IncomingHttpHeaders } from "node:http";
import type { LxdServer } from "./database";
import type { Reply } from "./reply";

/** One request to one daemon. */
export interface ApiRequest {
  daemon: LxdServer;
  method: string;
  /** Path without query. */
  path: string;
  /** Segments that matched `{name}` in the pattern, decoded. */
  params: Record<string, string>;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** Handles one request. */
export type Handler = (request: ApiRequest) => Reply | Promise<Reply>;
