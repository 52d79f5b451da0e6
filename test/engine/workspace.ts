import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import {
  CommandError,
  ConcurrentUpdateError,
  type Deployment,
  type EngineEvent,
  LocalWorkspace,
  PulumiCommand,
  type PulumiFn,
  type Stack,
  type UpOptions,
} from "@pulumi/pulumi/automation";
import * as settings from "@pulumi/pulumi/runtime/settings";
import { pulumiRoot } from "../../tools/paths";
import { runsAlone } from "../support/single-runs";

const execute = promisify(execFile);

// The programs run in this process, where Pulumi's SDK leaves the connections of a program that failed open: gRPC goes on knocking at the
// port of the engine that has ended. If it shared that state, a later engine that is given this port would be taken for the one that ended.
const { grpcClientOptions } = settings as unknown as { grpcClientOptions: object };
Object.assign(grpcClientOptions, { "grpc.use_local_subchannel_pool": 1 });

const REPOSITORY = resolve(__dirname, "../..");
const PROJECT = "engine-tests";

/** What the engine did, or would do, to one resource. */
export interface Step {
  /** `create`, `update`, `replace`, `delete`, `refresh` and so on; never `same`. */
  readonly op: string;
  readonly type: string;
  readonly name: string;
  /** Properties that differ, as a preview shows them. */
  readonly properties: readonly string[];
}

/** How one run of the CLI ended. */
export interface Run {
  /** Whether it ended well. */
  readonly ok: boolean;
  /** What a person reads. */
  readonly text: string;
  /** What was written besides that: with `debug`, the logs. */
  readonly log: string;
  /** Errors and warnings, with their resource. */
  readonly messages: readonly string[];
  /** All that was done to resources, without refreshes that found nothing. */
  readonly steps: readonly Step[];
  /** How long each resource took, in seconds, by type and name. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** How a run differs from the plain command. */
export interface RunOptions {
  /** `--refresh=false`: takes state for what there is. */
  readonly refresh?: false;
  /** `--debug --verbose=9 --logtostderr`: all that engine, CLI and providers can log. */
  readonly debug?: true;
}

/** A resource as it is in state. */
export interface StateResource {
  readonly urn: string;
  readonly type: string;
  readonly id?: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly outputs: Readonly<Record<string, unknown>>;
}

type CommonOptions = Pick<UpOptions, "color" | "onEvent" | "onOutput" | "onError" | "debug" | "logToStdErr" | "logVerbosity">;

/** A stack with a program of the test, run by the real CLI, with the package as compiled. Its backend is a folder of its own. */
export class EngineStack {
  private constructor(
    private readonly folder: string,
    private readonly stack: Stack,
    private program: PulumiFn,
  ) {}

  /**
   * Makes a stack, or selects the one that is there.
   * @param beside - A stack with whose folder and backend it shares its own.
   */
  static async open(
    name = "test",
    { beside, project = PROJECT }: { beside?: EngineStack; project?: string } = {},
  ): Promise<EngineStack> {
    const folder = beside?.folder ?? mkdtempSync(join(tmpdir(), "lxd-cluster-engine-"));
    if (beside === undefined) {
      // The engine's provider process finds the package from here, as in a user's program.
      mkdirSync(join(folder, "node_modules"));
      symlinkSync(join(REPOSITORY, "node_modules/@pulumi"), join(folder, "node_modules/@pulumi"));
      symlinkSync(REPOSITORY, join(folder, "node_modules/pulumi-lxd-cluster"));
      mkdirSync(join(folder, "state"));
    }
    // `refresh` is no option of the Automation API's own project settings.
    writeFileSync(join(folder, "Pulumi.yaml"), `name: ${project}\nruntime: nodejs\noptions:\n  refresh: always\n`);
    const opened: { stack?: EngineStack } = {};
    const stack = await LocalWorkspace.createOrSelectStack(
      { stackName: name, projectName: project, program: async () => opened.stack?.program() },
      {
        workDir: folder,
        pulumiCommand: await PulumiCommand.get({ root: pulumiRoot() }),
        envVars: {
          PULUMI_BACKEND_URL: `file://${join(folder, "state")}`,
          PULUMI_HOME: join(folder, "home"),
          PULUMI_CONFIG_PASSPHRASE: "engine-tests",
          PULUMI_SKIP_UPDATE_CHECK: "true",
          PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
          // Nothing of the person who runs the tests: no agent, no known hosts.
          HOME: folder,
          SSH_AUTH_SOCK: "",
        },
      },
    );
    opened.stack = new EngineStack(folder, runsAlone(stack), async () => undefined);
    return opened.stack;
  }

  /** Sets the program of the next runs. */
  define(program: () => void): void {
    this.program = async () => program();
  }

  /** `pulumi up` without the preview before it; with `--replace` or `--exclude` for the URNs given. */
  up({ replace, exclude, ...options }: RunOptions & { replace?: string[]; exclude?: string[] } = {}): Promise<Run> {
    return this.run((common) => this.stack.up({ ...common, ...(replace && { replace }), ...(exclude && { exclude }) }), options);
  }

  /** `pulumi preview --diff`. */
  preview(options: RunOptions = {}): Promise<Run> {
    return this.run((common) => this.stack.preview({ ...common, diff: true }), options);
  }

  /** `pulumi refresh`. */
  refresh(options: RunOptions = {}): Promise<Run> {
    return this.run((common) => this.stack.refresh(common), options);
  }

