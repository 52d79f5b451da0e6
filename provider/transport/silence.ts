/** Finds out that a host has gone: a connection to one whose power was cut is never closed. */
import type { Duplex } from "node:stream";
import type { Client } from "ssh2";

/** Time between two requests that a host must answer. */
export const KEEPALIVE_INTERVAL_MS = 10_000;

/** Requests in a row without a byte from the host. */
const SILENT_INTERVALS = 4;

/**
 * Ends a connection on which nothing arrives any more. ssh2's own limit counts answers to its requests alone: these come late behind uploads on a
 * slow line, although the host takes the uploads, and from a host that is busy. Counts intervals and not time, because a process that was suspended
 * reads late what has arrived.
 */
export function endWhenSilent(client: Client, socket: Duplex, intervalMs = KEEPALIVE_INTERVAL_MS): void {
  let silent = 0;
  const timer = setInterval(() => {
    silent += 1;
    if (silent === SILENT_INTERVALS) {
      client.emit("error", new Error(`nothing arrived from it for ${(SILENT_INTERVALS * intervalMs) / 1000} s`));
      socket.destroy();
    }
  }, intervalMs);
  socket.on("data", () => {
    silent = 0;
  });
  socket.once("close", () => clearInterval(timer));
}
