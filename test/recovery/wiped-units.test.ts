import assert from "node:assert/strict";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { bareHosts } from "../support/bare-hosts";
import { Managed } from "../unit/resources/simulated-cluster";

/** A unit of another package: systemd stops it together with LXD, and nothing starts it again. */
const unitOf = (server: string): string =>
  `[Unit]\nRequires=${server}\nAfter=${server}\n[Service]\nExecStart=/bin/sleep infinity\n`;

describe("A wipe of LXD's Debian package", () => {
  const hosts = bareHosts(["bcn2"]);
  const onHost = (script: string): Promise<string> => hosts.inShell("bcn2", script);
  /**
   * Names of all active units, except mounts and scopes, which LXD manages, and a user's units, which end some time
   * after the last login.
   */
  const active = async (): Promise<string[]> =>
    (await onHost("systemctl list-units --state=active --plain --no-legend --type=service,socket,timer,path,target"))
      .split("\n")
      .map((line) => line.split(" ", 1)[0] ?? "")
      .filter((unit) => !/^user(-runtime-dir)?@/.test(unit));

  it("leaves every active unit active, also a foreign one that requires LXD", async () => {
    const args = hosts.node("bcn2");
    await new Managed(nodeLifecycle as never, "bcn2").up(args);
    await onHost(
      `printf '${unitOf(hosts.lab.flavour.units[1]).replaceAll("\n", "\\n")}' >/etc/systemd/system/web.service; systemctl daemon-reload; systemctl start web.service; ` +
        `${hosts.lab.flavour.client} config set core.https_address=192.168.1.102:8443; ${hosts.lab.flavour.client} cluster enable bcn2`,
    );
    const before = await active();
    assert.ok([...hosts.lab.flavour.units, hosts.lab.flavour.startupUnit, "web.service"].every((unit) => before.includes(unit)));
    await new Managed(nodeLifecycle as never, "anew").up({ ...args, resetPolicy: ["cluster"] });
    assert.match(await onHost(`${hosts.lab.flavour.client} query /1.0`), /"server_clustered": false/);
    const after = await active();
    assert.deepEqual(
      before.filter((unit) => !after.includes(unit)),
      [],
    );
  });
});
