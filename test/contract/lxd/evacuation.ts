import assert from "node:assert/strict";
import { getMember } from "../../../provider/lxd/cluster/cluster";
import { awaiting, EVACUATION_MODE, foresee, listDeparting } from "../../../provider/lxd/cluster/departures";
import { evacuateMember, isEvacuated, restoreMember } from "../../../provider/lxd/cluster/evacuation";
import { EVACUATED_FROM } from "../../../provider/lxd/instances/evacuation";
import { deleteInstance, forceStopInstance, startInstance } from "../../../provider/lxd/instances/instances";
import { getServer } from "../../../provider/lxd/server";
import type { ContractLab } from "./harness";
import { type ContainerChange, makeContainer } from "./make-instance";

/** What becomes of instances when their member is evacuated, and that it was foreseen. Leaves everything as before. */
export function evacuationContract(lab: () => ContractLab): void {
  const MADE: Readonly<Record<string, { change: ContainerChange; runs: boolean }>> = {
    e1: { change: {}, runs: true },
    e2: { change: {}, runs: false },
    e3: {
      change: { devices: { web: { type: "proxy", listen: "tcp:127.0.0.1:8081", connect: "tcp:127.0.0.1:80" } } },
      runs: true,
    },
    e4: { change: { devices: { tty: { type: "unix-char", path: "/dev/null" } } }, runs: false },
    e5: { change: { config: { "cluster.evacuate": "stop" } }, runs: false },
    e6: {
      change: { config: { "cluster.evacuate": "migrate" }, devices: { tty: { type: "unix-char", path: "/dev/null" } } },
      runs: false,
    },
  };
  const names = Object.keys(MADE);
  const leaving = (): string => lab().harness.primary.name;
  const staying = (): string => lab().harness.secondary.name;
  const found = async (): Promise<Record<string, { location: string; status: string; origin: string | undefined }>> => {
    const all = await listDeparting(await lab().lxd("secondary"));
    return Object.fromEntries(
      all
        .filter(({ name }) => names.includes(name))
        .map(({ name, location, status, config }) => [name, { location, status, origin: config?.[EVACUATED_FROM] }]),
    );
  };
  const fates = async (mode: Parameters<typeof foresee>[2]): Promise<Record<string, string>> => {
    const departures = await foresee(await lab().lxd(), leaving(), mode);
    return Object.fromEntries(
      departures.filter(({ instance }) => names.includes(instance)).map((each) => [each.instance, each.fate]),
    );
  };
  const hasModes = async (): Promise<boolean> => (await getServer(await lab().lxd())).api_extensions.includes(EVACUATION_MODE);

  describe("a member that is evacuated", () => {
    before(async () => {
      for (const [name, { change, runs }] of Object.entries(MADE)) {
        await makeContainer(lab(), name, change, leaving());
        if (runs) {
          await startInstance(await lab().work(name), { status: "Stopped" });
        }
      }
    });

    after(async () => {
      for (const [name, { runs }] of Object.entries(MADE)) {
        if (runs) {
          await forceStopInstance(await lab().work(name));
        }
        await deleteInstance(await lab().work(name));
      }
    });

    it("does with each instance what was foreseen, through another member", async () => {
      const lxd = await lab().lxd("secondary");
      assert.equal(await isEvacuated(lxd, await getMember(lxd, leaving())), false);
      assert.deepEqual(await fates("auto"), { e1: "moved", e2: "moved", e3: "stopped", e4: "left", e5: "left", e6: "moved" });
      await evacuateMember(lxd, leaving(), "auto");
      assert.equal((await getMember(lxd, leaving())).status, "Evacuated");
      assert.equal(await isEvacuated(lxd, await getMember(lxd, leaving())), true);
      const moved = { location: staying(), origin: leaving() };
      const left = { location: leaving(), status: "Stopped", origin: undefined };
      assert.deepEqual(await found(), {
        e1: { ...moved, status: "Running" },
        e2: { ...moved, status: "Stopped" },
        e3: left,
        e4: left,
        e5: left,
        e6: { ...moved, status: "Stopped" },
      });
      const waiting = await awaiting(lxd, leaving());
      assert.deepEqual([waiting.moved.sort(), waiting.stopped], [["e1", "e2", "e6"], ["e3"]]);
      await evacuateMember(lxd, leaving(), "auto"); // it is
    });

    it("is restored with its instances, through itself", async () => {
      const lxd = await lab().lxd();
      await restoreMember(lxd, leaving());
      assert.equal((await getMember(lxd, leaving())).status, "Online");
      const back = (status: string): object => ({ location: leaving(), status, origin: undefined });
      assert.deepEqual(
        await found(),
        Object.fromEntries(Object.entries(MADE).map(([name, { runs }]) => [name, back(runs ? "Running" : "Stopped")])),
      );
      await restoreMember(lxd, leaving()); // it is
    });

    it("stops all of them where the server knows the mode, and is foreseen to ignore it otherwise", async () => {
      const lxd = await lab().lxd();
      const before = await fates("stop");
      if (!(await hasModes())) {
        assert.deepEqual(before, await fates("auto"));
        return;
      }
      assert.deepEqual(before, { e1: "stopped", e2: "left", e3: "stopped", e4: "left", e5: "left", e6: "left" });
      await evacuateMember(lxd, leaving(), "stop");
      assert.deepEqual(
        Object.values(await found()).map(({ location, status }) => [location, status]),
        names.map(() => [leaving(), "Stopped"]),
      );
      await restoreMember(lxd, leaving());
    });
  });
}
