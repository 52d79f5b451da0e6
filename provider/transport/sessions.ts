import type { ClientChannel } from "ssh2";
import { Deadline, pause } from "../support/deadline";
import { messageOf, TransportError } from "../support/errors";
import { isRefusedChannel, type Link } from "./link";

/** How long a host may have no place for one more session, though none is open that we know of. */
const PATIENCE_SECONDS = 3;

/** How long sshd may hold the places of sessions that the client has already seen end. */
const LAG_SECONDS = 0.25;

const BETWEEN_TRIES_MS = 25;

/**
 * The sessions at one host: commands, and relays to its sockets. sshd lets one connection have so many (`MaxSessions`, 10 unless it is told
 * otherwise) and does not say how many; where they are few, there are further connections to the same host.
 */
export class Sessions {
  private readonly links: Link[];
  /** Sessions that sshd lets one connection have, as far as that is known. */
  private limit = Number.POSITIVE_INFINITY;
  private growth: Promise<void> | undefined;

  constructor(
    first: Link,
    private readonly name: string,
    private readonly dial: () => Promise<Link>,
  ) {
    this.links = [first];
  }

  /** Ends every connection. */
  close(): void {
    for (const link of this.links) {
      link.close();
    }
  }

  /**
   * Runs a command line in a session, on a connection that has a place for it.
   * @throws TransportError when sshd opens no session at all, or the connection is broken.
   */
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
        await this.afterRefusal(link, error, { patience, lag });
      }
    }
  }

  /** Nothing was started, so the same may be asked again: a little later, or on a further connection. */
  private async afterRefusal(link: Link, error: unknown, { patience, lag }: Record<"patience" | "lag", Deadline>): Promise<void> {
    if (link.sessions > 0 && lag.remainingMs === 0) {
      this.limit = Math.min(this.limit, link.sessions);
    } else if (patience.remainingMs > 0) {
      await pause(BETWEEN_TRIES_MS, patience);
    } else {
      throw new TransportError(
        this.name,
        `${messageOf(error)}. The sshd of ${this.name} opens no session: see MaxSessions in its sshd_config, and its log (journalctl -u ssh)`,
        { cause: error },
      );
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
          `The sshd of ${this.name} lets one connection have ${this.limit} sessions (MaxSessions), all of them are in use, and a further ` +
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
