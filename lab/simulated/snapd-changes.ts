/** The changes of a simulated snapd: work in the background that a client waits for. */
import type { Surroundings } from "./lxd/database";

/** A step of a change. */
interface Task {
  kind: string;
  summary: string;
  status: string;
  progress: { label: string; done: number; total: number };
  log?: string[];
}

/** A change, in the JSON of the API. */
export interface Change {
  id: string;
  kind: string;
  summary: string;
  status: string;
  ready: boolean;
  err?: string;
  tasks: Task[];
  data: { "snap-names": string[] };
}

/** An error of the API. */
export class SnapdFault extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly kind?: string,
    readonly value?: unknown,
  ) {
    super(message);
  }
}

/** Bytes of a download. */
export const SIZE = 3_002_368;

/** The changes of one snapd. */
export class SnapdChanges {
  readonly list: Change[] = [];

  constructor(private readonly surroundings: Surroundings) {}

  add(kind: string, summary: string, name: string, tasks: { kind: string; summary: string; total?: number }[]): Change {
    const change: Change = {
      id: String(this.list.length + 1),
      kind,
      summary,
      status: "Do",
      ready: false,
      tasks: tasks.map(({ total = 1, ...task }) => ({ ...task, status: "Do", progress: { label: "", done: 0, total } })),
      data: { "snap-names": [name] },
    };
    this.list.push(change);
    return change;
  }

  /** Does the work of a change at once, or in four steps over the lab's installation time. */
  run(change: Change, fails: boolean, work: () => void): Change {
    const { installMs } = this.surroundings.timings;
    const finish = (): void => {
      try {
        if (fails) {
          throw new Error("simulated failure");
        }
        work();
        this.end(change);
      } catch (error) {
        this.end(change, error instanceof Error ? error.message : String(error));
      }
    };
    if (installMs === 0) {
      finish();
      return change;
    }
    const [first] = change.tasks;
    change.status = "Doing";
    const quarter = (number: number): void => {
      if (first !== undefined) {
        first.status = "Doing";
        first.progress.done = Math.floor((first.progress.total * number) / 4);
      }
      setTimeout(() => (number === 3 ? finish() : quarter(number + 1)), installMs / 4);
    };
    quarter(0);
    return change;
  }

  end(change: Change, error?: string): void {
    change.ready = true;
    change.status = error === undefined ? "Done" : "Error";
    for (const task of change.tasks) {
      task.status = error === undefined ? "Done" : "Undone";
      task.progress.done = task.progress.total;
    }
    const last = change.tasks.at(-1);
    if (error !== undefined && last !== undefined) {
      last.status = "Error";
      last.log = [`2026-01-01T00:00:00Z ERROR ${error}`];
      change.err = `cannot perform the following tasks:\n- ${last.summary} (${error})`;
    }
  }

  requireIdle(name: string): void {
    const busy = this.list.find(({ ready, data }) => !ready && data["snap-names"].includes(name));
    if (busy !== undefined) {
      const value = { "change-kind": busy.kind, "snap-name": name };
      throw new SnapdFault(409, `snap "${name}" has "${busy.kind}" change in progress`, "snap-change-conflict", value);
    }
  }
}
