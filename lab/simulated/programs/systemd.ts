/**
 * systemd of a simulated machine, as far as units go: their files and links are those of the machine, what runs is kept here.
 * @see systemctl(1), journalctl(1). As systemd 252 of Debian 12 does it.
 */
import { posix } from "node:path";
import { failure, ok, type ProgramResult, parseArguments } from "../machine";
import type { MemoryFiles } from "../memory-files";

const OWN = "/etc/systemd/system";
const OF_PACKAGES = "/usr/lib/systemd/system";
const RUNTIME = "/run/systemd/system";
const WANTS = `${OWN}/multi-user.target.wants`;

const INSTALL = "[Install]\nWantedBy=multi-user.target\n";

/** Units that every machine has. */
const UNITS: Readonly<Record<string, string>> = {
  "cron.service": `[Service]\nExecStart=/usr/sbin/cron -f\nEnvironmentFile=-/etc/default/cron\n${INSTALL}`,
  "ssh.service": `[Service]\nType=notify\nExecStart=/usr/sbin/sshd -D\n${INSTALL}Alias=sshd.service\n`,
  "dbus.service": "[Service]\nExecStart=/usr/bin/dbus-daemon --system\n",
  "systemd-modules-load.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
  "fstrim.timer": `[Timer]\nOnCalendar=weekly\n${INSTALL}`,
  "app@.service": `[Service]\nExecStart=/bin/sleep infinity\n${INSTALL}`,
};

const ENABLED = ["cron.service", "ssh.service"];

/** Those that others start at boot. */
const STATIC_AT_BOOT = ["dbus.service"];

/** Makes the files of the units of a system without anything installed on it. */
export function makeUnitFiles(files: MemoryFiles): void {
  for (const directory of [WANTS, OF_PACKAGES, RUNTIME, "/etc/default"]) {
    files.makeDirectory(directory, { parents: true });
  }
  for (const [name, text] of Object.entries(UNITS)) {
    files.writeFile(`${OF_PACKAGES}/${name}`, text);
  }
  for (const name of ENABLED) {
    files.makeSymlink(`${WANTS}/${name}`, `${OF_PACKAGES}/${name}`);
  }
  files.makeSymlink(`${OWN}/sshd.service`, `${OF_PACKAGES}/ssh.service`);
}

/** A unit that runs, or has failed. */
interface Run {
  activeState: "active" | "failed";
  /** Its file when systemd last read it. */
  text: string;
  /** The content of its `EnvironmentFile=` when it was started. */
  environment: string;
  pid: number;
}

let nextPid = 1000;

/** How a unit's command ends: it does not, or with an exit status and some lines of output. */
type Ending = { readonly status: number; readonly output: readonly string[] } | "runs";

/** What `systemctl` of a machine knows besides: the units of a simulated server. */
export interface FurtherUnits {
  names(): string[];
  isActive(unit: string): boolean;
  control(action: "start" | "stop" | "restart", unit: string): void;
  /** What `show` answers besides, such as `RequiredBy`. */
  properties(unit: string): Readonly<Record<string, string>>;
}

const NONE: FurtherUnits = {
  names: () => [],
  isActive: () => false,
  control: () => undefined,
  properties: () => ({}),
};

/** The units of one machine. */
export class SimulatedUnits {
  private readonly runs = new Map<string, Run>();
  private readonly journal = new Map<string, string[]>();

  constructor(
    private readonly files: MemoryFiles,
    private readonly further: FurtherUnits = NONE,
  ) {}

  /** The machine starts: what is enabled runs. */
  boot(): void {
    this.halt();
    const wanted = this.files.exists(WANTS) ? this.files.list(WANTS) : [];
    for (const name of [...STATIC_AT_BOOT, ...wanted]) {
      if (this.loadState(name) === "loaded") {
        this.start(name);
      }
    }
  }

  /** The machine ends, and with it all that runs. */
  halt(): void {
    this.runs.clear();
  }

  /** What runs or has failed, with what it was started with. Files show the rest. */
  state(): Readonly<Record<string, string>> {
    const names = [...this.runs.keys()].sort();
    const shownOf = (run: Run | undefined): string => `${run?.activeState ?? ""} ${run?.environment ?? ""}`.trim();
    return Object.fromEntries(names.map((name) => [name, shownOf(this.runs.get(name))]));
  }

