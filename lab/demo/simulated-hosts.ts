import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { exchange } from "../../provider/lxd/client/http";
import { Deadline } from "../../provider/support/deadline";
import { type Connection, connectionSchema } from "../../provider/transport/connection";
import { connect as connectHost } from "../../provider/transport/pool";
import { cacheDir, checkoutId } from "../../tools/paths";
import { runInForeground, waitFor } from "../real/process";
import { SimulatedLab } from "../simulated";
import type { DemoHosts } from "./hosts";

const HOSTS = [
  { name: "bcn2", lanAddress: "192.168.1.102" },
  { name: "bcn1", lanAddress: "192.168.1.101" },
];

/** Simulated duration of LXD's work, so that Pulumi's display can be followed. */
const TIMINGS = { operationMs: 300, daemonStartMs: 300, addressMs: 1000, agentMs: 1000, installMs: 3000 };

const START_TIMEOUT_SECONDS = 30;

const QUERY_TIMEOUT_SECONDS = 30;

/** Simulated hosts. They run in a background process until they are removed. */
export class SimulatedHosts implements DemoHosts {
  readonly description = "simulated hosts: SSH servers on 127.0.0.1 with a simulated LXD; no operating system runs in their VMs";
  readonly product = "LXD";
  readonly mischief = `lxc query --request PATCH --data '{"config":{"limits.cpu":"1"}}' /1.0/profiles/vm-resources`;
  readonly canLogIn = false;
  readonly install = { method: "deb" };
  readonly stateDir: string;
  private ports: ReadonlyMap<string, number> | undefined;

  constructor(private readonly instance: string) {
    this.stateDir = stateDirOf(instance);
  }

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, HOME: join(this.stateDir, "home") };
  }

  async isUp(): Promise<boolean> {
    const answer = await ask(this.stateDir, "ports");
    this.ports = answer === undefined ? undefined : new Map(JSON.parse(answer) as [string, number][]);
    return this.ports !== undefined;
  }

  async start(): Promise<void> {
    if (await this.isUp()) {
      return;
    }
    rmSync(this.stateDir, { recursive: true, force: true });
    mkdirSync(this.stateDir, { recursive: true });
    const logFile = join(this.stateDir, "hosts.log");
    const output = openSync(logFile, "w");
    const demo = resolve(__dirname, "../demo.ts");
    const argv = ["--require", "tsx/cjs", demo, "--instance", this.instance, "keep-simulated-hosts"];
    const keeper = spawn(process.execPath, argv, { detached: true, stdio: ["ignore", output, output] });
    closeSync(output);
    await waitFor("the simulated hosts", START_TIMEOUT_SECONDS, async () => {
      if (keeper.exitCode !== null) {
        throw new Error(`The simulated hosts did not start:\n${readFileSync(logFile, "utf8")}`);
      }
      return (await this.isUp()) ? true : undefined;
    });
    keeper.unref();
  }

  connectionOf(host: string): Record<string, unknown> {
    return { host: "127.0.0.1", port: this.portOf(host) };
  }

  argv(argv: readonly string[]): string[] {
    return [...argv];
  }

  /** Simulated hosts know few commands, and of LXD's client only `lxc query`, which is handled here. */
  async runOnHost(host: string, argv: readonly string[]): Promise<number> {
    const ssh = join(this.stateDir, "home/.ssh");
    if (argv[0] === "lxc" && argv[1] === "query") {
      const connection = { ...this.connectionOf(host), privateKeyPath: join(ssh, "id_ed25519"), hostKeyPolicy: "insecure" };
      return query(connectionSchema.parse(connection), argv.slice(2));
    }
    const options = ["-F", "none", "-i", join(ssh, "id_ed25519"), "-o", `UserKnownHostsFile=${join(ssh, "known_hosts")}`];
    return runInForeground(["ssh", ...options, "-p", String(this.portOf(host)), "root@127.0.0.1", argv.join(" ")]);
  }

  logIn(): Promise<number> {
    return Promise.reject(new Error("No operating system runs in a simulated VM, so it accepts no login."));
  }

  async clear(): Promise<void> {
    await ask(this.stateDir, "stop");
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  private portOf(host: string): number {
    const port = this.ports?.get(host);
    if (port === undefined) {
      throw new Error(`There is no simulated host "${host}". There are: ${HOSTS.map(({ name }) => name).join(", ")}.`);
    }
    return port;
  }
}

/** Body of the background process: runs the simulated hosts until it is asked to stop. */
export async function keepSimulatedHosts(instance: string): Promise<number> {
  const stateDir = stateDirOf(instance);
  const lab = await SimulatedLab.start({ hosts: HOSTS, timings: TIMINGS });
  writeHome(join(stateDir, "home"), lab);
  await new Promise<void>((stopped) => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", (question) => {
        if (String(question) === "ports") {
          socket.end(JSON.stringify(lab.hosts.map(({ name, port }) => [name, port])));
          return;
        }
        server.close();
        void lab.stop().then(() => {
          socket.end("stopped");
          stopped();
        });
      });
    });
    server.listen(socketOf(stateDir));
  });
  return 0;
}

/** `lxc query`: sends one request to LXD's API and prints the answer. */
async function query(connection: Connection, args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { request: { type: "string", short: "X", default: "GET" }, data: { type: "string", short: "d" } },
    allowPositionals: true,
  });
  const deadline = new Deadline(QUERY_TIMEOUT_SECONDS, "lxc query");
  const endpoint = await endpointOf(await connectHost(connection, { deadline }), deadline);
  const sent = {
    method: values.request,
    path: positionals[0] ?? "/1.0",
    ...(values.data !== undefined && { body: values.data }),
  };
  const { status, body } = await exchange(endpoint, sent, deadline);
  process.stdout.write(`${JSON.stringify(JSON.parse(body.toString()), undefined, 2)}\n`);
  return status < 300 ? 0 : 1;
}

function writeHome(home: string, lab: SimulatedLab): void {
  const image = join(home, "lxd-images/debian-12");
  mkdirSync(join(home, ".ssh"), { recursive: true, mode: 0o700 });
  mkdirSync(image, { recursive: true });
  writeFileSync(join(home, ".ssh/id_ed25519"), lab.privateKey, { mode: 0o600 });
  writeFileSync(join(home, ".ssh/id_ed25519.pub"), `${lab.publicKey}\n`);
  writeFileSync(join(home, ".ssh/known_hosts"), readFileSync(lab.knownHostsPath));
  for (const file of ["metadata.tar.xz", "rootfs.squashfs"]) {
    writeFileSync(join(image, file), `simulated ${file}\n`);
  }
}

function stateDirOf(instance: string): string {
  return join(cacheDir(), "simulated", `${checkoutId()}-${instance}`);
}

function socketOf(stateDir: string): string {
  return join(stateDir, "hosts.sock");
}

/** The answer of the process that runs the hosts; undefined if no process answers. */
function ask(stateDir: string, question: "ports" | "stop"): Promise<string | undefined> {
  return new Promise((answer) => {
    const socket = connect(socketOf(stateDir));
    const parts: Buffer[] = [];
    socket.on("connect", () => socket.write(question));
    socket.on("data", (part) => parts.push(part));
    socket.on("end", () => answer(Buffer.concat(parts).toString()));
    socket.on("error", () => answer(undefined));
  });
}
