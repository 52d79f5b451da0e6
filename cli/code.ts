/** Program text in place of a value. */
export class Code {
  constructor(readonly text: string) {}
}

/** Writes a value as TypeScript, with one property of an object per line. The user's formatter does the rest. */
export function literal(value: unknown, margin = ""): string {
  if (value instanceof Code) {
    return value.text;
  }
  if (Array.isArray(value)) {
    return `[${value.map((member) => literal(member, margin)).join(", ")}]`;
  }
  if (!isMap(value)) {
    return typeof value === "string" ? JSON.stringify(value) : String(value);
  }
  const inner = `${margin}  `;
  const members = Object.entries(value).map(([key, member]) => `${inner}${property(key, literal(member, inner))},\n`);
  return members.length === 0 ? "{}" : `{\n${members.join("")}${margin}}`;
}

function property(key: string, text: string): string {
  return key === text ? key : `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key)}: ${text}`;
}

/** Whether a value is an object to be written as a literal. */
export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Code);
}
