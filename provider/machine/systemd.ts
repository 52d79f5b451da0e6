/**
 * Units of systemd.
 * @see systemctl(1), the tables of `is-enabled` and of the exit status; systemd.unit(5). Written for systemd 252.
 */
import { ResponseShapeError } from "../support/errors";
import { runCommand } from "./commands";
import { type InitSystem, isMasked, type LiveUnit } from "./init-system";
import type { Machine } from "./machine";

const PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,Result";

/** Where a mask is: a link to /dev/null instead of the unit's file. */
const DIRECTORY = "/etc/systemd/system";

const MASKED = ["masked", "masked-runtime"];

/** States of a unit's file in which it can be enabled and disabled. */
const CAN_BE_ENABLED = ["enabled", "enabled-runtime", "disabled", "linked", "linked-runtime", ...MASKED];

/** Why a unit in another state cannot. */
const NOT_ENABLED: Readonly<Record<string, string>> = {
  static: "its file has no [Install] section, so only other units start it. Leave enabled out, or enable the unit that starts it",
  indirect: "its file names other units (Also=) that are enabled in its place. Leave enabled out, and enable one of those",
  generated: "its file is generated at each boot, from /etc/init.d or /etc/fstab for example. Leave enabled out, and change that",
  transient: "a program made it, and it ends with this boot. Leave enabled out",
  bad: "its file is damaged. Correct it",
  "": "it has no file. Leave enabled out",
};

/** Parses `systemctl show`: lines NAME=VALUE. `undefined` for a unit that does not exist. */
export function unitIn(text: string): LiveUnit | undefined {
  const shown = new Map([...text.matchAll(/^([^=\n]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]));
  const [id, loadState, activeState] = [shown.get("Id"), shown.get("LoadState"), shown.get("ActiveState")];
  if (id === undefined || loadState === undefined || activeState === undefined) {
    throw new ResponseShapeError(`systemctl show answered ${JSON.stringify(text.slice(0, 200))}`);
  }
  if (loadState === "not-found") {
    return undefined;
  }
  return { id, loadState, activeState, unitFileState: shown.get("UnitFileState") ?? "" };
}

export function systemdOf(machine: Machine): InitSystem {
  const show = async (unit: string): Promise<LiveUnit | undefined> =>
    unitIn((await machine.run(["systemctl", "show", `--property=${PROPERTIES}`, "--", unit])).stdout);
  const change = async (...argv: string[]): Promise<void> => {
    await machine.run(["systemctl", ...argv]);
  };

  return {
    read: show,

    async objection({ unit, enabled, active, masked }, found) {
      const { id, loadState, unitFileState } = found;
      if (id !== unit) {
        return `it is another name of ${id}. Set unit to that`;
      }
      if (isMasked(found)) {
        return masked === undefined && (enabled === true || active === true)
          ? `it is masked, so that nothing can start it. Set masked: false, or leave ${active === true ? "active" : "enabled"} out`
          : undefined;
      }
      if (loadState !== "loaded") {
        return `its file cannot be loaded (${loadState}). Correct it there: systemctl status ${unit}`;
      }
      if (enabled !== undefined && !CAN_BE_ENABLED.includes(unitFileState)) {
        return `it cannot be enabled or disabled (${unitFileState}): ${NOT_ENABLED[unitFileState] ?? "leave enabled out"}`;
      }
      if (masked === true && (await machine.digestFile(`${DIRECTORY}/${unit}`)) !== undefined) {
        return `it cannot be masked: ${DIRECTORY}/${unit}, where the mask would be, exists. Remove that instead, or leave masked out`;
      }
      return undefined;
    },

    setEnabled: (unit, enabled) => change(enabled ? "enable" : "disable", "--", unit),

    async setMasked(unit, masked, { unitFileState }) {
      const ofThisBoot = !masked && unitFileState === "masked-runtime" ? ["--runtime"] : [];
      await change(masked ? "mask" : "unmask", ...ofThisBoot, "--", unit);
    },

    async control(verb, unit, deadline) {
      await runCommand(machine, `systemctl ${verb} ${unit}`, ["systemctl", verb, "--", unit], deadline);
    },

    async lastLines(unit) {
      const tryOut = async (...argv: string[]): Promise<string> =>
        (await machine.run(["timeout", "10", ...argv], { allowFailure: true })).stdout.trimEnd();
      await tryOut("journalctl", "--sync"); // what was just logged may not be written yet
      const journal = await tryOut(
        ...["journalctl", "--unit", unit, "--lines", "10", "--no-pager", "--quiet", "--output", "cat"],
      );
      return journal === "" ? tryOut("systemctl", "status", "--no-pager", "--lines", "10", "--", unit) : journal;
    },

    howToLook: (unit) => `systemctl status ${unit}`,
  };
}

/** Suffixes of units; a name with another one, or none, is that of a service. */
const TYPES = ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/** The name of a unit in full. */
export function fullUnitName(name: string): string {
  return TYPES.some((type) => name.endsWith(`.${type}`)) ? name : `${name}.service`;
}
