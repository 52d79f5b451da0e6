/** The layer between sshd and a command on a simulated host: the user's login shell, and sudo. */
import { CommandLineError } from "./command-line";
import { type FramedCommandLine, takeOutOfFrame } from "./framed-command";
import type { CommandChannel } from "./ssh-server";

/** Its behaviour; a test may change it while the host runs. */
export interface LoginShell {
  /** Output of its start-up files, on both streams, before every command. */
  greeting?: string;
  /** Reply to every command instead of running it: a closed account, a forced command. */
  instead?: { says: string; exitCode: number };
  /** Whether sudo warns that it cannot resolve the host's own name. The warning has no effect. */
  sudoWarns: boolean;
}

/** A banner that resembles answers of LXD, a program and HTTP; it ends without a line break. */
export const GREETING = 'Welcome!\n{"type":"sync","metadata":[]}\n/etc\nactive\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0';

/** Callbacks of the host for the shell. */
export interface ShellSurroundings {
  readonly host: string;
  readonly shell: LoginShell;
  /** Whether `sudo -n` works. */
  readonly maySudo: boolean;
  /** Runs a command, given without its frame; resolves with its exit code. */
  run(command: string): Promise<number>;
  /** Called for a line that the library did not build. */
  unknown(): void;
}

/** Does what the login shell does with a line that sshd passes to it. */
export async function runInLoginShell(line: string, channel: CommandChannel, surroundings: ShellSurroundings): Promise<number> {
  const { host, shell, maySudo, run, unknown } = surroundings;
  const { greeting = "", instead } = shell;
  channel.stdout(greeting); // start-up files run first
  channel.stderr(greeting);
  if (instead !== undefined) {
    channel.stdout(`${instead.says}\n`);
    return instead.exitCode;
  }
  const framed = takeApart(line);
  if (framed === undefined) {
    unknown();
    return 127;
  }
  if (framed.command.startsWith("sudo -n -- ")) {
    channel.stderr(sudoWarning(host, shell));
    if (!maySudo) {
      channel.stderr("sudo: a password is required\n");
      return 1;
    }
  }
  channel.stdout(framed.mark);
  channel.stderr(framed.mark);
  const exitCode = await run(framed.command);
  if (!framed.untilClosed) {
    channel.stderr(framed.mark);
    channel.stdout(`${framed.mark}:${exitCode}.`);
  }
  return exitCode;
}

/** Output of sudo before it runs the command. */
export function sudoWarning(host: string, { sudoWarns }: LoginShell): string {
  return sudoWarns ? `sudo: unable to resolve host ${host}: Name or service not known\n` : "";
}

function takeApart(line: string): FramedCommandLine | undefined {
  try {
    return takeOutOfFrame(line);
  } catch (error) {
    if (error instanceof CommandLineError) {
      return undefined;
    }
    throw error;
  }
}
