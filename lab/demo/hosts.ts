/** The hosts that the demo's stack runs on. */
export interface DemoHosts {
  /** Description of the hosts, one sentence for the screen. */
  readonly description: string;
  /** The server that the hosts can install. */
  readonly product: "LXD" | "Incus";
  /** Folder for all files of the demo; removed with the hosts. */
  readonly stateDir: string;
  /** Environment of the programs that the demo runs; `HOME` holds the SSH key, known_hosts and the guest image. */
  readonly environment: NodeJS.ProcessEnv;
  /** Whether the hosts are up. */
  isUp(): Promise<boolean>;
  /** Creates the hosts. Existing hosts stay unchanged, and boot if they are off. */
  start(log: (line: string) => void): Promise<void>;
  /** Address of a host for the programs that run, if it differs from the host's own address. */
  connectionOf(host: string): Record<string, unknown>;
  /** `LxdNode.install` of the hosts. */
  readonly install: Record<string, unknown>;
  /** The argument array that runs a program where it can reach the hosts. */
  argv(argv: readonly string[]): string[];
  /** Runs a command as root on a host, on this terminal. Returns its exit status. */
  runOnHost(host: string, argv: readonly string[]): Promise<number>;
  /** Logs in to a VM on this terminal. */
  logIn(user: string, address: string, argv: readonly string[]): Promise<number>;
  /** A command that causes drift, to be typed after `host NAME --`. */
  readonly mischief: string;
  /** Whether the VMs run an operating system to log in to. */
  readonly canLogIn: boolean;
  /** Removes the hosts and all files of the demo. */
  clear(): Promise<void>;
}
