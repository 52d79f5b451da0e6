import { promisify } from "node:util";
import { type SimulatedCluster, startStandalone } from "../../unit/resources/simulated-cluster";

/** Turns of the event loop that suffice to answer a request over SSH in this process. */
const TURNS = 40;

/** Number of idle rounds of turns after which only time can cause further progress. */
const QUIET_ROUNDS = 3;
const MOST_ROUNDS = 300;

interface Timer {
  readonly at: number;
  readonly fire: () => void;
}

/**
 * A clock that a test moves forward, so that no test waits for a timeout: every timer due by then fires at once. Real
 * time continues independently.
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

  /** Moves the clock forward and fires the due timers, the earliest first. */
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

  /** Waits for real milliseconds, for socket traffic. */
  async breathe(ms = 1): Promise<void> {
    await new Promise((resolve) => this.real.setTimeout(resolve, ms));
  }

  /**
   * Runs everything that needs no timer, however busy the machine is: socket traffic and its consequences.
   * @param count - A number that grows while something happens, such as the number of requests.
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

  /** Some turns of the event loop, which read socket traffic. */
  async turn(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Real milliseconds since a moment. */
  get realMs(): number {
    return this.real.now();
  }

  /** Restores the real clock. */
  restore(): void {
    performance.now = this.real.now;
    globalThis.setTimeout = this.real.setTimeout;
    globalThis.clearTimeout = this.real.clearTimeout;
  }

  private now(): number {
    return this.real.now() + this.aheadMs;
  }
}

/** For a suite: a new standalone server and a clock for each test. */
export function serverWithClock(): { server: SimulatedCluster; clock: Clock } {
  const suite = {} as { server: SimulatedCluster; clock: Clock };
  beforeEach(async () => {
    suite.server = await startStandalone();
    suite.clock = new Clock();
  });
  afterEach(async () => {
    suite.clock.restore();
    await suite.server.stop();
  });
  return suite;
}
