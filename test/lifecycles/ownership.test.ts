import assert from "node:assert/strict";
import * as z from "zod";
import type { Flavour } from "../../lab/simulated/lxd/flavours";
import type { MemoryFiles } from "../../lab/simulated/memory-files";
import type { Lifecycle } from "../../provider/engine/lifecycle";
import type { LxdClient } from "../../provider/lxd/client/client";
import { readMark } from "../../provider/lxd/ownership";
import { keptPath } from "../../provider/machine/marks";
import { clusterGroupLifecycle } from "../../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { imageLifecycle } from "../../provider/resources/lxd-image";
import { networkLifecycle } from "../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../../provider/resources/lxd-network-forward";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../provider/resources/lxd-project";
import { storagePoolLifecycle } from "../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../provider/resources/lxd-storage-volume";
import { vmLifecycle } from "../../provider/resources/lxd-vm";
import { hostFileLifecycle, vmFileLifecycle } from "../../provider/resources/machine-file";
import { hostUserLifecycle, vmUserLifecycle } from "../../provider/resources/machine-user";
import { figure } from "../support/figure";
import { killedAtTheEnd, Managed, type SimulatedCluster, startTwoMembers } from "../unit/resources/simulated-cluster";

const OWNER = "user.pulumi.urn";
const DEVICES = { root: { type: "disk", path: "/", pool: "local" } };
const profileSchema = z.looseObject({ config: z.record(z.string(), z.string()), description: z.string() });
const objectSchema = z.looseObject({ config: z.record(z.string(), z.string()).nullish() });

/** A type of object that can have an owner. */
interface Kind {
  readonly lifecycle: unknown;
  /** Its path in LXD. */
  readonly path: string;
  /** Key of its config that holds the mark. */
  readonly mark?: string;
  /** The program's inputs for it, and its differences from the object that others created. */
  readonly args: object;
  readonly other: object;
  /** What the preview of an adoption says about that. */
  readonly change: string;
  /** Creates it manually; if absent, the library creates it, and the mark is removed. */
  byHand?(lxd: LxdClient): Promise<unknown>;
  /**
   * How the refusal describes a manually created object. Absent where an object without a mark may belong to anyone.
   */
  readonly described?: RegExp;
  /** For what is on a machine: the part of its files that is the object. Present when `path` is that of the machine. */
  readonly inside?: { readonly machine: "web1" | "bcn2"; object(files: MemoryFiles): string | undefined };
  /** A server on which the object keeps its mark. @default LXD 5.0 */
  readonly flavour?: Flavour;
}

/** Defined on each member first, as LXD requires. */
const onAllMembers = async (lxd: LxdClient, collection: string, identity: object, contents: object = {}): Promise<void> => {
  for (const target of ["bcn2", "bcn1"]) {
    await lxd.change("POST", collection, { query: { target }, body: identity });
  }
  await lxd.change("POST", collection, { body: { ...identity, ...contents } });
};

const USER = { name: "ops" };
const OF_USER = { other: { shell: "/bin/sh" }, change: 'shell "/bin/bash" -> "/bin/sh"', described: /uid \d+, home \/home\/ops/ };
const accountIn = (files: MemoryFiles): string | undefined => files.readText("/etc/passwd").match(/^ops:x:\d+/m)?.[0];

const FILE = { path: "/srv/app.conf", content: "a = 1\n" };
const OF_FILE = { other: { mode: "0600" }, change: 'mode "0644" -> "0600"', described: /a file, mode 0644/ };
const fileIn = (files: MemoryFiles): string | undefined => files.get(FILE.path)?.content.toString();

