/** What the checks judge, as plain data. */
import type { Config, Devices } from "../../provider/lxd/config";
import type { CommandResult } from "../../provider/transport/ssh";
import type { ClusterStatus, InstanceStatus } from "../status/contents";
import type { Answer } from "./rows";

export interface Facts {
  readonly status: ClusterStatus;
  /** Version of the server of each member that is not down. */
  readonly versions: Readonly<Record<string, Answer<string>>>;
  readonly space: readonly PoolSpace[];
  /** Interfaces that devices name, on each member that is not down. */
  readonly interfaces: readonly InterfaceFact[];
  /** Names of the managed networks that a project can use, by project. */
  readonly networks: Readonly<Record<string, Readonly<Record<string, { readonly type: string }>>>>;
  readonly profiles: readonly ProfileFact[];
  readonly instances: readonly InstanceFact[];
  /** Whether instances ping each other. */
  readonly ping: boolean;
}

/** A pool on a member. */
export interface PoolSpace {
  readonly pool: string;
  readonly member: string;
  /** `total` is 0 where the server does not tell it. */
  readonly space: Answer<{ readonly used: number; readonly total: number }>;
}

/** An interface of a member's host. */
export interface InterfaceFact {
  readonly name: string;
  readonly member: string;
  /** `up` or `down`; `undefined` when there is no such interface. */
  readonly state: Answer<string | undefined>;
}

export interface ProfileFact {
  readonly project: string;
  readonly name: string;
  readonly devices: Devices;
}

/** An instance. */
export interface InstanceFact {
  readonly status: InstanceStatus;
  /** Config and devices with those of its profiles. */
  readonly config: Config;
  readonly devices: Devices;
  /** Whether LXD told its state in time. */
  readonly hasState: boolean;
  /** -1 when the agent of a virtual machine does not answer. */
  readonly processes: number;
  /** Addresses by NIC, without loopback and link-local ones. */
  readonly addresses: Readonly<Record<string, readonly string[]>>;
  /** What is inside; absent when it does not run. */
  readonly guest?: GuestFact;
  /** What it pings. */
  readonly peer?: Peer;
}

/** Another instance, and its address on a network that both are on. */
export interface Peer {
  readonly name: string;
  readonly address: string;
}

/** What was asked inside an instance. */
export interface GuestFact {
  /** How each command ended; 127 when there is no such program, 124 when it did not end in time. */
  readonly commands: Answer<Readonly<Record<GuestCommand, Ending>> & { readonly ping?: Ending }>;
  /** Addresses of name servers. */
  readonly nameServers: Answer<readonly string[]>;
  readonly users: readonly UserFact[];
}

export type GuestCommand = "cloudInit" | "system" | "failedUnits" | "routes";

export type Ending = Pick<CommandResult, "exitCode" | "stdout">;

/** A user that a resource owns. */
export interface UserFact {
  readonly name: string;
  readonly found: Answer<{
    readonly exists: boolean;
    /** Its own file in sudoers.d, when there is one. */
    readonly sudo?: { readonly type: string; readonly uid: number; readonly mode: number } | undefined;
    /** Why sshd ignores its keys. */
    readonly obstacle?: { readonly path: string; readonly fact: string; readonly cure: string } | undefined;
  }>;
}
