import * as z from "zod";
import type { SimulatedLab, SimulatedLabOptions } from "../../../lab/simulated";
import { type SimulatedCluster, startStandalone, startTwoMembers } from "../../unit/resources/simulated-cluster";
import { byHand, type ManualChange } from "./manual-changes";

/** Simulated hosts with one managed object. */
export interface World {
  readonly lab: SimulatedLab;
  /** Arguments that describe how to reach the object. */
  readonly reach: object;
  /** Everything visible of the object from outside: a repair must restore it, and any other run must not change it. */
  look(): Promise<unknown>;
  stop(): Promise<void>;
}

/** LXD's answer to a GET, without the list of users of the object, which is not its property. */
export async function lookUp(two: SimulatedCluster, path: string, query?: Record<string, string>): Promise<unknown> {
  const found = await (await two.byHand()).find(path, z.unknown(), query);
  return found !== null && typeof found === "object" && "used_by" in found ? { ...found, used_by: undefined } : found;
}

/** A cluster of bcn2 and bcn1, after some manual changes. */
export async function cluster(options: {
  lab?: Omit<SimulatedLabOptions, "hosts">;
  prepare?: readonly ManualChange[];
  look: (two: SimulatedCluster) => Promise<unknown>;
}): Promise<World> {
  return worldOf(await startTwoMembers(options.lab), options);
}

/** One server that is in no cluster. */
export async function standalone(options: {
  prepare?: readonly ManualChange[];
  look: (one: SimulatedCluster) => Promise<unknown>;
}): Promise<World> {
  return worldOf(await startStandalone(), options);
}

async function worldOf(
  started: SimulatedCluster,
  options: {
    prepare?: readonly ManualChange[];
    look: (started: SimulatedCluster) => Promise<unknown>;
  },
): Promise<World> {
  await byHand(started.lab, options.prepare ?? []);
  return {
    lab: started.lab,
    reach: { cluster: started.cluster },
    look: () => options.look(started),
    stop: () => started.stop(),
  };
}

/** A pool and a bridge on both members, created manually. */
export const POOL_AND_BRIDGE: readonly ManualChange[] = [
  "lxc storage create default dir --target bcn2",
  "lxc storage create default dir --target bcn1",
  "lxc storage create default dir",
  "lxc network create lxdbr0 --target bcn2",
  "lxc network create lxdbr0 --target bcn1",
  "lxc network create lxdbr0 ipv4.address=10.10.10.1/24 ipv6.address=none",
  "lxc profile device add default root disk path=/ pool=default",
  "lxc profile device add default eth0 nic network=lxdbr0 name=eth0",
];

/** Both hosts are off. */
const POWER_OFF: ManualChange = {
  text: "the power of all hosts is cut",
  act: async (lab) => {
    await Promise.all(lab.hosts.map((host) => host.powerOff()));
  },
};

const POWER_ON: ManualChange = {
  text: "the power is back",
  act: async (lab) => {
    await Promise.all(lab.hosts.map((host) => host.powerOn()));
  },
};

/** The row of a resource whose hosts are all off. */
export const ALL_POWER_CUT = {
  byHand: POWER_OFF,
  answer: "error",
  says: /cannot be reached by SSH/,
  cure: POWER_ON,
  why: "an unreachable object still exists",
} as const;

/** One host is off. */
export function powerOff(name: string): ManualChange {
  return { text: `the power of ${name} is cut`, act: (lab) => lab.host(name).powerOff() };
}

export function powerOn(name: string): ManualChange {
  return { text: `the power of ${name} is back`, act: (lab) => lab.host(name).powerOn() };
}

/** One host is switched off for work on it. LXD shows its member as evacuated, and not as offline. */
export function evacuateAndPowerOff(name: string): ManualChange[] {
  return [`lxc cluster evacuate ${name}`, powerOff(name)];
}

export function powerOnAndRestore(name: string): ManualChange[] {
  return [powerOn(name), `lxc cluster restore ${name}`];
}

/** The rows of the status of an object's part on a member that is down. */
export const PART_ON_DOWN_MEMBER = [
  {
    byHand: powerOff("bcn1"),
    cure: powerOn("bcn1"),
    answer: "shown",
    why: "`Offline` for an unreachable member; its part is assumed unchanged",
  },
  {
    byHand: evacuateAndPowerOff("bcn1"),
    cure: powerOnAndRestore("bcn1"),
    answer: "shown",
    why: "`Evacuated` for a member that was evacuated and switched off; its part is assumed unchanged",
  },
] as const;
