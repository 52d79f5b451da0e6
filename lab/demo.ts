/** `npm run demo`: the main scenario on hosts of this machine, with commands to explore the result. */

import { FLAVOUR_NAMES } from "./debian-servers";
import type { DemoHosts } from "./demo/hosts";
import { loginOf } from "./demo/login";
import { DemoStack } from "./demo/pulumi";
import { RealHosts } from "./demo/real-hosts";
import { keepSimulatedHosts, SimulatedHosts } from "./demo/simulated-hosts";
import { RealLab } from "./real";

const USAGE = `usage: npm run demo [-- [--simulated] [--flavour F] [--instance NAME] [COMMAND]]
  (none)                 start the hosts, and make them a cluster with VMs and users: pulumi up
  preview | up           pulumi preview, pulumi up
  pulumi ARGS...         any other command of Pulumi, such as: pulumi stack output
  status [--svg FILE]    the cluster as it is now, and a picture of it
  verify [--ping]        checks of the cluster and its VMs
  ssh VM [CMD...]        log in to a VM
  host NAME [-- CMD...]  a shell, or a command, as root on a host
  down                   remove all of it
  --simulated            simulated hosts, which need neither root nor packages
  --flavour F            the server on real hosts: ${FLAVOUR_NAMES.join(", ")}
  --instance NAME        a demo of its own beside others of this checkout`;

interface CommandLine {
  readonly command: string;
  readonly rest: readonly string[];
  readonly simulated: boolean;
  readonly instance: string;
  readonly flavour: string | undefined;
}

/** Options stand before the command; everything after it belongs to the command. */
function parse(argv: readonly string[]): CommandLine {
  const words = [...argv];
  let simulated = false;
  let instance = "default";
  let flavour: string | undefined;
  for (let word = words[0]; word?.startsWith("--"); word = words[0]) {
    words.shift();
    if (word === "--simulated") {
      simulated = true;
    } else if (word === "--instance" && words[0] !== undefined) {
      instance = words.shift() ?? instance;
    } else if (word === "--flavour" && words[0] !== undefined) {
      flavour = words.shift();
    } else if (word === "--help") {
      words.unshift("help");
    } else if (word !== "--") {
      throw new Error(`Unknown option ${word}.\n${USAGE}`);
    }
  }
  const [command = "", ...rest] = words;
  return { command, rest: rest[0] === "--" ? rest.slice(1) : rest, simulated, instance, flavour };
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function log(line: string): void {
  say(`[demo] ${line}`);
}

/** The hosts that are up, otherwise the best hosts that this machine supports. */
async function chooseHosts({ simulated, instance, flavour }: CommandLine): Promise<DemoHosts> {
  const [real, pretended] = [new RealHosts(instance, flavour), new SimulatedHosts(instance)];
  if (simulated || (await pretended.isUp())) {
    if (flavour !== undefined) {
      throw new Error("--flavour is for real hosts; simulated ones have LXD 5.0.2.");
    }
    return pretended;
  }
  const obstacle = RealLab.available();
  if (obstacle === undefined || flavour !== undefined) {
    await real.isUp();
    return real;
  }
  log(`${obstacle}; these hosts are simulated`);
  return pretended;
}

async function demo(hosts: DemoHosts): Promise<number> {
  log(hosts.description);
  const started = performance.now();
  const wasUp = await hosts.isUp();
  await hosts.start(log);
  log(wasUp ? "the hosts are up already" : `the hosts are up after ${seconds(started)}, bare: no ${hosts.product} on them`);
  log("pulumi up");
  const stack = new DemoStack(hosts);
  const applied = performance.now();
  const exitCode = await stack.run(["up", "--yes", "--stack", "lab"]);
  if (exitCode !== 0) {
    log("pulumi up failed; the hosts stay up for inspection. To remove them: npm run demo -- down");
    return exitCode;
  }
  log(`pulumi up took ${seconds(applied)}`);
  say("");
  const status = await stack.ownCommand("status", []);
  say(`\n${hints(hosts)}`);
  return status;
}

function hints({ mischief, canLogIn }: DemoHosts): string {
  return [
    "Next steps:",
    "  npm run demo                      again: no change",
    `  npm run demo -- host bcn2 -- ${mischief}`,
    "                                    change something outside Pulumi ...",
    "  npm run demo -- preview           ... see the drift ...",
    "  npm run demo -- up                ... and repair it",
    ...(canLogIn ? ["  npm run demo -- ssh dns1          log in to a VM"] : []),
    "  npm run demo -- status --svg cluster.svg",
    "                                    draw the cluster",
    "  npm run demo -- verify            check the cluster",
    "  npm run demo -- down              remove all of it",
  ].join("\n");
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}

async function main(argv: readonly string[]): Promise<number> {
  const line = parse(argv);
  const { command, rest } = line;
  if (command === "help") {
    say(USAGE);
    return 0;
  }
  if (command === "keep-simulated-hosts") {
    return keepSimulatedHosts(line.instance);
  }
  const hosts = await chooseHosts(line);
  if (command === "") {
    return demo(hosts);
  }
  if (command === "down") {
    await hosts.clear();
    log("everything is removed; the cache stays");
    return 0;
  }
  if (!(await hosts.isUp())) {
    throw new Error("The demo is not up. Start it: npm run demo");
  }
  const stack = new DemoStack(hosts);
  const [name = "", ...words] = rest;
  const args = words[0] === "--" ? words.slice(1) : words;
  switch (command) {
    case "preview":
      return stack.run(["preview", "--diff", "--stack", "lab", ...rest]);
    case "up":
      return stack.run(["up", "--yes", "--stack", "lab", ...rest]);
    case "pulumi":
      return stack.run(rest);
    case "status":
    case "verify":
      return stack.ownCommand(command, rest);
    case "ssh": {
      const { user, address } = loginOf(await stack.resources(), name);
      return hosts.logIn(user, address, args);
    }
    case "host":
      return hosts.runOnHost(name, args.length === 0 ? ["bash"] : args);
    default:
      throw new Error(`Unknown command ${command}.\n${USAGE}`);
  }
}

main(process.argv.slice(2)).then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    log(error instanceof Error ? error.message : String(error));
    process.exit(1);
  },
);