  /** `pulumi destroy`. */
  destroy(options: RunOptions = {}): Promise<Run> {
    return this.run((common) => this.stack.destroy(common), options);
  }

  /** Sets variables of the environment of the next runs, and of the provider processes in them. */
  setEnvironment(variables: Readonly<Record<string, string>>): void {
    Object.assign(this.environment, variables);
  }

  /** `pulumi stack export` as a person runs it: the Automation API's own would show secrets in the clear. */
  async exportText(): Promise<string> {
    return this.pulumi("stack", "export", "--stack", this.stack.name);
  }

  /** `pulumi stack export`, without the stack itself and the default provider. */
  async resources(): Promise<StateResource[]> {
    const { resources = [] } = (await this.stack.exportStack()).deployment as { resources?: StateResource[] };
    return resources.filter(({ type }) => !type.startsWith("pulumi:"));
  }

  /** `pulumi stack export`: all of it, secrets encrypted. */
  export(): Promise<Deployment> {
    return this.stack.exportStack();
  }

  /** `pulumi stack import`. */
  import(deployment: Deployment): Promise<void> {
    return this.stack.importStack(deployment);
  }

  /** Home directory of the person who runs the CLI. */
  get home(): string {
    return this.folder;
  }

  /** `pulumi config set --secret`. */
  setSecret(name: string, value: string): Promise<void> {
    return this.stack.setConfig(name, { value, secret: true });
  }

  /** `pulumi state delete`. */
  async deleteFromState(urn: string): Promise<void> {
    await this.pulumi("state", "delete", urn, "--yes", "--stack", this.stack.name);
  }

  /** `pulumi state move`. */
  async moveInState(urn: string, to: EngineStack): Promise<void> {
    await this.pulumi("state", "move", urn, "--yes", "--source", this.stack.name, "--dest", to.stack.name);
  }

  /** `pulumi stack rename`; the stack is then to be opened under its new name. */
  async rename(name: string): Promise<void> {
    await this.pulumi("stack", "rename", name, "--stack", this.stack.name);
  }

  /** All that the backend has written, with every earlier state and log, as text. An export would show secrets in the clear. */
  backendText(): string {
    const files = readdirSync(join(this.folder, "state"), { recursive: true, withFileTypes: true });
    return files
      .filter((file) => file.isFile())
      .map((file) => readFileSync(join(file.parentPath, file.name), "latin1"))
      .join("\n");
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async pulumi(...argv: string[]): Promise<string> {
    const { command } = await PulumiCommand.get({ root: pulumiRoot() });
    const { stdout } = await execute(command, argv, { cwd: this.folder, env: { ...process.env, ...this.environment } });
    return stdout;
  }

  private get environment(): Record<string, string> {
    const { workspace } = this.stack;
    assert(workspace instanceof LocalWorkspace);
    return workspace.envVars;
  }

  private async run(command: (options: CommonOptions) => Promise<unknown>, { refresh, debug }: RunOptions): Promise<Run> {
    const steps: Step[] = [];
    const messages: string[] = [];
    const started = new Map<string, number>();
    const seconds: Record<string, number> = {};
    let text = "";
    let log = "";
    const onEvent = ({ resourcePreEvent, resOutputsEvent, diagnosticEvent }: EngineEvent): void => {
      if (diagnosticEvent !== undefined && diagnosticEvent.ephemeral !== true) {
        const { severity, message, urn = "" } = diagnosticEvent;
        messages.push(`${severity} ${urn.split("::").at(-1) ?? ""}: ${message}`);
      }
      const metadata = (resourcePreEvent ?? resOutputsEvent)?.metadata;
      if (metadata === undefined || metadata.op === "same" || metadata.type.startsWith("pulumi:")) {
        return;
      }
      const [type, name] = [metadata.type.split(":").at(-1) ?? "", metadata.urn.split("::").at(-1) ?? ""];
      if (resourcePreEvent !== undefined) {
        started.set(metadata.urn, performance.now());
      } else {
        seconds[`${type} ${name}`] = (performance.now() - (started.get(metadata.urn) ?? Number.NaN)) / 1000;
      }
      // A refresh announces itself; only one that found a difference is told again with it.
      const properties = [...new Set([...Object.keys(metadata.detailedDiff ?? {}), ...(metadata.diffs ?? [])])];
      const isRefresh = metadata.op === "refresh";
      if (resourcePreEvent !== undefined ? !isRefresh : isRefresh && properties.length > 0) {
        steps.push({ op: metadata.op, type, name, properties });
      }
    };
    const options: CommonOptions = {
      color: "never",
      onEvent,
      onOutput: (more) => {
        text += more;
      },
      onError: (more) => {
        log += more;
      },
      ...(debug && { debug, logToStdErr: true, logVerbosity: 9 }),
    };
    if (refresh === false) {
      this.environment["PULUMI_OPTION_REFRESH"] = "false"; // the Automation API has no --refresh=false
    }
    try {
      await command(options);
      return { ok: true, text, log, messages, steps, seconds };
    } catch (error) {
      if (!(error instanceof CommandError) || error instanceof ConcurrentUpdateError) {
        throw error; // not the end of a run, but none at all
      }
      return { ok: false, text: `${text}\n${error.message}`, log, messages, steps, seconds };
    } finally {
      delete this.environment["PULUMI_OPTION_REFRESH"];
    }
  }
}
