/**
 * Frames the commands that SSH runs. sshd passes a command line to the user's login shell, which may be any (bash, fish, csh). That shell
 * first reads its start-up files, which may write anything to both streams. So the line contains only what all shells read alike, and
 * replaces the shell by `/bin/sh`, which marks in both streams where the command's own output begins and ends.
 */
import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { commandLine } from "./quote";

/**
 * Run by `/bin/sh -c` with the two halves of the mark and the command. The mark comes in halves, so that a shell that prints its command
 * line (`set -x`) does not print the mark. The script contains no single quote, exclamation mark or line break: shells differ there.
 */
export const FRAME =
  'LC_ALL=C; export LC_ALL; umask 022; mark=$1$2; printf %s "$mark"; printf %s "$mark" >&2; eval "$(printf %b "$3")"; status=$?; ' +
  'printf %s "$mark" >&2; printf %s:%s. "$mark" "$status"; exit "$status"';

const STATUS = /^:(\d+)\./;

/** A command line for sshd, and the mark that delimits its output. */
export interface FramedCommand {
  readonly line: string;
  readonly mark: Buffer;
}

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * @param options.sudo - Becomes root through `sudo -n`. The frame is inside it: sudo's own messages are not the command's.
 * @param options.untilClosed - The output ends when the channel closes: the command replaces the shell around it.
 */
export function framed(argv: readonly string[], options: { sudo: boolean; untilClosed?: boolean }): FramedCommand {
  const halves = [randomBytes(8).toString("hex"), randomBytes(8).toString("hex")];
  const command = `${options.untilClosed === true ? "exec " : ""}${commandLine(argv)}`;
  const sudo = options.sudo ? ["sudo", "-n", "--"] : [];
  const line = ["exec", ...sudo, "/bin/sh", "-c", FRAME, "sh", ...halves, portable(command)].map(quoteForAnyShell).join(" ");
  return { line, mark: Buffer.from(halves.join("")) };
}

/** The result of a framed command; `undefined` when a mark is missing: something else answered, or the end is missing. */
export function unframe({ mark }: FramedCommand, stdout: Buffer, stderr: Buffer): CommandResult | undefined {
  const own = between(mark, stdout);
  const status = own === undefined ? null : STATUS.exec(stdout.subarray(own.end + mark.length).toString("latin1"));
  if (own === undefined || status === null) {
    return undefined;
  }
  const errors = between(mark, stderr);
  return {
    exitCode: Number(status[1]),
    stdout: stdout.subarray(own.start, own.end).toString("utf8"),
    stderr: errors === undefined ? "" : stderr.subarray(errors.start, errors.end).toString("utf8"),
  };
}

/**
 * Resolves when the mark has arrived on a stream, and leaves what follows it to be read. When the stream ends without the mark, resolves
 * with everything that arrived instead.
 * @param tooMuch - The stream counts as ended after this many bytes without a mark.
 */
export function skipToMark(stream: Readable, mark: Buffer, tooMuch: number): Promise<{ found: boolean; skipped: Buffer }> {
  return new Promise((resolve) => {
    let seen: Buffer = Buffer.alloc(0);
    const done = (found: boolean, skipped: Buffer): void => {
      stream.off("readable", look).off("end", end).off("close", end);
      resolve({ found, skipped });
    };
    const end = (): void => done(false, seen);
    const look = (): void => {
      for (let chunk = stream.read() as Buffer | null; chunk !== null; chunk = stream.read() as Buffer | null) {
        seen = Buffer.concat([seen, chunk]);
        const at = seen.indexOf(mark);
        if (at >= 0) {
          stream.unshift(seen.subarray(at + mark.length));
          done(true, seen.subarray(0, at));
          return;
        }
        if (seen.length > tooMuch) {
          end();
          return;
        }
      }
    };
    stream.on("readable", look).on("end", end).on("close", end);
  });
}

function between(mark: Buffer, output: Buffer): { start: number; end: number } | undefined {
  const first = output.indexOf(mark);
  const last = output.lastIndexOf(mark);
  return first < 0 || last === first ? undefined : { start: first + mark.length, end: last };
}

/** Escapes a text for `printf %b`, without the characters that shells read differently within single quotes. */
function portable(text: string): string {
  return text.replace(/[\\'!\n\r]/g, (character) => `\\0${character.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function quoteForAnyShell(word: string): string {
  return /^[A-Za-z0-9_/:.,-]+$/.test(word) ? word : `'${word}'`;
}
