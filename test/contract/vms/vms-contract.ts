/**
 * What the library assumes of LXD's virtual machines, in one suite for simulated ones and for real ones with a real agent. The
 * tests run in order and share one virtual machine, which runs at first and was started with 384 MiB and one CPU.
 */
import assert from "node:assert/strict";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import type { Config, Devices } from "../../../provider/lxd/config";
import {
  expandedOf,
  forceStopInstance,
  getInstanceState,
  getInstanceWithState,
  type Instance,
  type InstanceWork,
  replaceInstance,
  startInstance,
  stopInstance,
} from "../../../provider/lxd/instances/instances";
import { obstaclesToLiveUpdate } from "../../../provider/lxd/instances/obstacles";
import { waitFor } from "../../../provider/lxd/instances/wait";
import { findProfile, replaceProfile } from "../../../provider/lxd/profiles";
import { guestOf } from "../../../provider/machine/guest";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf, replyOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import { failed } from "../lxd/harness";

/** A host with LXD, which has a pool "default", a bridge "lxdbr0" and a running virtual machine. */
export interface VmHarness {
  readonly connection: object;
  /** Name of the virtual machine. */
  readonly name: string;
  /** A directory of the host. */
  readonly directory: string;
  /** Ends the agent at once; its init starts it again. */
  killAgent(): Promise<void>;
  stop(): Promise<void>;
}

/** Timeout of one step in a virtual machine under emulation on a busy machine. */
const STEP_SECONDS = 900;

/**
 * Adds the suite for one type of hosts.
 * @param isReal - Whether the virtual machine has a kernel, and an agent that takes time.
 */
