/** One check of one thing. Could not ask is neither passed nor failed. */
export interface Row {
  readonly check: string;
  /** The object: `bcn2`, `shop/db1`, `local on bcn1`. */
  readonly on: string;
  readonly expected: string;
  /** What was found, or why it could not be asked. */
  readonly found: string;
  readonly result: "passed" | "failed" | "not checked";
  /** What to do about a failed check. */
  readonly fix?: string;
}

/** What was asked for, or why no answer came. */
export type Answer<Value> = { readonly value: Value; readonly why?: undefined } | { readonly why: string };

/** Ends of a check. */
export interface Check {
  passed(found: string): Row;
  failed(found: string, fix: string): Row;
  notChecked(why: string): Row;
}

export function checkOf(check: string, on: string, expected: string): Check {
  const row = { check, on, expected };
  return {
    passed: (found) => ({ ...row, found, result: "passed" }),
    failed: (found, fix) => ({ ...row, found, result: "failed", fix }),
    notChecked: (why) => ({ ...row, found: why, result: "not checked" }),
  };
}
