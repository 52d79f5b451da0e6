import assert from "node:assert/strict";
import { guestOf } from "../../../lab/simulated/guest";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { runOpenrc } from "../../../lab/simulated/programs/openrc";
import type { SimulatedUnits } from "../../../lab/simulated/programs/systemd";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../../provider/resources/machine-service";
import { connectionSchema } from "../../../provider/transport/connection";
import { Managed, type SimulatedCluster, startWithInstance } from "./simulated-cluster";

const APP = "/etc/systemd/system/app.service";
const ENVIRONMENT = "/etc/app.env";
const INSTALL = "[Install]\nWantedBy=multi-user.target\n";

/** Both ways in to the same lifecycle. */
const WAYS = {
  VmService: {
    lifecycle: vmServiceLifecycle,
    where: ({ cluster }: SimulatedCluster): object => ({ cluster, instance: "web1" }),
    files: ({ lab }: SimulatedCluster): MemoryFiles => lab.guestFiles("bcn2", "web1"),
    units: ({ lab }: SimulatedCluster): SimulatedUnits => {
      const instances = lab.host("bcn2").daemon?.database.instances.values() ?? [];
      const [web1 = assert.fail("there is no instance")] = instances;
      return guestOf(web1).units;
    },
  },
  HostService: {
    lifecycle: hostServiceLifecycle,
    where: ({ lab }: SimulatedCluster): object => ({ connection: connectionSchema.parse(lab.host("bcn2").connection) }),
    files: ({ lab }: SimulatedCluster): MemoryFiles => lab.host("bcn2").files,
    units: ({ lab }: SimulatedCluster): SimulatedUnits => lab.host("bcn2").units,
  },
} as const;

