import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { type EngineEvent, LocalWorkspace, type PreviewResult, PulumiCommand, type Stack } from "@pulumi/pulumi/automation";
import { parse, stringify } from "yaml";
import { type Flavour, installOf } from "../../../lab/real/flavours";
import { pulumiRoot } from "../../../tools/paths";
import { PulumiProcess } from "../../support/pulumi-process";
import { runsAlone } from "../../support/single-runs";

const REPOSITORY = resolve(__dirname, "../../..");

/** The config of a stack, as in its yaml file. */
export type StackConfigFile = Record<string, unknown>;

/** Operation on one resource: `create`, `update`, `same`, `delete` and so on. */
export interface Step {
  readonly op: string;
  readonly type: string;
  readonly name: string;
}

/** A separate backend, in a folder that is removed after the test. Its projects can refer to each other. */
export class Backend {
  readonly folder = mkdtempSync(join(tmpdir(), "lxd-cluster-acceptance-"));

  constructor() {
    mkdirSync(join(this.folder, "state"));
  }

  /** One of the repository's projects with a stack of that name, run by the real CLI. */
  async project(program: { file: string; main: string; stack: string; config: StackConfigFile }): Promise<Project> {
    const manifest = parse(readFileSync(join(REPOSITORY, program.file), "utf8")) as Record<string, unknown>;
    const folder = mkdtempSync(join(this.folder, "project-"));
    // The program stays in place; Pulumi writes the stack's salt into the folder of the project.
    writeFileSync(join(folder, "Pulumi.yaml"), stringify({ ...manifest, main: resolve(REPOSITORY, program.main) }));
    const pulumiCommand = await PulumiCommand.get({ root: pulumiRoot() });
    const envVars = {
      PULUMI_BACKEND_URL: `file://${join(this.folder, "state")}`,
      PULUMI_HOME: join(this.folder, "home"),
      PULUMI_CONFIG_PASSPHRASE: "acceptance",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // npm run check checks the types; Pulumi's check of them takes two thirds of a program's CPU time.
      PULUMI_NODEJS_TRANSPILE_ONLY: "true",
    };
    const configFile = join(folder, `Pulumi.${program.stack}.yaml`);
    const stack = await LocalWorkspace.createOrSelectStack(
      { stackName: program.stack, workDir: folder },
      { pulumiCommand, envVars, workDir: folder },
    );
    const bin = dirname(pulumiCommand.command);
    const environment = { ...process.env, ...envVars, PATH: [bin, process.env["PATH"]].join(delimiter) };
    const project = new Project(runsAlone(stack), configFile, environment);
    project.configure(program.config);
    return project;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** One project and stack. */
export class Project {
  constructor(
    private readonly stack: Stack,
    private readonly configFile: string,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  /** Replaces the stack's config. */
  configure(config: StackConfigFile): void {
    const { encryptionsalt } = parse(readFileSync(this.configFile, "utf8")) as { encryptionsalt?: string };
    writeFileSync(this.configFile, stringify({ encryptionsalt, config }));
  }

  /** `pulumi config set --secret`. */
  setSecret(name: string, value: string): Promise<void> {
    return this.stack.setConfig(name, { value, secret: true });
  }

  /** `pulumi up`. Returns the steps that changed a resource. */
  async up(options: { expectNoChanges?: boolean } = {}): Promise<Step[]> {
    const { steps, onEvent } = collectSteps();
    await this.stack.up({ ...options, onEvent });
    return steps.filter(changes);
  }

  /** `pulumi preview --diff`. Returns the plan and its text, and the errors and warnings, which are not in the text. */
  async preview(): Promise<{ steps: Step[]; text: string; diagnostics: string; result: PreviewResult }> {
    const { steps, diagnostics, onEvent } = collectSteps();
    const result = await this.stack.preview({ diff: true, color: "never", onEvent });
    return { steps: steps.filter(changes), text: result.stdout, diagnostics: diagnostics.join("\n"), result };
  }

  /** A preview that must fail. Returns its text and the steps of its plan. */
  async failingPreview(): Promise<{ text: string; steps: Step[] }> {
    const { steps, onEvent } = collectSteps();
    try {
      await this.stack.preview({ color: "never", onEvent });
    } catch (error) {
      return { text: String(error), steps: steps.filter(changes) };
    }
    throw new Error("The preview was expected to fail, and did not");
  }

  /** Starts `pulumi` in the folder of the project, as a user does. */
  start(argv: readonly string[], options: { terminal?: boolean; env?: NodeJS.ProcessEnv } = {}): PulumiProcess {
    const { env, ...others } = options;
    const place = { cwd: dirname(this.configFile), env: { ...this.environment, ...env } };
    return new PulumiProcess(["pulumi", ...argv, "--color=never"], { ...place, ...others });
  }

  async outputs(): Promise<Record<string, unknown>> {
    const outputs = await this.stack.workspace.stackOutputs(this.stack.name);
    return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value as unknown]));
  }

  /** State as text, secrets encrypted. */
  async exportState(): Promise<string> {
    return JSON.stringify(await this.stack.exportStack());
  }

  async destroy(): Promise<void> {
    await this.stack.destroy();
  }
}

/** The config of Pulumi.lab.yaml for the server of a flavour. */
export function labConfig(flavour: Flavour): StackConfigFile {
  const config = repositoryConfig("Pulumi.lab.yaml");
  for (const { node } of config["lxd-cluster:hosts"] as { node: { install: Record<string, unknown> } }[]) {
    Object.assign(node.install, installOf(flavour));
  }
  return config;
}

/** A stack's config in the repository. */
export function repositoryConfig(file: string): StackConfigFile {
  return (parse(readFileSync(join(REPOSITORY, file), "utf8")) as { config: StackConfigFile }).config;
}

/** Whether a step is more than a read. */
function changes({ op }: Step): boolean {
  return !["same", "refresh", "read"].includes(op);
}

function collectSteps(): { steps: Step[]; diagnostics: string[]; onEvent: (event: EngineEvent) => void } {
  const steps: Step[] = [];
  const diagnostics: string[] = [];
  return {
    steps,
    diagnostics,
    onEvent: ({ resourcePreEvent, diagnosticEvent }) => {
      if (diagnosticEvent !== undefined && diagnosticEvent.ephemeral !== true) {
        diagnostics.push(diagnosticEvent.message);
      }
      // The engine gives the default provider the whole config and updates it at every change; users do not see it.
      if (resourcePreEvent !== undefined && !resourcePreEvent.metadata.type.startsWith("pulumi:providers:")) {
        const { op, type, urn } = resourcePreEvent.metadata;
        steps.push({ op, type: type.split(":").at(-1) ?? type, name: urn.split("::").at(-1) ?? urn });
      }
    },
  };
}