  activeState(name: string): string {
    return this.runs.get(this.nameIn(name))?.activeState ?? "inactive";
  }

  /** A running unit dies. */
  kill(name: string): void {
    const run = this.runs.get(name);
    if (run !== undefined) {
      run.activeState = "failed";
      this.log(name, `${name}: Main process exited, code=killed, status=9/KILL`);
    }
  }

  systemctl(args: string[]): ProgramResult {
    const { options, operands } = parseArguments(args, {
      flags: ["--no-pager", "--plain", "--no-legend", "--now", "--quiet", "-q", "--value", "--runtime"],
      valued: ["-p", "--property", "--type", "--signal", "--lines", "-n", "--state"],
    });
    const [command = "", ...units] = operands;
    const failed = [...this.runs].filter(([, run]) => run.activeState === "failed").map(([name]) => name);
    const names = units.map((unit) => this.nameIn(unit));
    switch (command) {
      case "is-system-running":
        return failed.length === 0 ? ok("running\n") : { exitCode: 1, stdout: "degraded\n", stderr: "" };
      case "list-units":
        if (options.get("--state") !== "failed") {
          return failure(1, "systemctl list-units: only failed ones are simulated");
        }
        return ok(failed.map((name) => `${name} loaded failed failed ${name}\n`).join(""));
      case "daemon-reload":
        this.readAgain();
        return ok();
      case "list-unit-files": {
        const known = ["ssh.service", ...this.further.names()].filter((name) => units.length === 0 || units.includes(name));
        return ok(known.map((name) => `${name} enabled enabled\n`).join(""));
      }
      case "is-active": {
        const states = names.map((name) => (this.isFurther(name) ? this.stateOfFurther(name) : this.activeState(name)));
        return { exitCode: states.every((state) => state === "active") ? 0 : 3, stdout: `${states.join("\n")}\n`, stderr: "" };
      }
      case "is-enabled": {
        const states = names.map((name) => (this.isFurther(name) ? "enabled" : this.unitFileState(name)));
        const isOk = states.every((state) => ["enabled", "enabled-runtime", "static", "indirect"].includes(state));
        return states.includes("")
          ? failure(1, "Failed to get unit file state: No such file or directory")
          : { exitCode: isOk ? 0 : 1, stdout: `${states.join("\n")}\n`, stderr: "" };
      }
      case "show": {
        const wanted = (options.get("-p") ?? options.get("--property") ?? "ActiveState").split(",");
        const shown = names.map((name) => {
          const values = this.show(name);
          return wanted.map((each) => (options.has("--value") ? (values[each] ?? "") : `${each}=${values[each] ?? ""}`));
        });
        return ok(`${shown.map((lines) => lines.join("\n")).join("\n\n")}\n`);
      }
      case "status": {
        const lines = names.flatMap((name) => [`Active: ${this.activeState(name)}`, ...this.linesOf(name)]);
        return {
          exitCode: names.every((name) => this.activeState(name) === "active") ? 0 : 3,
          stdout: lines.join("\n"),
          stderr: "",
        };
      }
      case "kill":
        return this.isFurther(names[0] ?? "") ? ok() : this.killed(names[0] ?? "");
      case "start":
      case "stop":
      case "restart":
        return firstFailure(names, (name) => this.control(command, name));
      case "reload":
        return firstFailure(names, (name) => (this.activeState(name) === "active" ? ok() : failure(1, `${name} is not active`)));
      case "enable":
      case "disable":
        return firstFailure(names, (name) => (this.isFurther(name) ? ok() : this.enable(name, command === "enable")));
      case "mask":
      case "unmask":
        return firstFailure(names, (name) => this.mask(name, command === "mask", options.has("--runtime") ? RUNTIME : OWN));
      default:
        return failure(1, `Unknown command verb ${command}.`);
    }
  }

  journalctl(args: string[]): ProgramResult {
    const { options } = parseArguments(args, {
      flags: ["--no-pager", "--quiet", "--sync"],
      valued: ["--unit", "-u", "--lines", "-n", "--output", "-o"],
    });
    const unit = options.get("--unit") ?? options.get("-u");
    if (options.has("--sync")) {
      return ok();
    }
    const lines = unit === undefined ? [] : this.linesOf(this.nameIn(unit)).slice(-Number(options.get("--lines") ?? 1000));
    return ok(lines.length > 0 ? `${lines.join("\n")}\n` : options.has("--quiet") ? "" : "-- No entries --\n");
  }

