import { randomInt } from "node:crypto";
import { once } from "node:events";
import type { Server } from "node:net";

/** Below those that Linux gives to programs that ask for any port. */
const PORTS = { first: 12_000, last: 31_999 };

/**
 * Listens on 127.0.0.1: on this port, or on one that no other program gets when this one stops listening, so that a host that is off refuses
 * connections. Returns the port.
 */
export async function listenOnLoopback(server: Server, port?: number): Promise<number> {
  for (;;) {
    const tried = port ?? randomInt(PORTS.first, PORTS.last + 1);
    server.listen(tried, "127.0.0.1");
    try {
      await once(server, "listening");
      return tried;
    } catch (error) {
      if (port !== undefined || (error as NodeJS.ErrnoException).code !== "EADDRINUSE") {
        throw error;
      }
    }
  }
}
