/**
 * The contract of what is on a machine: the same for a guest and a host, real and simulated. Each kind is tried as the engine
 * drives it.
 */
import { disconnectAll } from "../../../provider/transport/pool";
import { filesContract } from "./files";
import { type MachineHarness, type Pair, Subject } from "./harness";
import { packagesContract } from "./packages";
import { usersContract } from "./users";

const PARTS: Readonly<Record<string, (subject: Subject) => void>> = {
  "a file": filesContract,
  "a package": packagesContract,
  "a user": usersContract,
};

/** @param way - How the machine is reached. */
export function machineContract(name: string, way: keyof Pair, harness: () => MachineHarness): void {
  for (const [what, part] of Object.entries(PARTS)) {
    describe(`${what} of ${name}`, () => {
      afterEach(() => disconnectAll());
      part(new Subject(way, harness));
    });
  }
}