const KINDS: Readonly<Record<string, Kind>> = {
  LxdProfile: {
    lifecycle: profileLifecycle,
    path: "/1.0/profiles/web",
    args: { name: "web", config: { "limits.cpu": "4" }, description: "by hand" },
    other: { config: { "limits.cpu": "2" } },
    change: 'config.limits.cpu "4" -> "2"',
    byHand: (lxd) =>
      lxd.change("POST", "/1.0/profiles", {
        body: { name: "web", config: { "limits.cpu": "4" }, devices: {}, description: "by hand" },
      }),
    described: /it holds limits\.cpu; used by 0 instances/,
  },
  LxdProject: {
    lifecycle: projectLifecycle,
    path: "/1.0/projects/shop",
    args: { name: "shop", config: { "limits.cpu": "4" }, description: "by hand" },
    other: { config: { "limits.cpu": "2" } },
    change: 'config.limits.cpu "4" -> "2"',
    byHand: (lxd) =>
      lxd.change("POST", "/1.0/projects", { body: { name: "shop", config: { "limits.cpu": "4" }, description: "by hand" } }),
    described: /it holds nothing/,
  },
  LxdStoragePool: {
    lifecycle: storagePoolLifecycle,
    path: "/1.0/storage-pools/fast",
    args: { name: "fast", driver: "dir", description: "by hand" },
    other: { description: "by program" },
    change: 'description "by hand" -> "by program"',
    byHand: (lxd) => onAllMembers(lxd, "/1.0/storage-pools", { name: "fast", driver: "dir" }, { description: "by hand" }),
    described: /driver dir, status Created, used by 0 objects/,
  },
  LxdStorageVolume: {
    lifecycle: storageVolumeLifecycle,
    path: "/1.0/storage-pools/local/volumes/custom/data",
    args: { name: "data", pool: "local", target: "bcn1", config: { size: "2GiB" }, description: "by hand", deleteData: true },
    other: { config: { size: "4GiB" } },
    change: 'config.size "2GiB" -> "4GiB"',
    byHand: (lxd) =>
      lxd.change("POST", "/1.0/storage-pools/local/volumes/custom", {
        query: { target: "bcn1" },
        body: { name: "data", config: { size: "2GiB" }, description: "by hand" },
      }),
    described: /a filesystem volume on bcn1, used by nothing/,
  },
  LxdNetwork: {
    lifecycle: networkLifecycle,
    path: "/1.0/networks/br7",
    args: { name: "br7", config: { "ipv4.address": "10.7.0.1/24" } },
    other: { config: { "ipv4.address": "10.7.0.1/24", "ipv4.nat": "false" } },
    change: 'config.ipv4.nat "true" -> "false"',
    byHand: (lxd) =>
      onAllMembers(
        lxd,
        "/1.0/networks",
        { name: "br7" },
        { config: { "ipv4.address": "10.7.0.1/24", "ipv4.nat": "true", "ipv6.address": "none" } },
      ),
    described: /ipv4\.address 10\.7\.0\.1\/24, ipv6\.address none; used by 0 objects/,
  },
  LxdNetworkAcl: {
    lifecycle: networkAclLifecycle,
    path: "/1.0/network-acls/web",
    args: { name: "web", ingress: [{ action: "allow", protocol: "tcp", destinationPort: 80 }], description: "by hand" },
    other: { ingress: [{ action: "allow", protocol: "tcp", destinationPort: 443 }] },
    change:
      'ingress [{"action":"allow","protocol":"tcp","destinationPort":"80","state":"enabled"}] -> ' +
      '[{"action":"allow","protocol":"tcp","destinationPort":"443","state":"enabled"}]',
    byHand: (lxd) =>
      lxd.change("POST", "/1.0/network-acls", {
        body: {
          ...{ name: "web", description: "by hand" },
          ingress: [{ action: "allow", protocol: "tcp", destination_port: "80", state: "enabled" }],
        },
      }),
    described: /1 ingress and 0 egress rules; used by nothing/,
  },
  LxdNetworkForward: {
    lifecycle: networkForwardLifecycle,
    path: "/1.0/networks/lxdbr0/forwards/192.0.2.1",
    args: { network: "lxdbr0", target: "bcn2", listenAddress: "192.0.2.1", description: "by hand" },
    other: { description: "by program" },
    change: 'description "by hand" -> "by program"',
    byHand: (lxd) =>
      lxd.change("POST", "/1.0/networks/lxdbr0/forwards", {
        query: { target: "bcn2" },
        body: { listen_address: "192.0.2.1", description: "by hand" },
      }),
    described: /0 entries in ports, target_address none/,
  },
  LxdVm: {
    lifecycle: vmLifecycle,
    path: "/1.0/instances/db1",
    args: {
      name: "db1",
      instanceType: "container",
      image: { alias: "debian" },
      profiles: [],
      devices: DEVICES,
      description: "by hand",
    },
    other: { cpu: 2 },
    change: 'cpu unset -> "2"',
    byHand: async (lxd) => {
      const source = { type: "image", alias: "debian" };
      await lxd.change("POST", "/1.0/instances", {
        query: { target: "bcn1" },
        body: { name: "db1", type: "container", profiles: [], devices: DEVICES, source, description: "by hand" },
      });
      await lxd.change("PUT", "/1.0/instances/db1/state", { body: { action: "start" } });
    },
    described: /a container on bcn1, Running/,
  },
  LxdClusterMember: {
    lifecycle: clusterMemberLifecycle,
    path: "/1.0/cluster/members/bcn1",
    args: { name: "bcn1", address: "192.168.1.101" },
    other: { failureDomain: "rack1" },
    change: 'failureDomain "default" -> "rack1"',
  },
  LxdClusterGroup: {
    lifecycle: clusterGroupLifecycle,
    path: "/1.0/cluster/groups/gpu",
    args: { name: "gpu", members: ["bcn1"] },
    other: { members: ["bcn1", "bcn2"] },
    change: 'members ["bcn1"] -> ["bcn1","bcn2"]',
    byHand: (lxd) => lxd.change("POST", "/1.0/cluster/groups", { body: { name: "gpu", members: ["bcn1"] } }),
    described: /its members are bcn1/,
    flavour: "trixie-incus7",
  },
  VmUser: {
    lifecycle: vmUserLifecycle,
    path: "/1.0/instances/web1",
    mark: "user.pulumi.user.ops",
    args: { instance: "web1", ...USER },
    ...OF_USER,
    inside: { machine: "web1", object: accountIn },
  },
  HostUser: {
    lifecycle: hostUserLifecycle,
    path: keptPath("mark", "user.ops"),
    args: USER,
    ...OF_USER,
    inside: { machine: "bcn2", object: accountIn },
  },
  VmFile: {
    lifecycle: vmFileLifecycle,
    path: "/1.0/instances/web1",
    mark: `user.pulumi.file.${FILE.path}`,
    args: { instance: "web1", ...FILE },
    ...OF_FILE,
    inside: { machine: "web1", object: fileIn },
  },
  HostFile: {
    lifecycle: hostFileLifecycle,
    path: keptPath("mark", `file.${FILE.path}`),
    args: FILE,
    ...OF_FILE,
    inside: { machine: "bcn2", object: fileIn },
  },
};

