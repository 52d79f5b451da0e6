import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { parse, stringify } from "yaml";
import { checkoutRoot, pulumiRoot } from "../../tools/paths";
import { mustRun, runInForeground } from "../real/process";
import type { DemoHosts } from "./hosts";

/** The stack of the demo, configured by Pulumi.lab.yaml. */
const STACK = "lab";

interface StackFile {
  encryptionsalt?: string;
  config: Record<string, unknown> & { "lxd-cluster:hosts": LabHostConfig[] };
}

interface LabHostConfig {
  name: string;
  address: string;
  connection: { user: string; privateKeyPath: string; host?: string; port?: number };
  node: { install: Record<string, unknown> };
}

/** The stack of this checkout. Its state is stored with its hosts, so that both are removed together. */
export class DemoStack {
  private readonly folder: string;
  private readonly environment: NodeJS.ProcessEnv;

  constructor(private readonly hosts: DemoHosts) {
    const state = join(hosts.stateDir, "pulumi");
    this.folder = join(state, "project");
    this.environment = {
      ...hosts.environment,
      PATH: [join(pulumiRoot(), "bin"), hosts.environment["PATH"]].join(delimiter),
      PULUMI_BACKEND_URL: `file://${join(state, "state")}`,
      PULUMI_CONFIG_PASSPHRASE: process.env["PULUMI_CONFIG_PASSPHRASE"] ?? "",
      PULUMI_HOME: join(state, "home"),
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // Types are checked with the checkout; Pulumi's check of them takes two thirds of a program's CPU time.
      PULUMI_NODEJS_TRANSPILE_ONLY: "true",
      // The stack needs no other plugins than those of the CLI, and there is no network to install any.
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    };
  }

  /** Runs `pulumi` with these arguments on this terminal. Returns its exit status. */
  async run(argv: readonly string[]): Promise<number> {
    await this.prepare();
    return runInForeground(this.hosts.argv(this.command(argv)), this.environment);
  }

  /** Runs a command of the package with these arguments on this terminal. Returns its exit status. */
  async ownCommand(name: "status" | "verify", argv: readonly string[]): Promise<number> {
    const hosts = this.config().config["lxd-cluster:hosts"].flatMap(({ address, connection }) => {
      const { user, privateKeyPath, host = address, port = 22 } = connection;
      return ["--host", `${user}@${host}:${port}`, "--identity", privateKeyPath];
    });
    const command = [process.execPath, join(checkoutRoot, "dist/cli/main.js"), name, ...hosts, ...argv];
    return runInForeground(this.hosts.argv(command), this.environment);
  }

  /** The resources in the state after the last `up`, `refresh` or `destroy`. */
  async resources(): Promise<StateResource[]> {
    if (!existsSync(this.folder)) {
      return [];
    }
    const exported = await mustRun(this.hosts.argv(this.command(["stack", "export"])), { env: this.environment });
    const { deployment } = JSON.parse(exported) as { deployment: { resources?: StateResource[] } };
    return deployment.resources ?? [];
  }

  /**
   * A separate project with the checkout's program and config: Pulumi writes to the files of a project, and the
   * checkout's files must not change.
   */
  private async prepare(): Promise<void> {
    for (const folder of ["project", "state", "home"]) {
      mkdirSync(join(this.hosts.stateDir, "pulumi", folder), { recursive: true });
    }
    const project = readYaml(join(checkoutRoot, "Pulumi.yaml")) as Record<string, unknown>;
    writeFileSync(join(this.folder, "Pulumi.yaml"), stringify({ ...project, main: join(checkoutRoot, String(project["main"])) }));
    const stackFile = join(this.folder, `Pulumi.${STACK}.yaml`);
    const before = existsSync(stackFile) ? (readYaml(stackFile) as StackFile) : undefined;
    const salt = before?.encryptionsalt;
    writeFileSync(stackFile, stringify({ ...this.config(), ...(salt !== undefined && { encryptionsalt: salt }) }));
    if (salt === undefined) {
      await mustRun(this.hosts.argv(this.command(["stack", "init", STACK])), { env: this.environment });
    }
  }

  private config(): StackFile {
    const file = readYaml(join(checkoutRoot, `Pulumi.${STACK}.yaml`)) as StackFile;
    for (const host of file.config["lxd-cluster:hosts"]) {
      host.connection = { ...host.connection, ...this.hosts.connectionOf(host.name) };
      Object.assign(host.node.install, this.hosts.install);
    }
    return file;
  }

  private command(argv: readonly string[]): string[] {
    return ["pulumi", "--cwd", this.folder, ...argv];
  }
}

/** The part of a resource in Pulumi's state that the demo reads. */
export interface StateResource {
  readonly type: string;
  readonly outputs?: Readonly<Record<string, unknown>>;
}

function readYaml(file: string): unknown {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
