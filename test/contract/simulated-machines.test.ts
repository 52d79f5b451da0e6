import assert from "node:assert/strict";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { runInInstance } from "../../provider/lxd/instances/exec";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect } from "../../provider/transport/pool";
import type { SshConnection } from "../../provider/transport/ssh";
import { type SimulatedCluster, startWithInstance } from "../unit/resources/simulated-cluster";
import { machineContract } from "./machines/machine-contract";

describe("simulated machines", () => {
  let one: SimulatedCluster;
  const deadline = (): Deadline => new Deadline(60, "a command of the suite");
  const ssh = (): Promise<SshConnection> =>
    connect(connectionSchema.parse(one.lab.host("bcn2").connection), { deadline: deadline() });

  before(async () => {
    one = await startWithInstance("container");
  });
  after(async () => {
    const unknown = [...one.lab.host("bcn2").unknownCommands, ...one.lab.unknownGuestCommands.map((argv) => argv.join(" "))];
    assert.deepEqual([one.lab.defects, unknown.filter((line) => !line.endsWith("no-such-program"))], [[], []]);
    await one.stop();
  });

  machineContract("a simulated guest", "vm", () => ({
    where: { cluster: one.cluster, instance: "web1" },
    run: async (...argv) => {
      const lxd = new LxdClient(await endpointOf(await ssh(), deadline()), deadline());
      return runInInstance({ lxd, project: "default", name: "web1" }, { argv, allowFailure: true });
    },
  }));

  machineContract("a simulated host", "host", () => ({
    where: { connection: one.lab.host("bcn2").connection },
    run: async (...argv) => (await ssh()).run(argv, { deadline: deadline(), allowFailure: true }),
  }));
});
