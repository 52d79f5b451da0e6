/** Work under several keys at once: it begins when none of them is in use, and holds none of them until then. */
export class Turns {
  private readonly taken = new Set<string>();
  private readonly waiting = new Set<() => void>();

  /** Those of the keys under which something is being done. */
  busy(keys: Iterable<string>): string[] {
    return [...keys].filter((key) => this.taken.has(key));
  }

  /** Does the work when all keys are free; those who wait for the same key come in the order in which they asked. */
  async on<Result>(keys: Iterable<string>, work: () => Promise<Result>): Promise<Result> {
    const own = new Set(keys);
    await this.take(own);
    try {
      return await work();
    } finally {
      for (const key of own) {
        this.taken.delete(key);
      }
      for (const tryAgain of [...this.waiting]) {
        tryAgain();
      }
    }
  }

  private take(keys: ReadonlySet<string>): Promise<void> {
    return new Promise((resolve) => {
      const attempt = (): void => {
        if (this.busy(keys).length === 0) {
          this.waiting.delete(attempt);
          for (const key of keys) {
            this.taken.add(key);
          }
          resolve();
        }
      };
      this.waiting.add(attempt);
      attempt();
    });
  }
}
