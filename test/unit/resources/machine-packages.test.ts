import assert from "node:assert/strict";
import type { PackagedMachine } from "../../../lab/simulated/programs/packages";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../../provider/resources/machine-packages";
import { connectionSchema } from "../../../provider/transport/connection";
import { Managed, type SimulatedCluster, startWithInstance } from "./simulated-cluster";

/** The packages of a simulated machine. */
type Software = Pick<PackagedMachine, "heldPackages" | "packageTrouble" | "installPackage"> & {
  readonly packages: Map<string, string>;
  readonly archive: Map<string, string>;
};

/** Both ways in to the same lifecycle. */
const WAYS = {
  VmPackages: {
    lifecycle: vmPackagesLifecycle,
    where: ({ cluster }: SimulatedCluster): object => ({ cluster, instance: "web1" }),
    software: ({ lab }: SimulatedCluster): Software => lab.guestSoftware("bcn2", "web1"),
    files: ({ lab }: SimulatedCluster) => lab.guestFiles("bcn2", "web1"),
    place: /instance "web1"/,
  },
  HostPackages: {
    lifecycle: hostPackagesLifecycle,
    where: ({ lab }: SimulatedCluster): object => ({ connection: connectionSchema.parse(lab.host("bcn2").connection) }),
    software: ({ lab }: SimulatedCluster): Software => lab.host("bcn2"),
    files: ({ lab }: SimulatedCluster) => lab.host("bcn2").files,
    place: /root@127\.0\.0\.1/,
  },
} as const;

const JQ = "1.6-2.1+deb12u1";
const CURL = "7.88.1-10+deb12u14";

