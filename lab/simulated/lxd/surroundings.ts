/** What a daemon knows of the lab and of its host, and what it records. */
import type { MemoryFiles } from "../memory-files";
import type { Config } from "./config";

/** One request as tests see it. */
export interface RequestRecord {
  host: string;
  method: string;
  /** Path and query. */
  path: string;
  /** The endpoint, such as `/1.0/profiles/{name}`. */
  route: string;
  /** The computed answer, whether or not a fault suppressed it: HTTP status and, for an error, LXD's text. */
  answer?: { status: number; error?: string };
  /** Whether it asked for a change: any method but GET and HEAD, except commands in an instance. */
  mutating: boolean;
}

/** One lifecycle event, as LXD would send it to listeners. */
export interface LifecycleEvent {
  action: string;
  source: string;
  project: string;
  /** Member that caused it. */
  location: string;
}

/** An image that a simplestreams server offers. */
export interface RemoteImage {
  server: string;
  aliases: string[];
  type: "container" | "virtual-machine";
  fingerprint: string;
  properties: Config;
}

/** Durations. All but `idleMs` are zero unless a test is about waiting. */
export interface Timings {
  /** Added to every operation. */
  operationMs: number;
  /** From the start of the daemon until it is ready. */
  daemonStartMs: number;
  /** From the start of an instance until it has its addresses. */
  addressMs: number;
  /** From the start of a virtual machine until its agent answers. */
  agentMs: number;
  /** From the loss of a peer until a member of Incus hears its own heartbeats again. */
  heartbeatMs: number;
  /** From the loss of a member until the others report it as offline: 20 s in the real one. */
  missedMs: number;
  /** Duration of `apt-get install` and `snap install`. */
  installMs: number;
  /** From the end of a request until Incus closes a connection that has no other: 30 seconds, as in the real one, unless a test is about it. */
  idleMs: number;
}

/** A network interface of a host. */
export interface HostInterface {
  readonly type: "loopback" | "physical" | "bridge";
  readonly hwaddr: string;
  readonly addresses: string[];
  /** Process of the server that gives DNS and DHCP on its bridge. */
  readonly dnsmasqPid?: number | undefined;
  /** Whether it was set down by hand. */
  readonly isDown?: boolean;
}

/** What a daemon needs of its host. */
export interface DaemonHost {
  readonly name: string;
  readonly lanAddress: string;
  readonly powered: boolean;
  readonly files: MemoryFiles;
  /** Names of the network interfaces, those of LXD and others. */
  readonly interfaces: Map<string, HostInterface>;
  /** Processes of others that listen on an address, or on all (0.0.0.0). A test adds them. */
  readonly listeners: { readonly process: string; readonly pid: number; readonly address: string; readonly port: number }[];
  readonly virtualMachines: boolean;
  readonly kernelVersion: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** What is in use of it, without its instances. A test may change it. */
  readonly usage: { memoryBytes: number; load: number; diskBytes: number };
  /** Whether a program is installed. */
  hasProgram(name: string): boolean;
  /** Closes the connections to the API socket, as the end of the daemon does. */
  closeApiConnections(): void;
}