  private linesOf(name: string): readonly string[] {
    return this.journal.get(name) ?? [];
  }

  private log(name: string, ...lines: string[]): void {
    this.journal.set(name, [...this.linesOf(name), ...lines]);
  }

  /** The name in full; of an alias, the first name. */
  private nameIn(unit: string): string {
    const name = /\.(service|socket|timer|target|mount)$/.test(unit) ? unit : `${unit}.service`;
    const node = this.files.get(`${OWN}/${name}`, false);
    const target = node?.type === "symlink" ? posix.basename(node.content.toString()) : name;
    return target === "null" ? name : target;
  }

  private isFurther(name: string): boolean {
    return this.further.names().includes(name);
  }

  private stateOfFurther(name: string): string {
    return this.further.isActive(name) ? "active" : "inactive";
  }

  /** The text of a unit's file as systemd knows it: one that runs keeps what was read before, until a reload. */
  private textOf(name: string): string | undefined {
    return this.runs.get(name)?.text ?? this.fileOf(name);
  }

  private fileOf(name: string): string | undefined {
    const template = name.replace(/@.*\./, "@.");
    const path = [name, template]
      .flatMap((each) => [`${OWN}/${each}`, `${OF_PACKAGES}/${each}`])
      .find((each) => this.files.exists(each));
    return path === undefined ? undefined : this.files.readText(path);
  }

  private readAgain(): void {
    for (const [name, run] of this.runs) {
      run.text = this.fileOf(name) ?? run.text;
    }
  }

  private isMasked(name: string): boolean {
    return this.maskOf(name) !== undefined;
  }

  private maskOf(name: string): string | undefined {
    return [OWN, RUNTIME]
      .map((directory) => `${directory}/${name}`)
      .find((path) => this.files.get(path, false)?.content.toString() === "/dev/null");
  }

  private loadState(name: string): string {
    const text = this.textOf(name);
    return this.isMasked(name) ? "masked" : text === undefined ? "not-found" : text.includes("[") ? "loaded" : "bad-setting";
  }

  private unitFileState(name: string): string {
    const text = this.fileOf(name);
    const mask = this.maskOf(name);
    if (mask !== undefined) {
      return mask.startsWith("/run") ? "masked-runtime" : "masked";
    }
    if (text === undefined) {
      return "";
    }
    if (!text.includes("[Install]")) {
      return "static";
    }
    if (text.includes("Also=") && !text.includes("WantedBy=")) {
      return "indirect";
    }
    return this.files.get(`${WANTS}/${name}`, false) === undefined ? "disabled" : "enabled";
  }

  private show(name: string): Readonly<Record<string, string>> {
    if (this.isFurther(name)) {
      const isActive = this.further.isActive(name);
      return {
        Id: name,
        ActiveState: isActive ? "active" : "inactive",
        LoadState: "loaded",
        SubState: isActive ? "running" : "dead",
        UnitFileState: "enabled",
        ...this.further.properties(name),
      };
    }
    const activeState = this.activeState(name);
    return {
      Id: name,
      ActiveState: activeState,
      LoadState: this.loadState(name),
      SubState: activeState === "active" ? "running" : activeState === "failed" ? "failed" : "dead",
      UnitFileState: this.unitFileState(name),
      MainPID: String(activeState === "active" ? this.runs.get(name)?.pid : 0),
      Result: activeState === "failed" ? "exit-code" : "success",
      ...this.further.properties(name),
    };
  }

  private killed(name: string): ProgramResult {
    if (this.activeState(name) !== "active") {
      return failure(1, `Failed to kill unit ${name}: Unit not loaded.`);
    }
    this.kill(name);
    return ok();
  }

