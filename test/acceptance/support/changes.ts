import { type ChildProcess, spawn } from "node:child_process";
import type { RealLab } from "../../../lab/real/index";
import { eventually } from "./eventually";

interface LifecycleEvent {
  readonly metadata: { readonly action: string; readonly source: string };
}

/** Records what changes on LXD, by LXD's own lifecycle events, from all members. */
export class ChangeWatch {
  private readonly events: LifecycleEvent["metadata"][] = [];

  private constructor(private readonly monitor: ChildProcess) {}

  /** Starts watching; returns when it is proved that a change is seen. */
  static async start(lab: RealLab, host: string): Promise<ChangeWatch> {
    const [program = "", ...argv] = lab.hostArgv(host, ["lxc", "monitor", "--type=lifecycle", "--format=json", "--all-projects"]);
    const watch = new ChangeWatch(spawn(program, argv, { stdio: ["ignore", "pipe", "inherit"], detached: true }));
    let partial = "";
    watch.monitor.stdout?.on("data", (chunk: Buffer) => {
      const lines = (partial + chunk.toString()).split("\n");
      partial = lines.pop() ?? "";
      watch.events.push(...lines.filter((line) => line !== "").map((line) => (JSON.parse(line) as LifecycleEvent).metadata));
    });
    await eventually("a change made on purpose is seen", async () => {
      await lab.hostExec(host, ["lxc", "config", "set", "user.watch", String(Math.random())]);
      return watch.changes.some(({ action }) => action === "config-updated");
    });
    watch.events.length = 0;
    return watch;
  }

  /** Events that are not mere reads. */
  get changes(): LifecycleEvent["metadata"][] {
    return this.events.filter(({ action }) => !action.endsWith("-retrieved"));
  }

  /** Ends the monitor, which is a child of the program that enters the host. */
  end(): void {
    if (this.monitor.pid !== undefined && this.monitor.exitCode === null && this.monitor.signalCode === null) {
      process.kill(-this.monitor.pid);
    }
  }

  /** Stops watching, when it is proved that a last change is still seen: nothing before it can have been missed. */
  async stop(lab: RealLab, host: string): Promise<LifecycleEvent["metadata"][]> {
    const before = this.changes;
    await lab.hostExec(host, ["lxc", "config", "set", "user.watch", "end"]);
    await eventually("the last change is seen", async () => this.changes.some(({ action }) => action === "config-updated"));
    this.end();
    return before.concat(this.changes.slice(before.length).filter(({ action }) => action !== "config-updated"));
  }
}
