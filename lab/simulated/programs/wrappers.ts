/** Programs that run another one: a time limit, env, and the library's own for a standard input. */
import { WITH_INPUT } from "../../../provider/machine/guest";

/** The command inside; `undefined` if nothing is around it. Nothing here takes long enough for a limit. */
export function unwrap(words: readonly string[]): { command: string[]; stdin?: string } | undefined {
  if (words[0] === "timeout") {
    return { command: words.slice(words[1] === "-k" ? 4 : 2) };
  }
  if (words[0] === "env") {
    const at = words.findIndex((word, index) => index > 0 && !/^\w+=/.test(word));
    return at < 0 ? undefined : { command: words.slice(at) };
  }
  const [program, flag, script, , stdin, ...command] = words;
  return program === "sh" && flag === "-c" && script === WITH_INPUT && stdin !== undefined ? { command, stdin } : undefined;
}
