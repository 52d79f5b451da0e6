import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { hasDebPackage, installDebPackages } from "../../../provider/host/apt";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";

describe("Debian packages", () => {
  let lab: SimulatedLab;
  let ssh: SshConnection;
  let deadline: Deadline;

  beforeEach(async () => {
    deadline = new Deadline(60, "installing");
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2" }] });
    ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
  });

  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, lab.host("bcn2").unknownCommands], [[], []]);
    await lab.stop();
  });

  it("wait for an apt-get that holds the package lists, as an interrupted up leaves it", async () => {
    lab.host("bcn2").packageTrouble.listsLocked = 3;
    assert.equal(await installDebPackages(ssh, [{ name: "lxd" }], deadline), undefined);
    assert.equal(await hasDebPackage(ssh, "lxd", deadline), true);
  });

  it("are installed after a power cut during dpkg, which is completed first", async () => {
    lab.host("bcn2").packageTrouble.interrupted = true;
    await installDebPackages(ssh, [{ name: "lxd" }], deadline);
    assert.equal(await hasDebPackage(ssh, "lxd", deadline), true);
  });

  it("come from the working sources, and a broken one is named", async () => {
    lab.host("bcn2").packageTrouble.deadSources = ["cdrom://[Debian 12]/ bookworm"];
    assert.match(
      (await installDebPackages(ssh, [{ name: "lxd" }], deadline)) ?? "",
      /repository 'cdrom:\/\/\[Debian 12\]\/ bookworm/,
    );
    assert.equal(await hasDebPackage(ssh, "lxd", deadline), true);
  });

  it("that no source has are refused, with the sources that could not be read, and nothing is installed", async () => {
    lab.host("bcn2").packageTrouble.deadSources = ["http://dead.example bookworm"];
    await assert.rejects(installDebPackages(ssh, [{ name: "lxd" }, { name: "nope" }], deadline), (error: unknown) => {
      assert.ok(hasCode(error, "refused"));
      assert.match(
        messageOf(error),
        /have no package "nope" \(install\.packages\)\. It cannot read all of its package sources: .*dead\.example/,
      );
      return true;
    });
    assert.equal(await hasDebPackage(ssh, "lxd", deadline), false);
  });

  it("are never removed, as apt-get would for a name that ends with a dash", async () => {
    await assert.rejects(installDebPackages(ssh, [{ name: "lvm2-" }], deadline), /have no package "lvm2-"/);
    assert.deepEqual(
      lab.host("bcn2").commands.filter((argv) => argv.includes("install")),
      [],
    );
  });

  it("are not installed if apt would remove others for them, which are named with what to do", async () => {
    const host = lab.host("bcn2");
    host.installPackage("ifupdown");
    host.packageTrouble.conflicts = { lxd: ["ifupdown"] };
    await assert.rejects(installDebPackages(ssh, [{ name: "lxd" }], deadline), (error: unknown) => {
      assert.ok(hasCode(error, "refused"));
      assert.match(
        messageOf(error),
        /^To install lxd on .*, apt would remove ifupdown.* \(E: Packages need to be removed but remove is disabled\.\).*type there: apt-get install lxd$/,
      );
      return true;
    });
    assert.deepEqual([host.packages.has("ifupdown"), host.packages.has("lxd")], [true, false]);
  });

  it("are installed on a host whose apt removes unneeded packages, and these stay", async () => {
    const host = lab.host("bcn2");
    host.installPackage("ifupdown");
    host.packageTrouble.unneeded = ["ifupdown"];
    await installDebPackages(ssh, [{ name: "lxd" }], deadline);
    assert.deepEqual([host.packages.has("ifupdown"), host.packages.has("lxd")], [true, true]);
  });

  it("that apt fails to install are reported with the error of apt-get, not of env", async () => {
    lab.faults.add({ when: { exec: /apt-get.* install -- lxd$/, nth: 1 }, effect: { status: 100, error: "E: No space left" } });
    await assert.rejects(
      installDebPackages(ssh, [{ name: "lxd" }], deadline),
      /CommandError: apt-get install on .* exit code 100: E: No space left/,
    );
  });
});
