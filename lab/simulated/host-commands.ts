/** Runs the commands that arrive at a simulated host over SSH: each is one line, looked up in a table of programs. */
import type { ServerChannel } from "ssh2";
import { CONNECTED, FIND_LISTENER, RELAY } from "../../provider/transport/relay";
import { CommandLineError, parseCommandLine } from "./command-line";
import type { FaultEffect } from "./faults";
import { type LoginShell, runInLoginShell, sudoWarning } from "./login-shell";
import type { Daemon } from "./lxd/daemon";
import type { Surroundings } from "./lxd/database";
import { failure, type ProgramResult, runProgram } from "./machine";
import { accountPrograms } from "./programs/accounts";
import { filePrograms } from "./programs/files";
import { type HostMachine, hostPrograms } from "./programs/host";
import { runPerl } from "./programs/perl";
import { runStepsIn, stepsIn } from "./programs/steps";
import { limited, takeEnvironment, unwrap } from "./programs/wrappers";
import type { CommandChannel } from "./ssh-server";

/** What the commands need of their host. */
export interface CommandHost extends HostMachine {
  readonly shell: LoginShell;
  /** Whether `sudo -n` works for a user that is not root. */
  readonly maySudo: boolean;
  readonly daemon: Daemon | undefined;
  isSocket(path: string): boolean;
  /** Connects streams to a unix socket on which something listens. */
  attachSocket(path: string, stream: ServerChannel, drop: () => void): void;
}

/** The commands of a host. */
export class HostCommands {
  /** Commands in order of arrival, as argument arrays. */
  readonly executed: string[][] = [];
  /** Lines that no program of the simulation could run. A test expects none. */
  readonly unknown: string[] = [];

  constructor(
    private readonly host: CommandHost,
    private readonly surroundings: Surroundings,
  ) {}

  /** Runs a line that sshd passes on; resolves with its exit status. */
  run(line: string, user: string, channel: CommandChannel): Promise<number> {
    const { name, shell } = this.host;
    return runInLoginShell(line, channel, {
      host: name,
      shell,
      maySudo: this.host.maySudo,
      run: (command) => this.runInFrame(command, user, channel),
      unknown: () => void this.unknown.push(line),
    });
  }

  private async runInFrame(line: string, user: string, channel: CommandChannel): Promise<number> {
    const effect = this.surroundings.faults.forCommand(this.host.name, line);
    const failed = await this.applyFault(effect, channel);
    if (failed !== undefined) {
      return failed;
    }
    let result: ProgramResult | undefined;
    try {
      result = await this.execute(parseCommandLine(line), user, channel);
    } catch (error) {
      if (!(error instanceof CommandLineError)) {
        this.surroundings.defects.push(error);
      }
      result = undefined;
    }
    if (effect === "drop-after") {
      channel.drop();
      return 255;
    }
    if (result === undefined) {
      this.unknown.push(line);
      channel.stderr(`the simulated host ${this.host.name} does not know: ${line}\n`);
      return 127;
    }
    channel.stdout(result.stdout);
    channel.stderr(result.stderr);
    return result.exitCode;
  }

  private async applyFault(effect: FaultEffect | undefined, channel: CommandChannel): Promise<number | undefined> {
    if (effect === "hang") {
      await channel.closed;
      return 255;
    }
    if (effect === "drop-before") {
      channel.drop();
      return 255;
    }
    if (effect === "daemon-restart") {
      this.host.daemon?.stop();
      this.host.daemon?.start();
    }
    if (typeof effect === "object" && "delayMs" in effect) {
      await new Promise((resolve) => setTimeout(resolve, effect.delayMs));
    }
    if (typeof effect === "object" && "status" in effect) {
      channel.stderr(`${effect.error}\n`);
      return effect.status;
    }
    return undefined;
  }

