import type { ClientChannel } from "ssh2";
import { Deadline, pause } from "../support/deadline";
import { messageOf, TransportError } from "../support/errors";
import { isRefusedChannel, type Link } from "./link";

/** How long a host may refuse a session while no known session is open. */
const PATIENCE_SECONDS = 3;

/** How long sshd may count sessions that the client has already seen end. */
const LAG_SECONDS = 0.25;

const RETRY_MS = 25;

/**
 * The sessions at one host: commands, and relays to its sockets. sshd limits the sessions of one connection (`MaxSessions`, 10 by default)
 * and does not report the limit. Beyond it, further connections to the host are opened.
 */
export class Sessions {
  private readonly links: Link[];
  /** Most sessions of one connection, as far as known. */
  private limit = Number.POSITIVE_INFINITY;
  private growth: Promise<void> | undefined;

  constructor(
    first: Link,
    private readonly name: string,
    private readonly dial: () => Promise<Link>,
  ) {
    this.links = [first];
  }

  close(): void {
    for (const link of this.links) {
      link.close();
    }
  }

  /** @throws TransportError when sshd opens no session at all, or the connection is broken. */
  async open<T extends object>(doing: string, line: string, attach: (channel: ClientChannel, link: Link) => T): Promise<T> {
    const patience = new Deadline(PATIENCE_SECONDS, doing);
    const lag = new Deadline(LAG_SECONDS, doing);
    for (;;) {
      const link = this.links.find((each, index) => (index === 0 || each.open) && each.sessions < this.limit);
      if (link === undefined) {
        await this.grow();
        continue;
      }
      link.sessions += 1;
      try {
        return await link.exec(doing, line, (channel) => {
          channel.once("close", () => {
            link.sessions -= 1;
          });
          return attach(channel, link);
        });
      } catch (error) {
        link.sessions -= 1;
        if (!isRefusedChannel(error)) {
          throw error;
        }
        // Tries again, a little later or on a further connection. A refused session has started nothing.
        if (link.sessions > 0 && lag.remainingMs === 0) {
          this.limit = Math.min(this.limit, link.sessions);
        } else if (patience.remainingMs > 0) {
          await pause(RETRY_MS, patience);
        } else {
          throw new TransportError(
            this.name,
            `${messageOf(error)}. The sshd of ${this.name} opens no session: see MaxSessions in its sshd_config, and its log (journalctl -u ssh)`,
            { cause: error },
          );
        }
      }
    }
  }

  private grow(): Promise<void> {
    this.growth ??= this.dial()
      .then((link) => {
        this.links.push(link);
      })
      .catch((error: unknown) => {
        throw new TransportError(
          this.name,
          `The sshd of ${this.name} lets one connection have ${this.limit} sessions (MaxSessions). All of them are in use, and a further ` +
            `connection failed: ${messageOf(error)}`,
          { cause: error },
        );
      })
      .finally(() => {
        this.growth = undefined;
      });
    return this.growth;
  }
}
