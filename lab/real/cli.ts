import { FLAVOUR_NAMES } from "../debian-servers";
import { DEFAULT_FLAVOUR } from "./flavours";
import { RealLab, type StartOptions } from "./index";
import { FileLockedError, killRunningCommands, runInForeground, withFileLock } from "./process";
import { DEFAULT_SHAPE, SHAPE_NAMES } from "./shapes";
import { LabPlace, STATE_DIR_VARIABLE } from "./state";

const USAGE = `usage: lab [--instance NAME] COMMAND
  up [--flavour F] [--shape S] [--hosts a,b]
                               start the lab (default: the first two hosts of its shape); one that is up stays, and its hosts that are off boot
  add NAME | remove NAME       add a bare host to the running lab, or take one out
  status                       what is running
  exec [-- CMD...]             run a command, or a shell, in the workstation
  host NAME [-- CMD...]        run a command, or a shell, inside a host
  power-off NAME | boot NAME   cut a host's power; boot the same file system again
  reset [NAME...]              bare file systems again
  down                         remove the lab; caches stay
  run [--flavour F] [--shape S] [--hosts a,b] -- CMD...
                               start a lab of its own, run the command in its workstation, always remove the lab
A flavour is what the hosts can install: ${FLAVOUR_NAMES.join(", ")} (default: ${DEFAULT_FLAVOUR}).
A shape is how the hosts are named, addressed and set up: ${SHAPE_NAMES.join(", ")} (default: ${DEFAULT_SHAPE}).`;

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Prints one line of progress. */
function log(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}

interface CommandLine {
  readonly command: string;
  readonly words: readonly string[];
  readonly options: ReadonlyMap<string, string>;
  /** The arguments after `--`. */
  readonly rest: readonly string[];
}

function parse(argv: readonly string[]): CommandLine {
  const separator = argv.indexOf("--");
  const own = separator < 0 ? argv : argv.slice(0, separator);
  const words: string[] = [];
  const options = new Map<string, string>();
  for (let index = 0; index < own.length; index++) {
    const word = own[index] ?? "";
    if (!word.startsWith("--")) words.push(word);
    else if (["--hosts", "--instance", "--flavour", "--shape"].includes(word)) options.set(word, own[++index] ?? "");
    else throw new Error(`Unknown option ${word}.\n${USAGE}`);
  }
  const [command = "help", ...others] = words;
  return { command, words: others, options, rest: separator < 0 ? [] : argv.slice(separator + 1) };
}

/** Starts a lab. After a signal the process first removes everything begun, then exits. */
async function up(options: StartOptions): Promise<RealLab> {
  const received: NodeJS.Signals[] = [];
  const interrupt = (signal: NodeJS.Signals) => {
    log(`${signal}: cleaning up`);
    received.push(signal);
    killRunningCommands();
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    const started = Date.now();
    const lab = await RealLab.start({ ...options, log });
    if (received.length > 0) await lab.stop();
    else log(`up after ${((Date.now() - started) / 1000).toFixed(1)} s`);
    return lab;
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt);
    if (received.length > 0) process.exit(130);
  }
}

/**
 * A lab that lives as long as one command. Refuses a second such run in the same checkout, because it would remove the
 * hosts of the first.
 */
function run(options: StartOptions & { instance: string }, argv: readonly string[]): Promise<number> {
  return withFileLock(LabPlace.ofCheckout(options.instance).runLockFile, "fail", async () => {
    const lab = await up(options);
    // From here on this process must live until the lab is stopped.
    for (const signal of SIGNALS) process.on(signal, () => undefined);
    try {
      return await runInForeground(lab.workstationArgv(argv), lab.environment);
    } finally {
      await lab.stop();
      log("down");
    }
  });
}

function showStatus(lab: RealLab): void {
  for (const host of lab.hosts) console.log(`${host.name}\t${host.address}\t${lab.isRunning(host.name) ? "running" : "off"}`);
  console.log(`workstation home\t${lab.home}`);
}

async function main(argv: readonly string[]): Promise<number> {
  const { command, words, options, rest } = parse(argv);
  const instance = options.get("--instance") ?? (command === "run" ? "run" : "default");
  const hosts = options.get("--hosts")?.split(",");
  const start = { instance, hosts, flavour: options.get("--flavour"), shape: options.get("--shape") };
  const attach = () => RealLab.attach(options.has("--instance") ? instance : undefined);
  const [name = ""] = words;
  switch (command) {
    case "up": {
      const running = await attach().catch(() => undefined);
      const wanted = hosts?.map((host) => host.split("=")[0]) ?? running?.hosts.map((host) => host.name) ?? [];
      if (running === undefined || wanted.some((name) => !running.hosts.some((host) => host.name === name))) {
        showStatus(await up(start));
        return 0;
      }
      log("already up");
      for (const host of running.hosts) await running.boot(host.name);
      showStatus(running);
      return 0;
    }
    case "add":
      await (await attach()).addHost(name);
      return 0;
    case "remove":
      await (await attach()).removeHost(name);
      return 0;
    case "status":
      showStatus(await attach());
      return 0;
    case "exec": {
      const lab = await attach();
      return runInForeground(lab.workstationArgv(rest.length === 0 ? ["bash"] : rest), lab.environment);
    }
    case "host":
      return runInForeground((await attach()).hostArgv(name, rest.length === 0 ? ["bash"] : rest));
    case "power-off":
      await (await attach()).powerOff(name);
      return 0;
    case "boot":
      await (await attach()).boot(name);
      return 0;
    case "reset":
      await (await attach()).resetHosts(words.length === 0 ? undefined : words);
      return 0;
    case "down":
      if (process.env[STATE_DIR_VARIABLE] !== undefined)
        throw new Error("A process inside the lab's workstation cannot stop the lab; run the command outside it.");
      await RealLab.clear(instance);
      return 0;
    case "run":
      if (rest.length === 0) throw new Error(`run needs a command after --.\n${USAGE}`);
      return run(start, rest);
    case "help":
      console.log(USAGE);
      return 0;
    default:
      throw new Error(`Unknown command ${command}.\n${USAGE}`);
  }
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (error instanceof FileLockedError)
      log("another run is active in this checkout; wait until it ends, or use --instance NAME for a parallel one");
    else log(error instanceof Error ? error.message : String(error));
    process.exit(1);
  },
);