  private async execute(argv: string[], user: string, channel: CommandChannel): Promise<ProgramResult | undefined> {
    let rest = argv;
    const env: Record<string, string> = {};
    let root = user === "root";
    if (rest[0] === "sudo") {
      if (!this.host.maySudo) {
        return { exitCode: 1, stdout: "", stderr: "sudo: a password is required\n" };
      }
      if (rest[2] === "true") {
        return { exitCode: 0, stdout: "", stderr: sudoWarning(this.host.name, this.host.shell) };
      }
      rest = rest.slice(1).filter((argument, index) => !(index < 2 && (argument === "-n" || argument === "--")));
      root = true;
    }
    if (rest[0] === "env") {
      rest = rest.slice(1);
      for (let [first = ""] = rest; /^\w+=/.test(first); [first = ""] = rest) {
        env[first.slice(0, first.indexOf("="))] = first.slice(first.indexOf("=") + 1);
        rest = rest.slice(1);
      }
    }
    const outer = unwrap(rest);
    if (outer !== undefined) {
      return limited(outer.seconds, this.execute(outer.command, user, channel));
    }
    this.executed.push(rest);
    let as: { uid: number; gid: number } | undefined;
    if (rest[0] === "setpriv") {
      const [, user = "", group = "", ...command] = rest;
      as = { uid: Number(user.split("=")[1]), gid: Number(group.split("=")[1]) };
      rest = command.slice(command.indexOf("--") + 1);
    }
    const steps = stepsIn(rest);
    if (steps !== undefined) {
      return runStepsIn(this.host.files, steps, async (command, stdin) => {
        const input = async (): Promise<Buffer> => Buffer.from(stdin === "/dev/null" ? "" : this.host.files.readText(stdin));
        return (await this.runProgram(command, input, env, as)) ?? failure(127, `sh: 1: ${command[0] ?? ""}: not found`);
      });
    }
    if (rest[0] === "perl" && rest[2]?.startsWith("rename(") !== true) {
      const run = { machine: this.host, program: "perl", args: rest.slice(1), stdin: () => channel.stdin(), env };
      return (await runPerl(run)) ?? this.perl(rest.slice(1), root, channel);
    }
    const inside = await takeEnvironment(rest, () => channel.stdin());
    if (inside !== undefined) {
      const { command, stdin } = inside;
      const { command: program, seconds } = unwrap(command) ?? { command, seconds: undefined };
      const run = this.runProgram(program, () => Promise.resolve(stdin), { ...env, ...inside.env }, as);
      return limited(seconds, run);
    }
    return this.runProgram(rest, () => channel.stdin(), env, as);
  }

  private async runProgram(
    [program = "", ...args]: string[],
    stdin: () => Promise<Buffer>,
    env: Record<string, string>,
    as: { uid: number; gid: number } | undefined,
  ): Promise<ProgramResult | undefined> {
    const run = { program, args, stdin, env, machine: this.host, ...(as && { user: as }) };
    return (
      (await runProgram(hostPrograms, run)) ?? (await runProgram(accountPrograms, run)) ?? (await runProgram(filePrograms, run))
    );
  }

  /** The library's own programs in Perl. */
  private async perl(
    [flag, script, ...paths]: string[],
    root: boolean,
    channel: CommandChannel,
  ): Promise<ProgramResult | undefined> {
    if (flag !== "-e") {
      return undefined;
    }
    if (script === FIND_LISTENER) {
      const found = paths.findIndex((path) => this.host.isSocket(path));
      return { exitCode: 0, stdout: found < 0 ? "" : String(found), stderr: "" };
    }
    return script === RELAY ? this.relay(paths[0] ?? "", root, channel) : undefined;
  }

  /** The relay to a unix socket for hosts whose sshd does not forward to sockets: its streams are the socket's. */
  private async relay(path: string, root: boolean, channel: CommandChannel): Promise<ProgramResult> {
    if (!root || !this.host.isSocket(path)) {
      return { exitCode: 111, stdout: "", stderr: `${root ? "Connection refused" : "Permission denied"}\n` };
    }
    channel.stdout(CONNECTED);
    this.host.attachSocket(path, channel.stream(), () => channel.drop());
    await channel.closed;
    return { exitCode: 0, stdout: "", stderr: "" };
  }
}
