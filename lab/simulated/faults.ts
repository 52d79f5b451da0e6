/**
 * Faults on demand: what fails, when, and how often. A test adds a rule; the LXD daemon and the SSH server ask for the
 * matching rule before they act, so a fault needs no patching of either.
 */

import type { ServerResponse } from "node:http";

/** A step of SSH itself: from the first packet to the login, or the opening of a channel for a command or socket. */
export type SshStep = "connection" | "channel";

/**
 * Trigger of a rule: one LXD request, one command over SSH, one step of SSH itself, or one command or file in a guest.
 */
export type FaultTrigger =
  | {
      /** Name of the host whose daemon receives the request; any host if absent. */
      host?: string;
      method?: string | RegExp;
      /** Tested against path and query, for example `/1.0/instances/c1/state`. */
      path?: RegExp;
      /** Only the n-th matching request since the rule was added, counted from 1. All of them if absent. */
      nth?: number;
    }
  | { host?: string /** Tested against the command line as sent. */; exec: RegExp; nth?: number }
  | { host?: string; ssh: SshStep; nth?: number }
  | { /** Tested against program and arguments, separated by spaces. */ guest: RegExp; nth?: number }
  | { /** Tested against operation and path over SFTP, for example `remove /run/x`. */ file: RegExp; nth?: number };

/** A moment at which a fault is possible. */
export type FaultMoment =
  | { host: string; method: string; path: string }
  | { host: string; exec: string }
  | { host: string; ssh: SshStep }
  | { guest: string }
  | { file: string };

/** Effect of a rule. */
export type FaultEffect =
  /** Cuts the SSH connection before anything is done. */
  | "drop-before"
  /**
   * Carries out the request, accepts the login or opens the channel; then cuts the SSH connection instead of answering.
   */
  | "drop-after"
  /** The operation of the request fails without any effect. */
  | "fail-operation"
  /** The operation of the request does nothing and disappears, as if the daemon is killed right after its answer. */
  | "lose-operation"
  /** The operation that the request asks for is carried out, and forgotten before the client asks for it. */
  | "forget-operation"
  | { failOperation: string }
  /** LXD's error envelope; for a command, exit status and error text; for a channel, its refusal. */
  | { status: number; error: string }
  /** LXD's error 400 with a text made from the request's body, as from a server that quotes what it rejects. */
  | { quote: (body: string) => string }
  | { delayMs: number }
  /**
   * The daemon restarts before it carries out the request: its operations and tokens are lost and its connections
   * close.
   */
  | "daemon-restart"
  /** Any bytes instead of LXD's JSON answer. */
  | { answer: (response: ServerResponse, real: string) => void }
  /** No answer at all. */
  | "hang";

/** A rule, as a test writes it. */
export interface FaultRule {
  when: FaultTrigger;
  effect: FaultEffect;
}

/** An active rule. */
export interface ActiveFault {
  readonly rule: FaultRule;
  /** Number of times the trigger matched, whether or not the effect was due. */
  readonly matches: number;
  /** Number of times the effect was applied. */
  readonly hits: number;
  remove(): void;
}

interface Entry {
  rule: FaultRule;
  matches: number;
  hits: number;
}

/** The active rules of one lab. */
export class Faults {
  /** Every possible moment in order, whether or not a rule was active. */
  readonly moments: FaultMoment[] = [];
  private readonly entries = new Set<Entry>();

  /** Activates a rule until it is removed. */
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

  /** Removes all rules. */
  clear(): void {
    this.entries.clear();
  }

  /** The effect due for one LXD request, if any. The rule added first wins. */
  forRequest(request: { host: string; method: string; path: string }): FaultEffect | undefined {
    this.moments.push(request);
    return this.due(
      (when) =>
        isOfRequest(when) &&
        (when.host === undefined || when.host === request.host) &&
        (when.method === undefined || new RegExp(when.method).test(request.method)) &&
        (when.path === undefined || when.path.test(request.path)),
    );
  }

  /** The effect due for one command over SSH, if any. */
  forCommand(host: string, line: string): FaultEffect | undefined {
    this.moments.push({ host, exec: line });
    return this.due((when) => "exec" in when && (when.host === undefined || when.host === host) && when.exec.test(line));
  }

  /** The effect due for one step of SSH, if any. */
  forSsh(host: string, step: SshStep): FaultEffect | undefined {
    this.moments.push({ host, ssh: step });
    return this.due((when) => "ssh" in when && when.ssh === step && (when.host === undefined || when.host === host));
  }

  /** The effect due for one command in a guest, if any. */
  forGuestCommand(argv: readonly string[]): FaultEffect | undefined {
    const line = argv.join(" ");
    this.moments.push({ guest: line });
    return this.due((when) => "guest" in when && when.guest.test(line));
  }

  /**
   * The effect due for one request over SFTP, if any: an error of the server, no answer, or the end of that connection
   * alone.
   */
  forGuestFile(act: string, path: string): FaultEffect | undefined {
    const line = `${act} ${path}`;
    this.moments.push({ file: line });
    return this.due((when) => "file" in when && when.file.test(line));
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

function isOfRequest(when: FaultTrigger): when is Extract<FaultTrigger, { method?: string | RegExp }> {
  return !("exec" in when || "ssh" in when || "guest" in when || "file" in when);
}
