import type { Facts } from "./facts";
import { guestRows } from "./guests";
import { instanceRows } from "./instances";
import { memberRows } from "./members";
import { objectRows } from "./objects";
import { reachRows } from "./reach";
import type { Row } from "./rows";

/** Judges what was read. Pure. */
export function rowsOf(facts: Facts): Row[] {
  return [
    ...memberRows(facts),
    ...objectRows(facts),
    ...facts.instances.flatMap((each) => [...instanceRows(each, facts.status), ...guestRows(each, facts.status.client)]),
    ...reachRows(facts),
  ];
}
