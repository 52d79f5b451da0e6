/** A simulated machine that commands run on: a host, or the guest inside an instance. */
import { FileSystemError, type MemoryFiles } from "./memory-files";

/** One mount. */
export interface SimulatedMount {
  target: string;
  /** The directory that a bind mount shows. */
  source?: string;
}

/** What every program can access. */
export interface Machine {
  readonly name: string;
  readonly files: MemoryFiles;
  readonly units: Units;
  /** Mounts in the order in which they were made. */
  readonly mounts?: SimulatedMount[];
  /** Whether a socket listens at a path. */
  isSocket?(path: string): boolean;
}

/** The programs of an init system: see programs/systemd.ts. */
interface Units {
  systemctl(args: string[]): ProgramResult;
  journalctl(args: string[]): ProgramResult;
}

/** One run of a program. */
export interface ProgramRun<On extends Machine> {
  machine: On;
  program: string;
  args: string[];
  stdin: () => Promise<Buffer>;
  env: Record<string, string>;
  /** The user that runs it. @default root */
  user?: { uid: number; gid: number };
  /** Its directory in /proc, which disappears when it is killed. */
  process?: string;
}

/** Result of a run. */
export interface ProgramResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** A program: its name is the key in a {@link Programs} table. */
export type Program<On extends Machine> = (run: ProgramRun<On>) => ProgramResult | Promise<ProgramResult>;

/** The programs of a machine. */
export type Programs<On extends Machine> = Record<string, Program<On>>;

/** A successful end. */
export function ok(stdout = ""): ProgramResult {
  return { exitCode: 0, stdout, stderr: "" };
}

/** A failure with its message. */
export function failure(exitCode: number, stderr: string): ProgramResult {
  return { exitCode, stdout: "", stderr: stderr.endsWith("\n") || stderr === "" ? stderr : `${stderr}\n` };
}

/** Parses options and operands of a command line, for programs whose options take a value only in the given forms. */
export interface ParsedArguments {
  options: Map<string, string>;
  operands: string[];
}

/**
 * Parses arguments: `--name=value`, `--name value` and `-x value` for those in `valued`, `-abc` as three flags. Throws
 * for an option in neither list, because the simulator must not pretend to do what it does not implement.
 */
export function parseArguments(args: string[], known: { flags?: string[]; valued?: string[] }): ParsedArguments {
  const { flags = [], valued = [] } = known;
  const options = new Map<string, string>();
  const operands: string[] = [];
  const queue = [...args];
  for (let argument = queue.shift(); argument !== undefined; argument = queue.shift()) {
    const [long, value] = splitLong(argument);
    if (argument === "--") {
      operands.push(...queue.splice(0));
    } else if (!argument.startsWith("-") || argument === "-") {
      operands.push(argument);
    } else if (valued.includes(long)) {
      options.set(long, value ?? queue.shift() ?? "");
    } else if (flags.includes(argument)) {
      options.set(argument, "");
    } else if (!argument.startsWith("--") && valued.includes(argument.slice(0, 2))) {
      options.set(argument.slice(0, 2), argument.slice(2));
    } else if (
      !argument.startsWith("--") &&
      /^-[A-Za-z0-9]+$/.test(argument) &&
      lettersOf(argument).every((letter) => flags.includes(letter))
    ) {
      for (const letter of lettersOf(argument)) {
        options.set(letter, "");
      }
    } else {
      throw new UnknownOption(argument);
    }
  }
  return { options, operands };
}

/** An option that the simulator does not implement. */
class UnknownOption extends Error {
  constructor(option: string) {
    super(`the simulation does not know the option ${option}`);
  }
}

/** `-rf` as `-r` and `-f`. */
function lettersOf(flags: string): string[] {
  return Array.from(flags.slice(1), (letter) => `-${letter}`);
}

function splitLong(argument: string): [string, string | undefined] {
  const at = argument.indexOf("=");
  return argument.startsWith("--") && at > 0 ? [argument.slice(0, at), argument.slice(at + 1)] : [argument, undefined];
}

/** Runs a program; `undefined` if the machine does not have it, or not with these options. */
export async function runProgram<On extends Machine>(
  programs: Programs<On>,
  run: ProgramRun<On>,
): Promise<ProgramResult | undefined> {
  const program = programs[run.program.replace(/^\/(usr\/)?s?bin\/|^\/snap\/bin\//, "")];
  if (program === undefined) {
    return undefined;
  }
  try {
    return await program(run);
  } catch (error) {
    if (error instanceof UnknownOption) {
      return undefined;
    }
    if (error instanceof FileSystemError) {
      return failure(1, `${run.program}: ${error.message}`);
    }
    throw error;
  }
}
