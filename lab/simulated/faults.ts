/**
 * Faults on demand: what goes wrong, when, and how often. A test adds a rule; the LXD daemon and the SSH server ask for the
 * rule that matches before they do anything, so that a fault needs no patching of either.
 */

import type { ServerResponse } from "node:http";

/** A step of SSH itself: the way from the first packet to the login, or the opening of a channel for a command or socket. */
export type SshStep = "connection" | "channel";

/** What a rule waits for: one LXD request, one command run over SSH, one step of SSH itself, or one command or file in a guest. */
export type FaultTrigger =
  | {
      /** Name of the host whose daemon receives the request; any host when absent. */
      host?: string;
      method?: string | RegExp;
      /** Tested against path and query, for example `/1.0/instances/c1/state`. */
      path?: RegExp;
      /** Only the n-th matching request since the rule was added, counted from 1. All of them when absent. */
      nth?: number;
    }
  | { host?: string /** Tested against the command line as it was sent. */; exec: RegExp; nth?: number }
  | { host?: string; ssh: SshStep; nth?: number }
  | { /** Tested against program and arguments, parted by blanks. */ guest: RegExp; nth?: number }
  | { /** Tested against what is done over SFTP and the path, `remove /run/x`. */ file: RegExp; nth?: number };

/** A moment at which something could have gone wrong. */
export type FaultMoment =
  | { host: string; method: string; path: string }
  | { host: string; exec: string }
  | { host: string; ssh: SshStep }
  | { guest: string }
  | { file: string };

/** What then happens. */
export type FaultEffect =
  /** The SSH connection is cut before anything is done. */
  | "drop-before"
  /** The request is carried out, the login accepted or the channel opened; then the SSH connection is cut instead of an answer. */
  | "drop-after"
  /** The operation that the request starts fails without doing anything. */
  | "fail-operation"
  /** The operation that the request starts does nothing and is gone, as when the daemon is killed right after its answer. */
  | "lose-operation"
  /** The operation that the request asks for is carried out, and forgotten before it is asked for. */
  | "forget-operation"
  | { failOperation: string }
  /** LXD's error envelope; for a command, exit status and error text; for a channel, its refusal. */
  | { status: number; error: string }
  /** LXD's error 400 with a text made of the request's body, as of a server that quotes what it does not take. */
  | { quote: (body: string) => string }
  | { delayMs: number }
  /** The daemon restarts before the request is carried out: its operations and tokens are gone and its connections close. */
  | "daemon-restart"
  /** Another answer than LXD's: any bytes, instead of the JSON that it would have been. */
  | { answer: (response: ServerResponse, real: string) => void }
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
  /** Every moment that came, whether or not a rule was in force, in order. */
  readonly moments: FaultMoment[] = [];
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
    this.moments.push(request);
    return this.due(
      (when) =>
        isOfRequest(when) &&
        (when.host === undefined || when.host === request.host) &&
        (when.method === undefined || new RegExp(when.method).test(request.method)) &&
        (when.path === undefined || when.path.test(request.path)),
    );
  }

  /** The effect due for one command run over SSH, if any. */
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

  /** The effect due for one request over SFTP, if any: an error of the server, no answer, or the end of that connection alone. */
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
