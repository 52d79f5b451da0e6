/**
 * What stands around a command that is run by SSH. sshd hands a command line to the user's login shell, whatever that is (bash, fish, csh), and
 * that shell reads its start-up files first, which may write what they like to both streams. So the line is made of what all shells read
 * alike, replaces the shell by `/bin/sh`, and that one marks in both streams where the command's own output begins and ends.
 */
import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { commandLine } from "./quote";

/**
 * Run by `/bin/sh -c` with the two halves of the mark and the command. The halves come apart, so that a shell which shows the line it was given
 * (`set -x`) does not write the mark. Neither a quote, an exclamation mark nor a line break is in it: shells differ there.
 */
export const FRAME =
  'LC_ALL=C; export LC_ALL; mark=$1$2; printf %s "$mark"; printf %s "$mark" >&2; eval "$(printf %b "$3")"; status=$?; ' +
  'printf %s "$mark" >&2; printf %s:%s. "$mark" "$status"; exit "$status"';

/** The status that follows the mark at the end of the output. */
const STATUS = /^:(\d+)\./;

/** A command as it is given to sshd, and the mark by which its output is known. */
export interface FramedCommand {
  readonly line: string;
  readonly mark: Buffer;
}

/** What a command wrote between the marks, and its exit code. */
export interface FramedOutput {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Frames a command.
 * @param options.sudo - Root is asked for by `sudo -n`, within which the frame stands: what sudo has to say is not the command's.
 * @param options.untilClosed - The output ends when the channel does: the command takes the place of the shell around it.
 */
export function framed(argv: readonly string[], options: { sudo: boolean; untilClosed?: boolean }): FramedCommand {
  const halves = [randomBytes(8).toString("hex"), randomBytes(8).toString("hex")];
  const command = `${options.untilClosed === true ? "exec " : ""}${commandLine(argv)}`;
  const sudo = options.sudo ? ["sudo", "-n", "--"] : [];
  const line = ["exec", ...sudo, "/bin/sh", "-c", FRAME, "sh", ...halves, portable(command)].map(quoteForAnyShell).join(" ");
  return { line, mark: Buffer.from(halves.join("")) };
}

/** What a framed command wrote and how it ended; `undefined` where the mark is not there: something else has answered, or the end is missing. */
export function unframe({ mark }: FramedCommand, stdout: Buffer, stderr: Buffer): FramedOutput | undefined {
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
 * Resolves when the mark has come on a stream; what stands behind it is left there to be read. Resolves with all that came instead when the
 * stream ended without it.
 * @param tooMuch - So many bytes without a mark are taken for an end.
 */
export function skipToMark(stream: Readable, mark: Buffer, tooMuch: number): Promise<{ found: boolean; skipped: Buffer }> {
  return new Promise((resolve) => {
    let seen: Buffer = Buffer.alloc(0);
    const done = (found: boolean, skipped: Buffer): void => {
      stream.off("data", look).off("end", end).off("close", end);
      resolve({ found, skipped });
    };
    const end = (): void => done(false, seen);
    const look = (chunk: Buffer): void => {
      seen = Buffer.concat([seen, chunk]);
      const at = seen.indexOf(mark);
      if (at >= 0) {
        stream.pause();
        done(true, seen.subarray(0, at));
        const rest = seen.subarray(at + mark.length);
        if (rest.length > 0) {
          stream.unshift(rest);
        }
        resumeForNextReader(stream);
      } else if (seen.length > tooMuch) {
        end();
      }
    };
    stream.on("data", look).on("end", end).on("close", end);
  });
}

/** A stream that was paused explicitly does not flow again when a listener is added. */
function resumeForNextReader(stream: Readable): void {
  const listened = (event: string | symbol): void => {
    if (event === "data") {
      stream.off("newListener", listened);
      process.nextTick(() => stream.resume());
    }
  };
  stream.on("newListener", listened);
}

function between(mark: Buffer, output: Buffer): { start: number; end: number } | undefined {
  const first = output.indexOf(mark);
  const last = output.lastIndexOf(mark);
  return first < 0 || last === first ? undefined : { start: first + mark.length, end: last };
}

/** The text in the form that `printf %b` undoes, without what shells read differently within single quotes. */
function portable(text: string): string {
  return text.replace(/[\\'!\n\r]/g, (character) => `\\0${character.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function quoteForAnyShell(word: string): string {
  return /^[A-Za-z0-9_/:.,-]+$/.test(word) ? word : `'${word}'`;
}
