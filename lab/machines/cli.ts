import { killRunningCommands, runInForeground, withFileLock } from "../real/process";
import { LabPlace } from "../real/state";
import { DEFAULT_INSTANCE, MachineLab } from "./index";
import type { MachineSpec } from "./machine";
import { startVmHost } from "./vm-host";

const USAGE = `usage: machines [--instance NAME] [--machines a=192.168.1.N,...] [--vm] COMMAND
  up                      start the lab: with --machines bare ones, otherwise one with LXD that runs virtual machines, and
                          with --vm such a virtual machine, v1, runs in it
  status                  what is running
  ssh NAME [CMD...]       a command, or a shell, in a machine, from the workstation
  exec NAME -- CMD...     a command in a machine as root, without SSH
  power-off NAME | boot NAME
  save NAME STATE | restore NAME STATE
  down                    remove the lab; caches stay
  run -- CMD...           start a lab of its own, run the command in its workstation, always remove the lab`;

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

function log(line: string): void {
  process.stderr.write(`machines: ${line}\n`);
}

function parseMachine(text: string): MachineSpec {
  const [name = "", address = ""] = text.split("=");
  if (!/^[a-z][a-z0-9-]{0,10}$/.test(name) || !/^192\.168\.1\.\d{1,3}$/.test(address)) {
    throw new Error(`"${text}" is not a machine; write NAME=192.168.1.N.`);
  }
  return { name, address };
}

interface Wanted {
  readonly machines: string | undefined;
  readonly running: boolean;
}

function start(instance: string, { machines, running }: Wanted): Promise<MachineLab> {
  return machines === undefined
    ? startVmHost({ instance, running, log })
    : MachineLab.start({ instance, log, machines: machines.split(",").map(parseMachine) });
}

/** A lab that lives as long as one command. */
function run(instance: string, wanted: Wanted, argv: readonly string[]): Promise<number> {
  return withFileLock(LabPlace.ofCheckout(instance).runLockFile, "fail", async () => {
    // A signal ends what runs; from there on this process must live until the lab is stopped.
    for (const signal of SIGNALS) process.on(signal, killRunningCommands);
    const { lab } = await start(instance, wanted);
    try {
      return await runInForeground(lab.workstationArgv(argv), lab.environment);
    } finally {
      await lab.stop();
      log("down");
    }
  });
}

async function main(argv: readonly string[]): Promise<number> {
  const separator = argv.indexOf("--");
  const words = separator < 0 ? [...argv] : argv.slice(0, separator);
  const rest = separator < 0 ? [] : argv.slice(separator + 1);
  const option = (name: string): string | undefined => {
    const index = words.indexOf(name);
    return index < 0 ? undefined : words.splice(index, 2)[1];
  };
  const given = option("--instance");
  const machines = option("--machines");
  const running = words.includes("--vm");
  if (running) words.splice(words.indexOf("--vm"), 1);
  const wanted = { machines, running };
  const [command = "help", name = "", ...others] = words;
  const instance = given ?? (command === "run" ? "machines-run" : DEFAULT_INSTANCE);
  const attach = (): Promise<MachineLab> => MachineLab.attach(process.env["LAB_STATE_DIR"] === undefined ? instance : given);
  switch (command) {
    case "up":
      await start(instance, wanted);
      return 0;
    case "status":
      for (const { spec, isRunning } of (await attach()).machines) {
        console.log(`${spec.name}\t${spec.address}\t${isRunning ? "running" : "off"}`);
      }
      return 0;
    case "ssh": {
      const { lab } = await attach();
      return runInForeground(lab.workstationArgv(["ssh", name, ...others, ...rest]), lab.environment);
    }
    case "exec": {
      const { stdout, stderr, exitCode } = await (await attach()).machine(name).exec(rest);
      process.stdout.write(stdout);
      process.stderr.write(stderr);
      return exitCode;
    }
    case "power-off":
      await (await attach()).machine(name).powerOff();
      return 0;
    case "boot":
      await (await attach()).machine(name).boot();
      return 0;
    case "save":
      await (await attach()).machine(name).save(others[0] ?? "");
      return 0;
    case "restore":
      await (await attach()).machine(name).restore(others[0] ?? "");
      return 0;
    case "down":
      await MachineLab.clear(instance);
      return 0;
    case "run":
      if (rest.length === 0) throw new Error(`run needs a command after --.\n${USAGE}`);
      return run(instance, wanted, rest);
    default:
      console.log(USAGE);
      return command === "help" ? 0 : 1;
  }
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    log(error instanceof Error ? error.message : String(error));
    process.exit(1);
  },
);
