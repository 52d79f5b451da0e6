/** Programs that run another one: a time limit, and the library's own for a standard input. */
import { WITH_INPUT } from "../../../provider/machine/guest";

/** The command inside; `undefined` if nothing is around it. Nothing here takes long enough for a limit. */
export function unwrap(words: readonly string[]): { command: string[]; stdin?: string } | undefined {
  if (words[0] === "timeout") {
    return { command: words.slice(words[1] === "-k" ? 4 : 2) };
  }
  const [program, flag, script, , stdin, ...command] = words;
  return program === "sh" && flag === "-c" && script === WITH_INPUT && stdin !== undefined ? { command, stdin } : undefined;
}
