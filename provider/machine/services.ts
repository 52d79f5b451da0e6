/** A unit of the init system of a machine: what it is, and the way to what it should be. */
import type { Deadline } from "../support/deadline";
import { FailedError, hasCode, messageOf, RefusedError } from "../support/errors";
import { type InitSystem, isAsWanted, isEnabled, isMasked, type LiveUnit, type Verb, type WantedUnit } from "./init-system";
import type { Machine } from "./machine";
import { openrcOf } from "./openrc";
import { systemdOf } from "./systemd";

export { isAsWanted, isEnabled, isMasked, type LiveUnit, type WantedUnit };

/** Exists exactly while systemd is the init system: sd_booted(3). */
const SYSTEMD = "/run/systemd/system";

/** @throws RefusedError when the machine has neither systemd nor OpenRC. */
async function initOf(machine: Machine): Promise<InitSystem> {
  if ((await machine.digestFile(SYSTEMD))?.type === "directory") {
    return systemdOf(machine);
  }
  if ((await machine.findProgram("rc-service")) !== undefined) {
    return openrcOf(machine);
  }
  throw new RefusedError(
    `Services cannot be managed ${machine.place}: neither systemd (${SYSTEMD}) nor OpenRC (rc-service) runs there. If the machine has just ` +
      "started, run pulumi up again; otherwise use an image with one of them",
  );
}

/** `undefined` when there is no such unit. */
export async function readUnit(machine: Machine, unit: string): Promise<LiveUnit | undefined> {
  return (await initOf(machine)).read(unit);
}

/** @throws RefusedError with the cure when the unit cannot become as wanted. Touches nothing. */
export async function prepareUnit(machine: Machine, wanted: WantedUnit): Promise<{ init: InitSystem; found: LiveUnit }> {
  const { unit } = wanted;
  const init = await initOf(machine);
  const found = await init.read(unit);
  if (found === undefined) {
    throw new RefusedError(
      `There is no unit "${unit}" ${machine.place}: install its package first, and let this resource depend on it`,
    );
  }
  const objection = await init.objection(wanted, found);
  if (objection !== undefined) {
    throw new RefusedError(`Unit "${unit}" ${machine.place} cannot be managed: ${objection}`);
  }
  return { init, found };
}

interface EnsureOptions {
  /** Whether a unit that is to run is restarted, also when it runs already. */
  readonly restart: boolean;
  readonly deadline: Deadline;
  readonly progress: (text: string) => void;
  /** Called before anything changes. */
  readonly found: (live: LiveUnit) => void;
}

/**
 * Makes a unit as wanted, from any state.
 * @throws FailedError with the end of its log when it does not start.
 */
export async function ensureUnit(machine: Machine, wanted: WantedUnit, options: EnsureOptions): Promise<LiveUnit> {
  const { unit, enabled, active, masked } = wanted;
  const { init, found } = await prepareUnit(machine, wanted);
  const present = async (): Promise<LiveUnit> => (await init.read(unit)) ?? gone(machine, unit);
  options.found(found);
  let live = found;
  if (masked === false && isMasked(live)) {
    await init.setMasked(unit, false, live);
    // Only now its file tells whether it exists, and whether it can be enabled.
    ({ found: live } = await prepareUnit(machine, wanted));
  }
  if (enabled !== undefined && !isMasked(live) && isEnabled(live) !== enabled) {
    await init.setEnabled(unit, enabled);
    live = await present();
  }
  if (active !== undefined && (options.restart || !isAsWanted(live, active))) {
    const verb = active ? (options.restart ? "restart" : "start") : "stop";
    await control(machine, init, verb, unit, options);
    live = await present();
    if (!isAsWanted(live, active)) {
      throw new FailedError(await describeEnd(machine, init, verb, unit, live));
    }
  }
  if (masked === true && !isMasked(live)) {
    await init.setMasked(unit, true, live);
    live = await present();
  }
  if ((enabled === true && !isEnabled(live)) || (masked !== undefined && isMasked(live) !== masked)) {
    throw new FailedError(
      `Unit "${unit}" ${machine.place} is still ${live.unitFileState}. Something else changes it. Look there: ${init.howToLook(unit)}`,
    );
  }
  return live;
}

function gone(machine: Machine, unit: string): never {
  throw new FailedError(
    `Unit "${unit}" ${machine.place} is gone: it was disabled, and its file was only linked there. Link it again, or leave enabled out`,
  );
}

async function control(
  machine: Machine,
  init: InitSystem,
  verb: Verb,
  unit: string,
  { deadline, progress }: EnsureOptions,
): Promise<void> {
  progress(`${{ start: "starting", stop: "stopping", restart: "restarting" }[verb]} ${unit}`);
  try {
    await init.control(verb, unit, deadline);
  } catch (error) {
    if (!hasCode(error, "command")) {
      throw error;
    }
    throw new FailedError(
      await withLastLines(init, unit, `${withoutPeriod(messageOf(error))}. ${correct(machine, init, unit)}`),
      {
        cause: error,
      },
    );
  }
}

/** Why a unit is not as wanted, although its command succeeded. */
async function describeEnd(
  machine: Machine,
  init: InitSystem,
  verb: Verb,
  unit: string,
  { activeState }: LiveUnit,
): Promise<string> {
  const what = `Unit "${unit}" ${machine.place}`;
  if (verb === "stop") {
    return `${what} was stopped, but is ${activeState}: something starts it again. Look there: ${init.howToLook(unit)}`;
  }
  if (activeState === "inactive") {
    return withLastLines(
      init,
      unit,
      `${what} was started, and is not active: it ended without an error, or a condition in its file does not hold. A unit that runs once ` +
        "is not active afterwards: leave active out, or give it RemainAfterExit=yes",
    );
  }
  return withLastLines(
    init,
    unit,
    `${what} was started, and ended at once: it is ${activeState}. ${correct(machine, init, unit)}`,
  );
}

function correct(machine: Machine, init: InitSystem, unit: string): string {
  return `Correct what its log says, ${machine.place}: ${init.howToLook(unit)}`;
}

async function withLastLines(init: InitSystem, unit: string, message: string): Promise<string> {
  const lines = await init.lastLines(unit).catch(() => ""); // the failure of the unit is the one to report
  return lines === "" ? message : `${message}. The end of its log:\n${withoutPeriod(lines)}`;
}

/** Programs end their messages with a period, and the errors around them add one. */
function withoutPeriod(text: string): string {
  return text.replace(/\.$/, "");
}
