/**
 * Services of OpenRC, which Alpine has.
 * @see rc-service(8), rc-update(8)
 */
import { RefusedError } from "../support/errors";
import { runCommand } from "./commands";
import type { InitSystem } from "./init-system";
import type { Machine } from "./machine";

/** The runlevel that a boot ends in. */
const RUNLEVEL = "default";

const SERVICE = ".service";

export function openrcOf(machine: Machine): InitSystem {
  const nameOf = (unit: string): string => {
    if (!unit.endsWith(SERVICE)) {
      throw new RefusedError(`Unit "${unit}" ${machine.place} cannot be managed: OpenRC, which runs there, has services only`);
    }
    return unit.slice(0, -SERVICE.length);
  };

  return {
    async read(unit) {
      const name = nameOf(unit);
      if (!(await machine.isProgram(`/etc/init.d/${name}`))) {
        return undefined;
      }
      const link = await machine.readFile(`/etc/runlevels/${RUNLEVEL}/${name}`);
      const { exitCode } = await machine.run(["rc-service", name, "status"], { allowFailure: true });
      return {
        id: unit,
        loadState: "loaded",
        activeState: exitCode === 0 ? "active" : "inactive",
        unitFileState: link === undefined ? "disabled" : "enabled",
      };
    },

    objection: ({ masked }) =>
      Promise.resolve(masked === true ? "OpenRC, which runs there, masks no service. Leave masked out" : undefined),

    async setEnabled(unit, enabled) {
      await machine.run(["rc-update", enabled ? "add" : "del", nameOf(unit), RUNLEVEL]);
    },

    setMasked: () => Promise.resolve(),

    async control(verb, unit, deadline) {
      const name = nameOf(unit);
      await runCommand(machine, `rc-service ${name} ${verb}`, ["rc-service", name, verb], deadline);
    },

    // OpenRC keeps no log: the error of the command has what the service wrote.
    lastLines: () => Promise.resolve(""),

    howToLook: (unit) => `rc-service ${nameOf(unit)} status`,
  };
}
