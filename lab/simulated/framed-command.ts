/** The line that the library has sshd run, as the shell of a simulated host reads it: see the frame in the library's transport. */
import { FRAME } from "../../provider/transport/frame";
import { parseCommandLine } from "./command-line";

/** A command within its frame. */
export interface FramedCommandLine {
  /** What is run, as a POSIX shell is given it; with `sudo -n --` before it when root is asked for. */
  readonly command: string;
  readonly mark: string;
  /** Whether the command takes the place of the shell, so that no mark and exit code follow its output. */
  readonly untilClosed: boolean;
}

/** Takes a line out of its frame; `undefined` when it has none. */
export function takeOutOfFrame(line: string): FramedCommandLine | undefined {
  const words = parseCommandLine(line);
  const sudo = words[1] === "sudo" ? "sudo -n -- " : "";
  const [shell, flag, script, name, first, second, text] = words.slice(sudo === "" ? 1 : 4);
  if (words[0] !== "exec" || shell !== "/bin/sh" || flag !== "-c" || script !== FRAME || name !== "sh" || text === undefined) {
    return undefined;
  }
  const command = text.replace(/\\0([0-7]{3})/g, (_escape, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return {
    command: sudo + command.replace(/^exec /, ""),
    mark: `${first}${second}`,
    untilClosed: command.startsWith("exec "),
  };
}
