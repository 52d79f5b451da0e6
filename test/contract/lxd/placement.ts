import assert from "node:assert/strict";
import * as z from "zod";
import { changeMember } from "../../../provider/lxd/cluster/cluster";
import { createInstance } from "../../../provider/lxd/instances/creation";
import { deleteInstance, requireInstance } from "../../../provider/lxd/instances/instances";
import { choosePlace } from "../../../provider/lxd/placement/place";
import { type Placement, placementSchema } from "../../../provider/lxd/placement/schema";
import { MEMBER_STATE } from "../../../provider/lxd/placement/survey";
import { getHardware, getServer } from "../../../provider/lxd/server";
import { getFreeBytes } from "../../../provider/lxd/storage-and-networks/storage-pools";
import { until } from "../../../provider/support/deadline";
import { disconnectAll } from "../../../provider/transport/pool";
import { type ContractLab, refused } from "./harness";

const listed = z.array(
  z.looseObject({
    name: z.string(),
    project: z.string(),
    location: z.string(),
    expanded_config: z.record(z.string(), z.string()),
  }),
);

/** Where new instances go: by LXD's own choice, and by the policies of this library. Leaves everything as before. */
export function placementContract(lab: () => ContractLab): void {
  const names = (): string[] => [lab().harness.primary.name, lab().harness.secondary.name];
  const instances = async () => (await lab().lxd()).get("/1.0/instances", listed, { "all-projects": "true", recursion: 1 });
  const counts = async (label?: string): Promise<Record<string, number>> => {
    const all = (await instances()).filter((each) => label === undefined || each.expanded_config["user.placement"] === label);
    return Object.fromEntries(names().map((name) => [name, all.filter(({ location }) => location === name).length]));
  };
  const make = async (name: string, target: string | undefined, label: string): Promise<string> => {
    const contents = {
      type: "container",
      image: { alias: lab().alias },
      profiles: ["default"],
      description: "",
      ephemeral: false,
      config: { "user.placement": label },
      devices: {},
    } as const;
    await createInstance(await lab().work(name), contents, target, () => lab().lxd());
    return (await requireInstance(await lab().work(name))).value.location;
  };
  /**
   * LXD's own choice also counts the creations that are in its list of operations, where they stay for five seconds after their end. Simulated
   * servers count instances.
   */
  const untilForgotten = async (): Promise<void> => {
    if (lab().harness.kind.startsWith("real")) {
      const lxd = await lab().lxd();
      const creations = z.record(z.string(), z.array(z.looseObject({ resources: z.record(z.string(), z.unknown()).nullish() })));
      await until(lxd.deadline, async (report) => {
        const all = Object.values(await lxd.get("/1.0/operations", creations, { project: lab().project, recursion: 1 })).flat();
        const left = all.filter(({ resources }) => resources?.["instances"] !== undefined);
        report(`${left.length} operations with instances are listed`);
        return left.length === 0 ? true : undefined;
      });
    }
  };
  const choose = async (name: string, label: string, placement: Partial<Placement>) =>
    choosePlace(await lab().work(name), {
      instanceType: "container",
      image: { alias: lab().alias },
      placement: placementSchema.parse(placement),
      expanded: {
        config: { "user.placement": label },
        devices: {
          root: { type: "disk", path: "/", pool: lab().pool, size: "1GiB" },
          eth0: { type: "nic", network: lab().bridge },
        },
      },
    });
  /** Chooses the places of instances that are made at once, in one operation of the engine. */
  const chooseAll = async (label: string, count: number, placement: Partial<Placement>): Promise<Record<string, number>> => {
    await disconnectAll();
    const chosen = await Promise.all(Array.from({ length: count }, (_, index) => choose(`${label}${index}`, label, placement)));
    return Object.fromEntries(names().map((name) => [name, chosen.filter(({ member }) => member === name).length]));
  };
  const removeAll = async (label: string): Promise<void> => {
    const made = (await instances()).filter((each) => each.expanded_config["user.placement"] === label);
    for (const { name } of made) {
      await deleteInstance(await lab().work(name));
    }
  };
  const schedule = async (member: string, value: string): Promise<void> =>
    changeMember(await lab().lxd(), member, (live) => ({ ...live, config: { ...live.config, "scheduler.instance": value } }));

  describe("a member", () => {
    it("tells its CPUs, memory, architectures and free space through another", async () => {
      const { primary, secondary } = lab().harness;
      for (const { name } of [primary, secondary]) {
        const lxd = await lab().lxd();
        const { cpus, memoryBytes } = await getHardware(lxd, name);
        assert.ok(cpus >= 1 && memoryBytes > 2 ** 29, JSON.stringify({ cpus, memoryBytes }));
        assert.ok(((await getFreeBytes(lxd, lab().pool, name)) ?? 0) > 2 ** 30);
        const { environment } = await getServer(lxd, name);
        const image = z.looseObject({ architecture: z.string() });
        const { architecture } = await lxd.get(`/1.0/images/${await lab().fingerprint()}`, image);
        assert.ok(environment.architectures.includes(architecture), `${architecture}: ${environment.architectures.join()}`);
      }
    });

    it("tells how busy it is, where the server has cluster_member_state", async () => {
      const lxd = await lab().lxd();
      const { name } = lab().harness.secondary;
      const state = z.looseObject({
        sysinfo: z.looseObject({
          load_averages: z.array(z.number()).length(3),
          total_ram: z.number().min(2 ** 29),
          free_ram: z.number().min(1),
          buffered_ram: z.number(),
        }),
      });
      const { api_extensions } = await getServer(lxd);
      const reading = lxd.impatient.get(`/1.0/cluster/members/${name}/state`, state);
      await (api_extensions.includes(MEMBER_STATE) ? reading : refused(reading, 501, /not implemented/));
    });
  });

  describe("a new instance", () => {
    it("goes to a member with the fewest instances by LXD's own choice, as with leastInstances", async () => {
      const before = await counts();
      const [a = 0, b = 0] = Object.values(before);
      const count = Math.abs(a - b) + 2;
      for (let index = 0; index < count; index += 1) {
        await untilForgotten();
        const now = await counts();
        const least = Math.min(...Object.values(now));
        await disconnectAll();
        const ours = (await choose(`own${index}`, "own", {})).member;
        const location = await make(`own${index}`, undefined, "own");
        assert.deepEqual([now[location], now[ours]], [least, least], JSON.stringify({ now, location, ours }));
      }
      const byLxd = await counts("own");
      await removeAll("own");
      assert.deepEqual(await counts(), before);
      assert.deepEqual(await chooseAll("own", count, { policy: "leastInstances" }), byLxd);
    });

    it("takes turns by LXD's own choice among members with as many instances, as with roundRobin", async () => {
      const before = await counts();
      const [a = 0, b = 0] = Object.values(before);
      const fill = a < b ? names()[0] : names()[1];
      for (let index = 0; index < Math.abs(a - b); index += 1) {
        await make(`fill${index}`, fill, "fill");
      }
      const turns = new Set([await make("turn0", undefined, "turn"), await make("turn1", undefined, "turn")]);
      assert.equal(turns.size, 2);
      const byLxd = await counts("turn");
      await removeAll("turn");
      await removeAll("fill");
      assert.deepEqual(await counts(), before);
      assert.deepEqual(await chooseAll("turn", 2, { policy: "roundRobin" }), byLxd);
    });

    it("does not go to a member with scheduler.instance: manual, and to one with group only by its group", async () => {
      const { primary, secondary } = lab().harness;
      for (const value of ["manual", "group"]) {
        await schedule(secondary.name, value);
        await disconnectAll();
        for (const index of [0, 1]) {
          assert.equal(await make(`out${index}`, undefined, "out"), primary.name);
          assert.equal((await choose(`mine${index}`, "mine", {})).member, primary.name);
        }
        await removeAll("out");
      }
      assert.match(
        (await choose("why", "mine", {})).explanation,
        /left out: \S+ takes only instances with one of its cluster groups/,
      );
      await schedule(secondary.name, "all");
    });

    it("is kept apart from others of a label, and refused when every member has one", async () => {
      const [first = "", second = ""] = names();
      assert.deepEqual(await chooseAll("apart", 2, { antiAffinity: "apart" }), { [first]: 1, [second]: 1 });
      await make("apart0", first, "apart");
      await make("apart1", second, "apart");
      await disconnectAll();
      await assert.rejects(
        choose("apart2", "apart", { antiAffinity: "apart" }),
        /has an instance with label "apart": apart[01] .*; .* has an instance/,
      );
      await removeAll("apart");
    });
  });
}
