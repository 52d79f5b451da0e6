/**
 * The contract of what is on a machine: the same for a guest and a host, real and simulated. Each kind is tried as the engine
 * drives it.
 */
import { disconnectAll } from "../../../provider/transport/pool";
import { commandsContract } from "./commands";
import { filesContract } from "./files";
import { type MachineHarness, type Pair, Subject } from "./harness";
import { packagesContract } from "./packages";
import { servicesContract } from "./services";
import { sysctlsContract } from "./sysctls";
import { usersContract } from "./users";

const PARTS: Readonly<Record<string, (subject: Subject) => void>> = {
  "a file": filesContract,
  "a service": servicesContract,
  "a package": packagesContract,
  "a user": usersContract,
  "a command": commandsContract,
};

/** Parts that a guest has not. */
const OF_HOSTS: Readonly<Record<string, (subject: Subject) => void>> = {
  "parameters of the kernel": sysctlsContract,
};

/** @param way - How the machine is reached. */
export function machineContract(name: string, way: keyof Pair, harness: () => MachineHarness): void {
  for (const [what, part] of Object.entries(way === "host" ? { ...PARTS, ...OF_HOSTS } : PARTS)) {
    describe(`${what} of ${name}`, () => {
      afterEach(() => disconnectAll());
      part(new Subject(way, harness));
    });
  }
}
