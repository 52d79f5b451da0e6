/**
 * The command line that the library sends to sshd, parsed as the shell of a simulated host does: see the frame in the
 * library's transport.
 */
import { FRAME } from "../../provider/transport/frame";
import { parseCommandLine } from "./command-line";

/** A command inside its frame. */
export interface FramedCommandLine {
  /** The command as a POSIX shell gets it; prefixed with `sudo -n --` if root is requested. */
  readonly command: string;
  readonly mark: string;
  /** Whether the command replaces the shell, so that no mark and exit code follow its output. */
  readonly untilClosed: boolean;
}

/** Removes the frame from a line; `undefined` if it has none. */
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
