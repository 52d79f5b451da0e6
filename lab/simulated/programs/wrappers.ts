/** Programs that run another one: a time limit, env, and the library's own for a standard input. */
import { WITH_INPUT } from "../../../provider/machine/guest";
import { WITH_ENVIRONMENT } from "../../../provider/machine/host";
import { failure, type ProgramResult } from "../machine";

/** The variables that a command on a host gets as the first lines of its input. */
export async function takeEnvironment(
  [program, flag, script, , ...command]: readonly string[],
  stdin: () => Promise<Buffer>,
): Promise<{ command: string[]; env: Record<string, string>; stdin: Buffer } | undefined> {
  if (program !== "sh" || flag !== "-c" || script !== WITH_ENVIRONMENT) {
    return undefined;
  }
  const text = (await stdin()).toString();
  const end = text.startsWith("\n") ? 0 : text.indexOf("\n\n") + 1;
  const lines = text
    .slice(0, end)
    .split("\n")
    .filter((line) => line !== "");
  const unescaped = (value: string): string => value.replace(/\\(\\|n)/g, (_escape, of: string) => (of === "n" ? "\n" : "\\"));
  const env = lines.map((line): [string, string] => [
    line.slice(0, line.indexOf("=")),
    unescaped(line.slice(line.indexOf("=") + 1)),
  ]);
  return { command, env: Object.fromEntries(env), stdin: Buffer.from(text.slice(end + 1)) };
}

/** The command inside; `undefined` if nothing is around it. */
export function unwrap(words: readonly string[]): { command: string[]; stdin?: string; seconds?: number } | undefined {
  if (words[0] === "timeout") {
    const [seconds, ...inside] = words.slice(words[1] === "-k" ? 3 : 1);
    return { command: inside, seconds: Number(seconds) };
  }
  if (words[0] === "env") {
    const at = words.findIndex((word, index) => index > 0 && !/^\w+=/.test(word));
    return at < 0 ? undefined : { command: words.slice(at) };
  }
  const [program, flag, script, , stdin, ...command] = words;
  return program === "sh" && flag === "-c" && script === WITH_INPUT && stdin !== undefined ? { command, stdin } : undefined;
}

/** As timeout(1): the exit code is 124 when the time is over. */
export async function limited<Result extends ProgramResult | undefined>(
  seconds: number | undefined,
  run: Promise<Result>,
): Promise<Result | ProgramResult> {
  if (seconds === undefined) {
    return run;
  }
  let timer: NodeJS.Timeout | undefined;
  const end = new Promise<ProgramResult>((resolve) => {
    timer = setTimeout(() => resolve(failure(124, "")), seconds * 1000).unref();
  });
  try {
    return await Promise.race([run, end]);
  } finally {
    clearTimeout(timer);
  }
}
