import { readdirSync, readFileSync } from "node:fs";

/** Searches for the secrets of one run in everything that it leaves behind. */
export class SecretSearch {
  private readonly forms: readonly (readonly [name: string, form: string])[];

  /** @param secrets - By a name that may be shown. Of a text with several lines, each long line is a secret. */
  constructor(secrets: Readonly<Record<string, string>>) {
    this.forms = Object.entries(secrets).flatMap(([name, secret]) =>
      [secret, ...secret.split("\n")]
        .filter((text) => text.length >= 8 && !text.startsWith("-----"))
        .flatMap((text) => [
          text,
          JSON.stringify(text).slice(1, -1),
          encodeURIComponent(text),
          Buffer.from(text).toString("base64"),
        ])
        .map((form) => [name, form] as const),
    );
  }

  /** Names of the secrets that a text contains. */
  in(text: string): string[] {
    return [...new Set(this.forms.filter(([, form]) => text.includes(form)).map(([name]) => name))];
  }

  /** All forms, one per line, as input for `grep -F -f`. */
  get patterns(): string {
    return [...new Set(this.forms.flatMap(([, form]) => form.split("\n")).filter(({ length }) => length >= 8))].join("\n");
  }
}

/** Polls command lines and environments of all processes of this machine, which include those of the lab's hosts. */
export class ProcessWatch {
  private readonly seen = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined;
  /** Number of polls. */
  samples = 0;

  constructor() {
    this.sample();
  }

  /** Everything seen so far. */
  get text(): string {
    return [...this.seen].flat().join("\n");
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private sample(): void {
    const started = performance.now();
    this.samples += 1;
    for (const pid of readdirSync("/proc")) {
      const process = /^\d+$/.test(pid) ? `${pid} ${read(pid, "cmdline")}` : "";
      if (process !== "" && !this.seen.has(process)) {
        this.seen.set(process, read(pid, "environ"));
      }
    }
    // Leaves most of the time to the watched processes, some of which run in this one.
    this.timer = setTimeout(() => this.sample(), Math.max(50, 5 * (performance.now() - started)));
  }
}

function read(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return ""; // it has ended, or is a kernel thread
  }
}
