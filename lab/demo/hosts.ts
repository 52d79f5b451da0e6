/** The hosts that the demo's stack is for. */
export interface DemoHosts {
  /** What they are, as a sentence for the screen. */
  readonly description: string;
  /** Folder for everything of the demo; it goes with the hosts. */
  readonly stateDir: string;
  /** Environment of the programs that are run for the demo; `HOME` has the SSH key, known_hosts and the guest image. */
  readonly environment: NodeJS.ProcessEnv;
  /** Whether they are there. */
  isUp(): Promise<boolean>;
  /** Makes them; those that are there already stay as they are, and boot when they are off. */
  start(log: (line: string) => void): Promise<void>;
  /** Where a host is reached from where the programs run, when that is not its own address. */
  connectionOf(host: string): Record<string, unknown>;
  /** The argument array that runs a program where the hosts can be reached. */
  argv(argv: readonly string[]): string[];
  /** Runs a command as root on a host, on this terminal, and gives back its exit status. */
  runOnHost(host: string, argv: readonly string[]): Promise<number>;
  /** Logs in to a VM on this terminal. */
  logIn(user: string, address: string, argv: readonly string[]): Promise<number>;
  /** A command that changes something behind Pulumi's back, to be typed after `host NAME --`. */
  readonly mischief: string;
  /** Whether something runs in the VMs that one can log in to. */
  readonly canLogIn: boolean;
  /** Removes the hosts and everything of the demo. */
  clear(): Promise<void>;
}
