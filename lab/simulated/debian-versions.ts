/**
 * Versions of Debian packages as dpkg compares them.
 * @see deb-version(7)
 */

type Operator = "lt" | "le" | "eq" | "ne" | "ge" | "gt";

const HOLDS: Readonly<Record<Operator, (order: number) => boolean>> = {
  lt: (order) => order < 0,
  le: (order) => order <= 0,
  eq: (order) => order === 0,
  ne: (order) => order !== 0,
  ge: (order) => order >= 0,
  gt: (order) => order > 0,
};

/** Whether a relation holds, as in `dpkg --compare-versions 5.0.2-5 lt 5.0.2-6`; `undefined` for an unknown operator. */
export function compareDebianVersions(left: string, operator: string, right: string): boolean | undefined {
  return operator in HOLDS ? HOLDS[operator as Operator](orderOf(left, right)) : undefined;
}

function orderOf(left: string, right: string): number {
  const [a, b] = [partsOf(left), partsOf(right)];
  return a.epoch - b.epoch || orderOfPart(a.upstream, b.upstream) || orderOfPart(a.revision, b.revision);
}

function partsOf(version: string): { epoch: number; upstream: string; revision: string } {
  const [, epoch = "0", rest = ""] = /^(?:(\d+):)?(.*)$/.exec(version) ?? [];
  const dash = rest.lastIndexOf("-");
  return dash < 0
    ? { epoch: Number(epoch), upstream: rest, revision: "" }
    : { epoch: Number(epoch), upstream: rest.slice(0, dash), revision: rest.slice(dash + 1) };
}

/** Compares alternately a run of other characters and a number. */
function orderOfPart(left: string, right: string): number {
  let [a, b] = [left, right];
  while (a !== "" || b !== "") {
    const [textA = "", numberA = ""] = /^(\D*)(\d*)/.exec(a)?.slice(1) ?? [];
    const [textB = "", numberB = ""] = /^(\D*)(\d*)/.exec(b)?.slice(1) ?? [];
    const order = orderOfText(textA, textB) || Number(numberA) - Number(numberB);
    if (order !== 0) {
      return order;
    }
    a = a.slice(textA.length + numberA.length);
    b = b.slice(textB.length + numberB.length);
  }
  return 0;
}

/** A tilde comes before the end, the end before letters, and these before all other characters. */
function orderOfText(left: string, right: string): number {
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const order = weightOf(left[index]) - weightOf(right[index]);
    if (order !== 0) {
      return order;
    }
  }
  return 0;
}

function weightOf(character: string | undefined): number {
  if (character === "~") {
    return -1;
  }
  if (character === undefined) {
    return 0;
  }
  return (character.codePointAt(0) ?? 0) + (/[A-Za-z]/.test(character) ? 0 : 256);
}
