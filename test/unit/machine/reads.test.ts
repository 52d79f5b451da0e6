import assert from "node:assert/strict";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { guestOf } from "../../../provider/machine/guest";
import { hostMachine } from "../../../provider/machine/host";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";
import { type SimulatedCluster, startWithInstance } from "../resources/simulated-cluster";

const PATHS = ["/etc/passwd", "/etc/hostname", "/nowhere", "/etc/sudoers.d"];

describe("Reads of several resources at the same time", () => {
  let one: SimulatedCluster;
  let ssh: SshConnection;
  const deadline = (): Deadline => new Deadline(30, "reading");

  beforeEach(async () => {
    one = await startWithInstance("container");
    ssh = await connect(connectionSchema.parse(one.lab.host("bcn2").connection), { deadline: deadline() });
  });
  afterEach(async () => {
    await disconnectAll();
    await one.stop();
  });

  it("cost one command on a host", async () => {
    const since = one.lab.host("bcn2").commands.length;
    const read = await Promise.all(PATHS.map((path) => hostMachine(ssh, deadline()).readFile(path)));
    assert.deepEqual(
      read.map((found) => found?.type),
      ["file", "file", undefined, "directory"],
    );
    assert.equal(one.lab.host("bcn2").commands.length - since, 1);
    assert.equal((await hostMachine(ssh, deadline()).digestFile("/etc/hostname"))?.sha256.length, 64);
    assert.equal(one.lab.host("bcn2").commands.length - since, 2);
  });

  it("cost one connection in an instance, and another one after it broke", async () => {
    const lxd = new LxdClient(await endpointOf(ssh, deadline()), deadline());
    const connections = (): number => one.lab.requests.filter(({ path }) => path.includes("/sftp")).length;
    const readAll = () => Promise.all(PATHS.map((path) => guestOf({ lxd, project: "default", name: "web1" }).readFile(path)));
    assert.deepEqual(
      (await readAll()).map((found) => found?.type),
      ["file", "file", undefined, "directory"],
    );
    assert.equal(connections(), 1);
    const fault = one.lab.faults.add({ when: { file: /hostname/, nth: 1 }, effect: "drop-before" });
    await assert.rejects(readAll(), { code: "transport" });
    fault.remove();
    assert.equal((await readAll()).length, PATHS.length);
  });
});
