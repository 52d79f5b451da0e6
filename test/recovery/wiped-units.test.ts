import assert from "node:assert/strict";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { installOf } from "../../lab/real/flavours";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { disconnectAll } from "../../provider/transport/pool";
import { attachOrSkip, isInLab } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";

/** A unit of another package: systemd stops it together with LXD, and nothing starts it again. */
const unitOf = (server: string): string =>
  `[Unit]\nRequires=${server}\nAfter=${server}\n[Service]\nExecStart=/bin/sleep infinity\n`;

describe("A wipe of LXD's Debian package", () => {
  let lab: RealLab;

  /** Runs a script inside the host. It must succeed. */
  const onHost = async (script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec("bcn2", ["sh", "-c", script]);
    assert.equal(exitCode, 0, `${script}: ${stderr}`);
    return stdout.trim();
  };
  /**
   * Names of all active units, except mounts and scopes, which LXD manages, and a user's units, which end some time
   * after the last login.
   */
  const active = async (): Promise<string[]> =>
    (await onHost("systemctl list-units --state=active --plain --no-legend --type=service,socket,timer,path,target"))
      .split("\n")
      .map((line) => line.split(" ", 1)[0] ?? "")
      .filter((unit) => !/^user(-runtime-dir)?@/.test(unit));

  before(async function () {
    lab = await attachOrSkip(this);
    await lab.resetHosts();
  });

  after(async () => {
    if (isInLab) {
      await disconnectAll();
      await lab.resetHosts();
    }
  });

  it("leaves every active unit active, also a foreign one that requires LXD", async () => {
    const connection = { host: "192.168.1.102", privateKeyPath: join(lab.home, ".ssh", "id_ed25519") };
    const args = { connection, install: installOf(lab.flavour) };
    await new Managed(nodeLifecycle as never, "bcn2").up(args);
    await onHost(
      `printf '${unitOf(lab.flavour.units[1]).replaceAll("\n", "\\n")}' >/etc/systemd/system/web.service; systemctl daemon-reload; systemctl start web.service; ` +
        `${lab.flavour.client} config set core.https_address=192.168.1.102:8443; ${lab.flavour.client} cluster enable bcn2`,
    );
    const before = await active();
    assert.ok([...lab.flavour.units, lab.flavour.startupUnit, "web.service"].every((unit) => before.includes(unit)));
    await new Managed(nodeLifecycle as never, "anew").up({ ...args, resetPolicy: ["cluster"] });
    assert.match(await onHost(`${lab.flavour.client} query /1.0`), /"server_clustered": false/);
    const after = await active();
    assert.deepEqual(
      before.filter((unit) => !after.includes(unit)),
      [],
    );
  });
});