  private control(action: "start" | "stop" | "restart", name: string): ProgramResult {
    if (this.isFurther(name)) {
      this.further.control(action, name);
      return ok();
    }
    const loadState = this.loadState(name);
    if (loadState === "not-found" && this.activeState(name) !== "active") {
      return failure(5, `Failed to ${action} ${name}: Unit ${name} not found.`);
    }
    if (action !== "start" && this.runs.delete(name)) {
      this.log(name, `Stopped ${name}.`);
    }
    if (action === "stop" || this.activeState(name) === "active") {
      return ok();
    }
    return loadState === "loaded" ? this.start(name) : failure(1, `Failed to ${action} ${name}: Unit ${name} is ${loadState}.`);
  }

  private start(name: string): ProgramResult {
    const text = this.fileOf(name) ?? "";
    const settings = new Map([...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = "", value = ""]) => [key, value]));
    const environmentFile = settings.get("EnvironmentFile")?.replace(/^-/, "") ?? "";
    const environment = environmentFile !== "" && this.files.exists(environmentFile) ? this.files.readText(environmentFile) : "";
    const ending = endingOf(settings.get("ExecStart") ?? "");
    const run = { text, environment, pid: nextPid++ };
    if (ending === "runs") {
      this.runs.set(name, { ...run, activeState: "active" });
      this.log(name, `Started ${name}.`);
      return ok();
    }
    this.log(name, ...ending.output);
    const isOnce = settings.get("Type") === "oneshot";
    if (ending.status !== 0) {
      this.runs.set(name, { ...run, activeState: "failed" });
      this.log(
        name,
        `${name}: Main process exited, code=exited, status=${ending.status}`,
        `${name}: Failed with result 'exit-code'.`,
      );
      // The job of a simple service has succeeded by then.
      const [reason, hint] = ["the control process exited with error code.", `See "systemctl status ${name}" for details.`];
      return isOnce ? failure(1, `Job for ${name} failed because ${reason}\n${hint}`) : ok();
    }
    if (settings.get("RemainAfterExit") === "yes") {
      this.runs.set(name, { ...run, activeState: "active" });
    }
    this.log(name, isOnce ? `Finished ${name}.` : `${name}: Deactivated successfully.`);
    return ok();
  }

  private enable(name: string, enabled: boolean): ProgramResult {
    const state = this.unitFileState(name);
    if (state === "") {
      return failure(1, `Failed to ${enabled ? "enable" : "disable"} unit: Unit file ${name} does not exist.`);
    }
    if (state === "masked" && enabled) {
      return failure(1, `Failed to enable unit: Unit file ${OWN}/${name} is masked.`);
    }
    const aliases = [...(this.fileOf(name) ?? "").matchAll(/^Alias=(.*)$/gm)].map(([, alias = ""]) => `${OWN}/${alias}`);
    for (const link of [`${WANTS}/${name}`, ...aliases]) {
      const isThere = this.files.get(link, false) !== undefined;
      if (enabled && state === "disabled" && !isThere) {
        this.files.makeSymlink(link, `${OF_PACKAGES}/${name}`);
      } else if (!enabled && isThere) {
        this.files.remove(link);
      }
    }
    this.readAgain();
    return ok();
  }

  private mask(name: string, masked: boolean, directory: string): ProgramResult {
    const path = `${directory}/${name}`;
    const there = this.files.get(path, false);
    const isMask = there?.content.toString() === "/dev/null";
    if (masked && there === undefined) {
      this.files.makeSymlink(path, "/dev/null");
    } else if (masked && !isMask) {
      return failure(1, `Failed to mask unit: File ${path} already exists.`);
    } else if (!masked && isMask) {
      this.files.remove(path);
    }
    this.readAgain();
    return ok();
  }
}

function firstFailure(names: readonly string[], run: (name: string) => ProgramResult): ProgramResult {
  return names.map(run).find(({ exitCode }) => exitCode !== 0) ?? ok();
}

/** How a command ends. Of the programs of users, those that the tests use are simulated; all others run. */
function endingOf(command: string): Ending {
  const [, output = "", status] = /^\/bin\/sh -c "(?:echo ([^;>]*?)(?: >&2)?; )?exit (\d+)"$/.exec(command) ?? [];
  if (status !== undefined) {
    return { status: Number(status), output: output === "" ? [] : [output] };
  }
  const program = posix.basename(command.split(" ")[0] ?? "");
  return program === "true" || program === "false" ? { status: program === "true" ? 0 : 1, output: [] } : "runs";
}
