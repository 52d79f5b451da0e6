import assert from "node:assert/strict";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import type { ImageFiles } from "../../provider/lxd/images/files";
import type { HarnessHost } from "../contract/lxd/harness";
import { lxdContract } from "../contract/lxd/lxd-contract";
import { LISTEN } from "../support/listen";
import { attachOrSkip } from "../support/real-lab";

lxdContract("real hosts", async (context) => {
  const lab = await attachOrSkip(context);
  await lab.resetHosts();
  const { name: flavour, release, units } = lab.flavour;
  const filesOf = (name: string): ImageFiles => {
    const folder = join(lab.home, "lxd-images", name);
    return { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
  };
  const [primary, secondary] = lab.hosts.map(({ name, address, hostKey }): HarnessHost => {
    const privateKeyPath = join(lab.home, ".ssh", "id_ed25519");
    const connection = { host: address, user: lab.shape.user, hostKey, privateKeyPath };
    return { name, address: `${isIPv6(address) ? `[${address}]` : address}:8443`, connection };
  });
  assert.ok(primary && secondary, "the lab has fewer than two hosts");
  return {
    flavour,
    kind: lab.shape.name === "lan" ? "real" : "real, strict",
    primary,
    secondary,
    image: filesOf("idle"),
    otherImage: filesOf("idle-newer"),
    debian: filesOf("debian-12"),
    hurtPackages: async (name) => {
      const hurt = `dpkg-query --status base-files > /var/lib/dpkg/updates/0001; echo 'deb cdrom:[Debian 12]/ ${release} main' > /etc/apt/sources.list.d/dead.list`;
      assert.equal((await lab.hostExec(name, ["sh", "-c", hurt])).exitCode, 0);
    },
    listen: async (name, address, port) => {
      const { exitCode, stdout, stderr } = await lab.hostExec(name, ["perl", "-e", LISTEN, address, String(port)]);
      assert.equal(exitCode, 0, stderr);
      return async () => assert.equal((await lab.hostExec(name, ["kill", stdout])).exitCode, 0);
    },
    killLxd: async (name) => {
      const kill = `systemctl kill --kill-who=main --signal=KILL ${units[1]}; systemctl start ${units[1]}`;
      assert.equal((await lab.hostExec(name, ["sh", "-c", kill])).exitCode, 0);
    },
    powerOff: (name) => lab.powerOff(name),
    stop: () => lab.resetHosts(),
  };
});