for (const [kind, way] of Object.entries(WAYS)) {
  describe(kind, () => {
    let one: SimulatedCluster;
    let files: MemoryFiles;
    let units: SimulatedUnits;
    let service: Managed;

    const args = (more: object = {}): object => ({ ...way.where(one), unit: "cron", ...more });
    const shown = (unit = "cron.service"): string => {
      const text = units.systemctl(["show", "--property=LoadState,ActiveState,UnitFileState", "--value", unit]).stdout;
      return text.trimEnd().replaceAll("\n", " ");
    };
    /** A unit of the user that runs a command, and reads its environment from a file. */
    const write = (command: string, more = ""): void => {
      files.writeFile(APP, `[Service]\nExecStart=${command}\nEnvironmentFile=-${ENVIRONMENT}\n${more}${INSTALL}`);
    };
    /** Verbs of systemctl that this work ran. */
    const changesOf = async (work: () => Promise<unknown>): Promise<string[]> => {
      const since = one.lab.faults.moments.length;
      await work().catch(() => undefined);
      const lines = one.lab.faults.moments
        .slice(since)
        .map((moment) => ("guest" in moment ? moment.guest : "exec" in moment ? moment.exec : ""));
      return lines.flatMap((line) => /systemctl ((?!show)\w[\w-]*)/.exec(line)?.[1] ?? []);
    };

    beforeEach(async () => {
      one = await startWithInstance("container");
      files = way.files(one);
      units = way.units(one);
      service = new Managed(way.lifecycle as never, "cron");
    });
    afterEach(async () => {
      assert.deepEqual([one.lab.defects, one.lab.unknownGuestCommands, one.lab.host("bcn2").unknownCommands], [[], [], []]);
      await one.stop();
    });

    it("is disabled and stopped, enabled and started, and left as it is by its removal", async () => {
      assert.equal(await service.up(args({ enabled: false, active: false })), "created");
      assert.equal(shown(), "loaded inactive disabled");
      assert.equal(service.inState("unit"), "cron.service");
      assert.equal(await service.preview(args({ unit: "cron.service", enabled: false, active: false })), "same");
      assert.equal(await service.up(args({ enabled: true, active: true })), "updated");
      assert.equal(shown(), "loaded active enabled");
      assert.deepEqual([service.inState("activeState"), service.inState("unitFileState")], ["active", "enabled"]);
      assert.deepEqual(await changesOf(() => service.destroy()), []);
      assert.equal(shown(), "loaded active enabled");
    });

    it("changes nothing of a unit that is as wanted, nor what it is not given", async () => {
      assert.deepEqual(await changesOf(() => service.up(args({ active: true }))), []);
      units.systemctl(["disable", "cron"]);
      assert.equal(await service.preview(args({ active: true })), "same");
      assert.deepEqual([service.inState("enabled"), service.inState("masked")], [undefined, undefined]);
      assert.deepEqual(await changesOf(() => service.up(args({ enabled: true, active: true }))), ["enable"]);
    });

    it("is repaired when it was stopped, disabled, masked or has died", async () => {
      const wanted = args({ enabled: true, active: true, masked: false });
      await service.up(wanted);
      for (const words of [["stop"], ["disable"], ["mask"]]) {
        units.systemctl([...words, "cron"]);
        assert.equal(await service.preview(wanted), "updated", words.join());
        assert.equal(await service.up(wanted), "updated");
        assert.equal(shown(), "loaded active enabled");
      }
      units.kill("cron.service");
      assert.equal(await service.preview(wanted), "updated");
      assert.deepEqual([service.inState("active"), service.inState("activeState")], [false, "failed"]);
      assert.equal(await service.up(wanted), "updated");
      assert.equal(shown(), "loaded active enabled");
    });

    it("is masked after it was stopped and disabled, and unmasked before it is enabled and started", async () => {
      const off = args({ enabled: false, active: false, masked: true });
      assert.deepEqual(await changesOf(() => service.up(off)), ["disable", "stop", "mask"]);
      assert.equal(shown(), "masked inactive masked");
      assert.equal(await service.preview(off), "same");
      const on = args({ enabled: true, active: true, masked: false });
      assert.deepEqual(await changesOf(() => service.up(on)), ["unmask", "enable", "start"]);
      assert.equal(shown(), "loaded active enabled");
    });

    it("is unmasked when the mask is one of this boot alone", async () => {
      files.makeSymlink("/run/systemd/system/cron.service", "/dev/null");
      await service.up(args({ masked: false }));
      assert.equal(shown(), "loaded active enabled");
    });

    it("is restarted when its triggers change, and for nothing else", async () => {
      write("/bin/sleep infinity");
      const app = (more: object): object => args({ unit: "app", active: true, ...more });
      assert.deepEqual(await changesOf(() => service.up(app({ triggers: ["a", { b: [1] }] }))), ["start"]);
      assert.deepEqual(await changesOf(() => service.up(app({ triggers: ["a", { b: [1] }] }))), []);
      assert.deepEqual(await changesOf(() => service.up(app({ triggers: ["a", { b: [2] }] }))), ["restart"]);
      assert.deepEqual(await changesOf(() => service.up(app({ enabled: true, triggers: ["a", { b: [2] }] }))), ["enable"]);
      const stopped = app({ active: false, triggers: ["c"] });
      assert.deepEqual(await changesOf(() => service.up(stopped)), ["stop"]);
      assert.deepEqual(await changesOf(() => service.up(app({ active: false, triggers: ["d"] }))), []);
    });

    it("is restarted by the next up when a restart has failed", async () => {
      files.writeFile(ENVIRONMENT, "A=1");
      write("/bin/sleep infinity");
      const app = (version: number): object => args({ unit: "app", active: true, triggers: [version] });
      await service.up(app(1));
      files.writeFile(ENVIRONMENT, "A=2");
      const fault = one.lab.faults.add({
        when: kind === "VmService" ? { guest: /systemctl restart/ } : { exec: /systemctl restart/ },
        effect: { status: 1, error: "simulated" },
      });
      await assert.rejects(
        service.up(app(2)),
        /Unit "app.service" .* exists, but is not finished: systemctl on .* failed with exit code 1/,
      );
      fault.remove();
      assert.equal(units.state()["app.service"], "active A=1");
      assert.equal(service.inState("restartPending"), true);
      assert.equal(await service.up(app(2)), "updated");
      assert.equal(units.state()["app.service"], "active A=2");
      assert.equal(service.inState("restartPending"), false);
      assert.equal(await service.up(app(2)), "same");
    });

    it("is unfinished when it fails to start, with the end of its log, and is started by the next up", async () => {
      write('/bin/sh -c "echo no such database >&2; exit 3"', "Type=oneshot\n");
      const app = args({ unit: "app", enabled: true, active: true });
      await assert.rejects(service.up(app), (error: Error) => {
        assert.match(error.message, /exists, but is not finished: .* failed with exit code 1: Job for app.service failed/);
        assert.match(error.message, /Correct what its log says, .*: systemctl status app.service\. The end of its log:/);
        assert.match(error.message, /\nno such database\n/);
        return true;
      });
      assert.equal(shown("app.service"), "loaded failed enabled");
      assert.equal(await service.preview(app), "updated");
      assert.equal(service.inState("activeState"), "failed");
      write("/bin/sleep infinity");
      assert.equal(await service.up(app), "updated");
      assert.equal(shown("app.service"), "loaded active enabled");
    });

    it("has failed when it dies at once, although systemd has started it", async () => {
      write('/bin/sh -c "echo no such database; exit 3"');
      await assert.rejects(
        service.up(args({ unit: "app", active: true })),
        /was started, and ended at once: it is failed\. Correct .* The end of its log:\nno such database\n/,
      );
    });

    it("cannot stay active when it runs once, unless it remains after its exit", async () => {
      write("/bin/true", "Type=oneshot\n");
      const app = args({ unit: "app", active: true });
      await assert.rejects(service.up(app), /is not active: it ended without an error.*leave active out.*RemainAfterExit=yes/);
      write("/bin/true", "Type=oneshot\nRemainAfterExit=yes\n");
      assert.equal(await service.up(app), "updated");
      assert.equal(await service.up(app), "same");
    });

    it("is gone with its file", async () => {
      write("/bin/sleep infinity");
      const app = args({ unit: "app", active: false });
      await service.up(app);
      files.remove(APP);
      assert.equal(await service.preview(app), "created");
      assert.match(service.notes.join(), /pulumi up will refuse this.*There is no unit "app.service"/);
      await assert.rejects(service.up(app), /There is no unit "app.service" .*: install its package first/);
    });

    for (const [what, wrong, says] of [
      [
        "a unit that does not exist",
        { unit: "nope", active: true },
        /There is no unit "nope.service".*install its package first/,
      ],
      ["an alias", { unit: "sshd", active: true }, /it is another name of ssh\.service\. Set unit to that/],
      ["enabled for a static unit", { unit: "dbus", enabled: true }, /\(static\): its file has no \[Install\] section/],
      ["enabled: false for a static unit", { unit: "dbus", enabled: false }, /cannot be enabled or disabled \(static\)/],
    ] as const) {
      it(`is refused with ${what}, in the preview, too`, async () => {
        await service.preview(args(wrong));
        assert.match(service.notes.join(), says);
        await assert.rejects(service.up(args(wrong)), says);
      });
    }

    it("is refused while a mask that nobody wants to be removed prevents it", async () => {
      units.systemctl(["mask", "cron"]);
      units.systemctl(["stop", "cron"]);
      await assert.rejects(service.up(args({ active: true })), /it is masked.*Set masked: false, or leave active out/);
      await assert.rejects(service.up(args({ enabled: true })), /it is masked.*Set masked: false, or leave enabled out/);
      assert.equal(await service.up(args({ active: false })), "created");
    });

    it("is not masked where its own file is", async () => {
      write("/bin/sleep infinity");
      await assert.rejects(service.up(args({ unit: "app", masked: true })), /app\.service, where the mask would be, exists/);
    });

    it("is refused when its file cannot be loaded", async () => {
      files.writeFile(APP, "nonsense\n");
      await assert.rejects(service.up(args({ unit: "app", active: true })), /its file cannot be loaded \(bad-setting\)/);
    });

    it("is refused on a machine with no init system that is known", async () => {
      files.remove("/run/systemd", true);
      const says =
        /Services cannot be managed .*: neither systemd \(\/run\/systemd\/system\) nor OpenRC \(rc-service\) runs there/;
      await service.preview(args({ active: true }));
      assert.match(service.notes.join(), says);
      await assert.rejects(service.up(args({ active: true })), says);
    });

    it("tells no secret among its triggers", async () => {
      const app = (secret: string): object => args({ active: true, triggers: [{ password: secret }] });
      await service.up(app("c4nary-1"));
      one.lab.faults.add({
        when: kind === "VmService" ? { guest: /restart/ } : { exec: /restart/ },
        effect: { status: 1, error: "" },
      });
      let error = "";
      await assert.rejects(service.up(app("c4nary-2")), (thrown: Error) => {
        error = thrown.message;
        return error !== "";
      });
      assert.doesNotMatch([error, ...service.notes, ...service.warnings, ...service.progress].join(), /c4nary/);
      assert.doesNotMatch(one.lab.host("bcn2").commands.join(), /c4nary/);
    });

    for (const [what, wrong, says] of [
      ["nothing to manage", {}, /reason: .active must be given, or else enabled or masked/],
      ["a masked unit that is to run", { masked: true, active: true }, /reason: .active must not be true with masked: true/],
      ["a masked unit that is enabled", { masked: true, enabled: true }, /reason: .enabled must not be true with masked: true/],
      ["triggers without active", { enabled: true, triggers: [1] }, /reason: .triggers restart a unit that is to run/],
      ["no name", { unit: "", active: true }, /reason: .unit is not the name of a unit/],
      ["an option", { unit: "--now", active: true }, /reason: .unit is not the name of a unit/],
      ["a path", { unit: "/etc/x.service", active: true }, /reason: .unit is not the name of a unit/],
      ["several units", { unit: "a b", active: true }, /reason: .unit is not the name of a unit/],
      ["a pattern", { unit: "lxd*", active: true }, /reason: .unit is not the name of a unit/],
      ["a NUL", { unit: "a\0b", active: true }, /reason: .unit is not the name of a unit/],
      ["a template", { unit: "app@.service", active: true }, /reason: .unit names a template/],
      ["triggers that are no list", { active: true, triggers: "a" }, /reason: .triggers /],
    ] as const) {
      it(`is refused in check with ${what}`, async () => {
        await assert.rejects(service.preview(args(wrong)), (error: Error) => says.test(error.message));
      });
    }

    describe("with OpenRC", () => {
      const crond = (more: object): object => args({ unit: "crond", ...more });
      const isEnabled = (): boolean => files.get("/etc/runlevels/default/crond", false) !== undefined;
      const isStarted = (): boolean => files.exists("/run/openrc/started/crond");

      beforeEach(() => runOpenrc(files));

      it("is disabled and stopped, enabled and started, and restarted", async () => {
        assert.equal(await service.up(crond({ enabled: false, active: false })), "created");
        assert.deepEqual([isEnabled(), isStarted()], [false, false]);
        assert.equal(await service.preview(crond({ enabled: false, active: false })), "same");
        assert.equal(await service.up(crond({ enabled: true, active: true, masked: false, triggers: [1] })), "updated");
        assert.deepEqual([isEnabled(), isStarted()], [true, true]);
        await service.up(crond({ enabled: true, active: true, masked: false, triggers: [2] }));
        assert.equal(files.readText("/run/openrc/started/crond"), "restarted");
        files.remove("/run/openrc/started/crond");
        assert.equal(await service.preview(crond({ enabled: true, active: true, masked: false, triggers: [2] })), "updated");
        await service.destroy();
        assert.deepEqual([isEnabled(), isStarted()], [true, false]);
      });

      it("is unfinished when it fails to start", async () => {
        await assert.rejects(
          service.up(args({ unit: "broken", active: true })),
          /is not finished: .*broken failed to start\. Correct what its log says, .*: rc-service broken status/,
        );
      });

      for (const [what, wrong, says] of [
        ["masked", { unit: "crond", masked: true }, /OpenRC, which runs there, masks no service/],
        ["a timer", { unit: "fstrim.timer", active: true }, /OpenRC, which runs there, has services only/],
        ["a service that does not exist", { unit: "nope", active: true }, /There is no unit "nope.service"/],
      ] as const) {
        it(`is refused with ${what}`, async () => {
          await assert.rejects(service.up(args(wrong)), says);
        });
      }
    });
  });
}

describe("VmService in an instance that does not run", () => {
  let one: SimulatedCluster;
  let service: Managed;
  const args = (): object => ({ cluster: one.cluster, instance: "web1", unit: "cron", enabled: true, active: true });
  const setState = (action: "start" | "stop"): Promise<unknown> =>
    one.lab.byHand("bcn2", "PUT", "/1.0/instances/web1/state", { action, timeout: 30 });

  beforeEach(async () => {
    one = await startWithInstance("container");
    service = new Managed(vmServiceLifecycle as never, "cron");
    await service.up(args());
    await setState("stop");
  });
  afterEach(() => one.stop());

  it("stays as last known, and is left when it is removed", async () => {
    assert.equal(await service.preview(args()), "same");
    await service.destroy();
  });

  it("is removed although the instance is gone", async () => {
    await one.lab.byHand("bcn2", "DELETE", "/1.0/instances/web1");
    await service.destroy();
  });

  it("cannot be changed, and says what to do", async () => {
    await assert.rejects(
      service.up({ ...args(), enabled: false }),
      /Setting up unit "cron.service" needs instance "web1" to run/,
    );
  });
});
