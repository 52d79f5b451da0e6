import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RealLab } from "../real";
import type { LabPlace } from "../real/state";
import { Machine, type MachineSpec, type SavedState } from "./machine";
import { emulatorLayers, machineSystem, type System } from "./system";

export type { MachineSpec, SavedState } from "./machine";

/** Options of {@link MachineLab.start}. */
export interface MachineLabOptions {
  readonly machines: readonly MachineSpec[];
  /** What they run. Default: a bare Debian. */
  readonly system?: System | undefined;
  /** State from which the machines start, by name. Others boot. */
  readonly states?: Readonly<Record<string, SavedState>> | undefined;
  /** Labs of one checkout with different instance names run side by side. Default: "machines". */
  readonly instance?: string | undefined;
  /** Receives one line for each step. Default: no output. */
  readonly log?: ((line: string) => void) | undefined;
}

interface MachineRecord {
  readonly machines: readonly MachineSpec[];
  readonly system: System;
  readonly qemuLayers: readonly string[];
}

/** Name of the lab's instance that is not given another. */
export const DEFAULT_INSTANCE = "machines";

/**
 * Machines of their own, each with a kernel, under QEMU's emulation, which needs no KVM. They are on the switch of a lab,
 * with its workstation and, if it has any, its namespace hosts. The lab has no route to any address outside it.
 */
export class MachineLab {
  private constructor(
    /** The lab whose network the machines are on. */
    readonly lab: RealLab,
    readonly machines: readonly Machine[],
  ) {}

  /** The reason why machines cannot run here; undefined if they can. */
  static available(): string | undefined {
    if (process.arch !== "x64") return `machines of the lab are not made for ${process.arch}`;
    if (!existsSync("/dev/net/tun")) return "machines of the lab need /dev/net/tun";
    return RealLab.available();
  }

  /** @throws Error if machines cannot run here (see {@link MachineLab.available}). */
  static requireAvailable(): void {
    const reason = MachineLab.available();
    if (reason !== undefined) throw new Error(`The lab cannot start: ${reason}.`);
  }

  /**
   * Starts a lab with machines, after removing leftovers of an earlier lab of the same checkout and instance.
   * @throws Error if this machine cannot run it (see {@link MachineLab.available}) or a machine does not come up.
   */
  static async start(options: MachineLabOptions): Promise<MachineLab> {
    MachineLab.requireAvailable();
    const { states = {}, log = () => undefined } = options;
    const lab = await RealLab.start({ hosts: [], instance: options.instance ?? DEFAULT_INSTANCE, log });
    try {
      const record: MachineRecord = {
        machines: options.machines,
        system: options.system ?? (await machineSystem(log)),
        qemuLayers: await emulatorLayers(log),
      };
      const made = MachineLab.of(lab, record);
      for (const machine of made.machines) {
        const state = states[machine.name];
        if (state === undefined) await machine.create();
        else machine.createFrom(state);
      }
      log(`starting ${made.machines.map(({ spec }) => `${spec.name} (${spec.address})`).join(", ")}`);
      await Promise.all(
        made.machines.map((machine) => {
          const state = states[machine.name];
          return state === undefined ? machine.boot() : machine.restore(state.snapshot);
        }),
      );
      made.writeSshFiles();
      writeFileSync(recordFile(lab.place), `${JSON.stringify(record, undefined, 2)}\n`);
      return made;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /**
   * The running lab: that of this process, otherwise an instance of this checkout.
   * @throws Error if none is up.
   */
  static async attach(instance?: string): Promise<MachineLab> {
    const lab = await RealLab.attach(instance);
    if (!existsSync(recordFile(lab.place))) throw new Error("The lab that is up has no machines.");
    return MachineLab.of(lab, JSON.parse(readFileSync(recordFile(lab.place), "utf8")) as MachineRecord);
  }

  /** A machine by its name. */
  machine(name: string): Machine {
    const found = this.machines.find((each) => each.name === name);
    if (found === undefined) {
      throw new Error(`The lab has no machine ${name}. It has: ${this.machines.map((each) => each.name).join(", ")}.`);
    }
    return found;
  }

  /** Removes the lab with its machines. Caches stay. */
  stop(): Promise<void> {
    return this.lab.stop();
  }

  /** Removes a lab of this checkout, running or partly removed, and all its leftovers. Caches stay. */
  static clear(instance = DEFAULT_INSTANCE): Promise<void> {
    return RealLab.clear(instance);
  }

  private static of(lab: RealLab, { machines, system, qemuLayers }: MachineRecord): MachineLab {
    return new MachineLab(
      lab,
      machines.map((spec) => new Machine(lab.place, spec, system, qemuLayers)),
    );
  }

  private writeSshFiles(): void {
    const ssh = join(this.lab.home, ".ssh");
    for (const { name, spec, hostKey } of this.machines) {
      appendFileSync(join(ssh, "known_hosts"), `${name},${spec.address} ${hostKey}\n`);
      // The settings for all hosts come last in OpenSSH's own order: the first value counts.
      const config = readFileSync(join(ssh, "config"), "utf8");
      writeFileSync(join(ssh, "config"), `Host ${name}\n  HostName ${spec.address}\n  HostKeyAlias ${name}\n${config}`);
    }
  }
}

function recordFile(place: LabPlace): string {
  return join(place.stateDir, "machines.json");
}