const SERVER = "https://images.example.org";
const REMOTE_IMAGES = [
  { server: SERVER, aliases: ["12"], type: "container" as const, fingerprint: "ab".repeat(32), properties: { os: "Debian" } },
];

const urnOf = (kind: string, stack: string, resource = "it"): string =>
  `urn:pulumi:${stack}::tests::pulumi-nodejs:dynamic/lxd:${kind}::${resource}`;

/** The files of a host, without what an adoption keeps. */
function changeableFiles(files: MemoryFiles): Map<string, string> {
  const nodes = files.tree("/").filter((path) => files.get(path, false)?.type === "file" && !path.includes("/former-"));
  return new Map(nodes.map((path) => [path, `${files.get(path)?.mode} ${files.get(path)?.content.toString()}`]));
}

/** A resource "it" of a stack. */
function manageAs(lifecycle: unknown, stack = "lab", resource = "it"): Managed {
  return new Managed(lifecycle as Lifecycle<never, never>, resource, stack);
}

let adoptions = 0;
let takeovers = 0;

describe("Ownership", () => {
  let two: SimulatedCluster;

  beforeEach(async () => {
    two = await startTwoMembers({ remoteImages: REMOTE_IMAGES });
    two.lab.seedImage("bcn2", { alias: "debian" });
    await onAllMembers(await two.byHand(), "/1.0/storage-pools", { name: "local", driver: "dir" });
    const addresses = { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" };
    await onAllMembers(await two.byHand(), "/1.0/networks", { name: "lxdbr0" }, { config: addresses });
  });

  afterEach(async () => {
    assert.deepEqual(two.lab.defects, []);
    await two.stop();
  });

  after(() => {
    figure("objects adopted without being recreated", adoptions);
    figure("objects that another stack took over", takeovers);
  });

  for (const [name, kind] of Object.entries(KINDS)) {
    const { lifecycle, path, mark: key = OWNER, other, change, described } = kind;
    const manage = (resource = "it", stack = "lab"): Managed => manageAs(lifecycle, stack, resource);
    const urn = (resource: string, stack: string): string => urnOf(name, stack, resource);

    describe(`of a ${name}`, () => {
      beforeEach(async () => {
        if (kind.flavour !== undefined) {
          await two.stop();
          two = await startTwoMembers({ flavour: kind.flavour });
        }
        if (kind.inside?.machine === "web1") {
          two.lab.seedInstances(1, { host: "bcn2", prefix: "web", type: "container", profiles: [], devices: DEVICES });
        }
      });

      const args = (more: object = {}): object => {
        const [first, second] = two.cluster.endpoints;
        const where =
          name === "LxdClusterMember"
            ? { connection: second, cluster: { endpoints: [first] } }
            : isOnHost
              ? { connection: first }
              : { cluster: two.cluster };
        return { ...where, ...kind.args, ...more };
      };
      const isOnHost = kind.inside?.machine === "bcn2";
      const filesOfMachine = (): MemoryFiles => (isOnHost ? two.lab.host("bcn2").files : two.lab.guestFiles("bcn2", "web1"));
      const markOf = async (): Promise<string | undefined> => {
        if (isOnHost) {
          return readMark(filesOfMachine().readText(path).trim())?.urn;
        }
        return readMark((await (await two.byHand()).get(path, objectSchema)).config?.[key])?.urn;
      };

      /** Removes the mark manually, and changes nothing else. */
      const unmark = async (): Promise<void> => {
        if (isOnHost) {
          filesOfMachine().remove(path);
          return;
        }
        const lxd = await two.byHand();
        const { config, ...rest } = await lxd.get(path, objectSchema);
        const { [key]: _, ...others } = config ?? {};
        await lxd.change("PUT", path, { body: { ...rest, config: others } });
      };
      const makeByHand = async (): Promise<void> => {
        if (kind.byHand !== undefined) {
          await kind.byHand(await two.byHand());
        } else {
          await manage("hand").up(args());
          await unmark();
        }
      };
      const exists = async (): Promise<boolean> =>
        kind.inside === undefined
          ? (await (await two.byHand()).find(path, objectSchema)) !== undefined
          : kind.inside.object(filesOfMachine()) !== undefined;

      /** Properties of the object that would differ if it had been recreated. */
      const identity = async (): Promise<unknown> => {
        if (kind.inside !== undefined) {
          return kind.inside.object(filesOfMachine());
        }
        const { created_at, config } = await (await two.byHand()).get(path, objectSchema);
        const uuid = Object.entries(config ?? {}).find(([key]) => key === "volatile.uuid")?.[1];
        return { created_at, uuid };
      };
      /** Runs work, and returns the changes that it requested from LXD. */
      const changesOf = async (work: () => Promise<unknown>): Promise<string[]> => {
        const since = two.lab.requests.length;
        const before = isOnHost ? changeableFiles(filesOfMachine()) : new Map<string, string>();
        await work();
        if (isOnHost) {
          const after = changeableFiles(filesOfMachine());
          const paths = new Set([...before.keys(), ...after.keys()]);
          return [...paths].filter((each) => before.get(each) !== after.get(each)).map((each) => `CHANGE ${each}`);
        }
        return two.lab.mutations(since).map((request) => `${request.method} ${request.path.split("?")[0] ?? ""}`);
      };
      const isMaking = (request: string): boolean =>
        /^(DELETE|POST) \/1\.0\/[a-z/-]+(?<!exec|files)$|state$|useradd/.test(request);

      it("is marked on the object", async () => {
        await manage().up(args());
        assert.equal(await markOf(), urn("it", "lab"));
      });

      if (described !== undefined) {
        it("is not adopted by default: the refusal describes the object, which stays unchanged", async () => {
          await makeByHand();
          const changes = await changesOf(() =>
            assert.rejects(manage().up(args(other)), (error: Error) => {
              assert.match(error.message, / already exists on root@127\.0\.0\.1:\d+ and it was not made by Pulumi \(/);
              assert.match(error.message, described);
              assert.match(error.message, /Set adopt: true to manage it from here without recreating it/);
              return true;
            }),
          );
          assert.deepEqual(changes, []);
        });
      }

      it("is adopted with adopt; the preview shows all changes, and nothing is recreated", async () => {
        await makeByHand();
        const [before, it] = [await identity(), manage()];
        const planned = await changesOf(async () => assert.equal(await it.preview(args({ ...other, adopt: true })), "created"));
        assert.deepEqual(planned, []);
        assert.deepEqual([it.notes.length, it.warnings], [1, []]);
        assert.match(it.notes[0] ?? "", /^Adopts the existing object: would change /);
        assert.ok(it.notes[0]?.includes(change), it.notes[0]);
        const made = await changesOf(async () => assert.equal(await it.up(args({ ...other, adopt: true })), "created"));
        assert.deepEqual(made.filter(isMaking), []);
        assert.deepEqual(await identity(), before);
        assert.equal(await markOf(), urn("it", "lab"));
        assert.deepEqual(await changesOf(async () => assert.equal(await it.up(args({ ...other, adopt: true })), "same")), []);
        adoptions += 1;
      });

      it("changes only the mark if the program matches the object", async () => {
        await makeByHand();
        const it = manage();
        await it.preview(args({ adopt: true }));
        assert.deepEqual(it.notes, ["Adopts the existing object: nothing in it changes"]);
        const changes = await changesOf(() => it.up(args({ adopt: true })));
        assert.deepEqual(
          changes.filter((request) => !/exec$|^DELETE .*files$/.test(request)).map((request) => request.split(" ")[1]),
          [path],
        );
        adoptions += 1;
      });

      it("is not adopted from another stack, which the refusal names", async () => {
        await manage("theirs", "prod").up(args());
        const changes = await changesOf(() =>
          assert.rejects(manage().up(args(other)), /it belongs to the Pulumi resource "theirs" of stack "prod", project "tests"/),
        );
        assert.deepEqual(changes, []);
        assert.equal(await markOf(), urn("theirs", "prod"));
      });

      it("passes to another stack with adopt; the former one reports it, and no longer changes or removes the object", async () => {
        const [theirs, ours] = [manage("theirs", "prod"), manage()];
        await theirs.up(args());
        const before = await identity();
        await ours.preview(args({ adopt: true }));
        assert.deepEqual(ours.notes, [
          'Adopts the existing object of the Pulumi resource "theirs" of stack "prod", project "tests": nothing in it changes',
        ]);
        await ours.up(args({ adopt: true }));
        assert.equal(await markOf(), urn("it", "lab"));

        assert.equal(await theirs.preview(args()), "same");
        assert.match(
          theirs.warnings.join(),
          /it now belongs to the Pulumi resource "it" of stack "lab".*take it back: pulumi state delete/,
        );
        for (const more of [{}, { adopt: true }]) {
          const changes = await changesOf(() =>
            assert.rejects(
              theirs.up(args({ ...other, ...more })),
              /was not changed: it now belongs to the Pulumi resource "it" of stack "lab"/,
            ),
          );
          assert.deepEqual(changes, []);
        }
        const left = await changesOf(() => theirs.destroy());
        assert.deepEqual(left, []);
        assert.match(theirs.warnings.at(-1) ?? "", /is not removed: it now belongs to the Pulumi resource "it" of stack "lab"/);
        assert.equal(await exists(), true);
        assert.deepEqual(await identity(), before);
        assert.equal(await ours.up(args({ adopt: true })), "same");
        takeovers += 1;
      });

      for (const [what, resource, stack] of [
        ["renamed", "other", "lab"],
        ["moved to another stack", "it", "prod"],
      ] as const) {
        it(`stays with a resource that is ${what}: the first up writes only the new mark, as the preview shows`, async () => {
          const it = manage();
          await it.up(args());
          it.rename(resource, stack);
          assert.equal(await it.preview(args()), "updated");
          assert.deepEqual(it.notes, [
            'Only the ownership mark of the object changes (now: the Pulumi resource "it" of stack "lab", project "tests")',
          ]);
          const changes = await changesOf(async () => assert.equal(await it.up(args()), "updated"));
          assert.deepEqual(
            changes.map((request) => request.split(" ")[1]),
            [path],
          );
          assert.equal(await markOf(), urn(resource, stack));
          assert.equal(await it.up(args()), "same");
          assert.equal(await it.up(args(other)), "updated");
          assert.deepEqual(it.warnings, []);
        });
      }

      it("is removed with a renamed resource, even if it was not marked again before", async () => {
        const it = manage();
        await it.up(args());
        it.rename("renamed");
        await it.destroy();
        assert.deepEqual([await exists(), it.warnings], [false, []]);
      });

      it("is refused to a resource that finds its own mark on a finished object, and adopted with adopt after its state was lost", async () => {
        await manage().up(args());
        const [before, again] = [await identity(), manage()];
        const refused = await changesOf(() =>
          assert.rejects(again.up(args()), (error: Error) => {
            assert.match(
              error.message,
              / already exists on root@127\.0\.0\.1:\d+, complete \(.+\), and it has the mark of this resource/,
            );
            assert.match(
              error.message,
              /that state was lost, set adopt: true.* another stack's state has it.* run pulumi up there/,
            );
            return true;
          }),
        );
        assert.deepEqual(refused, []);
        await again.preview(args({ adopt: true }));
        assert.match(
          again.notes.join(),
          /(^|,)Adopts the existing object that has this resource's own mark \(its state was lost, or another/,
        );
        const changes = await changesOf(async () => assert.equal(await again.up(args({ adopt: true })), "created"));
        assert.deepEqual(changes.filter(isMaking), []);
        assert.deepEqual(await identity(), before);
        assert.equal(await again.up(args()), "same");
      });

      it("is continued without adopt, if the create that made it was interrupted", async () => {
        await assert.rejects(manageAs(killedAtTheEnd(lifecycle as Lifecycle<object, object>)).up(args()), /killed/);
        const [before, again] = [await identity(), manage()];
        const changes = await changesOf(async () => assert.equal(await again.up(args()), "created"));
        assert.deepEqual(changes.filter(isMaking), []);
        assert.deepEqual(await identity(), before);
        assert.equal(await again.up(args()), "same");
      });

      it("is kept in state when the create cannot mark it as finished, and completed by the next up", async () => {
        const it = manage();
        const cut = manageAs(killedAtTheEnd(lifecycle as Lifecycle<object, object>));
        await assert.rejects(cut.up(args()), /killed/);
        it.take(cut);
        assert.equal(await it.up(args()), "updated");
        assert.equal(await it.up(args()), "same");
        await assert.rejects(manage().up(args()), / complete /);
      });

      for (const [what, rename] of [
        ["by pulumi state move", () => undefined],
        ["with pulumi stack rename", (it: Managed) => it.rename("it", "prod")],
      ] as const) {
        it(`is not removed by the stack it was moved to ${what} after its former stack adopted it again`, async () => {
          const [moved, left] = [manage(), manage()];
          await moved.up(args());
          rename(moved);
          await left.up(args({ adopt: true }));
          assert.equal(await markOf(), urn("it", "lab"));
          moved.rename("it", "prod");
          await assert.rejects(moved.up(args()), /was not changed: it now belongs to the Pulumi resource "it" of stack "lab"/);
          const changes = await changesOf(() => moved.destroy());
          assert.deepEqual([changes, await exists()], [[], true]);
          assert.match(moved.warnings.at(-1) ?? "", /is not removed: it now belongs to/);
          assert.equal(await left.up(args({ adopt: true })), "same");
        });
      }

      it("is not lost with the mark, which the next change writes again", async () => {
        const it = manage();
        await it.up(args());
        await unmark();
        assert.equal(await it.up(args()), "same");
        assert.equal(await it.up(args(other)), "updated");
        assert.equal(await markOf(), urn("it", "lab"));
        assert.deepEqual(it.warnings, []);
      });
    });
  }

  describe("of a profile that every project has", () => {
    const args = () => ({ cluster: two.cluster, name: "default", description: "of the program" });

    it("is managed without adopt, and restored without a mark", async () => {
      const it = manageAs(profileLifecycle);
      await it.up(args());
      await it.destroy();
      const { config, description } = await (await two.byHand()).get("/1.0/profiles/default", profileSchema);
      assert.deepEqual([config, description], [{}, "Default LXD profile"]);
    });

    it("is not taken from another stack, nor restored once it belongs to another", async () => {
      const [theirs, ours] = [manageAs(profileLifecycle, "prod"), manageAs(profileLifecycle)];
      await theirs.up(args());
      await assert.rejects(ours.up(args()), /belongs to the Pulumi resource "it" of stack "prod"/);
      await ours.up({ ...args(), adopt: true });
      await theirs.destroy();
      assert.equal(await ours.up({ ...args(), adopt: true }), "same");
    });
  });

  describe("of an image, which any stack may use", () => {
    const args = (more: object = {}) => ({
      cluster: two.cluster,
      source: { server: SERVER, alias: "12" },
      instanceType: "container",
      ...more,
    });
    const images = async (): Promise<{ properties: Record<string, string> }[]> =>
      (await two.byHand()).get("/1.0/images", z.array(z.looseObject({ properties: z.record(z.string(), z.string()) })), {
        recursion: 1,
      });

    it("stays with the stack that imported it: another one uses it, and leaves it", async () => {
      const [theirs, ours] = [manageAs(imageLifecycle, "prod"), manageAs(imageLifecycle)];
      await theirs.up(args());
      await ours.up(args());
      assert.deepEqual([theirs.inState("created"), ours.inState("created")], [true, false]);
      await ours.destroy();
      assert.equal((await images()).length, 2);
      await theirs.destroy();
      assert.equal((await images()).length, 1);
    });

    it("is lost if the image was removed, and imported again by another stack", async () => {
      const [theirs, ours] = [manageAs(imageLifecycle, "prod"), manageAs(imageLifecycle)];
      await theirs.up(args());
      await (await two.byHand()).change("DELETE", `/1.0/images/${String(theirs.inState("fingerprint"))}`);
      await ours.up(args());
      assert.equal(await theirs.up(args()), "same");
      assert.equal(theirs.inState("created"), false);
      await theirs.destroy();
      assert.equal((await images()).length, 2);
      assert.deepEqual(
        (await images()).flatMap(({ properties }) => readMark(properties[OWNER])?.urn ?? []),
        [urnOf("LxdImage", "lab")],
      );
    });

    it("shows in a preview the changes of an existing image by its adoption", async () => {
      const aliasSchema = z.looseObject({ target: z.string() });
      const { target: fingerprint } = await (await two.byHand()).get("/1.0/images/aliases/debian", aliasSchema);
      const it = manageAs(imageLifecycle);
      const source = { server: SERVER, fingerprint };
      await it.preview(args({ source, properties: { os: "Devuan" }, aliases: ["debian"], adopt: true }));
      assert.deepEqual(it.notes, ['Adopts the existing object: would change properties.os "Debian" -> "Devuan"']);
    });
  });

  describe("of a host, which has the mark of its membership", () => {
    const connection = () => two.cluster.endpoints[1];
    const node = (more: object = {}) => ({ connection: connection(), install: { method: "deb" }, ...more });
    const join = (stack: string, more: object = {}) =>
      manageAs(clusterMemberLifecycle, stack).up({
        connection: connection(),
        cluster: { endpoints: two.cluster.endpoints.slice(0, 1) },
        name: "bcn1",
        address: "192.168.1.101",
        ...more,
      });

    it("is not taken from another stack, which the refusal names, and is adopted with adopt", async () => {
      await join("prod");
      const it = manageAs(nodeLifecycle);
      await assert.rejects(
        it.up(node()),
        /is in use: .*cluster with the members bcn2, bcn1, as a member that belongs to the Pulumi resource "it" of stack "prod".*Set adopt: true/,
      );
      const config = { "core.debug_address": "127.0.0.1:8444" };
      await it.preview(node({ config, adopt: true }));
      assert.deepEqual(it.notes, [
        'Adopts the existing object: would change config.core.debug_address unset -> "127.0.0.1:8444"',
      ]);
      assert.equal(await it.up(node({ config, adopt: true })), "created");
    });

    it("is adopted with adopt after its state was lost, as a refusal says, and never wiped afterwards", async () => {
      await join("lab");
      await assert.rejects(manageAs(nodeLifecycle).up(node({ resetPolicy: ["cluster", "storage-pools", "images"] })), {
        message: /^LXD on root@127\.0\.0\.1:\d+ is a member of the cluster that this stack made, so resetPolicy does not wipe it/,
      });
      await assert.rejects(manageAs(nodeLifecycle).up(node()), {
        message: /is already a member of a cluster, with the mark of this stack, .* was lost, set adopt: true/,
      });
      assert.equal(await manageAs(nodeLifecycle).up(node({ adopt: true })), "created");
    });

    it("keeps its config when the destroyed stack is no longer its owner", async () => {
      await join("prod");
      const theirs = manageAs(nodeLifecycle, "prod");
      const config = { "core.debug_address": "127.0.0.1:8444" };
      await theirs.up(node({ config, adopt: true }));
      await join("lab", { adopt: true });
      await theirs.destroy();
      assert.match(
        theirs.warnings.at(-1) ?? "",
        /The config of LXD on .* was not changed: its membership belongs to .* of stack "lab"/,
      );
      assert.equal(await manageAs(nodeLifecycle).up(node({ config, adopt: true })), "created");
    });
  });
});
