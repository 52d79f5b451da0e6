import assert from "node:assert/strict";
import { readCluster } from "../../../cli/inventory";
import { programOf } from "../../../cli/program";
import { type Flavour, SimulatedLab } from "../../../lab/simulated";
import { disconnectAll } from "../../../provider/transport/pool";

describe("The program that adopts", () => {
  let lab: SimulatedLab;

  const adopted = async (
    flavour: Flavour,
    packages: string[],
    sources: Record<string, { server: string; protocol: string }> = {},
  ): Promise<ReturnType<typeof programOf>> => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", flavour, lxd: "deb" }] });
    const host = lab.host("bcn2");
    packages.forEach((name) => host.installPackage(name));
    for (const [alias, updateSource] of Object.entries(sources)) {
      const fingerprint = lab.seedImage("bcn2", { alias });
      const image = [...(host.daemon?.database.images.values() ?? [])].find((each) => each.fingerprint === fingerprint);
      assert(image !== undefined);
      image.updateSource = { alias, certificate: "", image_type: "container", ...updateSource };
    }
    await lab.byHand("bcn2", "PATCH", "/1.0/profiles/default", { config: { "environment.TOKEN": "s3cr3t" } });
    return programOf(await readCluster({ hosts: [host.connection], owned: false }, () => undefined));
  };

  afterEach(async () => {
    await disconnectAll();
    await lab.stop();
  });

  it("a host with Incus names the server, and its client where it prints secrets", async () => {
    const { text, secrets } = await adopted("trixie-incus", ["incus"]);
    assert.match(text, /install: \{\s*method: "deb",\s*server: "incus",?\s*\}/);
    assert.match(text, /^\/\/ Incus on the hosts$/m);
    assert.match(secrets.map(({ command }) => command).join(), /incus profile get default environment\.TOKEN/);
  });

  it("a host with the daemon's package alone names that package", async () => {
    const { text } = await adopted("trixie-incus7", []);
    assert.match(text, /server: "incus",\s*serverPackage: "incus-base"/);
  });

  it("a host with Incus has the images that it copied from another one, and says which ones it cannot copy", async () => {
    const { text } = await adopted("trixie-incus", [], {
      debian: { server: "https://incus.example.org", protocol: "incus" },
      nginx: { server: "https://docker.io", protocol: "oci" },
    });
    assert.match(text, /server: "https:\/\/incus\.example\.org",\s*protocol: "incus"/);
    assert.match(text, /image nginx\b.*LxdImage does not copy from https:\/\/docker\.io by the protocol oci/);
  });

  it("a host with LXD is as before", async () => {
    const { text, secrets } = await adopted("bookworm-lxd", []);
    assert.match(text, /install: \{\s*method: "deb",?\s*\}/);
    assert.match(text, /^\/\/ LXD on the hosts$/m);
    assert.match(secrets.map(({ command }) => command).join(), /lxc profile get default environment\.TOKEN/);
  });
});