for (const [kind, way] of Object.entries(WAYS)) {
  describe(kind, () => {
    let one: SimulatedCluster;
    let software: Software;
    let tools: Managed;

    const args = (packages: readonly unknown[] = ["jq"], more: object = {}): object => ({ ...way.where(one), packages, ...more });
    const versions = (...names: string[]): (string | undefined)[] => names.map((name) => software.packages.get(name));
    /** Commands on the machine that begin so, since the last call. */
    const commandsOf = (program: string): string[] =>
      one.lab.faults.moments.flatMap((moment) => {
        const line = "guest" in moment ? moment.guest : "exec" in moment ? moment.exec : "";
        return line.includes(program) ? [line] : [];
      });
    const age = (path: string, seconds: number): void => {
      const node = way.files(one).get(path);
      assert.ok(node);
      node.modified = new Date(Date.now() - seconds * 1000);
    };

    beforeEach(async () => {
      one = await startWithInstance("container");
      software = way.software(one);
      tools = new Managed(way.lifecycle as never, "tools");
    });
    afterEach(async () => {
      assert.deepEqual([one.lab.defects, one.lab.host("bcn2").unknownCommands, one.lab.unknownGuestCommands], [[], [], []]);
      await one.stop();
    });

    it("are installed, and stay when the resource is removed", async () => {
      assert.equal(await tools.up(args(["jq", "curl"])), "created");
      assert.deepEqual(versions("jq", "curl"), [JQ, CURL]);
      assert.deepEqual(tools.state?.["versions"], { jq: JQ, curl: CURL });
      assert.deepEqual(tools.state["installed"], ["jq", "curl"]);
      assert.ok(tools.progress.some((text) => /^installing jq, curl /.test(text) && way.place.test(text)));
      assert.equal(await tools.up(args(["jq", "curl"])), "same");
      assert.equal(await tools.preview(args(["curl", { name: "jq", absent: false }])), "same");
      await tools.destroy();
      assert.deepEqual(versions("jq", "curl"), [JQ, CURL]);
    });

    it("that are there already are only listed", async () => {
      software.installPackage("jq", "1.5");
      assert.equal(await tools.up(args()), "created");
      assert.deepEqual(commandsOf("apt"), []);
      assert.deepEqual(
        commandsOf("").filter((line) => line !== "" && !line.startsWith("dpkg-query ")),
        [],
      );
      assert.deepEqual([tools.state?.["installed"], tools.state?.["versions"]], [[], { jq: "1.5" }]);
    });

    it("are brought to a newer version, held, released and removed", async () => {
      software.installPackage("jq", "1.5-1");
      await tools.up(args([{ name: "jq", version: JQ, hold: true }, "curl"]));
      assert.deepEqual([...versions("jq", "curl"), software.heldPackages.has("jq")], [JQ, CURL, true]);
      software.archive.set("jq", "1.7-1");
      const newer = [
        { name: "jq", version: "1.7-1", hold: true },
        { name: "curl", absent: true },
      ];
      assert.equal(await tools.up(args(newer)), "updated");
      assert.deepEqual([...versions("jq", "curl"), software.heldPackages.has("jq")], ["1.7-1", undefined, true]);
      assert.equal(await tools.up(args([{ name: "jq", hold: false }])), "updated");
      assert.equal(software.heldPackages.has("jq"), false);
      assert.equal(await tools.up(args()), "updated");
      assert.deepEqual(tools.state?.["packages"], [{ name: "jq" }]);
    });

    it("that the resource held are removed when they must be absent", async () => {
      await tools.up(args([{ name: "jq", hold: true }]));
      const absent = args([{ name: "jq", absent: true }]);
      await tools.preview(absent);
      assert.deepEqual(
        tools.notes.filter((note) => note.includes("refuse")),
        [],
      );
      assert.equal(await tools.up(absent), "updated");
      assert.deepEqual([...versions("jq"), software.heldPackages.has("jq")], [undefined, false]);
    });

    it("that somebody else held are refused when they must be absent", async () => {
      software.installPackage("jq");
      software.heldPackages.add("jq");
      await assert.rejects(tools.up(args([{ name: "jq", absent: true }])), /jq cannot be removed: held .*apt-mark unhold jq/);
    });

    it("keep a hold through a failed upgrade", async () => {
      await tools.up(args([{ name: "jq", version: JQ, hold: true }]));
      software.archive.set("jq", "1.7-1");
      software.packageTrouble.broken = ["jq"];
      const newer = args([{ name: "jq", version: "1.7-1", hold: true }]);
      await assert.rejects(
        tools.up(newer),
        /is not finished: apt, installing jq, on .* failed with exit code 100: E: Sub-process/,
      );
      assert.deepEqual([...versions("jq"), software.heldPackages.has("jq")], [JQ, true]);
      software.packageTrouble.broken = [];
      assert.equal(await tools.up(newer), "updated");
      assert.deepEqual([...versions("jq"), software.heldPackages.has("jq")], ["1.7-1", true]);
    });

    it("that drifted are repaired; upgrades without a version are only shown", async () => {
      await tools.up(args(["jq", { name: "curl", hold: true }]));
      software.installPackage("jq", "1.9-1");
      assert.equal(await tools.up(args(["jq", { name: "curl", hold: true }])), "same");
      assert.deepEqual(tools.state?.["versions"], { jq: "1.9-1", curl: CURL });
      software.packages.delete("jq");
      software.heldPackages.delete("curl");
      assert.equal(await tools.preview(args(["jq", { name: "curl", hold: true }])), "updated");
      assert.deepEqual(tools.state["packages"], [{ name: "curl", hold: false }]);
      assert.equal(await tools.up(args(["jq", { name: "curl", hold: true }])), "updated");
      assert.deepEqual([...versions("jq"), software.heldPackages.has("curl")], [JQ, true]);
    });

    describe("with removeOnDelete", () => {
      it("are removed with the resource, but not those that were there before", async () => {
        software.installPackage("jq");
        await tools.up(args(["jq", { name: "curl", hold: true }], { removeOnDelete: true }));
        await tools.destroy();
        assert.deepEqual(versions("jq", "curl"), [JQ, undefined]);
      });

      it("are not removed when others would go with them, which are named", async () => {
        await tools.up(args(["jq"], { removeOnDelete: true }));
        software.installPackage("needs-jq", "1");
        software.packageTrouble.dependents = { jq: ["needs-jq"] };
        await assert.rejects(tools.destroy(), /To remove jq .*, apt would also remove needs-jq\. Nothing was/);
        assert.deepEqual(versions("jq", "needs-jq"), [JQ, "1"]);
        software.packages.delete("needs-jq");
        await tools.destroy();
        assert.deepEqual(versions("jq"), [undefined]);
      });

      it("are not removed when somebody else holds them", async () => {
        await tools.up(args(["jq"], { removeOnDelete: true }));
        software.heldPackages.add("jq");
        await assert.rejects(tools.destroy(), /jq cannot be removed: held .*apt-mark unhold jq/);
      });

      it("are given up by the resource when they are taken off its list", async () => {
        await tools.up(args(["jq", "curl"], { removeOnDelete: true }));
        await tools.up(args(["curl"], { removeOnDelete: true }));
        await tools.destroy();
        assert.deepEqual(versions("jq", "curl"), [JQ, undefined]);
      });
    });

    describe("and the package lists", () => {
      it("are updated when they are old", async () => {
        age("/var/lib/apt/lists", 7200);
        await tools.up(args(["jq"]));
        assert.equal(commandsOf("Error-Mode=any update").length, 1);
        await tools.up(args(["jq", "curl"]));
        assert.equal(commandsOf("Error-Mode=any update").length, 1); // they are fresh now
        age("/var/lib/apt/lists", 7200);
        await tools.up(args(["jq", "curl", "libjq1"], { cacheSeconds: 10_000 }));
        assert.equal(commandsOf("Error-Mode=any update").length, 1);
      });

      it("are updated when they do not have a package", async () => {
        software.packageTrouble.unlisted = ["jq"];
        await tools.preview(args());
        assert.match(
          tools.notes.join(),
          /pulumi up will refuse this, unless newer package lists have it.*no package "jq" \(packages\)/,
        );
        await tools.up(args());
        assert.deepEqual([commandsOf("Error-Mode=any update").length, ...versions("jq")], [1, JQ]);
      });

      it("are waited for while another program updates them", async () => {
        software.packageTrouble.listsLocked = 2;
        await tools.up(args(["jq"], { cacheSeconds: 0 }));
        assert.deepEqual(versions("jq"), [JQ]);
      });

      it("come from the sources that can be read, with a warning", async () => {
        software.packageTrouble.deadSources = ["http://dead.example bookworm"];
        await tools.up(args(["jq"], { cacheSeconds: 0 }));
        assert.match(tools.warnings.join(), /cannot read all of its package sources: .*dead\.example/);
      });

      it("are waited for when a source that cannot be read may have the package", async () => {
        software.packageTrouble.unlisted = ["jq"];
        software.packageTrouble.deadSources = ["http://dead.example bookworm"];
        const timeouts = { create: 3 };
        await assert.rejects(
          tools.up(args(["jq"], { timeouts })),
          /did not finish within 3 s; at the end: waiting for package sources .* that cannot be read and may have jq: .*dead\.example/,
        );
        assert.ok(tools.progress.some((text) => /^waiting for package sources/.test(text)));
        assert.equal(tools.state, undefined);
        software.packageTrouble.deadSources = [];
        assert.equal(await tools.up(args()), "created");
      });
    });

    it("are downloaded again after a failure", async () => {
      software.packageTrouble.failedDownloads = 2;
      await tools.up(args());
      assert.deepEqual(versions("jq"), [JQ]);
      assert.ok(tools.progress.some((text) => /^downloading jq .* again, which failed: E: Failed to fetch/.test(text)));
    });

    it("are not in state while the download fails", async () => {
      software.packageTrouble.failedDownloads = 1000;
      const failing = tools.up(args(["jq"], { timeouts: { create: 3 } }));
      await assert.rejects(
        failing,
        /did not finish within 3 s; at the end: downloading jq .* again, which failed: E: Failed to fetch/,
      );
      assert.deepEqual([tools.state, ...versions("jq")], [undefined, undefined]);
    });

    it("are installed after a power cut during dpkg, which is completed first", async () => {
      software.packageTrouble.interrupted = true;
      await tools.up(args());
      assert.deepEqual(versions("jq"), [JQ]);
    });

    it("replace one that must be absent, and no other", async () => {
      software.installPackage("exim4", "4.96-15");
      software.packageTrouble.conflicts = { curl: ["exim4"] };
      await tools.preview(args(["curl"]));
      assert.match(tools.notes.join(), /pulumi up will refuse this\. To install curl .*, apt would also remove exim4/);
      await assert.rejects(
        tools.up(args(["curl"])),
        /To install curl .*, apt would also remove exim4\. Nothing was .*absent: true/,
      );
      assert.deepEqual(versions("exim4", "curl"), ["4.96-15", undefined]);
      await tools.up(args(["curl", { name: "exim4", absent: true }]));
      assert.deepEqual(versions("exim4", "curl"), [undefined, CURL]);
    });

    for (const [what, packages, says] of [
      ["that no source has", ["jq", "nope"], /have no package "nope" \(packages\)\. Correct its name/],
      [
        "in a version that no source has",
        [{ name: "jq", version: "9-9" }],
        /have no version 9-9 of "jq" \(packages\).*1\.6-2\.1/,
      ],
      [
        "in an older version",
        [{ name: "bash", version: "1-1" }],
        /has "bash" in version 5.*packages asks for 1-1, which is older/,
      ],
    ] as const) {
      it(`are refused ${what}, and nothing is installed; the preview says so`, async () => {
        software.installPackage("bash", "5.2.15-2");
        await tools.preview(args(packages));
        assert.match(tools.notes.join(), /pulumi up will refuse this/);
        assert.match(tools.notes.join(), says);
        await assert.rejects(tools.up(args(packages)), says);
        assert.deepEqual(versions("jq"), [undefined]);
      });
    }

    it("are refused another version while somebody else holds them", async () => {
      software.installPackage("jq", "1.5-1");
      software.heldPackages.add("jq");
      await assert.rejects(
        tools.up(args([{ name: "jq", version: JQ }])),
        /"jq" is held .* in version 1\.5-1, and packages asks for .*apt-mark unhold jq/,
      );
      await tools.up(args([{ name: "jq", version: JQ, hold: false }]));
      assert.deepEqual([...versions("jq"), software.heldPackages.has("jq")], [JQ, false]);
    });

    it("keep in state what was installed when the installation is cut", async () => {
      one.lab.faults.add({
        when: kind === "VmPackages" ? { guest: /apt-mark hold/, nth: 1 } : { exec: /apt-mark hold/, nth: 1 },
        effect: { status: 1, error: "cut" },
      });
      await assert.rejects(
        tools.up(args([{ name: "jq", hold: true }], { removeOnDelete: true })),
        /is not finished: apt-mark hold/,
      );
      assert.deepEqual(tools.state?.["installed"], ["jq"]);
      await tools.up(args([{ name: "jq", hold: true }], { removeOnDelete: true }));
      await tools.destroy();
      assert.deepEqual(versions("jq"), [undefined]);
    });

    for (const [what, packages, says] of [
      ["an empty list", [], /reason: .packages must name one/],
      ["an option for a name", ["-y"], /packages\.0 is not the name of a package/],
      ["a removal for a name", ["jq-"], /packages\.0 is not the name of a package/],
      ["an installation for a name", ["jq+"], /packages\.0 is not the name of a package/],
      ["a version in a name", ["jq=1.6"], /packages\.0 is not the name of a package/],
      ["a pattern for a name", ["jq*"], /packages\.0 is not the name of a package/],
      ["an architecture in a name", ["jq:i386"], /packages\.0 is not the name of a package/],
      ["a name with upper case", [{ name: "JQ" }], /is not the name of a package/],
      ["a package twice", ["jq", { name: "jq" }], /packages\.1 names jq a second time/],
      ["a version of an absent one", [{ name: "jq", version: "1", absent: true }], /must not be given with absent: true/],
      ["a hold of an absent one", [{ name: "jq", hold: true, absent: true }], /must not be given with absent: true/],
      ["a pattern for a version", [{ name: "jq", version: "1.*" }], /is not the exact version/],
      ["something else", [{ name: "jq", when: "now" }], /packages\.0/],
    ] as const) {
      it(`are refused in check with ${what}`, async () => {
        await assert.rejects(tools.preview(args(packages)), (error: Error) => says.test(error.message));
      });
    }

    it("take names that end with two plus signs", async () => {
      software.archive.set("g++", "4:12.2.0-3");
      await tools.up(args(["g++"]));
      assert.deepEqual(versions("g++"), ["4:12.2.0-3"]);
    });
  });
}

