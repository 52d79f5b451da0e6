import * as z from "zod";
import type { SimulatedLab, SimulatedLabOptions } from "../../../lab/simulated";
import { type SimulatedCluster, startStandalone, startTwoMembers } from "../../unit/resources/simulated-cluster";
import { byHand, type Hand } from "./by-hand";

/** Simulated hosts on which one object is managed. */
export interface World {
  readonly lab: SimulatedLab;
  /** Arguments that say how the object is reached. */
  readonly reach: object;
  /** All that can be seen of the object from outside: what a repair must restore, and what must stay as it is otherwise. */
  look(): Promise<unknown>;
  stop(): Promise<void>;
}

/** LXD's answer to a GET; without what uses the object, which is no property of it. */
export async function see(two: SimulatedCluster, path: string, query?: Record<string, string>): Promise<unknown> {
  const found = await (await two.byHand()).find(path, z.unknown(), query);
  return found !== null && typeof found === "object" && "used_by" in found ? { ...found, used_by: undefined } : found;
}

/** A cluster of bcn2 and bcn1, in which something has been done by hand. */
export async function cluster(options: {
  lab?: Omit<SimulatedLabOptions, "hosts">;
  prepare?: readonly Hand[];
  look: (two: SimulatedCluster) => Promise<unknown>;
}): Promise<World> {
  return worldOf(await startTwoMembers(options.lab), options);
}

/** One server that is in no cluster. */
export async function standalone(options: {
  prepare?: readonly Hand[];
  look: (one: SimulatedCluster) => Promise<unknown>;
}): Promise<World> {
  return worldOf(await startStandalone(), options);
}

async function worldOf(
  started: SimulatedCluster,
  options: {
    prepare?: readonly Hand[];
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

/** A pool and a bridge, as a person makes them on both members. */
export const POOL_AND_BRIDGE: readonly Hand[] = [
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
const POWER_OFF: Hand = {
  words: "the power of all hosts is cut",
  act: async (lab) => {
    await Promise.all(lab.hosts.map((host) => host.powerOff()));
  },
};

const POWER_ON: Hand = {
  words: "the power is back",
  act: async (lab) => {
    await Promise.all(lab.hosts.map((host) => host.powerOn()));
  },
};

/** The row of a resource whose hosts are all away. */
export const ALL_POWER_CUT = {
  byHand: POWER_OFF,
  answer: "error",
  says: /cannot be reached by SSH/,
  cure: POWER_ON,
  why: "what cannot be seen is not gone",
} as const;

/** Only one of them is. */
export function powerOff(name: string): Hand {
  return { words: `the power of ${name} is cut`, act: (lab) => lab.host(name).powerOff() };
}

export function powerOn(name: string): Hand {
  return { words: `the power of ${name} is back`, act: (lab) => lab.host(name).powerOn() };
}
