import { promisify } from "node:util";

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