describe("VmPackages of another instance", () => {
  let one: SimulatedCluster;
  beforeEach(async () => {
    one = await startWithInstance("container");
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    one.lab.seedInstances(1, { host: "bcn2", prefix: "db", type: "container", devices });
  });
  afterEach(() => one.stop());

  for (const [removeOnDelete, says, left] of [
    [false, /Package list "jq" of instance "web1" is given up, and its packages stay there/, true],
    [true, /is given up: jq, which it installed, will be removed there \(removeOnDelete\)/, false],
  ] as const) {
    it(`are installed there, and ${removeOnDelete ? "removed" : "stay"} in the former one${removeOnDelete ? " with removeOnDelete" : ""}`, async () => {
      const tools = new Managed(vmPackagesLifecycle as never, "tools");
      const args = (instance: string): object => ({ cluster: one.cluster, instance, packages: ["jq"], removeOnDelete });
      await tools.up(args("web1"));
      await tools.preview(args("db1"));
      assert.match([...tools.notes, ...tools.warnings].join("\n"), says);
      assert.equal(await tools.up(args("db1")), "replaced");
      const has = (instance: string): boolean => one.lab.guestSoftware("bcn2", instance).packages.has("jq");
      assert.deepEqual([has("web1"), has("db1")], [left, true]);
    });
  }
});

