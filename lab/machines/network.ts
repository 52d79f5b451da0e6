import { mustRun, runCommand } from "../real/process";
import type { LabPlace } from "../real/state";

/** One end of a network at a machine. */
export interface Link {
  /** Name of the network; `lan` is the one of the lab. */
  readonly network: string;
  /** The host's end, in the namespace of the lab's switch. */
  readonly tap: string;
  /** Hardware address of the machine's end. */
  readonly mac: string;
}

/**
 * Makes the taps of a machine on the bridges of its networks, all in the namespace of the lab's switch, which has no route
 * to anything outside.
 */
export async function connectMachine(place: LabPlace, links: readonly Link[]): Promise<void> {
  for (const { network, tap } of links) {
    // Fails if the bridge is there already.
    await ip(place, ["link", "add", network, "type", "bridge", "stp_state", "0", "forward_delay", "0"]);
    await mustIp(place, ["link", "set", network, "up"]);
    await mustIp(place, ["tuntap", "add", tap, "mode", "tap"]);
    await mustIp(place, ["link", "set", tap, "master", network, "up"]);
  }
}

/** Removes the taps of a machine. */
export async function disconnectMachine(place: LabPlace, links: readonly Link[]): Promise<void> {
  for (const { tap } of links) await ip(place, ["link", "delete", tap]);
}

function ip(place: LabPlace, argv: readonly string[]) {
  return runCommand(["ip", "-n", place.switchNamespace, ...argv]);
}

function mustIp(place: LabPlace, argv: readonly string[]) {
  return mustRun(["ip", "-n", place.switchNamespace, ...argv]);
}
