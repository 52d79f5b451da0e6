import { type IncomingHttpHeaders, request } from "node:http";
import type { Duplex, Readable } from "node:stream";
import type { Deadline } from "../../support/deadline";
import { ResponseShapeError, TransportError } from "../../support/errors";
import type { Endpoint } from "./endpoint";
import { ListSplitter } from "./list-splitter";

/** Limit for an answer, or for one element of a list. LXD's are small, so a larger one is an error. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/**
 * Destination of requests: an API on a unix socket of a host. The agent is Node's own, not undici's `Pool`. A pool of n connections opens
 * one more during an upgrade, for which SSH has no free channel. Its errors do not distinguish a reused socket from a fresh one, which
 * {@link exchange} needs to decide whether it may repeat a read.
 */
export type HttpEndpoint = Pick<Endpoint, "host" | "title" | "agent" | "requests">;

export interface HttpRequest {
  readonly method: string;
  /** Encoded path with query, starting with "/". */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | number>>;
  readonly body?: string | Buffer | (() => Readable) | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The upgraded connection, when the request asked for another protocol (`Upgrade`) and got it (101). */
  readonly connection?: Duplex;
}

/** Returns, for each attempt, the receiver of a list's elements, which the body then omits. */
export type Elements = () => (json: string) => void;

/**
 * Sends a request as soon as a socket is free. An upgraded connection occupies its request slot until it is closed.
 * @throws TransportError when the connection breaks; TimeoutError when the deadline passes.
 */
export async function exchange(
  endpoint: HttpEndpoint,
  sent: HttpRequest,
  deadline: Deadline,
  elements?: Elements,
): Promise<HttpResponse> {
  const doing = waitingFor(sent.method, sent.path, endpoint.host);
  const once = (): Promise<HttpResponse> => exchangeOnce(endpoint, sent, deadline, doing, elements);
  const answer = new Promise<HttpResponse>((resolve, reject) => {
    const inPlace = endpoint.requests(async () => {
      deadline.check(doing); // sends nothing for a caller that has gone
      const response = await once().catch((error: unknown) => {
        // The daemon may have closed a kept-alive socket: it restarts when it leaves a cluster. A read may be repeated.
        if (sent.method === "GET" && error instanceof StaleSocketError) {
          return once();
        }
        throw error;
      });
      const { connection } = response;
      const closed = connection === undefined ? undefined : new Promise((close) => connection.once("close", close));
      resolve(response);
      await closed;
    });
    inPlace.catch(reject);
  });
  return deadline.race(answer, doing, () => {
    answer.then(({ connection }) => connection?.destroy()).catch(() => undefined); // or it would never free its slot
  });
}

export function waitingFor(method: string, path: string, host: string): string {
  return `waiting for the answer to ${method} ${path} on ${host}`;
}

class StaleSocketError extends TransportError {}

async function exchangeOnce(
  endpoint: HttpEndpoint,
  sent: HttpRequest,
  deadline: Deadline,
  doing: string,
  elements: Elements | undefined,
): Promise<HttpResponse> {
  const { method, path } = sent;
  const abort = new AbortController();
  const answer = new Promise<HttpResponse>((resolve, reject) => {
    const broken = (error: Error): void => {
      const Broken = outgoing.reusedSocket ? StaleSocketError : TransportError;
      const message = `The connection to ${endpoint.title} broke during ${method} ${path}: ${error.message}`;
      reject(new Broken(endpoint.host, message, { cause: error }));
    };
    const outgoing = request(
      { agent: endpoint.agent, method, path, headers: { host: "lxd", ...sent.headers }, signal: abort.signal },
      (incoming) => {
        const body = new Body(elements?.());
        incoming.on("data", (chunk: Buffer) => {
          try {
            body.take(chunk);
            if (body.size > MAX_BODY_BYTES) {
              throw new ResponseShapeError(
                `The answer of ${endpoint.title} to ${method} ${path} is larger than ${MAX_BODY_BYTES} bytes`,
              );
            }
          } catch (error) {
            const failure = error as Error;
            reject(failure); // at once, because the close of the channel below may never be reported
            incoming.destroy();
          }
        });
        incoming.on("error", broken);
        incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: body.bytes() }));
      },
    );
    outgoing.on("error", broken);
    outgoing.on("upgrade", ({ headers }, connection, head) => {
      connection.on("error", () => undefined); // "close" follows
      connection.unshift(head);
      resolve({ status: 101, headers, body: Buffer.alloc(0), connection });
    });
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

class Body {
  /** Bytes since the last element of a list. */
  size = 0;
  private readonly chunks: Buffer[] = [];
  private readonly splitter: ListSplitter | undefined;

  constructor(onElement: ((json: string) => void) | undefined) {
    this.splitter =
      onElement &&
      new ListSplitter((json) => {
        this.size = 0;
        onElement(json);
      });
  }

  take(chunk: Buffer): void {
    this.size += chunk.length;
    if (this.splitter === undefined) {
      this.chunks.push(chunk);
    } else {
      this.splitter.take(chunk);
    }
  }

  bytes(): Buffer {
    return this.splitter === undefined ? Buffer.concat(this.chunks) : Buffer.from(this.splitter.envelope);
  }
}
