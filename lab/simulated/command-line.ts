/**
 * Parses a command line into its arguments. The library sends argument arrays, quoted by one function in POSIX style,
 * so only word splitting with quotes is supported. Anything that a shell would interpret is refused: a line that needs
 * a shell is a defect.
 */

/** Thrown for a line that uses shell syntax other than quoting. */
export class CommandLineError extends Error {}

const shellCharacters = new Set(["|", "&", ";", "<", ">", "(", ")", "$", "`", "\n", "*", "?", "[", "~", "#", "!"]);
const escapableInDoubleQuotes = new Set(["$", "`", '"', "\\", "\n"]);

/** Splits a line into words as a POSIX shell does, without expansions, redirections or operators. */
export function parseCommandLine(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let at = 0;
  while (at < line.length) {
    const character = line.charAt(at);
    if (character === " " || character === "\t") {
      if (word !== undefined) {
        words.push(word);
      }
      word = undefined;
      at += 1;
    } else if (character === "'") {
      const end = line.indexOf("'", at + 1);
      if (end < 0) {
        throw new CommandLineError("unterminated single quote");
      }
      word = (word ?? "") + line.slice(at + 1, end);
      at = end + 1;
    } else if (character === '"') {
      const quoted = readDoubleQuoted(line, at + 1);
      word = (word ?? "") + quoted.text;
      at = quoted.next;
    } else if (character === "\\") {
      if (at + 1 >= line.length) {
        throw new CommandLineError("backslash at the end of the line");
      }
      word = (word ?? "") + line.charAt(at + 1);
      at += 2;
    } else if (shellCharacters.has(character)) {
      throw new CommandLineError(`unquoted ${JSON.stringify(character)}`);
    } else {
      word = (word ?? "") + character;
      at += 1;
    }
  }
  if (word !== undefined) {
    words.push(word);
  }
  return words;
}

function readDoubleQuoted(line: string, start: number): { text: string; next: number } {
  let text = "";
  let at = start;
  while (at < line.length) {
    const character = line.charAt(at);
    if (character === '"') {
      return { text, next: at + 1 };
    }
    if (character === "$" || character === "`") {
      throw new CommandLineError(`${JSON.stringify(character)} inside double quotes`);
    }
    if (character === "\\" && escapableInDoubleQuotes.has(line.charAt(at + 1))) {
      text += line.charAt(at + 1);
      at += 2;
    } else {
      text += character;
      at += 1;
    }
  }
  throw new CommandLineError("unterminated double quote");
}
