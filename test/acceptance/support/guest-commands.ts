import { join } from "node:path";
import type { RealLab } from "../../../lab/real";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { type CommandResult, runInInstance } from "../../../provider/lxd/instances/exec";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect } from "../../../provider/transport/pool";

/**
 * Runs a command in an instance, and returns its output. It must succeed. By recorded output, as the library does: LXD's client
 * loses all output of a command now and then, with exit status 0 (`lxc exec` of Debian 13's LXD: three times in 1500).
 */
export async function runInGuest(lab: RealLab, instance: string, ...argv: string[]): Promise<string> {
  return (await tryInGuest(lab, instance, argv, false)).stdout;
}

/** {@link runInGuest} with the exit code of a command that may fail. */
export async function tryInGuest(
  lab: RealLab,
  instance: string,
  argv: readonly string[],
  allowFailure = true,
): Promise<CommandResult> {
  const deadline = new Deadline(300, `a command in ${instance}`);
  const [host] = lab.hosts;
  const privateKeyPath = join(lab.home, ".ssh", "id_ed25519");
  const connection = connectionSchema.parse({ host: host?.address, hostKey: host?.hostKey, privateKeyPath });
  const lxd = new LxdClient(await endpointOf(await connect(connection, { deadline }), deadline), deadline);
  return runInInstance({ lxd, project: "default", name: instance }, { argv, allowFailure });
}
