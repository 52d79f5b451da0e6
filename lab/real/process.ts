import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";

/** Result of a command. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status. A command ended by a signal has 255, not 128 plus the signal's number. */
  readonly exitCode: number;
}

/** Options of {@link runCommand}. */
export interface RunOptions {
  /** Standard input of the command. Default: empty. */
  readonly stdin?: string | undefined;
  /** The whole environment of the command. Default: this process's environment. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
  /** File that receives standard output and standard error instead of the result. */
  readonly logFile?: string | undefined;
}

const running = new Set<ChildProcess>();

// A lab command that outlives its caller would continue to build or mount in the background.
process.on("exit", killRunningCommands);

/** Ends the commands that {@link runCommand} waits for, so that their callers fail and clean up. */
export function killRunningCommands(): void {
  for (const child of running) child.kill("SIGKILL");
}

/**
 * Runs a command to its end and returns its output.
 * @throws Error if the command cannot be started. A non-zero exit status is not an error here; see {@link mustRun}.
 */
export function runCommand(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const [command, ...args] = argv;
  if (command === undefined) return Promise.reject(new Error("No command was given."));
  const log = options.logFile === undefined ? undefined : openSync(options.logFile, "a");
  const output = log ?? "pipe";
  const stdio: StdioOptions = [options.stdin === undefined ? "ignore" : "pipe", output, output];
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio, env: options.env ?? process.env, cwd: options.cwd });
    running.add(child);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    // A command may end without reading its input.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.stdin);
    const done = () => {
      running.delete(child);
      if (log !== undefined) closeSync(log);
    };
    child.on("error", (error) => {
      done();
      reject(new Error(`Unable to start ${command}: ${error.message}`, { cause: error }));
    });
    child.on("close", (code) => {
      done();
      resolve({ stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString(), exitCode: code ?? 255 });
    });
  });
}

/**
 * Runs a command that must succeed and returns its standard output.
 * @throws Error with the command's name, its exit status and the end of its output.
 */
export async function mustRun(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.exitCode !== 0) {
    const printed = options.logFile === undefined ? result.stderr || result.stdout : readFileSync(options.logFile, "utf8");
    const where = options.logFile === undefined ? "" : ` (full log: ${options.logFile})`;
    throw new Error(`${argv[0]} failed with status ${result.exitCode}${where}:\n${lastLines(printed, 15)}`);
  }
  return result.stdout;
}

/**
 * Runs a command on this process's terminal and returns its exit status. Signals to this process are forwarded to the
 * command, which decides when to end.
 */
export function runInForeground(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const [command, ...args] = argv;
  if (command === undefined) return Promise.reject(new Error("No command was given."));
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", env });
    running.add(child);
    let passed: NodeJS.Signals | undefined;
    const pass = (signal: NodeJS.Signals) => {
      // The terminal itself sends Ctrl-C to the command; many programs interpret a second one as "at once".
      if (signal === "SIGINT" && process.stdin.isTTY) return;
      passed = signal;
      child.kill(signal);
    };
    const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
    for (const signal of signals) process.on(signal, pass);
    const done = () => {
      running.delete(child);
      for (const signal of signals) process.off(signal, pass);
    };
    child.on("error", (error) => {
      done();
      reject(new Error(`Unable to start ${command}: ${error.message}`, { cause: error }));
    });
    child.on("close", (code, signal) => {
      done();
      // Mocha ends with 0 when a signal ends it before a test has failed.
      const status = code === 0 && passed !== undefined ? null : code;
      resolve(status ?? ((signal ?? passed) === "SIGINT" ? 130 : 143));
    });
  });
}

/** Another process holds a lock, and the caller asked not to wait. */
export class FileLockedError extends Error {
  constructor(path: string) {
    super(`Another process holds the lock ${path}.`);
  }
}

/**
 * Holds an exclusive lock on a file while `action` runs. The kernel holds the lock (flock), so it cannot outlive a
 * killed process.
 * @param onBusy - "wait" waits for the lock; "fail" throws at once if another process holds it.
 * @throws FileLockedError if the lock is held and `onBusy` is "fail".
 */
export async function withFileLock<T>(path: string, onBusy: "wait" | "fail", action: () => T | Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  const mode = onBusy === "fail" ? ["--nonblock"] : [];
  // The helper keeps the lock until its standard input closes, which also happens if this process is killed.
  const holder = spawn("flock", ["--exclusive", ...mode, path, "sh", "-c", "echo held; exec cat"], {
    stdio: ["pipe", "pipe", "ignore"],
    // Ctrl-C goes to the whole foreground group; the lock must stay until this process has cleaned up.
    detached: true,
  });
  const ended = new Promise<void>((resolve) => holder.on("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    holder.on("error", (error) => reject(new Error(`Unable to lock ${path}: ${error.message}`, { cause: error })));
    holder.on("close", () => reject(new FileLockedError(path)));
    holder.stdout.once("data", () => resolve());
  });
  try {
    return await action();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

/**
 * Waits until `condition` returns a value other than undefined. Returns that value.
 * @param what - name of the condition, for the error message.
 * @throws Error if `timeoutSeconds` pass first.
 */
export async function waitFor<T>(
  what: string,
  timeoutSeconds: number,
  condition: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const deadline = Date.now() + timeoutSeconds * 1000;
  for (;;) {
    const value = await condition();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`Timed out after ${timeoutSeconds} s waiting for ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The last `count` lines of a text. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}
