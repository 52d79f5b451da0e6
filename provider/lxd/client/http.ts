import { type IncomingHttpHeaders, request } from "node:http";
import type { Readable } from "node:stream";
import type { Deadline } from "../../support/deadline";
import { ResponseShapeError, TransportError } from "../../support/errors";
import type { Endpoint } from "./endpoint";

/** LXD's answers are small; what is larger than this is not one. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** A request to LXD's API, before any meaning is given to the answer. */
export interface HttpRequest {
  readonly method: string;
  /** Encoded path with query, starting with "/". */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | number>>;
  readonly body?: string | Buffer | (() => Readable);
}

/** What came back. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/**
 * Sends one request through a host's API socket, when one of its sockets is free.
 * @throws TransportError when the connection breaks, TimeoutError when the deadline passes.
 */
export async function exchange(endpoint: Endpoint, sent: HttpRequest, deadline: Deadline): Promise<HttpResponse> {
  const doing = waitingFor(sent, endpoint.host);
  const answer = endpoint.requests(async () => {
    deadline.check(doing); // nothing is sent for a caller who has gone
    try {
      return await exchangeOnce(endpoint, sent, deadline, doing);
    } catch (error) {
      // A socket that was kept alive may have been closed by the daemon, which restarts when it leaves a cluster. A read may be sent again.
      if (sent.method === "GET" && error instanceof StaleSocketError) {
        return exchangeOnce(endpoint, sent, deadline, doing);
      }
      throw error;
    }
  });
  return deadline.race(answer, doing);
}

/** What is being done while an answer is outstanding, for messages. */
export function waitingFor({ method, path }: Pick<HttpRequest, "method" | "path">, host: string): string {
  return `waiting for the answer to ${method} ${path} on ${host}`;
}

class StaleSocketError extends TransportError {}

async function exchangeOnce(endpoint: Endpoint, sent: HttpRequest, deadline: Deadline, doing: string): Promise<HttpResponse> {
  const abort = new AbortController();
  const answer = new Promise<HttpResponse>((resolve, reject) => {
    const broken = (error: Error): void => {
      const Broken = outgoing.reusedSocket ? StaleSocketError : TransportError;
      const message = `The connection to LXD on ${endpoint.host} broke during ${sent.method} ${sent.path}: ${error.message}`;
      reject(error instanceof ResponseShapeError ? error : new Broken(endpoint.host, message, { cause: error }));
    };
    const outgoing = request(
      {
        agent: endpoint.agent,
        method: sent.method,
        path: sent.path,
        headers: { host: "lxd", ...sent.headers },
        signal: abort.signal,
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        let size = 0;
        incoming.on("data", (chunk: Buffer) => {
          size += chunk.length;
          chunks.push(chunk);
          if (size > MAX_BODY_BYTES) {
            incoming.destroy(
              new ResponseShapeError(
                `The answer of ${endpoint.host} to ${sent.method} ${sent.path} is larger than ${MAX_BODY_BYTES} bytes`,
              ),
            );
          }
        });
        incoming.on("error", broken);
        incoming.on("end", () =>
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(chunks) }),
        );
      },
    );
    outgoing.on("error", broken);
    if (typeof sent.body === "function") {
      sent
        .body()
        .on("error", (error) => outgoing.destroy(error))
        .pipe(outgoing);
    } else {
      outgoing.end(sent.body);
    }
  });
  return deadline.race(answer, doing, () => abort.abort());
}
