import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import type { RealLab } from "../../../lab/real/index";

/** Within it a member that runs is heard of: LXD's leader asks every 10 s, and a machine with much to do is late with that. */
const PATIENCE_SECONDS = 90;

/**
 * The status of each member, as `host` sees it. "Offline" is what LXD says of a member that has started, too, until its next heartbeat: it is
 * the answer only when it has not changed within 90 s.
 */
export async function statesOnceHeard(lab: RealLab, host: string): Promise<Record<string, string>> {
  const until = Date.now() + PATIENCE_SECONDS * 1000;
  for (;;) {
    const { stdout, stderr, exitCode } = await lab.hostExec(host, ["lxc", "query", "/1.0/cluster/members?recursion=1"]);
    assert.equal(exitCode, 0, `the members of the cluster cannot be read on ${host}: ${stderr}`);
    const members = JSON.parse(stdout) as { server_name: string; status: string }[];
    const states = Object.fromEntries(members.map(({ server_name, status }) => [server_name, status]));
    if (!Object.values(states).includes("Offline") || Date.now() > until) {
      return states;
    }
    await setTimeout(1000);
  }
}
