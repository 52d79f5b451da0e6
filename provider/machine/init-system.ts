/** What an init system does for one unit: systemd (systemd.ts) or OpenRC (openrc.ts). */
import type { Deadline } from "../support/deadline";

/** The present state of a unit. */
export interface LiveUnit {
  /** Its first name: another one than asked for when that is an alias. */
  readonly id: string;
  /** In systemd's words: `loaded`, `masked`, `bad-setting`... */
  readonly loadState: string;
  /** In systemd's words: `active`, `inactive`, `failed`, `activating`... */
  readonly activeState: string;
  /** In systemd's words: `enabled`, `disabled`, `static`... Empty for a unit without a file. */
  readonly unitFileState: string;
}

/** The wanted state of a unit. What is not given stays as it is. */
export interface WantedUnit {
  readonly unit: string;
  /** Whether it is started at boot. */
  readonly enabled?: boolean | undefined;
  /** Whether it runs now. */
  readonly active?: boolean | undefined;
  readonly masked?: boolean | undefined;
}

/** What starts or ends a unit. */
export type Verb = "start" | "stop" | "restart";

export interface InitSystem {
  /** `undefined` when there is no such unit. */
  read(unit: string): Promise<LiveUnit | undefined>;
  /** Why a unit that exists cannot become as wanted, and what to do. Touches nothing. */
  objection(wanted: WantedUnit, found: LiveUnit): Promise<string | undefined>;
  setEnabled(unit: string, enabled: boolean): Promise<void>;
  setMasked(unit: string, masked: boolean, found: LiveUnit): Promise<void>;
  /**
   * Waits until the unit has started or stopped.
   * @throws CommandError when it does not; FailedError when it takes too long.
   */
  control(verb: Verb, unit: string, deadline: Deadline): Promise<void>;
  /** The last lines that a unit logged. Empty when there are none. */
  lastLines(unit: string): Promise<string>;
  /** The command that shows the unit in detail, for messages. */
  howToLook(unit: string): string;
}

/** @see systemctl(1); a unit that reloads runs meanwhile. */
const RUNNING = ["active", "reloading", "refreshing"];

const STOPPED = ["inactive", "failed"];

/** Whether a unit runs, or does not run. One that is on its way (activating, deactivating) is neither. */
export function isAsWanted({ activeState }: LiveUnit, active: boolean): boolean {
  return (active ? RUNNING : STOPPED).includes(activeState);
}

/** Whether nothing can start a unit. */
export function isMasked({ loadState }: LiveUnit): boolean {
  return loadState === "masked";
}

/** Whether a unit is started at the next boot. `enabled-runtime` ends with this one. */
export function isEnabled({ unitFileState }: LiveUnit): boolean {
  return unitFileState === "enabled";
}
