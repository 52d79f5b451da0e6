/** What a daemon is told of the lab and of the host around it, and what it tells. */
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
  /** The answer that was worked out, whether or not a fault kept it back: HTTP status and, for an error, LXD's text. */
  answer?: { status: number; error?: string };
  /** Whether it asked for a change: anything but GET and HEAD, and not a command run in an instance. */
  mutating: boolean;
}

/** One lifecycle event, as LXD would send it to listeners. */
export interface LifecycleEvent {
  action: string;
  source: string;
  project: string;
  /** Member that did it. */
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

/** How long things take. All zero unless a test is about waiting. */
export interface Timings {
  /** Added to every operation. */
  operationMs: number;
  /** From the start of the daemon until it is ready. */
  daemonStartMs: number;
  /** From the start of an instance until its addresses are there. */
  addressMs: number;
  /** From the start of a virtual machine until its agent answers. */
  agentMs: number;
  /** How long `apt-get install` and `snap install` take. */
  installMs: number;
}

/** What a daemon needs of the host it runs on. */
export interface DaemonHost {
  readonly name: string;
  readonly lanAddress: string;
  readonly powered: boolean;
  readonly files: MemoryFiles;
  /** Names of the network interfaces that LXD has not made, and of those it has. */
  readonly interfaces: Map<string, { type: "loopback" | "physical" | "bridge"; hwaddr: string; addresses: string[] }>;
  readonly virtualMachines: boolean;
  readonly kernelVersion: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Whether a program is installed. */
  hasProgram(name: string): boolean;
  /** Closes what is connected to the API socket, as the end of the daemon does. */
  closeApiConnections(): void;
}
