import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { NODE_TERMS } from "../../../provider/host/deb-upgrade";
import { hostMachine } from "../../../provider/machine/host";
import type { Machine } from "../../../provider/machine/machine";
import { hasDebPackage, installDebPackages } from "../../../provider/machine/packages/apt";
import type { PackageChoice } from "../../../provider/machine/packages/manager";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";

describe("Debian packages", () => {
  let lab: SimulatedLab;
  let host: Machine;
  let deadline: Deadline;

  beforeEach(async () => {
    deadline = new Deadline(60, "installing");
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2" }] });
    host = hostMachine(await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline }), deadline);
  });

  const install = (packages: readonly PackageChoice[]): Promise<string | undefined> =>
    installDebPackages(host, packages, { deadline, terms: NODE_TERMS });

  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, lab.host("bcn2").unknownCommands], [[], []]);
    await lab.stop();
  });

  it("wait for an apt-get that holds the package lists, as an interrupted up leaves it", async () => {
    lab.host("bcn2").packageTrouble.listsLocked = 3;
    assert.equal(await install([{ name: "lxd" }]), undefined);
    assert.equal(await hasDebPackage(host, "lxd"), true);
  });

  it("are installed after a power cut during dpkg, which is completed first", async () => {
    lab.host("bcn2").packageTrouble.interrupted = true;
    await install([{ name: "lxd" }]);
    assert.equal(await hasDebPackage(host, "lxd"), true);
  });

  it("come from the working sources, and a broken one is named", async () => {
    lab.host("bcn2").packageTrouble.deadSources = ["cdrom://[Debian 12]/ bookworm"];
    assert.match((await install([{ name: "lxd" }])) ?? "", /repository 'cdrom:\/\/\[Debian 12\]\/ bookworm/);
    assert.equal(await hasDebPackage(host, "lxd"), true);
  });

  it("that no source has are refused, with the sources that could not be read, and nothing is installed", async () => {
    lab.host("bcn2").packageTrouble.deadSources = ["http://dead.example bookworm"];
    await assert.rejects(install([{ name: "lxd" }, { name: "nope" }]), (error: unknown) => {
      assert.ok(hasCode(error, "refused"));
      assert.match(
        messageOf(error),
        /have no package "nope" \(install\.packages\)\. It cannot read all of its package sources: .*dead\.example/,
      );
      return true;
    });
    assert.equal(await hasDebPackage(host, "lxd"), false);
  });

  it("are never removed, as apt-get would for a name that ends with a dash", async () => {
    await assert.rejects(install([{ name: "lvm2-" }]), /have no package "lvm2-"/);
    assert.deepEqual(
      lab.host("bcn2").commands.filter((argv) => argv.includes("install")),
      [],
    );
  });

  it("are not installed if apt would remove others for them, which are named with what to do", async () => {
    const there = lab.host("bcn2");
    there.installPackage("ifupdown");
    there.packageTrouble.conflicts = { lxd: ["ifupdown"] };
    await assert.rejects(install([{ name: "lxd" }]), (error: unknown) => {
      assert.ok(hasCode(error, "refused"));
      assert.match(
        messageOf(error),
        /^To install lxd on .*, apt would remove ifupdown.* \(E: Packages need to be removed but remove is disabled\.\).*type there: apt-get install lxd$/,
      );
      return true;
    });
    assert.deepEqual([there.packages.has("ifupdown"), there.packages.has("lxd")], [true, false]);
  });

  it("are installed on a host whose apt removes unneeded packages, and these stay", async () => {
    const there = lab.host("bcn2");
    there.installPackage("ifupdown");
    there.packageTrouble.unneeded = ["ifupdown"];
    await install([{ name: "lxd" }]);
    assert.deepEqual([there.packages.has("ifupdown"), there.packages.has("lxd")], [true, true]);
  });

  it("that apt fails to install are reported with the error of apt-get, not of env", async () => {
    lab.faults.add({ when: { exec: /apt-get.* install -- lxd$/, nth: 1 }, effect: { status: 100, error: "E: No space left" } });
    await assert.rejects(install([{ name: "lxd" }]), /CommandError: apt-get install on .* exit code 100: E: No space left/);
  });
});