describe("VmPackages of a stopped instance", () => {
  let one: SimulatedCluster;
  let tools: Managed;
  const args = (more: object = {}): object => ({ cluster: one.cluster, instance: "web1", packages: ["jq"], ...more });
  const stop = (): Promise<unknown> =>
    one.lab.byHand("bcn2", "PUT", "/1.0/instances/web1/state", { action: "stop", timeout: 30, force: true });

  beforeEach(async () => {
    one = await startWithInstance("container");
    tools = new Managed(vmPackagesLifecycle as never, "tools");
  });
  afterEach(() => one.stop());

  it("are as last known, and their resource is removed", async () => {
    await tools.up(args());
    await stop();
    assert.equal(await tools.preview(args()), "same");
    assert.deepEqual(tools.state?.["installed"], ["jq"]);
    await tools.destroy();
  });

  it("are not removed, and the error says what to do", async () => {
    await tools.up(args({ removeOnDelete: true }));
    await stop();
    await assert.rejects(tools.destroy(), /Removing package list "jq" needs instance "web1" to run.*deletedWith/);
  });

  it("are gone with the instance", async () => {
    await tools.up(args({ removeOnDelete: true }));
    await stop();
    await one.lab.byHand("bcn2", "DELETE", "/1.0/instances/web1");
    await tools.destroy();
  });
});

