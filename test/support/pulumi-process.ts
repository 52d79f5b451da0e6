import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { eventually } from "../acceptance/support/eventually";

/** Options for starting `pulumi`. */
export interface PulumiProcessOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** On a pseudo-terminal, so that Ctrl-C can be sent. */
  readonly terminal?: boolean;
}

/** A process of this machine. */
export interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/**
 * `pulumi` as a user runs it: a process whose screen can be read, and that can be interrupted or killed at any time.
 */
export class PulumiProcess {
  /** Complete output on the screen. */
  screen = "";
  /** The exit status: 128 and more for a signal. */
  readonly ended: Promise<number>;
  private readonly child: ChildProcess;
  private isOver = false;

  constructor(argv: readonly string[], { cwd, env, terminal = false }: PulumiProcessOptions) {
    // script(1) gives the program a terminal, and writes its own standard input there.
    const [program = "", ...args] = terminal
      ? ["script", "--quiet", "--return", "--flush", "--command", argv.join(" "), "/dev/null"]
      : argv;
    this.child = spawn(program, args, { cwd, env, stdio: ["pipe", "pipe", "pipe"], detached: true });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (text: Buffer) => {
        this.screen += text.toString();
      });
    }
    this.child.stdin?.on("error", () => undefined); // a key pressed when the program has just ended
    this.ended = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      // "exit" and not "close": processes that a killed Pulumi leaves keep its screen open.
      this.child.on("exit", (code) => {
        this.isOver = true;
        resolve(code ?? 128);
      });
    });
  }

  /** Waits until the screen shows a text. Throws if the program ends first. */
  async shows(text: RegExp, seconds = 180): Promise<void> {
    await eventually(
      `the screen shows ${String(text)}`,
      async () => {
        if (text.test(this.screen)) {
          return true;
        }
        if (this.isOver) {
          throw new Error(`Pulumi ended without showing ${String(text)}. Its screen:\n${this.screen}`);
        }
        return false;
      },
      seconds,
    );
  }

  /** Sends Ctrl-C on its terminal: the kernel interrupts the whole foreground group. */
  pressCtrlC(): void {
    this.child.stdin?.write("\u0003");
  }

  /** The CLI, which is also the engine. */
  get engine(): number {
    return this.find(({ command }) => /^(\S*\/)?pulumi /.test(command));
  }

  /** The process that runs our provider. */
  get provider(): number {
    return this.find(({ command }) => command.includes("cmd/dynamic-provider"));
  }

  /** All its processes, parents first. */
  tree(): ProcessRow[] {
    const all = processes();
    const found = all.filter(({ pid }) => pid === this.child.pid);
    for (const { pid } of found) {
      found.push(...all.filter(({ parent }) => parent === pid));
    }
    return found;
  }

  private find(matches: (row: ProcessRow) => boolean): number {
    const row = this.tree().find(matches);
    if (row === undefined) {
      throw new Error(`Pulumi has no such process. Its screen:\n${this.screen}`);
    }
    return row.pid;
  }
}

/** Whether a process runs; a zombie does not count. */
export function isAlive(pid: number): boolean {
  return processes().some((row) => row.pid === pid);
}

function processes(): ProcessRow[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        // The name in parentheses may contain blanks and parentheses.
        const [state, parent] = readFileSync(`/proc/${name}/stat`, "utf8")
          .replace(/^.*\) /s, "")
          .split(" ");
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        return state === "Z" ? [] : [{ pid: Number(name), parent: Number(parent), command }];
      } catch {
        return []; // the process has ended
      }
    });
}