export function vmsContract(title: string, isReal: boolean, makeHarness: (context: Mocha.Context) => Promise<VmHarness>): void {
  describe(`virtual machines on ${title}`, function () {
    this.timeout(STEP_SECONDS * 1000);
    let harness: VmHarness;

    const work = async (seconds = STEP_SECONDS): Promise<InstanceWork> => {
      const deadline = new Deadline(seconds, "the step");
      const ssh = await connect(connectionSchema.parse(harness.connection), { deadline });
      const lxd = new LxdClient(await endpointOf(ssh, deadline), deadline);
      const ignore = (): void => undefined;
      return { lxd, project: "default", name: harness.name, deadline, progress: ignore, warn: ignore };
    };
    const live = async (): Promise<Instance> => getInstanceWithState(await work());
    /** Changes keys of config, and devices; `undefined` removes. */
    const change = async (config: Record<string, string | undefined>, devices: Record<string, Config | undefined> = {}) => {
      const given = <T>(all: Readonly<Record<string, T | undefined>>): Record<string, T> =>
        Object.fromEntries(Object.entries(all).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
      await replaceInstance(await work(), (found) => ({
        ...{ architecture: found.architecture, ephemeral: found.ephemeral, description: found.description },
        profiles: found.profiles ?? [],
        config: given({ ...found.config, ...config }),
        devices: given({ ...found.devices, ...devices }),
      }));
    };
    /** What the library says of a change before it is made. */
    const foreseen = async (config: Config, devices: Devices = {}): Promise<string[]> => {
      const instance = await live();
      const before = expandedOf(instance);
      const after = { config: { ...before.config, ...config }, devices: { ...before.devices, ...devices } };
      const obstacles = obstaclesToLiveUpdate("virtual-machine", before, after, { cpuHotplug: true, bootMemory: "384MiB" });
      return obstacles.map(({ what, cure }) => `${what} ${cure}`);
    };
    const inGuest = async (...argv: string[]): Promise<string> => (await guestOf(await work()).run(argv)).stdout;
    const untilAgent = async (): Promise<void> => {
      await waitFor(await work(), [{ for: "agent" }]);
    };
    const createVolume = async (name: string, type: "block" | "filesystem"): Promise<void> => {
      const body = { name, type: "custom", content_type: type, config: { size: "16MiB" } };
      await (await work()).lxd.change("POST", "/1.0/storage-pools/default/volumes/custom", { body });
    };
    const root = async (): Promise<Config> => (await live()).expanded_devices["root"] ?? {};

    before(async function () {
      harness = await makeHarness(this);
    });

    after(async () => {
      await disconnectAll();
      await harness.stop();
    });

    it("have processes and an address when their agent answers", async () => {
      await waitFor(await work(), [{ for: "agent" }, { for: "ipv4", nic: "eth0" }]);
      const state = await getInstanceState(await work());
      assert.equal(state.status, "Running");
      assert.ok(state.processes > 0);
    });

    it("run commands, whose exit status arrives, and have files", async () => {
      const guest = guestOf(await work());
      assert.equal((await guest.run(["cat", "/nonexistent"], { allowFailure: true })).exitCode, 1);
      await guest.createFile("/root/contract", { content: "text\n", uid: 0, gid: 0, mode: 0o600 });
      assert.equal((await guest.readFile("/root/contract"))?.content, "text\n");
      await guest.removeFile("/root/contract");
    });

    it("do not get more memory than they were started with", async () => {
      assert.deepEqual(await foreseen({ "limits.memory": "512MiB" }), ["limits.memory stop"]);
      await failed(
        change({ "limits.memory": "512MiB" }),
        /Cannot increase memory size beyond boot time size when VM is running \(Boot time size 384MiB, new size 512MiB\)/,
      );
      assert.equal((await live()).config["limits.memory"], "384MiB");
    });

    it("do not get a share of a directory while they run", async () => {
      const share = { type: "disk", source: harness.directory, path: "/mnt/share" };
      assert.deepEqual(await foreseen({}, { share }), ["devices.share stop"]);
      await failed(change({}, { share }), /Failed to start device "share": Cannot attach directory while instance is running/);
    });

    it("do not get a volume with files while they run", async () => {
      await createVolume("files", "filesystem");
      const share = { type: "disk", pool: "default", source: "files", path: "/mnt/share" };
      assert.deepEqual(await foreseen({}, { share }), ["devices.share stop"]);
      await failed(change({}, { share }), /Failed to start device "share": Cannot attach directory while instance is running/);
    });

    it("do not get a second NIC on a managed bridge", async () => {
      await failed(
        change({}, { eth1: { type: "nic", network: "lxdbr0" } }),
        new RegExp(`device "eth1": Instance DNS name "${harness.name}" already used on network`),
      );
    });

    it("get and give back a volume as a disk", async () => {
      await createVolume("block", "block");
      const data = { type: "disk", pool: "default", source: "block" };
      assert.deepEqual(await foreseen({}, { data }), []);
      await change({}, { data });
      if (isReal) {
        assert.match(await inGuest("cat", "/proc/partitions"), / 16384 sdb\n/);
      }
      await change({}, { data: undefined });
      assert.equal((await live()).devices["data"], undefined);
    });

    it("get a second CPU, which the guest must bring online, and give it back", async () => {
      assert.deepEqual(await foreseen({ "limits.cpu": "2" }), []);
      await change({ "limits.cpu": "2" });
      if (isReal) {
        assert.equal(await inGuest("cat", "/sys/devices/system/cpu/present"), "0-1\n");
        await inGuest("sh", "-c", "echo 1 >/sys/devices/system/cpu/cpu1/online");
        assert.equal(await inGuest("cat", "/sys/devices/system/cpu/online"), "0-1\n");
      }
      await change({ "limits.cpu": "1" });
      if (isReal) {
        assert.equal(await inGuest("cat", "/sys/devices/system/cpu/online"), "0\n");
      }
    });

    it("give memory up in time, or in part: then LXD says how much they have, and keeps the former limit", async () => {
      const shrunk = change({ "limits.memory": "320MiB" });
      const reply = await shrunk.then(
        () => undefined,
        (error: unknown) => {
          assert.ok(hasCode(error, "operation"), messageOf(error));
          return replyOf(error);
        },
      );
      const limit = (await live()).config["limits.memory"];
      if (reply === undefined) {
        assert.equal(limit, "320MiB");
      } else {
        assert.match(reply, /Failed setting memory to 320MiB \(currently \d+MiB\) as it was taking too long/);
        assert.equal(limit, "384MiB");
      }
      await change({ "limits.memory": "384MiB" });
    });

    it("take a larger root disk, and have it after the next start", async () => {
      assert.deepEqual(await foreseen({}, { root: { ...(await root()), size: "400MiB" } }), ["devices.root.size stop"]);
      await change({}, { root: { ...(await root()), size: "400MiB" } });
      const { config, devices } = await live();
      assert.deepEqual([devices["root"]?.["size"], config["volatile.root.apply_quota"]], ["400MiB", "true"]);
    });

    it("are kept by a snapshot while they run", async () => {
      const { lxd, name } = await work();
      await lxd.change("POST", `/1.0/instances/${name}/snapshots`, { body: { name: "kept", stateful: false } });
      await lxd.change("DELETE", `/1.0/instances/${name}/snapshots/kept`);
    });

    it("keep what they run with when a profile gets a key that they do not take while they run", async () => {
      const { lxd } = await work();
      const found = await findProfile(lxd, "default", "default");
      assert.ok(found);
      const { description, config, devices } = found.value;
      // Both ways: the profile is saved, and the instance refuses the difference.
      for (const changed of [{ ...config, "migration.stateful": "true" }, config]) {
        const replaced = replaceProfile(lxd, "default", "default", () => ({ description, devices, config: changed }), undefined);
        await assert.rejects(replaced, (error: unknown) => {
          assert.match(replyOf(error), /Key "migration.stateful" cannot be updated when VM is running/);
          return true;
        });
        assert.deepEqual((await findProfile(lxd, "default", "default"))?.value.config, changed);
      }
      assert.equal((await live()).status, "Running");
    });

    it("run on without their agent, which is found again when it is started", async () => {
      await harness.killAgent();
      await untilAgent();
      assert.equal((await live()).status, "Running");
    });

    if (isReal) {
      it("whose agent hangs do not hold the library longer than its deadline", async () => {
        const pause = "p=$(pidof lxd-agent); (sleep 1; kill -STOP $p; sleep 20; kill -CONT $p) >/dev/null 2>&1 </dev/null &";
        await inGuest("sh", "-c", pause);
        const stopped = performance.now();
        let longest = 0;
        while (performance.now() - stopped < 15_000) {
          const asked = performance.now();
          await getInstanceState(await work(5)).catch((error: unknown) => assert.ok(hasCode(error, "timeout"), messageOf(error)));
          longest = Math.max(longest, performance.now() - asked);
        }
        assert.ok(longest > 4000 && longest < 20_000, `the longest answer took ${longest} ms`);
        await untilAgent();
      });
    }

    it("stop by their power button", async () => {
      await stopInstance(await work(), await live(), STEP_SECONDS / 2);
      const { status, config } = await live();
      assert.deepEqual([status, config["volatile.last_state.power"]], ["Stopped", "STOPPED"]);
      assert.equal((await getInstanceState(await work())).processes, 0);
    });

    it("run first, then have an address, then an agent; their root disk has grown", async () => {
      await startInstance(await work(), await live());
      const first = await getInstanceState(await work());
      if (isReal) {
        assert.deepEqual([first.status, first.processes], ["Running", -1]);
        await assert.rejects(guestOf(await work()).run(["true"]), /agent isn't currently running/);
        await assert.rejects(guestOf(await work()).readFile("/etc/passwd"));
      }
      await waitFor(await work(), [{ for: "ipv4", nic: "eth0" }]);
      await untilAgent();
      const { config } = await live();
      assert.equal(config["volatile.root.apply_quota"], undefined);
      if (isReal) {
        assert.equal((await inGuest("cat", "/sys/block/sda/size")).trim(), String((400 * 1024 * 1024) / 512));
        const [, blocks] = /^\S+\s+(\d+)/m.exec((await inGuest("df", "-k", "/")).split("\n")[1] ?? "") ?? [];
        assert.ok(Number(blocks) > 300 * 1024, `the file system has ${blocks} KiB`);
      }
    });

    it("stop by force", async () => {
      await forceStopInstance(await work());
      assert.equal((await live()).status, "Stopped");
    });
  });
}