describe("VmPackages of Alpine Linux", () => {
  let one: SimulatedCluster;
  let tools: Managed;
  const args = (packages: readonly unknown[], more: object = {}): object => ({
    ...{ cluster: one.cluster, instance: "web1", packages },
    ...more,
  });
  const installed = (): [string, string][] => [...one.lab.guestSoftware("bcn2", "web1").packages].slice(1);

  beforeEach(async () => {
    one = await startWithInstance("container");
    one.lab.makeAlpine("bcn2", "web1");
    tools = new Managed(vmPackagesLifecycle as never, "tools");
  });
  afterEach(async () => {
    assert.deepEqual([one.lab.defects, one.lab.unknownGuestCommands], [[], []]);
    await one.stop();
  });

  it("are installed, repaired, and removed", async () => {
    assert.equal(await tools.up(args(["jq", { name: "curl", version: "8.9.1-r2" }], { removeOnDelete: true })), "created");
    assert.deepEqual(installed(), [
      ["jq", "1.7.1-r0"],
      ["curl", "8.9.1-r2"],
    ]);
    one.lab.guestSoftware("bcn2", "web1").packages.delete("jq");
    assert.equal(await tools.up(args(["jq", { name: "curl", absent: true }], { removeOnDelete: true })), "updated");
    assert.deepEqual(installed(), [["jq", "1.7.1-r0"]]);
    await tools.destroy();
    assert.deepEqual(installed(), []);
  });

  it("are installed again after a failure that passes", async () => {
    one.lab.guestSoftware("bcn2", "web1").packageTrouble.failedDownloads = 1;
    await tools.up(args(["jq"]));
    assert.deepEqual(installed(), [["jq", "1.7.1-r0"]]);
  });

  it("are not removed when others need them", async () => {
    await tools.up(args(["jq", "curl"]));
    one.lab.guestSoftware("bcn2", "web1").packageTrouble.dependents = { jq: ["curl"] };
    await assert.rejects(tools.up(args([{ name: "jq", absent: true }])), /apk .* cannot remove jq, which others need/);
  });

  it("are refused a hold, and what no source has", async () => {
    await assert.rejects(tools.up(args([{ name: "jq", hold: true }])), /apk .* cannot hold jq \(packages\)/);
    await assert.rejects(tools.up(args(["nope"])), /have no package "nope"/);
    await assert.rejects(tools.up(args([{ name: "jq", version: "2" }])), /have no version 2 of "jq"/);
  });

  it("are refused without apk, too", async () => {
    one.lab.guestFiles("bcn2", "web1").remove("/sbin/apk");
    one.lab.guestSoftware("bcn2", "web1").packageManager = "none";
    await assert.rejects(tools.up(args(["jq"])), /has neither apt nor apk/);
  });
});
