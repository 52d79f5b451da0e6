/**
 * Faults on demand: what goes wrong, when, and how often. A test adds a rule; the LXD daemon and the SSH server ask for the
 * rule that matches before they do anything, so that a fault needs no patching of either.
 */

/** What a rule waits for: one LXD request, or one command run over SSH. */
export type FaultTrigger =
  | {
      /** Name of the host whose daemon receives the request; any host when absent. */
      host?: string;
      method?: string;
      /** Tested against path and query, for example `/1.0/instances/c1/state`. */
      path?: RegExp;
      /** Only the n-th matching request since the rule was added, counted from 1. All of them when absent. */
      nth?: number;
    }
  | { host?: string /** Tested against the command line as it was sent. */; exec: RegExp; nth?: number };

/** What then happens. */
export type FaultEffect =
  /** The SSH connection is cut before anything is done. */
  | "drop-before"
  /** The request is carried out, then the SSH connection is cut instead of an answer. */
  | "drop-after"
  /** The operation that the request starts fails without doing anything. */
  | "fail-operation"
  | { failOperation: string }
  /** LXD's error envelope; for a command, exit status and error text. */
  | { status: number; error: string }
  | { delayMs: number }
  /** The daemon restarts before the request is carried out: its operations and tokens are gone and its connections close. */
  | "daemon-restart"
  /** No answer, ever. */
  | "hang";

/** One rule, as a test writes it. */
export interface FaultRule {
  when: FaultTrigger;
  effect: FaultEffect;
}

/** A rule that is in force. */
export interface ActiveFault {
  readonly rule: FaultRule;
  /** How many times the trigger matched, whether or not the effect was due. */
  readonly matches: number;
  /** How many times the effect was applied. */
  readonly hits: number;
  remove(): void;
}

interface Entry {
  rule: FaultRule;
  matches: number;
  hits: number;
}

/** The rules in force in one lab. */
export class Faults {
  private readonly entries = new Set<Entry>();

  /** Puts a rule in force until it is removed. */
  add(rule: FaultRule): ActiveFault {
    const entry: Entry = { rule, matches: 0, hits: 0 };
    const entries = this.entries;
    entries.add(entry);
    return {
      rule,
      get matches() {
        return entry.matches;
      },
      get hits() {
        return entry.hits;
      },
      remove: () => void entries.delete(entry),
    };
  }

  /** Removes every rule. */
  clear(): void {
    this.entries.clear();
  }

  /** The effect due for one LXD request, if any. The first rule added wins. */
  forRequest(request: { host: string; method: string; path: string }): FaultEffect | undefined {
    return this.due(
      (when) =>
        !("exec" in when) &&
        (when.host === undefined || when.host === request.host) &&
        (when.method === undefined || when.method === request.method) &&
        (when.path === undefined || when.path.test(request.path)),
    );
  }

  /** The effect due for one command run over SSH, if any. */
  forCommand(host: string, line: string): FaultEffect | undefined {
    return this.due((when) => "exec" in when && (when.host === undefined || when.host === host) && when.exec.test(line));
  }

  private due(matches: (when: FaultTrigger) => boolean): FaultEffect | undefined {
    let effect: FaultEffect | undefined;
    for (const entry of this.entries) {
      if (!matches(entry.rule.when)) {
        continue;
      }
      entry.matches += 1;
      if (effect === undefined && (entry.rule.when.nth === undefined || entry.rule.when.nth === entry.matches)) {
        entry.hits += 1;
        effect = entry.rule.effect;
      }
    }
    return effect;
  }
}
