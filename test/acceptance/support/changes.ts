import { type ChildProcess, spawn } from "node:child_process";
import type { RealLab } from "../../../lab/real/index";
import { eventually } from "./eventually";

interface LifecycleEvent {
  readonly metadata: { readonly action: string; readonly source: string };
}

/** Records changes of LXD from its lifecycle events, on all members. */
export class ChangeWatch {
  private readonly events: LifecycleEvent["metadata"][] = [];

  private constructor(private readonly monitor: ChildProcess) {}

  /** Starts watching. Returns once a test change was seen. */
  static async start(lab: RealLab, host: string): Promise<ChangeWatch> {
    const [program = "", ...argv] = lab.hostArgv(host, [
      lab.flavour.client,
      "monitor",
      "--type=lifecycle",
      "--format=json",
      "--all-projects",
    ]);
    const watch = new ChangeWatch(spawn(program, argv, { stdio: ["ignore", "pipe", "inherit"], detached: true }));
    let partial = "";
    watch.monitor.stdout?.on("data", (chunk: Buffer) => {
      const lines = (partial + chunk.toString()).split("\n");
      partial = lines.pop() ?? "";
      watch.events.push(...lines.filter((line) => line !== "").map((line) => (JSON.parse(line) as LifecycleEvent).metadata));
    });
    await watch.see(lab, host, "watch-begins");
    return watch;
  }

  /** Events that are neither reads nor caused by the watch itself. */
  get changes(): LifecycleEvent["metadata"][] {
    return this.events.filter(({ action, source }) => !action.endsWith("-retrieved") && !source.includes("/profiles/watch-"));
  }

  /**
   * Creates and removes a profile with that name until an event reports it. Its name identifies it, however late the
   * event arrives.
   */
  private async see(lab: RealLab, host: string, name: string): Promise<void> {
    await eventually(`the change "${name}" is seen`, async () => {
      await lab.hostExec(host, [lab.flavour.client, "profile", "create", name]);
      await lab.hostExec(host, [lab.flavour.client, "profile", "delete", name]);
      return this.events.some(({ action, source }) => action === "profile-deleted" && source.endsWith(`/${name}`));
    });
  }

  /** Ends the monitor, which is a child of the program that enters the host. */
  end(): void {
    if (this.monitor.pid !== undefined && this.monitor.exitCode === null && this.monitor.signalCode === null) {
      process.kill(-this.monitor.pid);
    }
  }

  /** Stops watching once a last test change was seen: nothing before it was missed. */
  async stop(lab: RealLab, host: string): Promise<LifecycleEvent["metadata"][]> {
    await this.see(lab, host, "watch-ends");
    this.end();
    return this.changes;
  }
}
