import { RealLab } from "../real";
import { DEFAULT_FLAVOUR, flavourOf, installOf } from "../real/flavours";
import { killRunningCommands, runInForeground } from "../real/process";
import { LabPlace } from "../real/state";
import type { DemoHosts } from "./hosts";

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Real hosts: Debian systems in namespaces of this machine. */
export class RealHosts implements DemoHosts {
  readonly canLogIn = true;
  private lab: RealLab | undefined;

  constructor(
    private readonly instance: string,
    private readonly flavour: string | undefined,
  ) {}

  get product(): "LXD" | "Incus" {
    return (this.lab?.flavour ?? flavourOf(this.flavour ?? DEFAULT_FLAVOUR)).product;
  }

  get description(): string {
    return `real hosts: Debian systems with systemd, each in namespaces of this machine (${this.product} runs containers there)`;
  }

  get mischief(): string {
    return `${this.running.flavour.client} profile set vm-resources limits.cpu=1`;
  }

  get stateDir(): string {
    return LabPlace.ofCheckout(this.instance).stateDir;
  }

  get environment(): NodeJS.ProcessEnv {
    return this.running.environment;
  }

  async isUp(): Promise<boolean> {
    this.lab ??= await RealLab.attach(this.instance).catch(() => undefined);
    return this.lab !== undefined;
  }

  async start(log: (line: string) => void): Promise<void> {
    const { lab } = this;
    if (lab !== undefined) {
      if (this.flavour !== undefined && this.flavour !== lab.flavour.name) {
        throw new Error(`The demo is up with ${lab.flavour.name}. Remove it first: npm run demo -- down`);
      }
      for (const { name } of lab.hosts) {
        await lab.boot(name);
      }
      return;
    }
    // This process ends only after everything it began to create is removed.
    const interrupted: NodeJS.Signals[] = [];
    const interrupt = (signal: NodeJS.Signals): void => {
      interrupted.push(signal);
      killRunningCommands();
    };
    SIGNALS.forEach((signal) => process.on(signal, interrupt));
    try {
      this.lab = await RealLab.start({ instance: this.instance, flavour: this.flavour, log });
    } catch (error) {
      throw interrupted.length > 0 ? new Error("interrupted; everything begun is removed again", { cause: error }) : error;
    } finally {
      SIGNALS.forEach((signal) => process.off(signal, interrupt));
    }
    if (interrupted.length > 0) {
      await this.clear();
      throw new Error("interrupted; everything begun is removed again");
    }
  }

  get install(): Record<string, unknown> {
    return installOf(this.running.flavour);
  }

  connectionOf(): Record<string, unknown> {
    return {};
  }

  argv(argv: readonly string[]): string[] {
    return this.running.workstationArgv(argv);
  }

  runOnHost(host: string, argv: readonly string[]): Promise<number> {
    return runInForeground(this.running.hostArgv(host, argv));
  }

  logIn(user: string, address: string, argv: readonly string[]): Promise<number> {
    // A VM gets a new host key each time it is created.
    const options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    return runInForeground(this.argv(["ssh", ...options, `${user}@${address}`, ...argv]), this.environment);
  }

  async clear(): Promise<void> {
    await RealLab.clear(this.instance);
    this.lab = undefined;
  }

  private get running(): RealLab {
    if (this.lab === undefined) {
      throw new Error("The demo is not up. Start it: npm run demo");
    }
    return this.lab;
  }
}
