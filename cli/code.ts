/** A piece of program in place of a value. */
export class Code {
  constructor(readonly text: string) {}
}

/** Width of a line. */
const WIDTH = 100;
const INDENT = "  ";

/** A value as TypeScript, formatted as Prettier and Biome do it. `before` and `after` stand on its first and last line. */
export function literal(value: unknown, before = "", after = "", depth = 0): string {
  const inline = `${before}${inlineLiteral(value)}${after}`;
  const isTooLong = INDENT.length * depth + inline.length > WIDTH;
  if (!isTooLong && !holdsObjects(value)) {
    return inline;
  }
  const margin = INDENT.repeat(depth);
  if (Array.isArray(value) && value.length > 0) {
    const lines = value.map((member) => `${margin}${INDENT}${literal(member, "", ",", depth + 1)}\n`);
    return `${before}[\n${lines.join("")}${margin}]${after}`;
  }
  if (isMap(value) && Object.keys(value).length > 0) {
    const lines = Object.entries(value).map(
      ([key, member]) =>
        `${margin}${INDENT}${isShorthand(key, member) ? `${key},` : literal(member, `${propertyName(key)}: `, ",", depth + 1)}\n`,
    );
    return `${before}{\n${lines.join("")}${margin}}${after}`;
  }
  return isTooLong && typeof value === "string" && before.endsWith(": ")
    ? `${before.trimEnd()}\n${margin}${INDENT}${inlineLiteral(value)}${after}`
    : isTooLong && value instanceof Code
      ? `${before}${value.text.replace(/\((".*")\)$/, `(\n${margin}${INDENT}$1,\n${margin})`)}${after}`
      : inline;
}

function inlineLiteral(value: unknown): string {
  if (value instanceof Code) {
    return value.text;
  }
  if (Array.isArray(value)) {
    return `[${value.map(inlineLiteral).join(", ")}]`;
  }
  if (isMap(value)) {
    const members = Object.entries(value).map(([key, member]) =>
      isShorthand(key, member) ? key : `${propertyName(key)}: ${inlineLiteral(member)}`,
    );
    return members.length === 0 ? "{}" : `{ ${members.join(", ")} }`;
  }
  return typeof value === "string" ? quoted(value) : String(value);
}

function isShorthand(key: string, value: unknown): boolean {
  return value instanceof Code && value.text === key;
}

/** Formatters put each of several objects of an array on lines of its own. */
function holdsObjects(value: unknown): boolean {
  return Array.isArray(value) && value.length > 1 && value.every((member) => isMap(member) && Object.keys(member).length > 1);
}

/** In the quotes that need fewer escapes. */
function quoted(text: string): string {
  const json = JSON.stringify(text);
  const count = (mark: string): number => text.split(mark).length - 1;
  return count('"') > count("'") ? `'${json.slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'` : json;
}

function propertyName(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? key : quoted(key);
}

/** Whether a value is an object that is written as a literal. */
export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Code);
}
