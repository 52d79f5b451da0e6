/** Commands inside an instance, which only read, at the cost of one exec. */
import type { Ending, GuestCommand } from "./facts";

/** Time for each command, in seconds. */
const COMMAND_SECONDS = 10;

/**
 * Runs commands one after the other, in any POSIX shell. The first argument is the time for each, in seconds. Then follow, for each command, its
 * number of words and its words. Prints for each its exit code, and each line of its output after a space. Where there is no timeout(1), commands
 * have no limit.
 */
export const RUN_AND_REPORT = `
limit="timeout $1"; shift
command -v timeout >/dev/null 2>&1 || limit=
while [ $# -gt 0 ]; do
  count=$1; shift
  line=$limit; word=1
  while [ "$word" -le "$count" ]; do line="$line \\"\\\${$word}\\""; word=$((word + 1)); done
  out=$(eval "$line" 2>/dev/null </dev/null)
  printf '%s\\n' "$?"
  printf '%s\\n' "$out" | while IFS= read -r text; do printf ' %s\\n' "$text"; done
  shift "$count"
done
`.trim();

export const GUEST_COMMANDS: Readonly<Record<GuestCommand, readonly string[]>> = {
  cloudInit: ["cloud-init", "status", "--long"],
  system: ["systemctl", "is-system-running"],
  failedUnits: ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"],
  routes: ["cat", "/proc/net/route", "/proc/net/ipv6_route"],
};

export function pingOf(address: string): string[] {
  return ["ping", "-c", "1", "-W", "2", address];
}

/** The command line that runs commands and reports their ends. */
export function reportOn(commands: readonly (readonly string[])[]): string[] {
  const words = commands.flatMap((argv) => [String(argv.length), ...argv]);
  return ["sh", "-c", RUN_AND_REPORT, "sh", String(COMMAND_SECONDS), ...words];
}

/** The ends in what the script printed. */
export function endingsIn(stdout: string): Ending[] {
  const endings: { exitCode: number; lines: string[] }[] = [];
  for (const line of stdout.split("\n")) {
    if (/^\d+$/.test(line)) {
      endings.push({ exitCode: Number(line), lines: [] });
    } else if (line.startsWith(" ")) {
      endings.at(-1)?.lines.push(line.slice(1));
    }
  }
  return endings.map(({ exitCode, lines }) => ({ exitCode, stdout: lines.join("\n") }));
}
