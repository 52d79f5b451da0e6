import { promisify } from "node:util";

/** Turns of the event loop within which a question over SSH in this process is answered. */
const TURNS = 40;

/** When nothing has happened for so many rounds of turns, nothing will until time passes. */
const QUIET_ROUNDS = 3;
const MOST_ROUNDS = 300;

interface Timer {
  readonly at: number;
  readonly fire: () => void;
}

/**
 * A clock that a test puts forward, so that nobody sits through a timeout: whatever waits for a moment that is then past goes on at
 * once. Real time goes on beneath it.
 */
export class Clock {
  private aheadMs = 0;
  private readonly timers = new Map<NodeJS.Timeout, Timer>();
  private readonly real = {
    now: performance.now.bind(performance),
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
  };

  constructor() {
    const later = (callback: (...args: unknown[]) => void, delayMs = 0, ...args: unknown[]): NodeJS.Timeout => {
      const fire = (): void => {
        this.timers.delete(handle);
        callback(...args);
      };
      const handle = this.real.setTimeout(fire, delayMs);
      this.timers.set(handle, { at: this.now() + delayMs, fire });
      return handle;
    };
    performance.now = () => this.now();
    globalThis.setTimeout = Object.assign(later, {
      [promisify.custom]: Reflect.get(this.real.setTimeout, promisify.custom) as unknown,
    }) as never;
    globalThis.clearTimeout = (handle) => {
      if (typeof handle === "object") {
        this.timers.delete(handle);
      }
      this.real.clearTimeout(handle);
    };
  }

  /** Puts the clock forward, and lets happen what is then due, the earliest first. */
  forward(ms: number): void {
    this.aheadMs += ms;
    const due = [...this.timers].filter(([, { at }]) => at <= this.now()).sort(([, a], [, b]) => a.at - b.at);
    for (const [handle, { fire }] of due) {
      if (this.timers.has(handle)) {
        this.real.clearTimeout(handle);
        fire();
      }
    }
  }

  /** Waits for real milliseconds, for what comes over a socket. */
  async breathe(ms = 1): Promise<void> {
    await new Promise((resolve) => this.real.setTimeout(resolve, ms));
  }

  /**
   * Lets happen what needs no time to pass but that of the machine, however busy that is: what is on its way over sockets, and what comes of it.
   * @param count - Of something that grows while something happens, such as requests.
   */
  async settle(count: () => number): Promise<void> {
    let seen = count();
    for (let round = 0, quiet = 0; quiet < QUIET_ROUNDS && round < MOST_ROUNDS; round += 1) {
      await this.breathe();
      await this.turn();
      quiet = count() === seen ? quiet + 1 : 0;
      seen = count();
    }
  }

  /** Some turns of the event loop, in which what has come over sockets is read. */
  async turn(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Real milliseconds since some moment. */
  get realMs(): number {
    return this.real.now();
  }

  /** Gives the world its own time again. */
  restore(): void {
    performance.now = this.real.now;
    globalThis.setTimeout = this.real.setTimeout;
    globalThis.clearTimeout = this.real.clearTimeout;
  }

  private now(): number {
    return this.real.now() + this.aheadMs;
  }
}
