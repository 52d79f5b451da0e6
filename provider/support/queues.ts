import pLimit, { type Limit } from "p-limit";

/** Queues by key, each made when it is first asked for: under one key, one thing is done after the other. */
export class Queues {
  private readonly byKey = new Map<string, Limit>();

  of(key: string): Limit {
    const queue = this.byKey.get(key) ?? pLimit(1);
    this.byKey.set(key, queue);
    return queue;
  }
}
