import assert from "node:assert/strict";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../../provider/resources/machine-packages";
import type { Subject } from "./harness";

const PAIR = { vm: vmPackagesLifecycle, host: hostPackagesLifecycle };

/** Packages of Debian: jq needs libjq1. A machine of the suite can install both, and has none of them. */
export function packagesContract({ manage, args, output, exitCode }: Subject): void {
  const tools = (packages: readonly unknown[], more: object = {}): object => args({ packages, ...more });
  /** The wish for a package, and its state: `install ok installed`. */
  const stateOf = async (name: string): Promise<string> => {
    const format = "--showformat=${db:Status-Want} ${db:Status-Status}\\n";
    return (await exitCode("dpkg-query", "--show", format, name)) === 0
      ? output("dpkg-query", "--show", format, name)
      : "unknown";
  };
  const available = async (name: string): Promise<string> =>
    (await output("apt-cache", "madison", "--", name)).split("|")[1]?.trim() ?? "";
  const isInstalled = async (name: string): Promise<boolean> => (await stateOf(name)).endsWith(" installed");

  it("is installed, repaired, held and removed", async () => {
    const it = manage(PAIR);
    assert.equal(await isInstalled("jq"), false);
    assert.equal(await it.up(tools(["jq"], { removeOnDelete: true })), "created");
    assert.equal(await stateOf("jq"), "install installed");
    assert.equal(await it.preview(tools(["jq"], { removeOnDelete: true })), "same");
    await output("apt-get", "--yes", "remove", "jq");
    assert.equal(await it.preview(tools(["jq"], { removeOnDelete: true })), "updated");
    const held = tools([{ name: "jq", hold: true }], { removeOnDelete: true });
    assert.equal(await it.up(held), "updated");
    assert.equal(await stateOf("jq"), "hold installed");
    await output("apt-mark", "unhold", "jq");
    assert.equal(await it.up(held), "updated");
    assert.equal(await stateOf("jq"), "hold installed");
    await it.destroy();
    assert.equal(await isInstalled("jq"), false);
  });

  it("is installed in a version, and refused in another one", async () => {
    const it = manage(PAIR);
    const version = await available("jq");
    await it.preview(tools([{ name: "jq", version: "9.9-9" }]));
    assert.match(it.notes.join(), /pulumi up will refuse this, unless newer package lists have it.*no version 9\.9-9 of "jq"/);
    await assert.rejects(it.up(tools([{ name: "jq", version: "9.9-9" }])), /have no version 9\.9-9 of "jq" .* They have 1\./);
    assert.equal(await isInstalled("jq"), false);
    assert.equal(await it.up(tools([{ name: "jq", version }], { removeOnDelete: true })), "created");
    assert.deepEqual(it.state?.["versions"], { jq: version });
    await assert.rejects(it.up(tools([{ name: "jq", version: "0.1-1" }])), /packages asks for 0\.1-1, which is older/);
    await it.destroy();
    assert.equal(await isInstalled("jq"), false);
  });

  it("is refused when no source has it, and nothing is installed", async () => {
    await assert.rejects(manage(PAIR).up(tools(["jq", "no-such-package"])), /have no package "no-such-package"/);
    assert.equal(await isInstalled("jq"), false);
  });

  it("is not removed when others would go with it", async () => {
    const [library, program] = [manage(PAIR, "library"), manage(PAIR, "program")];
    await output("apt-get", "--yes", "remove", "libjq1");
    await library.up(tools(["libjq1"], { removeOnDelete: true }));
    await program.up(tools(["jq"], { removeOnDelete: true }));
    await assert.rejects(library.destroy(), /To remove libjq1 .*, apt would also remove jq\. Nothing was installed or removed/);
    await assert.rejects(manage(PAIR, "no").up(tools([{ name: "libjq1", absent: true }])), /apt would also remove jq/);
    assert.deepEqual([await isInstalled("libjq1"), await isInstalled("jq")], [true, true]);
    await program.destroy();
    await library.destroy();
    assert.deepEqual([await isInstalled("libjq1"), await isInstalled("jq")], [false, false]);
  });

  it("is removed when it must be absent, and stays when its resource goes", async () => {
    const it = manage(PAIR);
    await it.up(tools(["jq"]));
    assert.equal(await it.up(tools(["libjq1", { name: "jq", absent: true }])), "updated");
    assert.deepEqual([await isInstalled("libjq1"), await isInstalled("jq")], [true, false]);
    await it.destroy();
    assert.equal(await isInstalled("libjq1"), true);
  });
}
