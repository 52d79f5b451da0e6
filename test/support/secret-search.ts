import { readdirSync, readFileSync } from "node:fs";

/** Looks for the secrets of one run in all that it leaves behind. */
export class SecretSearch {
  private readonly forms: readonly (readonly [name: string, form: string])[];

  /** @param secrets - By a name that may be shown. Of a text with several lines, each longer line is one. */
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

  /** Names of the secrets that a text holds. */
  in(text: string): string[] {
    return [...new Set(this.forms.filter(([, form]) => text.includes(form)).map(([name]) => name))];
  }

  /** All forms, one a line, as `grep -F -f` takes them. */
  get patterns(): string {
    return [...new Set(this.forms.flatMap(([, form]) => form.split("\n")).filter(({ length }) => length >= 8))].join("\n");
  }
}

/** Command lines and environments of all processes of this machine, and so of the lab's hosts, looked at again and again. */
export class ProcessWatch {
  private readonly seen = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined;
  /** How often it was looked. */
  samples = 0;

  constructor() {
    this.sample();
  }

  /** What was seen until now. */
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
    // Most of the time is left to what is watched, some of which is in this process.
    this.timer = setTimeout(() => this.sample(), Math.max(50, 5 * (performance.now() - started)));
  }
}

function read(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return ""; // it has ended, or is the kernel's
  }
}
