import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import type { RealLab } from "../../../lab/real/index";

/** Maximum time until a running member has a heartbeat: LXD's leader asks every 10 s, and a busy machine is late. */
const PATIENCE_SECONDS = 90;

/**
 * The status of each member, as `host` sees it. LXD reports "Offline" also for a member that has just started, until
 * its next heartbeat. So "Offline" is returned only if it stays for 90 s.
 */
export async function statesOnceHeard(lab: RealLab, host: string): Promise<Record<string, string>> {
  const until = Date.now() + PATIENCE_SECONDS * 1000;
  for (;;) {
    const { stdout, stderr, exitCode } = await lab.hostExec(host, [
      lab.flavour.client,
      "query",
      "/1.0/cluster/members?recursion=1",
    ]);
    assert.equal(exitCode, 0, `the members of the cluster cannot be read on ${host}: ${stderr}`);
    const members = JSON.parse(stdout) as { server_name: string; status: string }[];
    const states = Object.fromEntries(members.map(({ server_name, status }) => [server_name, status]));
    if (!Object.values(states).includes("Offline") || Date.now() > until) {
      return states;
    }
    await setTimeout(1000);
  }
}
